#!/usr/bin/env python3
"""Compares our import and float evaluation of exported BERT and MPNet encoders with ONNX Runtime.

    check_encoders.py path/to/onnx_sequences [MINILM_FOLDER [MPNET_FOLDER]] [--plant]

Exports small random networks with heads, and the folders given, by torch.onnx.export: TorchScript at
opsets 14 and 17, the new exporter at 18, 20 and 23, attention spelled out and as SDPA. The largest
absolute difference must be below 1e-4. --plant damages our outputs: the script must then fail.
A missing package is one SKIPPED line.
"""

import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import warnings

try:
    import numpy as np
    import onnxruntime
    import torch
    import transformers
except ImportError as error:
    print(f"SKIPPED: encoder oracle: {error}")
    sys.exit(77)

TOOL = sys.argv[1] if len(sys.argv) > 1 else ""
PLANT = "--plant" in sys.argv
TOLERANCE = 1e-4
NAMES = ["input_ids", "attention_mask", "token_type_ids"]
RNG = np.random.default_rng(20261127)


class Sentence(torch.nn.Module):
    """What sentence-transformers export: pooling, and perhaps length 1."""

    def __init__(self, encoder, mean, normalise):
        super().__init__()
        self.encoder, self.mean, self.normalise = encoder, mean, normalise
        self.config = encoder.config

    def forward(self, input_ids, attention_mask, token_type_ids):
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)[0]
        mask = attention_mask.unsqueeze(-1).expand(hidden.size()).float()
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9) if self.mean else hidden[:, 0]
        if self.normalise:
            pooled = torch.nn.functional.normalize(pooled, p=2, dim=1)
        return pooled, hidden


class Tensors(torch.nn.Module):
    """The same network with a plain tuple as result, as the older exporter wants it."""

    def __init__(self, network, names):
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *values):
        result = self.network(**dict(zip(self.names, values)))
        result = result if isinstance(result, tuple) else result.to_tuple()
        return tuple(v for v in result if isinstance(v, torch.Tensor))


def names_of(network):
    return NAMES[:2] if network.config.model_type == "mpnet" else NAMES


def export(network, opset, dynamo, path):
    """In a process of its own: behind others in the same process, torch 2.15 writes an invalid attention at opset 23."""
    child = multiprocessing.get_context("fork").Process(target=export_here, args=(network, opset, dynamo, path))
    child.start()
    child.join()
    if child.exitcode != 0:
        raise RuntimeError(f"the export failed: {child.exitcode}")


def export_here(network, opset, dynamo, path):
    names = names_of(network)
    ids = torch.randint(5, 90, (2, 7))
    values = (ids, torch.ones_like(ids), torch.zeros_like(ids))[:len(names)]
    outputs = ["sentence_embedding", "token_embeddings"] if isinstance(network, Sentence) else None
    if dynamo:
        batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=network.config.max_position_embeddings - 2)
        torch.onnx.export(network, (), path, kwargs=dict(zip(names, values)), input_names=names, output_names=outputs,
                          opset_version=opset, dynamo=True, external_data=False, verbose=False,
                          dynamic_shapes={n: {0: batch, 1: tokens} for n in names})
    else:
        torch.onnx.export(Tensors(network, names), values, path, input_names=names, output_names=outputs,
                          opset_version=opset, dynamo=False, dynamic_axes={n: {0: "batch", 1: "tokens"} for n in names})


