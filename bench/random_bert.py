#!/usr/bin/env python3
"""BERT-base with random weights: what there is to time, and to prove exact, where no trained one can be had.

Writes one network twice: as the folder that Hugging Face's tools write, and as the ONNX file that PyTorch's
exporter makes of it (FOLDER/model.onnx; input_ids and attention_mask in, last_hidden_state out). Its answers mean
nothing; its shape, its number of weights and the sizes of its activations are BERT's. Needs numpy and onnx.

   random_bert.py FOLDER [VOCABULARY]    a file of 30,522 words, a line each; otherwise they are made up
"""
import itertools
import json
import os
import string
import struct
import sys

import numpy as np

WIDTH, INNER, HEADS, LAYERS, POSITIONS, WORDS = 768, 3072, 12, 12, 512, 30522
EPSILON = 1e-12


def tensors():
    """Name -> weights in BERT's order: N(0, 0.02) as before training, a spread for what training moves."""
    rng = np.random.default_rng(20261128)

    def normal(deviation, *shape):
        return rng.standard_normal(shape, np.float32) * np.float32(deviation)

    def norm(name):
        return {name + ".weight": 1 + normal(0.05, WIDTH), name + ".bias": normal(0.02, WIDTH)}

    def linear(name, rows, columns):
        return {name + ".weight": normal(0.02, rows, columns), name + ".bias": normal(0.02, rows)}

    made = {f"embeddings.{table}_embeddings.weight": normal(0.02, rows, WIDTH)
            for table, rows in (("word", WORDS), ("position", POSITIONS), ("token_type", 2))}
    made |= norm("embeddings.LayerNorm")
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        for part in ("query", "key", "value"):
            made |= linear(at + "attention.self." + part, WIDTH, WIDTH)
        made |= linear(at + "attention.output.dense", WIDTH, WIDTH)
        made |= norm(at + "attention.output.LayerNorm")
        made |= linear(at + "intermediate.dense", INNER, WIDTH)
        made |= linear(at + "output.dense", WIDTH, INNER)
        made |= norm(at + "output.LayerNorm")
    return made


def vocabulary(path):
    if path:
        with open(path, encoding="utf-8") as file:
            words = file.read().splitlines()
    else:  # any English text has tokens: letters, then pieces of three
        letters = string.ascii_lowercase + string.digits + ".,'?!-"
        threes = map("".join, itertools.product(string.ascii_lowercase, repeat=3))
        pieces = itertools.chain(*((three, "##" + three) for three in threes))
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + x for x in letters), *pieces][:WORDS]
    if len(words) != WORDS:
        sys.exit(f"random_bert: {path}: {len(words)} words, not {WORDS}")
    return words


def write_folder(folder, weights, words):
    settings = {
        "config.json": {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu",
                        "hidden_size": WIDTH, "intermediate_size": INNER, "num_attention_heads": HEADS,
                        "num_hidden_layers": LAYERS, "layer_norm_eps": EPSILON, "max_position_embeddings": POSITIONS,
                        "type_vocab_size": 2, "pad_token_id": 0, "position_embedding_type": "absolute",
                        "vocab_size": WORDS},
        "tokenizer_config.json": {"do_lower_case": True, "tokenizer_class": "BertTokenizer"},
    }
    for name, content in settings.items():
        with open(os.path.join(folder, name), "w", encoding="ascii") as out:
            json.dump(content, out, indent=1)
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as out:
        out.writelines(word + "\n" for word in words)
    header, end = {}, 0
    for name, values in weights.items():
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for values in weights.values():
            out.write(values.tobytes())


class OnnxGraph:
    """Nodes named by what they give; constants become initializers."""

    def __init__(self):
        self.nodes, self.constants = [], {}

    def constant(self, name, values):
        self.constants.setdefault(name, np.asarray(values))
        return name

    def node(self, op, name, *inputs, **attributes):
        from onnx import helper
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name


