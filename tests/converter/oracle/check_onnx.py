#!/usr/bin/env python3
"""Compares our import and evaluation of ONNX models with independent implementations.

    check_onnx.py path/to/onnx_eval [nodes|zoo|qdq|lsq|accuracy MODEL FOLDER [COUNT]] [--plant]

nodes     the operator tests of the `onnx` package that fit: inputs and expected outputs are its own
zoo       light_resnet50.onnx and the other zoo networks in the `onnx` package against ONNX Runtime
qdq       random networks with 8 and 4 bit Q/DQ (and QCDQ) against ONNX Runtime without optimisations
lsq       4 and 2 bit networks as LSQ arithmetic and as QONNX Quant against a float64 evaluation in numpy
accuracy  float top-1 of MODEL on a folder of images with labels.txt, by ONNX Runtime and by us

Without a mode: nodes, zoo, qdq, lsq. --plant damages one of our outputs: the script must then fail.
A missing package is one SKIPPED line.
"""

import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    print(f"SKIPPED: onnx oracle: {error}")
    sys.exit(77)
try:
    import onnxruntime
except ImportError:
    onnxruntime = None

TOOL = sys.argv[1] if len(sys.argv) > 1 else ""
PLANT = "--plant" in sys.argv
RNG = np.random.default_rng(20240501)


class Refused(Exception):
    pass


def ours(model, x, *arguments):
    """Our output for one input array, batch first."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("model.onnx", "in.f32", "out.f32")]
        onnx.save(model, paths[0])
        x.astype(np.float32).tofile(paths[1])
        done = subprocess.run([TOOL, *paths, str(x.shape[0] if x.ndim > 1 else 1), *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            raise Refused(done.stderr.strip())
        y = np.fromfile(paths[2], np.float32)
    if PLANT:
        y[y.size // 2] += 0.3 * max(np.abs(y).max(), 1.0)
    return y


def runtime(model, x):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {session.get_inputs()[0].name: x.astype(np.float32)})[0]


def report(name, got, want, tolerance):
    """Largest difference relative to the largest magnitude."""
    want = want.reshape(-1).astype(np.float64)
    if got.size != want.size:
        print(f"FAILED: {name}: {got.size} values, expected {want.size}")
        return False
    worst = np.abs(got - want).max() / max(np.abs(want).max(), 1e-9)
    if not worst <= tolerance:
        print(f"FAILED: {name}: differs by {worst:.3g}, tolerance {tolerance:.3g}")
    return worst <= tolerance


# ---- the operator tests of the onnx package

# Cases that must be imported; every other one is counted as refused, by name of its operator.
NEEDED = """
test_basic_conv_with_padding test_basic_conv_without_padding test_conv_with_autopad_same
test_conv_with_strides_and_asymmetric_padding test_conv_with_strides_no_padding test_conv_with_strides_padding
test_gemm_all_attributes test_gemm_default_no_bias test_gemm_default_single_elem_vector_bias
test_gemm_default_matrix_bias test_gemm_default_vector_bias test_gemm_transposeB test_gemm_alpha test_gemm_beta
test_gemm_default_zero_bias test_gemm_default_scalar_bias
test_maxpool_2d_default test_maxpool_2d_ceil test_maxpool_2d_pads test_maxpool_2d_precomputed_pads
test_maxpool_2d_precomputed_same_upper test_maxpool_2d_precomputed_strides test_maxpool_2d_same_lower
test_maxpool_2d_same_upper test_maxpool_2d_strides test_averagepool_2d_default test_averagepool_2d_strides
test_averagepool_2d_precomputed_strides test_globalaveragepool test_globalaveragepool_precomputed
test_globalmaxpool test_globalmaxpool_precomputed test_batchnorm_epsilon test_batchnorm_example
test_flatten_axis1 test_matmul_2d test_relu test_identity test_dropout_default
""".split()
# Not what this product expresses: transposed activations, a bias matrix, training.
EXPECTED_REFUSALS = {"test_gemm_all_attributes", "test_gemm_default_matrix_bias"}


def as_model_with_constants(case):
    """The first input stays; the others become initialisers, as exporters write them."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs, outputs = case.data_sets[0]
    arrays = [numpy_helper.to_array(a) if isinstance(a, onnx.TensorProto) else np.asarray(a) for a in inputs]
    for info, array in zip(list(model.graph.input)[1:], arrays[1:]):
        model.graph.initializer.append(numpy_helper.from_array(array, info.name))
        model.graph.input.remove(info)
    want = outputs[0]
    return model, arrays[0], numpy_helper.to_array(want) if isinstance(want, onnx.TensorProto) else np.asarray(want)


