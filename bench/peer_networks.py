"""The peers' networks: built with random weights and quantised to 8 bit, once, in a cache folder."""
import os

import numpy as np

RESNETS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


def build_resnet(network, path):
    """ResNet v1.5 (stride in the 3x3) with random He-initialised weights; speed does not see values."""
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
    for stage, blocks in enumerate(RESNETS[network]):
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
        nodes, network,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1000])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def inputs(network, batch, tokens, seed):
    """One run's inputs by name; for networks of texts, `batch` sequences of `tokens` words."""
    rng = np.random.default_rng(seed)
    if network in RESNETS:
        return {"input": rng.normal(0, 1, (batch, 3, 224, 224)).astype(np.float32)}
    ids = rng.integers(999, 30522, (batch, tokens))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def quantise_static(network, source, target, options):
    """ONNX Runtime's QDQ: u8 activations with zero point, s8 weights a channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.items = iter([inputs(network, 1, 128, seed) for seed in range(4)])

        def get_next(self):
            return next(self.items, None)

    quantize_static(source, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, **options)


def quantise_dynamic(source, target):
    from onnxruntime.quantization import QuantType, quantize_dynamic
    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])


def attention_products(path):
    """Names of the matrix products that have no weights."""
    import onnx
    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [n.name for n in graph.node if n.op_type == "MatMul" and not constants & set(n.input)]


def float_model(network, cache):
    if network == "bert-base":
        path = os.path.join(cache, "bert-base-random", "model.onnx")
        if not os.path.exists(path):
            import random_bert
            random_bert.write(os.path.dirname(path))
        return path
    path = os.path.join(cache, network + ".onnx")
    if not os.path.exists(path):
        build_resnet(network, path)
    return path


def int8_model(network, form, cache):
    """The file of a network in one form: qdq; for encoders also qdq-all (products of attention, too), dynamic."""
    path = os.path.join(cache, f"{network}-int8-{form}.onnx")
    if not os.path.exists(path):
        source, part = float_model(network, cache), path + ".part"
        if form == "dynamic":
            quantise_dynamic(source, part)
        elif network in RESNETS:
            quantise_static(network, source, part, {})
        else:
            spared = attention_products(source) if form == "qdq" else []
            quantise_static(network, source, part, {"op_types_to_quantize": ["MatMul"], "nodes_to_exclude": spared})
        os.replace(part, path)
    return path


# What peers.py times by default: each runtime with the forms of the network that were fastest on it.
PEERS = {
    "resnet50": ["openvino:qdq", "onnxruntime:qdq"],
    "resnet101": ["openvino:qdq", "onnxruntime:qdq"],
    "bert-base": ["openvino:qdq", "openvino:qdq-all", "onnxruntime:qdq", "onnxruntime:dynamic"],
}