def onnx_graph(weights):
    """The encoder as PyTorch exports it: linear layers as MatMul and Add, GELU by Erf, attention step by step."""
    g = OnnxGraph()
    f32, i64 = np.float32, np.int64

    def weight(name):
        return g.constant(name, weights[name])

    def norm(name, x):
        return g.node("LayerNormalization", name, x, weight(name + ".weight"), weight(name + ".bias"), epsilon=EPSILON)

    def linear(name, x):
        matrix = g.constant(name + ".weight.T", np.ascontiguousarray(weights[name + ".weight"].T))
        return g.node("Add", name + ".add", weight(name + ".bias"), g.node("MatMul", name, x, matrix))

    def heads(name, x, perm):
        shape = g.constant("heads.shape", np.array([0, -1, HEADS, WIDTH // HEADS], i64))
        return g.node("Transpose", name + ".transpose", g.node("Reshape", name + ".heads", x, shape), perm=perm)

    def gelu(at, x):
        scaled = g.node("Div", at + "gelu.div", x, g.constant("sqrt2", f32(np.sqrt(2))))
        bent = g.node("Add", at + "gelu.add", g.node("Erf", at + "gelu.erf", scaled), g.constant("one", f32(1)))
        return g.node("Mul", at + "gelu", g.node("Mul", at + "gelu.mul", x, bent), g.constant("half", f32(0.5)))

    def attention(at, x, mask):
        part = {p: linear(at + "self." + p, x) for p in ("query", "key", "value")}
        query = heads(at + "query", part["query"], [0, 2, 1, 3])
        key = heads(at + "key", part["key"], [0, 2, 3, 1])
        value = heads(at + "value", part["value"], [0, 2, 1, 3])
        scores = g.node("MatMul", at + "scores", query, key)
        scores = g.node("Div", at + "scores.div", scores, g.constant("sqrt.d", f32(np.sqrt(WIDTH // HEADS))))
        shares = g.node("Softmax", at + "softmax", g.node("Add", at + "scores.mask", scores, mask), axis=-1)
        y = g.node("MatMul", at + "context", shares, value)
        y = g.node("Transpose", at + "context.transpose", y, perm=[0, 2, 1, 3])
        y = g.node("Reshape", at + "context.rows", y, g.constant("rows.shape", np.array([0, -1, WIDTH], i64)))
        return linear(at + "output.dense", y)

    mask = g.node("Unsqueeze", "mask.heads", "attention_mask", g.constant("axis.1", np.array([1], i64)))
    mask = g.node("Unsqueeze", "mask.rows", mask, g.constant("axis.2", np.array([2], i64)))
    mask = g.node("Sub", "mask.sub", g.constant("one", f32(1)), g.node("Cast", "mask.cast", mask, to=1))
    mask = g.node("Mul", "mask", mask, g.constant("lowest", f32(np.finfo(f32).min)))

    words = g.node("Gather", "words", weight("embeddings.word_embeddings.weight"), "input_ids")
    length = g.node("Gather", "length", g.node("Shape", "shape", "input_ids"), g.constant("axis.1", np.array([1], i64)))
    ends = [g.constant("zeros", np.array([0], i64)), length, g.constant("zeros", np.array([0], i64))]
    positions = g.node("Slice", "positions", weight("embeddings.position_embeddings.weight"), *ends)
    types = g.constant("embeddings.type.0", weights["embeddings.token_type_embeddings.weight"][0])
    x = g.node("Add", "embeddings.types", words, types)
    x = norm("embeddings.LayerNorm", g.node("Add", "embeddings", x, positions))
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        y = g.node("Add", at + "attention.residual", attention(at + "attention.", x, mask), x)
        x = norm(at + "attention.output.LayerNorm", y)
        y = linear(at + "output.dense", gelu(at, linear(at + "intermediate.dense", x)))
        x = norm(at + "output.LayerNorm", g.node("Add", at + "output.residual", y, x))
    g.node("Identity", "last_hidden_state", x)
    return g


def write_onnx(path, weights):
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    g = onnx_graph(weights)
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "tokens"])
           for name in ("input_ids", "attention_mask")]
    out = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "tokens", WIDTH])]
    constants = [numpy_helper.from_array(values, name) for name, values in g.constants.items()]
    graph = helper.make_graph(g.nodes, "bert-base", ids, out, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write(folder, words_file=None):
    os.makedirs(folder, exist_ok=True)
    weights = tensors()
    write_folder(folder, weights, vocabulary(words_file))
    write_onnx(os.path.join(folder, "model.onnx"), weights)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    write(*sys.argv[1:])
