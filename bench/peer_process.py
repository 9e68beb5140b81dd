#!/usr/bin/env python3
"""A peer's process for peers.py: holds one compiled network and answers "time k runs".

   peer_process.py SPEC      JSON: runtime, network, model, threads, batch, tokens, no_amx

Prints {"version": ...}; then for each line "k" on standard input one line with k times in nanoseconds.
"""
import ctypes
import json
import struct
import sys
import time

import peer_networks

INPUTS = 8  # distinct ones, so that no cache holds the answer


class OpenVino:
    def __init__(self, spec, inputs):
        import openvino as ov
        core = ov.Core()
        model = core.read_model(spec["model"])
        model.reshape({name: list(values.shape) for name, values in inputs[0].items()})
        config = {"INFERENCE_NUM_THREADS": spec["threads"], "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        if spec["no_amx"]:
            config["INFERENCE_PRECISION_HINT"] = "f32"  # what is not 8 bit: bfloat16, its choice, is slower without AMX
        self.request = core.compile_model(model, "CPU", config).create_infer_request()
        self.inputs = [{name: ov.Tensor(values) for name, values in item.items()} for item in inputs]
        self.version = ov.__version__.split("-")[0]

    def run(self, i):
        self.request.infer(self.inputs[i], share_inputs=True, share_outputs=True)


class OnnxRuntime:
    def __init__(self, spec, inputs):
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = spec["threads"]
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(spec["model"], options, providers=["CPUExecutionProvider"])
        self.inputs = inputs
        self.version = ort.__version__

    def run(self, i):
        self.session.run(None, self.inputs[i])


RUNTIMES = {"openvino": OpenVino, "onnxruntime": OnnxRuntime}


def refuse_amx():
    """From here on the kernel refuses this process AMX's tiles, as one without AMX would: arch_prctl fails.

    oneDNN and MLAS ask for them before they choose kernels and take AVX-512 VNNI instead. x86-64 Linux only.
    """
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    load, equal, give = 0x20, 0x15, 0x06
    fail, allow = 0x00050001, 0x7FFF0000  # SECCOMP_RET_ERRNO with EPERM; SECCOMP_RET_ALLOW
    steps = [(load, 0, 0, 0), (equal, 0, 3, arch_prctl), (load, 0, 0, 16), (equal, 0, 1, request_permission),
             (give, 0, 0, fail), (give, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privs, set_seccomp, filter_mode = 38, 22, 2
    if libc.prctl(no_new_privs, 1, 0, 0, 0) or libc.prctl(set_seccomp, filter_mode, program, 0, 0):
        sys.exit(f"peer_process: the kernel takes no seccomp filter, errno {ctypes.get_errno()}")
    if libc.syscall(arch_prctl, request_permission, tile_data) == 0:
        sys.exit("peer_process: AMX was not refused")


def main():
    spec = json.loads(sys.argv[1])
    if spec["no_amx"]:
        refuse_amx()
    inputs = [peer_networks.inputs(spec["network"], spec["batch"], spec["tokens"], seed) for seed in range(INPUTS)]
    peer = RUNTIMES[spec["runtime"]](spec, inputs)
    print(json.dumps({"version": peer.version}), flush=True)
    done = 0
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter_ns()
            peer.run(done % INPUTS)
            times.append(time.perf_counter_ns() - start)
            done += 1
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
