"""The protocol over a plain socket: what it says, and what it refuses."""

import json
import socket

import numpy as np
import pytest

import serving


def infer(server, model, request, headers=None):
    return server.json("POST", f"/v2/models/{model}/infer", request, headers)


def tensor(name, datatype, shape, data):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def test_health_and_metadata(server, names):
    assert server.request("GET", "/v2/health/live")[0] == 200
    assert server.request("GET", "/v2/health/ready")[0] == 200
    status, facts = server.json("GET", "/v2")
    assert status == 200 and "binary_tensor_data" in facts["extensions"]
    status, facts = server.json("GET", "/v2/models/tiny/versions/1")
    assert facts["versions"] == ["1"] and facts["inputs"] == [
        {"name": names["input"], "datatype": "UINT8", "shape": [-1, 17, 15, 3]}]
    assert server.request("GET", "/v2/models/tiny/ready")[0] == 200
    status, config = server.json("GET", "/v2/models/text/config")
    assert config["max_batch_size"] == 8
    assert {"name": "text", "data_type": "TYPE_STRING", "dims": [1]} in config["input"]


@pytest.mark.parametrize("flat", [True, False])
def test_json_tensors_nested_or_flat(server, pixels, expected, names, flat):
    data = pixels.reshape(-1).tolist() if flat else pixels.tolist()
    status, answer = infer(server, "tiny", {
        "id": "né", "inputs": [tensor(names["input"], "UINT8", [1, 17, 15, 3], data)],
        "outputs": [{"name": names["outputs"][0]}]})
    assert status == 200, answer
    assert answer["id"] == "né" and answer["model_name"] == "tiny" and answer["model_version"] == "1"
    (output,) = answer["outputs"]
    assert output["shape"] == list(expected.shape) and output["datatype"] == "FP32"
    assert np.array(output["data"], np.float32).tobytes() == expected.tobytes()


def test_binary_in_json_out_and_the_other_way(server, pixels, expected, names):
    body, headers = serving.infer_body(names, {names["input"]: pixels}, binary=False)
    status, head, text = server.request("POST", "/v2/models/tiny/infer", body, headers)
    assert status == 200 and "Inference-Header-Content-Length" not in head
    assert np.array(json.loads(text)["outputs"][0]["data"], np.float32).tobytes() == expected.tobytes()
    status, head, text = server.request("POST", "/v2/models/tiny/infer", json.dumps({
        "inputs": [tensor(names["input"], "UINT8", [1, 17, 15, 3], pixels.tolist())],
        "outputs": [{"name": names["outputs"][0], "parameters": {"binary_data": True}}]}))
    size = int(head["Inference-Header-Content-Length"])
    assert json.loads(text[:size])["outputs"][0]["parameters"]["binary_data_size"] == expected.nbytes
    assert text[size:] == expected.tobytes()


def test_a_raw_body_is_the_one_input(server, pixels, expected, picture, picture_expected):
    for body, answer in ((pixels.tobytes(), expected), (picture, picture_expected)):
        status, head, text = server.request("POST", "/v2/models/tiny/infer", body,
                                            {"Inference-Header-Content-Length": "0"})
        assert status == 200, text
        assert text[int(head["Inference-Header-Content-Length"]):].startswith(answer.tobytes())
    assert server.request("POST", "/v2/models/text/infer", "a b",
                          {"Inference-Header-Content-Length": "0"})[0] == 200


def test_padded_ids_give_the_bytes_of_texts(server, names):
    rows = [[2, 5, 6, 3], [2, 5, 3, 0]]  # [CLS] a b [SEP]; [CLS] a [SEP]
    status, padded = infer(server, "text", {"inputs": [
        tensor("input_ids", "INT64", [2, 4], rows),
        tensor("attention_mask", "INT64", [2, 4], [[1, 1, 1, 1], [1, 1, 1, 0]])]})
    assert status == 200, padded
    status, texts = infer(server, "text", {"inputs": [tensor("text", "BYTES", [2], ["a b", "a"])]})
    assert status == 200, texts
    assert padded["outputs"] == texts["outputs"]
    hidden = texts["outputs"][1]
    assert hidden["shape"][:2] == [2, 4]
    assert not any(np.array(hidden["data"]).reshape(hidden["shape"])[1, 3])  # behind the end: zeros


