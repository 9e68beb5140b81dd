#!/usr/bin/env python3
"""A BERT encoder of two layers with random weights, as the folder that Hugging Face's tools write: what
there is to convert and run where no trained one can be had. Its answers mean nothing. Standard library only.

   tiny_encoder.py FOLDER [TEXT...]     the words of the files TEXT are its vocabulary
"""
import array
import json
import os
import random
import re
import struct
import sys

WIDTH, INNER, HEADS, LAYERS, POSITIONS = 128, 512, 4, 2, 128


def vocabulary(files):
    words = set("abcdefghijklmnopqrstuvwxyz0123456789.,'?!-")
    for name in files:
        with open(name, encoding="utf-8") as text:
            words.update(re.findall("[a-z]+", text.read().lower()))
    pieces = ["##" + letter for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words), *pieces]


def tensors(words):
    """Name, dimensions, deviation from a mean: as BERT's weights begin before any training."""
    yield "embeddings.word_embeddings.weight", [words, WIDTH], 0.02, 0
    yield "embeddings.position_embeddings.weight", [POSITIONS, WIDTH], 0.02, 0
    yield "embeddings.token_type_embeddings.weight", [2, WIDTH], 0.02, 0

    def norm(name):
        yield name + ".LayerNorm.weight", [WIDTH], 0.05, 1
        yield name + ".LayerNorm.bias", [WIDTH], 0.02, 0

    def linear(name, rows, columns):
        yield name + ".weight", [rows, columns], columns ** -0.5, 0
        yield name + ".bias", [rows], 0.02, 0

    yield from norm("embeddings")
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}."
        for part in ("query", "key", "value"):
            yield from linear(layer + "attention.self." + part, WIDTH, WIDTH)
        yield from linear(layer + "attention.output.dense", WIDTH, WIDTH)
        yield from norm(layer + "attention.output")
        yield from linear(layer + "intermediate.dense", INNER, WIDTH)
        yield from linear(layer + "output.dense", WIDTH, INNER)
        yield from norm(layer + "output")


def write_safetensors(path, words):
    rng = random.Random(1)  # the same file each time
    header, values = {}, array.array("f")
    for name, shape, deviation, mean in tensors(words):
        begin = 4 * len(values)
        values.extend(rng.gauss(mean, deviation) for _ in range(shape[0] * (shape[1] if len(shape) > 1 else 1)))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, 4 * len(values)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + values.tobytes())


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, *files = sys.argv[1:]
    words = vocabulary(files)
    os.makedirs(os.path.join(folder, "1_Pooling"), exist_ok=True)
    for name, content in {
        "config.json": {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH,
                        "intermediate_size": INNER, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
                        "layer_norm_eps": 1e-12, "max_position_embeddings": POSITIONS, "type_vocab_size": 2,
                        "pad_token_id": 0, "position_embedding_type": "absolute", "vocab_size": len(words)},
        "modules.json": [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                         {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}],
        "1_Pooling/config.json": {"word_embedding_dimension": WIDTH, "pooling_mode_cls_token": False,
                                  "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
                                  "pooling_mode_mean_sqrt_len_tokens": False},
        "tokenizer_config.json": {"do_lower_case": True, "tokenizer_class": "BertTokenizer"},
    }.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
            json.dump(content, out, indent=1)
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as out:
        out.writelines(word + "\n" for word in words)
    write_safetensors(os.path.join(folder, "model.safetensors"), len(words))


if __name__ == "__main__":
    main()