def check_nodes():
    import warnings
    from onnx.backend.test.case.node import collect_testcases
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = {case.name: case for case in collect_testcases(None)}
    passed, good, refused = 0, True, {}
    for name, case in cases.items():
        if case.model is None or not case.data_sets or len(case.model.graph.input) == 0:
            continue
        if any(node.op_type in ("Softmax", "LogSoftmax") for node in case.model.graph.node):
            continue  # dropped at the end of a network: the output is the logits
        needed = name in NEEDED
        inputs = case.data_sets[0][0]
        first = inputs[0] if inputs else None
        if not isinstance(first, np.ndarray) or first.dtype != np.float32 or first.ndim not in (2, 4) or first.size == 0:
            if needed:
                refused[name] = "the input is no float matrix or image batch"
            continue
        # Our graphs have batch 1 and are evaluated with any batch.
        try:
            model, x, want = as_model_with_constants(case)
            model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
            got = ours(model, x)
        except ValueError:
            continue  # sequences
        except Refused as reason:
            refused[name] = str(reason)
            if needed and name not in EXPECTED_REFUSALS:
                print(f"FAILED: {name} must be imported: {reason}")
                good = False
            continue
        if not report(name, got, want, 1e-3):
            good = False
        passed += 1
    missing = [name for name in NEEDED if name not in cases]
    print(f"nodes: {passed} cases equal, {len(refused)} refused, {len(missing)} unknown to this onnx version")
    if passed < 25:
        print("FAILED: fewer than 25 operator tests could be compared")
        good = False
    return good


# ---- networks of the onnx package

def check_zoo():
    if onnxruntime is None:
        print("SKIPPED: zoo: onnxruntime is not installed")
        return True
    folder = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", "light")
    if not os.path.isdir(folder):
        print("SKIPPED: zoo: the onnx package has no light models")
        return True
    good, seen = True, 0
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".onnx"):
            continue
        model = onnx.load(os.path.join(folder, name))
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        x = RNG.standard_normal(shape)
        try:
            got = ours(model, x)
        except Refused as reason:
            print(f"zoo: {name} refused: {str(reason).splitlines()[-1].strip()[:160]}")
            if "resnet50" in name:
                print(f"FAILED: {name} must be imported")
                good = False
            continue
        want = runtime(model, x).reshape(-1).astype(np.float64)
        if model.graph.node[-1].op_type == "Softmax":  # which we drop
            e = np.exp(got.astype(np.float64) - got.max())
            got = (e / e.sum()).astype(np.float32)
        good = report(f"zoo {name}", got, want, 1e-3) and good
        seen += 1
    print(f"zoo: {seen} networks compared")
    return good


# ---- random quantised networks

