#!/usr/bin/env python3
"""Times mpq beside OpenVINO and ONNX Runtime int8: whole networks, one machine, one interleaved run.

Every contender is a process of its own that holds one compiled network and answers "time k runs".
The parent asks them in turn, round after round, so that a drift of the machine meets all of them;
the minimum and the median over all rounds are reported, and the ratio of each peer to mpq.

The peers run the network that their own users would: ResNet v1.5 in ONNX, quantised to 8 bit by ONNX
Runtime's static QDQ quantiser (u8 activations, s8 weights per channel, BatchNorm folded).

  bench/peers.py --model w4a4.fb --lib build/runtime/libmpq.so.1 --threads 1,2 --markdown out.md
"""
import argparse
import ctypes
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


class Mpq:
    """The C API through ctypes, copying the input in and the output out, as the peers do."""

    class Options(ctypes.Structure):
        _fields_ = [("bytes", ctypes.c_uint8 * 512)]

    def __init__(self, spec):
        self.lib = ctypes.CDLL(spec["lib"])
        self.lib.mpq_last_error.restype = ctypes.c_char_p
        self.lib.mpq_version_string.restype = ctypes.c_char_p
        self.lib.mpq_bench_create.restype = ctypes.c_int
        self.version = self.lib.mpq_version_string().decode()
        raise NotImplementedError


class MpqRun:
    """mpq in its own bench tool's process is driven through the C API by bench/peer_worker."""


def serve(spec):
    contender = {"openvino": OpenVino, "onnxruntime": OnnxRuntime}[spec["kind"]](spec)
    print(json.dumps({"version": contender.version}), flush=True)
    i = 0
    for line in sys.stdin:
        runs = int(line)
        times = []
        for _ in range(runs):
            start = time.perf_counter_ns()
            contender.run(i)
            times.append(time.perf_counter_ns() - start)
            i += 1
        print(json.dumps(times), flush=True)
