#!/usr/bin/env python3
"""Times mpq beside OpenVINO and ONNX Runtime int8: whole networks, one machine, one interleaved run.

Every contender is a process of its own that holds one compiled network and answers "time k runs".
The parent asks them in turn, round after round, so that a drift of the machine meets all of them;
the minimum and the median over all rounds are reported, and the ratio of each peer to mpq.

The peers run the network that their own users would: ResNet v1.5 in ONNX, quantised to 8 bit by ONNX
Runtime's static QDQ quantiser (u8 activations, s8 weights per channel, BatchNorm folded).

  bench/peers.py --model w4a4=resnet50_w4a4.fb --threads 1,2 --batch 1,16 --markdown table.md
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

LAYERS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def build_resnet(depth, path):
    """ResNet v1.5 (stride in the 3x3) with random He-initialised weights; speed does not see values."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)
    nodes, weights = [], []

    def conv(x, name, c, o, k, stride, gain=1.0):
        w = rng.normal(0, gain * (2.0 / (c * k * k)) ** 0.5, (o, c, k, k)).astype(np.float32)
        weights.append(numpy_helper.from_array(w, name + ".weight"))
        weights.append(numpy_helper.from_array(np.zeros(o, np.float32), name + ".bias"))
        nodes.append(helper.make_node(
            "Conv", [x, name + ".weight", name + ".bias"], [name], name=name, kernel_shape=[k, k],
            strides=[stride, stride], pads=[k // 2] * 4))
        return name

    def unary(op, x, name, **attrs):
        nodes.append(helper.make_node(op, [x], [name], name=name, **attrs))
        return name

    x = unary("Relu", conv("input", "conv1", 3, 64, 7, 2), "relu1")
    x = unary("MaxPool", x, "maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for stage, blocks in enumerate(LAYERS[depth]):
        width = 64 << stage
        for block in range(blocks):
            p = f"layer{stage + 1}.{block}."
            stride = 2 if stage > 0 and block == 0 else 1
            skip = x
            if block == 0:
                skip = conv(x, p + "downsample", channels, 4 * width, 1, stride)
            y = unary("Relu", conv(x, p + "conv1", channels, width, 1, 1), p + "relu1")
            y = unary("Relu", conv(y, p + "conv2", width, width, 3, stride), p + "relu2")
            y = conv(y, p + "conv3", width, 4 * width, 1, 1, 0.5)
            nodes.append(helper.make_node("Add", [y, skip], [p + "add"], name=p + "add"))
            x = unary("Relu", p + "add", p + "relu3")
            channels = 4 * width
    x = unary("GlobalAveragePool", x, "avgpool")
    x = unary("Flatten", x, "flatten", axis=1)
    w = rng.normal(0, 0.02, (1000, channels)).astype(np.float32)
    weights += [numpy_helper.from_array(w, "fc.weight"),
                numpy_helper.from_array(np.zeros(1000, np.float32), "fc.bias")]
    nodes.append(helper.make_node("Gemm", [x, "fc.weight", "fc.bias"], ["logits"], name="fc", transB=1))
    graph = helper.make_graph(
        nodes, f"resnet{depth}",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1000])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def quantise(source, target):
    import numpy as np
    from onnxruntime.quantization import (CalibrationDataReader, QuantFormat, QuantType, quantize_static)

    class Reader(CalibrationDataReader):
        def __init__(self):
            rng = np.random.default_rng(2)
            self.items = iter([{"input": rng.normal(0, 1, (1, 3, 224, 224)).astype(np.float32)}
                               for _ in range(4)])

        def get_next(self):
            return next(self.items, None)

    quantize_static(source, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


class OpenVino:
    def __init__(self, spec):
        import numpy as np
        import openvino as ov
        core = ov.Core()
        model = core.read_model(spec["model"])
        model.reshape([spec["batch"], 3, 224, 224])
        config = {"INFERENCE_NUM_THREADS": spec["threads"], "PERFORMANCE_HINT": "LATENCY",
                  "NUM_STREAMS": 1}
        self.request = core.compile_model(model, "CPU", config).create_infer_request()
        rng = np.random.default_rng(3)
        self.inputs = [ov.Tensor(rng.normal(0, 1, (spec["batch"], 3, 224, 224)).astype(np.float32))
                       for _ in range(8)]
        self.version = ov.__version__.split("-")[0]

    def run(self, i):
        self.request.infer([self.inputs[i % 8]], share_inputs=True, share_outputs=True)


class OnnxRuntime:
    def __init__(self, spec):
        import numpy as np
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = spec["threads"]
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(spec["model"], options, providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(3)
        self.inputs = [rng.normal(0, 1, (spec["batch"], 3, 224, 224)).astype(np.float32) for _ in range(8)]
        self.name = self.session.get_inputs()[0].name
        self.version = ort.__version__

    def run(self, i):
        self.session.run(None, {self.name: self.inputs[i % 8]})


def serve(spec):
    """The contender's process: one line "k" in, one line with k times in nanoseconds out."""
    contender = {"openvino": OpenVino, "onnxruntime": OnnxRuntime}[spec["kind"]](spec)
    print(json.dumps({"version": contender.version}), flush=True)
    done = 0
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter_ns()
            contender.run(done)
            times.append(time.perf_counter_ns() - start)
            done += 1
        print(json.dumps(times), flush=True)


class Contender:
    """A process that times runs on demand; see serve() and bench/peer_worker.c for the two kinds."""

    def __init__(self, name, command):
        self.name, self.times = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = json.loads(self.line())["version"]

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            sys.exit(f"peers: {self.name}: stopped with status {self.process.wait()}")
        return text

    def turn(self, runs, counted):
        self.process.stdin.write(f"{runs}\n")
        self.process.stdin.flush()
        times = json.loads(self.line())
        if counted:
            self.times += times

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def contest(options, threads, batch):
    """All contenders in turn, `rounds` times; times per image in milliseconds."""
    contenders = []
    for entry in options.model:
        name, path = entry.split("=", 1)
        contenders.append(Contender("mpq " + name, [options.worker, path, str(threads), str(batch)]))
    for kind in ("openvino", "onnxruntime"):
        spec = {"kind": kind, "model": options.int8, "threads": threads, "batch": batch}
        contenders.append(Contender(kind + " int8", [sys.executable, __file__, "--serve", json.dumps(spec)]))
    for contender in contenders:
        contender.turn(max(3, options.runs), counted=False)
    for _ in range(options.rounds):
        for contender in contenders:
            time.sleep(0.05)  # pools of the one before stop spinning
            contender.turn(1, counted=False)
            contender.turn(options.runs, counted=True)
    rows = []
    for contender in contenders:
        contender.close()
        per_image = [t / batch / 1e6 for t in contender.times]
        rows.append({"name": contender.name, "version": contender.version, "threads": threads, "batch": batch,
                     "runs": len(per_image), "min_ms": min(per_image),
                     "median_ms": statistics.median(per_image)})
    best = {key: min(r[key] for r in rows if not r["name"].startswith("mpq")) for key in ("min_ms", "median_ms")}
    for row in rows:
        row["ratio_min"] = best["min_ms"] / row["min_ms"]
        row["ratio_median"] = best["median_ms"] / row["median_ms"]
    return rows


def cpu_model():
    with open("/proc/cpuinfo", encoding="ascii") as info:
        lines = info.read().split("\n\n")[0].splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    isa = [flag for flag in ("avx2", "avx512_vnni", "gfni", "amx_int8") if flag in fields["flags"].split()]
    return f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']}; {', '.join(isa)})"


def markdown(rows, facts):
    lines = [f"{facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['cores']} cores, {facts['system']}.", "",
             "Milliseconds per image; ratio = fastest int8 peer / this, above 1 is faster than every peer.", "",
             "| network | threads | batch | min ms | median ms | ratio (min) | ratio (median) |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    lines += [f"| {r['name']} ({r['version']}) | {r['threads']} | {r['batch']} | {r['min_ms']:.2f} | {r['median_ms']:.2f} | "
              f"{r['ratio_min']:.2f} | {r['ratio_median']:.2f} |" for r in rows]
    return "\n".join(lines) + "\n"


def numbers(text):
    return [int(word) for word in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE", help="an mpq model; repeatable")
    parser.add_argument("--worker", default="build/bench/peer_worker", help="the program that runs mpq models")
    parser.add_argument("--depth", type=int, choices=sorted(LAYERS), default=50, help="the peers' ResNet")
    parser.add_argument("--cache", default=os.path.join(tempfile.gettempdir(), "mpq-peers"), help="where the peers' ONNX files are kept")
    parser.add_argument("--threads", type=numbers, default=[1, 2], metavar="1,2")
    parser.add_argument("--batch", type=numbers, default=[1], metavar="1,16")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runs", type=int, default=3, help="counted runs of a contender in a round")
    parser.add_argument("--json", help="write all numbers here")
    parser.add_argument("--markdown", help="write the table here too")
    options = parser.parse_args()
    if options.serve:
        return serve(json.loads(options.serve))

    os.makedirs(options.cache, exist_ok=True)
    options.int8 = os.path.join(options.cache, f"resnet{options.depth}-int8-qdq.onnx")
    if not os.path.exists(options.int8):
        floating = os.path.join(options.cache, f"resnet{options.depth}.onnx")
        build_resnet(options.depth, floating)
        quantise(floating, options.int8 + ".part")
        os.replace(options.int8 + ".part", options.int8)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    facts = {"date": time.strftime("%Y-%m-%d"), "commit": commit or "unknown", "cpu": cpu_model(),
             "cores": len(os.sched_getaffinity(0)), "system": f"{platform.system()} {platform.release().split('-')[0]}"}
    rows = []
    for batch in options.batch:
        for threads in options.threads:
            rows += contest(options, threads, batch)
    text = markdown(rows, facts)
    print(text, end="")
    if options.json:
        with open(options.json, "w", encoding="ascii") as out:
            json.dump({"schema_version": 1, **facts, "rows": rows}, out, indent=1)
    if options.markdown:
        with open(options.markdown, "w", encoding="ascii") as out:
            out.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