class Net:
    """A small residual network whose quantisers are written in one of the importer's forms."""

    def __init__(self, form, w_bits, a_bits, per_channel):
        self.form, self.w_bits, self.a_bits, self.per_channel = form, w_bits, a_bits, per_channel
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, array):
        self.count += 1
        name = f"c{self.count}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, inputs, domain="", **attributes):
        self.count += 1
        name = f"v{self.count}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n{self.count}", domain=domain, **attributes))
        return name

    def quantise(self, x, scale, bits, signed):
        """Names of x on the grid. scale: float32 array, () or [O,1,1,1]."""
        lo, hi = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        scale = np.asarray(scale, np.float32)
        if self.form in ("qdq", "qcdq"):
            flat = scale.reshape(-1) if scale.ndim else scale
            kind = np.int8 if signed else np.uint8
            if self.form == "qdq" and bits == 4:
                zero = helper.make_tensor(f"z{self.count}", TensorProto.INT4 if signed else TensorProto.UINT4, [] if flat.ndim == 0 else [flat.size],
                                          [0] * max(flat.size, 1))
                self.constants.append(zero)
                zero = zero.name
            else:
                zero = self.constant(np.zeros(flat.shape, kind))
            s = self.constant(flat)
            codes = self.node("QuantizeLinear", [x, s, zero], axis=0)
            if self.form == "qcdq" or bits not in (8, 4):
                codes = self.node("Clip", [codes, self.constant(np.array(lo, kind)), self.constant(np.array(hi, kind))])
            return self.node("DequantizeLinear", [codes, s, zero], axis=0)
        if self.form == "qonnx":
            f = lambda v: self.constant(np.array(v, np.float32))
            return self.node("Quant", [x, self.constant(scale), f(0), f(bits)], "qonnx.custom_op.general",
                             signed=int(signed), narrow=0, rounding_mode="ROUND")
        s = self.constant(scale)
        if self.form == "ste":
            sg = self.node("Mul", [s, self.constant(np.float32(0.00123))])
            s = self.node("Add", [self.node("Sub", [s, sg]), sg])
        v = self.node("Div", [x, s])
        v = self.node("Clip", [v, self.constant(np.float32(lo)), self.constant(np.float32(hi))])
        r = self.node("Round", [v])
        if self.form == "ste":
            r = self.node("Add", [self.node("Sub", [r, v]), v])
        return self.node("Mul", [r, s])

    def conv(self, x, out, inp, kernel, stride, scale):
        w = (RNG.standard_normal((out, inp, kernel, kernel)) / np.sqrt(inp * kernel * kernel)).astype(np.float32)
        top = np.abs(w).max((1, 2, 3), keepdims=True) if self.per_channel else np.abs(w).max()
        step = np.float32(top / max((1 << (self.w_bits - 1)) - 1, 1))
        weights = self.quantise(self.constant(w), step, self.w_bits, True)
        x = self.quantise(x, np.float32(scale / ((1 << self.a_bits) - 1)), self.a_bits, False)
        bias = self.constant((RNG.standard_normal(out) * 0.2).astype(np.float32))
        pad = kernel // 2
        return self.node("Conv", [x, weights, bias], strides=[stride] * 2, pads=[pad] * 4, kernel_shape=[kernel] * 2)

    def model(self):
        x = self.quantise("x", np.float32(4 / 255), 8, False)
        x = self.node("Relu", [self.conv(x, 16, 3, 3, 1, 4.0)])
        y = self.node("Relu", [self.conv(x, 24, 16, 1, 1, 3.0)])
        y = self.node("Relu", [self.conv(y, 24, 24, 3, 2, 3.0)])
        y = self.conv(y, 32, 24, 1, 1, 3.0)
        z = self.conv(x, 32, 16, 1, 2, 3.0)
        x = self.node("Relu", [self.node("Add", [y, z])])
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        x = self.quantise(x, np.float32(1.5 / 255), 8, False)
        w = (RNG.standard_normal((10, 32)) / 6).astype(np.float32)
        w = self.quantise(self.constant(w), np.float32(np.abs(w).max() / 127), 8, True)
        x = self.node("Gemm", [x, w], transB=1)
        graph = helper.make_graph(self.nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
                                  [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["n", 10])], self.constants)
        opsets = [helper.make_opsetid("", 21)] + ([helper.make_opsetid("qonnx.custom_op.general", 1)] if self.form == "qonnx" else [])
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def evaluate_float64(model, x):
    """The meaning in float64: quotients are rounded from binary32, as the importer defines codes."""
    values = {c.name: np.asarray(numpy_helper.to_array(c)) for c in model.graph.initializer}
    values["x"] = x.astype(np.float32)
    alias = {}

    def quantise(v, scale, zero, lo, hi):
        code = np.clip(np.rint(v.astype(np.float32) / scale.astype(np.float32)) + zero, lo, hi)
        return (code - zero).astype(np.float64) * scale.astype(np.float64)

    def conv(v, w, b, stride, pad):
        n, _, h, wd = v.shape
        padded = np.pad(v, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], (2, 3))[:, :, ::stride, ::stride]
        return np.einsum("nchwij,ocij->nohw", windows.astype(np.float64), w.astype(np.float64)) + b.reshape(1, -1, 1, 1)

    producers = {n.output[0]: n for n in model.graph.node}
    for n in model.graph.node:
        a = [values[alias.get(i, i)] for i in n.input]
        attribute = {t.name: helper.get_attribute_value(t) for t in n.attribute}
        if n.op_type == "Quant":
            bits = int(a[3])
            lo, hi = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if attribute["signed"] else (0, (1 << bits) - 1)
            out = quantise(a[0], a[1], 0, lo, hi)
        elif n.op_type == "Div":
            out = (a[0].astype(np.float32) / a[1].astype(np.float32)).astype(np.float32)
        elif n.op_type == "Clip":
            out = np.clip(a[0], a[1], a[2])
        elif n.op_type == "Round":
            out = np.rint(a[0])
        elif n.op_type == "Mul":
            out = a[0].astype(np.float64) * a[1].astype(np.float64)
        elif n.op_type == "Sub":
            out = a[0].astype(np.float64) - a[1]
        elif n.op_type == "Add":
            sub = producers.get(n.input[0])
            # (p - q) + q is p, exactly
            out = values[sub.input[0]] if sub is not None and sub.op_type == "Sub" and sub.input[1] == n.input[1] else a[0] + a[1]
        elif n.op_type == "Relu":
            out = np.maximum(a[0], 0)
        elif n.op_type == "Conv":
            out = conv(a[0], a[1], a[2], attribute["strides"][0], attribute["pads"][0])
        elif n.op_type == "GlobalAveragePool":
            out = a[0].mean((2, 3), keepdims=True)
        elif n.op_type == "Flatten":
            out = a[0].reshape(a[0].shape[0], -1)
        elif n.op_type == "Gemm":
            out = a[0] @ a[1].astype(np.float64).T
        else:
            raise AssertionError(n.op_type)
        values[n.output[0]] = out
    return values[model.graph.output[0].name]


