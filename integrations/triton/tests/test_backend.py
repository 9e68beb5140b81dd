"""libtriton_mpq.so inside NVIDIA's tritonserver: answers are the bytes of the library by itself."""

import os
from pathlib import Path

import mpq
import numpy as np
import pytest
import reference
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from tritonserver import Triton, put_model

TINY, TEXT = Path(os.environ["MPQ_TINY"]), Path(os.environ["MPQ_TEXT"])
CONFIG = (Path(__file__).resolve().parent.parent / "config.pbtxt").read_text()
TEXTS = ["a b", "ad c f", "a", "b c d e f", "f e d"]
CHOSEN = ["a b", "a"]  # shorter than the longest sequence of the model


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    put_model(repository, "tiny", TINY, CONFIG)
    put_model(repository, "text", TEXT, CONFIG)
    put_model(repository, "bare", TINY, 'backend: "mpq"')
    put_model(repository, "single", TINY, 'backend: "mpq" max_batch_size: 0 ' + explicit_tensors())
    put_model(repository, "corrupt", TINY.with_suffix(".input"), CONFIG)
    put_model(repository, "strange", TINY, CONFIG.replace('string_value: "1"', 'string_value: "many"'))
    with Triton(repository, tmp_path_factory.mktemp("triton")) as running:
        yield running
        assert running.stop() == 0


def explicit_tensors():
    """input and output of a configuration, for models without a batch dimension."""
    with mpq.Model(TINY) as model:
        text = ""
        for key, tensors in (("input", model.inputs), ("output", model.outputs)):
            for t in tensors:
                kind = {"uint8": "UINT8", "int32": "INT32", "float32": "FP32"}[np.dtype(t.dtype).name]
                text += f'{key} [ {{ name: "{t.name}" data_type: TYPE_{kind} dims: {list(t.shape[1:])} }} ]\n'
        return text


@pytest.fixture(scope="module")
def names():
    with mpq.Model(TINY) as model, mpq.Model(TEXT) as text:
        return {"input": model.inputs[0].name, "outputs": [o.name for o in model.outputs],
                "text_outputs": [o.name for o in text.outputs]}


@pytest.fixture(scope="module")
def cases():
    return reference.images(TINY, 16)


def pixels(names, array):
    tensor = triton.InferInput(names["input"], array.shape, "UINT8")
    tensor.set_data_from_numpy(array)
    return [tensor]


def texts(values):
    values = np.array(values, dtype=object).reshape(len(values), -1)
    tensor = triton.InferInput("text", values.shape, "BYTES")
    tensor.set_data_from_numpy(values)
    return [tensor]


def check(result, expected):
    assert expected
    for name, value in expected:
        assert result.as_numpy(name).tobytes() == value.tobytes(), name


def test_the_answer_is_that_of_the_naive_interpreter(server, names):
    image = np.fromfile(TINY.with_suffix(".input"), np.uint8).reshape(1, 17, 15, 3)
    result = server.client.infer("tiny", pixels(names, image), request_id="7")
    assert result.as_numpy(names["outputs"][0]).tobytes() == TINY.with_suffix(".expected").read_bytes()
    assert result.get_response()["id"] == "7"


def test_the_configuration_is_completed_from_the_file(server, names):
    for name in ("tiny", "bare"):
        config = server.client.get_model_config(name)
        assert config["max_batch_size"] == 8 and "dynamic_batching" in config
        assert config["input"][0]["name"] == names["input"] and config["input"][0]["data_type"] == "TYPE_UINT8"
        assert config["input"][0]["dims"] == [17, 15, 3]
        assert [o["name"] for o in config["output"]] == names["outputs"]
    assert [g["count"] for g in server.client.get_model_config("tiny")["instance_group"]] == [2]


def test_requests_in_batches_get_the_bytes_of_single_ones(server, names, cases):
    before = server.client.get_inference_statistics("tiny")["model_stats"][0]
    waiting = []
    for i in range(240):
        chosen = [cases[(i + k) % len(cases)] for k in range(1 + i % 3)]
        expected = [(rows[0][0], np.concatenate([value for _, value in rows])) for rows in zip(*(answers for _, answers in chosen))]
        waiting.append((server.client.async_infer("tiny", pixels(names, np.concatenate([image for image, _ in chosen]))), expected))
    for request, expected in waiting:
        check(request.get_result(), expected)
    after = server.client.get_inference_statistics("tiny")["model_stats"][0]
    samples, runs = (after[key] - before[key] for key in ("inference_count", "execution_count"))
    assert samples == 480 and runs < 240  # some requests ran together
    assert max(b["batch_size"] for b in after["batch_stats"]) > 3


def test_grpc_gives_the_same(server, names, cases):
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client:
        image, expected = cases[0]
        tensor = triton_grpc.InferInput(names["input"], image.shape, "UINT8")
        tensor.set_data_from_numpy(image)
        check(client.infer("tiny", [tensor]), expected)


def test_a_model_without_a_batch_dimension(server, names, cases):
    image, expected = cases[1]
    result = server.client.infer("single", pixels(names, image[0]))
    check(result, expected)
    assert list(result.as_numpy(names["outputs"][0]).shape) == list(expected[0][1].shape[1:])


@pytest.fixture(scope="module")
def text_answers():
    """All outputs, by a session of one text."""
    with mpq.Model(TEXT) as model, model.session() as session:
        return {text: [np.array(o) for o in session.run_texts([text])] for text in TEXTS}