def test_pairs_and_types(server):
    status, pair = infer(server, "text", {"inputs": [tensor("text", "BYTES", [1, 2], [["a", "b"]])]})
    assert status == 200, pair
    ids, types = [2, 5, 3, 6, 3], [0, 0, 0, 1, 1]
    status, same = infer(server, "text", {"inputs": [tensor("input_ids", "INT32", [1, 5], [ids]),
                                                     tensor("token_type_ids", "INT64", [1, 5], types)]})
    assert status == 200 and same["outputs"] == pair["outputs"]


def good(names):
    return {"inputs": [tensor(names["input"], "UINT8", [1, 17, 15, 3], [0] * 765)]}


def changed(request, **changes):
    request["inputs"][0].update(changes)
    return request


BAD = {
    "no inputs": lambda n: {},
    "inputs no list": lambda n: {"inputs": 3},
    "empty inputs": lambda n: {"inputs": []},
    "65 inputs": lambda n: {"inputs": [tensor(f"x{i}", "UINT8", [1], [0]) for i in range(65)]},
    "unknown input": lambda n: changed(good(n), name="nothing"),
    "twice": lambda n: {"inputs": good(n)["inputs"] * 2},
    "wrong type": lambda n: changed(good(n), datatype="FP32"),
    "no such type": lambda n: changed(good(n), datatype="COMPLEX"),
    "wrong shape": lambda n: changed(good(n), shape=[1, 15, 17, 3]),
    "no batch": lambda n: changed(good(n), shape=[17, 15, 3]),
    "nine samples": lambda n: changed(good(n), shape=[9, 17, 15, 3], data=[0] * 765 * 9),
    "no samples": lambda n: changed(good(n), shape=[0, 17, 15, 3], data=[]),
    "negative": lambda n: changed(good(n), shape=[-1, 17, 15, 3]),
    "product overflows": lambda n: changed(good(n), shape=[2**63 - 1, 2**63 - 1, 2, 2]),
    "huge": lambda n: changed(good(n), shape=[2**20, 2**20, 2**20, 2**20]),
    "too few": lambda n: changed(good(n), data=[0] * 764),
    "too many": lambda n: changed(good(n), data=[0] * 766),
    "256 in a byte": lambda n: changed(good(n), data=[0] * 764 + [256]),
    "-1 in a byte": lambda n: changed(good(n), data=[0] * 764 + [-1]),
    "a half in a byte": lambda n: changed(good(n), data=[0] * 764 + [0.5]),
    "text in a byte": lambda n: changed(good(n), data=[0] * 764 + ["1"]),
    "null in a byte": lambda n: changed(good(n), data=[0] * 764 + [None]),
    "unknown output": lambda n: {**good(n), "outputs": [{"name": "nothing"}]},
    "output twice": lambda n: {**good(n), "outputs": [{"name": n["outputs"][0]}] * 2},
    "binary size": lambda n: {"inputs": [{"name": n["input"], "datatype": "UINT8", "shape": [1, 17, 15, 3],
                                          "parameters": {"binary_data_size": 765}}]},
    "no image": lambda n: changed(good(n), datatype="BYTES", shape=[1], data=["not an image"]),
    "id too long": lambda n: {**good(n), "id": "x" * 256},
    "priority": lambda n: {**good(n), "parameters": {"priority": 2}},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_named_and_refused(server, names, name):
    assert infer(server, "tiny", good(names))[0] == 200
    status, answer = infer(server, "tiny", BAD[name](names))
    assert status == 400 and 0 < len(answer["error"]) <= 1000, answer


@pytest.mark.parametrize("inputs", [
    [tensor("text", "BYTES", [2], ["a"])], [tensor("text", "BYTES", [1, 3], ["a", "b", "c"])],
    [tensor("text", "INT32", [1], [1])], [tensor("input_ids", "INT64", [1, 7], [1] * 7)],
    [tensor("input_ids", "INT64", [1, 2], [1, 99])], [tensor("input_ids", "INT64", [1, 2], [1, -1])],
    [tensor("input_ids", "INT64", [1, 2], [1, 2**40])], [tensor("input_ids", "FP32", [1, 2], [1, 1])],
    [tensor("input_ids", "INT64", [1, 2], [1, 1]), tensor("attention_mask", "INT64", [1, 2], [0, 1])],
    [tensor("input_ids", "INT64", [1, 2], [1, 1]), tensor("attention_mask", "INT64", [1, 3], [1, 1, 1])],
    [tensor("input_ids", "INT64", [1, 2], [1, 1]), tensor("token_type_ids", "INT64", [1, 2], [0, 2])],
    [tensor("attention_mask", "INT64", [1, 2], [1, 1])],
    [tensor("text", "BYTES", [1], ["a"]), tensor("input_ids", "INT64", [1, 1], [1])],
])
def test_bad_sequences_are_refused(server, inputs):
    status, answer = infer(server, "text", {"inputs": inputs})
    assert status == 400 and answer["error"], answer


@pytest.mark.parametrize("body, why", [
    (b"{", "not JSON"), (b"[" * 40 + b"]" * 40, "32 levels"), (b'{"a":1,"a":2}', "twice"),
    (b"[]", "no JSON object"), (b'{"inputs": [1]}', "no object"), (b'{"inputs":[{"name":"x","datatype":"FP32",'
     b'"shape":[1],"data":[1e999]}]}', ""), (b"\xff\xfe", "not JSON"), (b"nan", "not JSON")])
def test_what_is_no_json_is_refused(server, body, why):
    status, _, text = server.request("POST", "/v2/models/tiny/infer", body)
    assert status == 400 and why in json.loads(text)["error"]


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/", 404), ("GET", "/v3", 404), ("GET", "/v2/models/absent", 404), ("GET", "/metrics", 404),
    ("GET", "/v2/models/tiny/versions/2", 404), ("GET", "/v2/models/tiny/versions/x", 404),
    ("GET", "/v2/models/..", 404), ("GET", "/v2/models/%2e%2e/config", 404),
    ("GET", "/v2/models/../../etc/passwd", 404), ("GET", "/v2/models/" + "a" * 129, 404),
    ("DELETE", "/v2/models/tiny", 405), ("GET", "/v2/models/tiny/infer", 405), ("POST", "/v2", 405),
    ("POST", "/v2/repository/models/tiny/load", 501), ("POST", "/v2/repository/models/tiny/unload", 501),
    ("GET", "/v2/models/tiny/other", 404), ("GET", "/v2/systemsharedmemory/status", 404),
    ("POST", "/v2/models/absent/infer", 404), ("POST", "/v2/models/tiny/infer", 400),
])
def test_paths_and_methods(server, method, path, status):
    got, _, text = server.request(method, path)
    assert got == status and "error" in json.loads(text)