def check_quantised(forms, bits, reference, tolerance):
    good, count = True, 0
    for form in forms:
        for w_bits, a_bits in bits:
            for per_channel in (False, True):
                model = Net(form, w_bits, a_bits, per_channel).model()
                x = np.abs(RNG.standard_normal((4, 3, 16, 16)))
                name = f"{form} w{w_bits}a{a_bits} {'channel' if per_channel else 'tensor'}"
                try:
                    got = ours(model, x, "--print")
                except Refused as reason:
                    print(f"FAILED: {name} refused: {reason}")
                    good = False
                    continue
                good = report(name, got, reference(model, x), tolerance) and good
                count += 1
    print(f"{'+'.join(forms)}: {count} networks compared")
    return good


# A value within float noise of a tie may take the neighbouring code; one such code moves the output by
# far less than this.
TIE_TOLERANCE = 2e-2


def check_qdq():
    if onnxruntime is None:
        print("SKIPPED: qdq: onnxruntime is not installed")
        return True
    return check_quantised(["qdq", "qcdq"], [(8, 8), (4, 4)], runtime, TIE_TOLERANCE)


def check_lsq():
    return check_quantised(["lsq", "ste", "qonnx"], [(4, 4), (2, 2), (2, 4)], evaluate_float64, TIE_TOLERANCE)


# ---- accuracy

def check_accuracy(path, folder, count=None):
    from PIL import Image
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    deviation = np.array([0.229, 0.224, 0.225], np.float32)
    lines = [line.replace(",", " ").split() for line in open(os.path.join(folder, "labels.txt")) if line.strip()]
    lines = lines[:int(count)] if count else lines
    options = onnxruntime.SessionOptions()
    session = onnxruntime.InferenceSession(path, options)
    model = onnx.load(path)
    correct, agree, total = 0, 0, 0
    for begin in range(0, len(lines), 32):
        batch, labels = [], []
        for name, label in lines[begin:begin + 32]:
            image = np.asarray(Image.open(os.path.join(folder, name)).convert("RGB"), np.float32)
            top, left = (image.shape[0] - 224) // 2, (image.shape[1] - 224) // 2
            batch.append(((image[top:top + 224, left:left + 224] / 255 - mean) / deviation).transpose(2, 0, 1))
            labels.append(int(label))
        x = np.stack(batch)
        theirs = session.run(None, {session.get_inputs()[0].name: x})[0]
        mine = ours(model, x).reshape(theirs.shape)
        correct += int((mine.argmax(1) == labels).sum())
        agree += int((mine.argmax(1) == theirs.argmax(1)).sum())
        total += len(labels)
    print(f"accuracy: {correct}/{total} = {100 * correct / total:.2f} % top-1; {agree}/{total} equal ONNX Runtime's class")
    return agree == total


def main():
    modes = [a for a in sys.argv[2:] if not a.startswith("--")]
    if not TOOL or not os.path.exists(TOOL):
        print(__doc__)
        return 2
    if modes and modes[0] == "accuracy":
        return 0 if check_accuracy(*modes[1:4]) else 1
    checks = {"nodes": check_nodes, "zoo": check_zoo, "qdq": check_qdq, "lsq": check_lsq}
    results = [checks[mode]() for mode in (modes or checks)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