def compare(name, network, path, words, two_outputs):
    session = onnxruntime.InferenceSession(path)
    inputs = set(names_of(network))
    numbers, want = [], []
    for n in (1, 2, 30, 9, 47):
        ids = RNG.integers(5, words, n)
        types = (np.arange(n) > n // 2).astype(np.int64) if "token_type_ids" in inputs else np.zeros(n, np.int64)
        numbers += [n, *ids, *types]
        feed = {"input_ids": ids[None], "attention_mask": np.ones((1, n), np.int64), "token_type_ids": types[None]}
        got = session.run(None, {k: v.astype(np.int64) for k, v in feed.items() if k in inputs})
        want.append((np.stack(got[:2], -1) if two_outputs else got[0]).reshape(-1))
    want = np.concatenate(want)
    with tempfile.TemporaryDirectory() as folder:
        sequences, output = os.path.join(folder, "in.i32"), os.path.join(folder, "out.f32")
        np.array(numbers, np.int32).tofile(sequences)
        done = subprocess.run([TOOL, path, sequences, output], capture_output=True, text=True)
        if done.returncode != 0:
            print(f"FAILED: {name}: {done.stderr.strip()}")
            return False
        ours = np.fromfile(output, np.float32)
    if PLANT:
        ours[ours.size // 2] += 1e-2
    if ours.size != want.size:
        print(f"FAILED: {name}: {ours.size} values, expected {want.size}")
        return False
    worst = np.abs(ours - want).max()
    print(f"{'FAILED: ' if not worst < TOLERANCE else ''}{name}: largest difference {worst:.2g}")
    return bool(worst < TOLERANCE)


def check_quantised():
    """Q/DQ at the inputs and weights of linear layers, by ONNX Runtime's tool."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Samples(CalibrationDataReader):
        def __init__(self):
            ids = RNG.integers(5, 100, (8, 1, 12))
            self.rest = iter([{"input_ids": i, "attention_mask": np.ones_like(i), "token_type_ids": np.zeros_like(i)} for i in ids])

        def get_next(self):
            return next(self.rest, None)

    network = randomise(transformers.BertModel(small(transformers.BertModel)))
    with tempfile.TemporaryDirectory() as folder:
        path, quantised = os.path.join(folder, "float.onnx"), os.path.join(folder, "model.onnx")
        export(network, 17, False, path)
        graph = onnx.load(path).graph
        constants = {c.name for c in graph.initializer}
        products = [n.name for n in graph.node if n.op_type == "MatMul" and n.input[1] not in constants]
        quantize_static(path, quantised, Samples(), quant_format=QuantFormat.QDQ, op_types_to_quantize=["MatMul"],
                        nodes_to_exclude=products, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
                        extra_options={"WeightSymmetric": True, "OpTypesToExcludeOutputQuantization": ["MatMul"]})
        return compare("encoder with Q/DQ", network, quantised, 100, False)


def randomise(network):
    """Parameters that differ from each other: a mistaken one shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def small(kind, **changes):
    return transformers.BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                   intermediate_size=64, max_position_embeddings=64, **changes)


def networks():
    """(name, network, words, whether start and end are two outputs)"""
    for attention in ("eager", "sdpa"):
        def bert(cls, **changes):
            config = small(cls, **changes)
            config._attn_implementation = attention
            return randomise(cls(config))
        yield f"encoder {attention}", bert(transformers.BertModel), 100, False
        yield f"classifier {attention}", bert(transformers.BertForSequenceClassification, hidden_act="gelu_new"), 100, False
        yield f"answers {attention}", bert(transformers.BertForQuestionAnswering), 100, True
        yield f"sentence mean {attention}", Sentence(bert(transformers.BertModel), True, True).eval(), 100, False
        yield f"sentence first {attention}", Sentence(bert(transformers.BertModel), False, False).eval(), 100, False
    mpnet = transformers.MPNetConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                     intermediate_size=64, max_position_embeddings=66)
    yield "MPNet", randomise(transformers.MPNetModel(mpnet)), 100, False
    for folder in [a for a in sys.argv[2:] if not a.startswith("--")]:
        for attention in ("eager",) if "mpnet" in folder else ("eager", "sdpa"):
            network = transformers.AutoModel.from_pretrained(folder, attn_implementation=attention) if "mpnet" not in folder \
                else transformers.AutoModel.from_pretrained(folder)
            yield f"{os.path.basename(os.path.normpath(folder))} {attention}", network.eval(), 30000, False


def main():
    if not TOOL or not os.path.exists(TOOL):
        print(__doc__)
        return 2
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)  # exports are forked
    logging.disable(logging.WARNING)  # of the exporters
    good, count = True, 0
    for name, network, words, two_outputs in networks():
        for opset, dynamo in ((14, False), (17, False), (18, True), (20, True), (23, True)):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "model.onnx")
                what = f"{name}, {'dynamo' if dynamo else 'TorchScript'} opset {opset}"
                export(network, opset, dynamo, path)
                good = compare(what, network, path, words, two_outputs) and good
                count += 1
        if PLANT:
            break
    good = check_quantised() and good
    count += 1
    print(f"encoders: {count} exports compared, torch {torch.__version__}, transformers {transformers.__version__}, "
          f"ONNX Runtime {onnxruntime.__version__}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