def raw(server, data, seconds=5.0):
    """What comes back for these bytes until the server closes or is silent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as s:
        got = b""
        try:
            s.sendall(data)
            while part := s.recv(65536):
                got += part
        except (TimeoutError, ConnectionResetError):
            pass
        return got


HEAD = b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("data, status", [
    (b"nonsense\r\n\r\n", b" 400 "),
    (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b" 400 "),
    (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", b" 400 "),
    (HEAD + b"Content-Length: -1\r\n\r\n", b" 400 "),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", b" 400 "),
    (HEAD + b"X: " + b"a" * 17000 + b"\r\n\r\n", b" 431 "),
    (HEAD + b"".join(b"X%d: a\r\n" % i for i in range(101)) + b"\r\n", b" 431 "),
    (HEAD + b"Content-Length: 99999999999\r\n\r\n", b" 413 "),
    (b"POST /v2/repository/index HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
     (b"10000\r\n" + b"a" * 65536 + b"\r\n") * 100, b" 413 "),
    (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", b" 415 "),
    (HEAD + b"Inference-Header-Content-Length: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", b" 400 "),
    (HEAD + b"Inference-Header-Content-Length: 9\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", b" 400 "),
])
def test_bad_http_is_answered_and_closed(server, data, status):
    assert status in raw(server, data).split(b"\r\n")[0]
    assert server.request("GET", "/v2/health/live")[0] == 200


def test_expect_continue_and_pipelining(server):
    got = raw(server, HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400")
    live = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n"
    got = raw(server, (live + b"\r\n") * 3 + live + b"Connection: close\r\n\r\n")
    assert got.count(b"HTTP/1.1 200 OK") == 4


def test_requests_are_logged_with_their_id(server, pixels, names):
    body, headers = serving.infer_body(names, {names["input"]: pixels}, identity="find me")
    server.request("POST", "/v2/models/tiny/infer", body, headers)
    assert serving.wait_until(lambda: any(e["id"] == "find me" for e in server.events("request")))
    event = next(e for e in server.events("request") if e["id"] == "find me")
    assert event["status"] == 200 and event["samples"] == 1 and event["total_us"] >= event["compute_us"]