def test_texts_alone_and_together(server, names, text_answers):
    for text, answer in reference.texts(TEXT, TEXTS):
        assert answer[0][1].tobytes() == text_answers[text][0].tobytes()
    waiting = [(text, server.client.async_infer("text", texts([text]))) for text in TEXTS * 8]
    for text, request in waiting:
        result = request.get_result()
        for name, value in zip(names["text_outputs"], text_answers[text]):
            assert result.as_numpy(name).tobytes() == value.tobytes()


def test_ids_are_those_of_the_text_and_padding_is_cut(server, names, text_answers):
    with mpq.Model(TEXT) as model:
        rows = [[token.id for token in model.tokenize(text)] for text in CHOSEN]
    width = max(map(len, rows)) + 1
    ids, mask = np.zeros((2, width), np.int64), np.zeros((2, width), np.int64)
    for i, row in enumerate(rows):
        ids[i, :len(row)], mask[i, :len(row)] = row, 1
    inputs = []
    for name, array in (("input_ids", ids), ("attention_mask", mask)):
        inputs.append(triton.InferInput(name, array.shape, "INT64"))
        inputs[-1].set_data_from_numpy(array)
    result = server.client.infer("text", inputs)
    for o, name in enumerate(names["text_outputs"]):
        for i, text in enumerate(CHOSEN):
            expected, got = text_answers[text][o], result.as_numpy(name)[i]
            if got.size > expected.size:  # a row a token: zeros behind the end
                got, rest = got[:len(rows[i])], got[len(rows[i]):]
                assert not rest.any()
            assert got.tobytes() == expected.tobytes()


def test_a_wrong_request_does_not_hurt_its_neighbours(server, names, text_answers):
    ids = triton.InferInput("input_ids", [1, 2], "INT64")
    ids.set_data_from_numpy(np.array([[0, 1 << 20]]))
    waiting = [server.client.async_infer("text", inputs) for inputs in (texts([TEXTS[0]]), [ids], texts([TEXTS[0]])) * 8]
    for i, request in enumerate(waiting):
        if i % 3 == 1:
            with pytest.raises(triton.InferenceServerException, match="1048576, the vocabulary has"):
                request.get_result()
        else:
            name = names["text_outputs"][0]
            assert request.get_result().as_numpy(name).tobytes() == text_answers[TEXTS[0]][0].tobytes()


@pytest.mark.parametrize("shape, kind, word", [([1, 17, 15, 4], np.uint8, "shape"), ([9, 17, 15, 3], np.uint8, "batch-size"),
                                               ([1, 17, 15, 3], np.int8, "data-type")])
def test_wrong_tensors_are_refused(server, names, shape, kind, word):
    tensor = triton.InferInput(names["input"], shape, np.dtype(kind).name.upper())
    tensor.set_data_from_numpy(np.zeros(shape, kind))
    with pytest.raises(triton.InferenceServerException, match=word):
        server.client.infer("tiny", [tensor])


def test_models_that_cannot_be_loaded_say_why(server):
    assert not server.client.is_model_ready("corrupt") and not server.client.is_model_ready("strange")
    reasons = {m["name"]: m.get("reason", "") for m in server.client.get_model_repository_index()}
    assert "model.fb" in reasons["corrupt"]
    assert "threads: many is not in 0 to 1024" in reasons["strange"]


def test_loading_and_unloading_leaves_nothing_behind(tmp_path, names, cases):
    put_model(tmp_path / "models", "tiny", TINY, CONFIG)
    image, expected = cases[2]
    with Triton(tmp_path / "models", tmp_path, "--model-control-mode=explicit") as server:
        for turn in range(60):
            server.client.load_model("tiny")
            check(server.client.infer("tiny", pixels(names, image)), expected)
            server.client.unload_model("tiny")
            if turn == 19:
                before = server.rss()
        assert server.rss() - before < 8 << 20
        assert server.stop() == 0


@reference.REAL_NETWORKS
def test_real_networks_share_weights_and_answer_as_mpqrun_does(model, tmp_path):
    cases = reference.of_real_network(model)
    with mpq.Model(model) as opened:
        input_name = opened.inputs[0].name
        sizes = [8] if opened.sequence_length else [8, 4, 2, 1]  # sessions of an instance
        tokens = min(1024, 8 * opened.sequence_length)
        sessions = [opened.session(batch=size, threads=1, max_tokens=tokens) for size in sizes]
        weights = sessions[0].memory["weights"]
        private = sum(s.memory["activations"] + s.memory["scratch"] for s in sessions)
    memory = {}
    for count in (1, 4):
        folder = tmp_path / str(count)
        put_model(folder / "models", "net", model, CONFIG.replace("count: 2", f"count: {count}"))
        with Triton(folder / "models", folder) as server:
            waiting = []
            for sample, expected in cases * 8:
                inputs = texts([sample]) if isinstance(sample, str) else pixels({"input": input_name}, sample)
                waiting.append((server.client.async_infer("net", inputs), expected))
            for request, expected in waiting:
                check(request.get_result(), expected)
            memory[count] = server.rss()
            assert server.stop() == 0
    grown = (memory[4] - memory[1]) / 3
    print(f"{model.stem}: weights {weights / 1e6:.1f} MB, an instance's own memory {private / 1e6:.1f} MB, "
          f"resident with 1 and 4 instances {memory[1] / 1e6:.1f} and {memory[4] / 1e6:.1f} MB")
    assert grown < private + weights / 3 + (4 << 20)
