"""Clients that were not written here: tritonclient, promtool, h2load, wrk, openssl, curl's rules."""

import re
import shutil
import subprocess

import numpy as np
import pytest
import serving
import tritonclient.http as triton
from conftest import TEXT, TINY


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.address, concurrency=4) as c:
        yield c


def tool(name, package):
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} (Debian: {package})")
    return path


def image_input(names, pixels, binary=True):
    tensor = triton.InferInput(names["input"], pixels.shape, "UINT8")
    tensor.set_data_from_numpy(pixels, binary_data=binary)
    return [tensor]


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_infers(client, pixels, expected, names, binary):
    outputs = [triton.InferRequestedOutput(names["outputs"][0], binary_data=binary)]
    result = client.infer("tiny", image_input(names, pixels, binary), outputs=outputs, request_id="7")
    assert result.as_numpy(names["outputs"][0]).tobytes() == expected.tobytes()
    assert result.get_response()["id"] == "7"
    assert client.infer("tiny", image_input(names, pixels), model_version="1").as_numpy(
        names["outputs"][0]).tobytes() == expected.tobytes()


def test_tritonclient_asynchronously(client, pixels, expected, names):
    waiting = [client.async_infer("tiny", image_input(names, pixels)) for _ in range(32)]
    for request in waiting:
        assert request.get_result().as_numpy(names["outputs"][0]).tobytes() == expected.tobytes()


def test_tritonclient_reads_everything_else(client):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("tiny")
    assert client.get_server_metadata()["name"] == "mpqserve"
    assert client.get_model_metadata("tiny")["platform"] == "mpq"
    assert client.get_model_config("tiny")["max_batch_size"] == 8
    statistics = client.get_inference_statistics("tiny")["model_stats"][0]
    assert statistics["inference_stats"]["success"]["count"] >= 1
    assert {m["name"] for m in client.get_model_repository_index()} == {"tiny", "text"}
    with pytest.raises(triton.InferenceServerException, match="501"):
        client.load_model("tiny")
    with pytest.raises(triton.InferenceServerException, match="no such model"):
        client.get_model_metadata("absent")


def test_tritonclient_sends_texts_and_images(client, names, picture, picture_expected):
    texts = np.array(["a b", "ad c f"], dtype=object)
    tensor = triton.InferInput("text", texts.shape, "BYTES")
    tensor.set_data_from_numpy(texts)
    both = client.infer("text", [tensor]).as_numpy(names["text_outputs"][0])
    for i, text in enumerate(texts):
        one = triton.InferInput("text", [1], "BYTES")
        one.set_data_from_numpy(np.array([text], dtype=object))
        assert client.infer("text", [one]).as_numpy(names["text_outputs"][0])[0].tobytes() == both[i].tobytes()
    images = triton.InferInput(names["input"], [2], "BYTES")
    images.set_data_from_numpy(np.array([picture, picture], dtype=object))
    rows = client.infer("tiny", [images]).as_numpy(names["outputs"][0])
    assert rows[0].tobytes() == rows[1].tobytes() == picture_expected.tobytes()


def test_tritonclient_classifies(client, pixels, expected, names):
    outputs = [triton.InferRequestedOutput(names["outputs"][0], class_count=3)]
    (row,) = client.infer("tiny", image_input(names, pixels), outputs=outputs).as_numpy(names["outputs"][0])
    found = [entry.decode().split(":") for entry in row]
    best = np.argsort(-expected[0], kind="stable")[:3]
    assert [int(index) for _, index, _ in found] == best.tolist()
    assert [label for _, _, label in found] == [f"class {i}" for i in best]


def test_promtool_accepts_the_metrics(server, client, pixels, names):
    promtool = tool("promtool", "prometheus")
    client.infer("tiny", image_input(names, pixels))
    status, headers, text = server.request("GET", "/metrics", port=server.facts["metrics_port"])
    assert status == 200 and headers["Content-Type"].startswith("text/plain")
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
    assert checked.returncode == 0 and not checked.stderr, checked.stderr
    ok = re.search(rb'mpq_inference_requests_total\{model="tiny",version="1",status="ok"\} (\d+)', text)
    assert int(ok.group(1)) >= 1
    assert server.request("GET", "/v2", port=server.facts["metrics_port"])[0] == 404


@pytest.fixture
def body_file(pixels, names, tmp_path):
    body, headers = serving.infer_body(names, {names["input"]: pixels})
    (tmp_path / "body").write_bytes(body)
    return tmp_path / "body", headers


def test_h2load_gets_an_answer_to_every_request(server, body_file):
    h2load = tool("h2load", "nghttp2-client")
    path, headers = body_file
    said = subprocess.run(
        [h2load, "--h1", "-n", "3000", "-c", "16", "-d", str(path),
         *(f"-H{name}: {value}" for name, value in headers.items()),
         f"http://{server.address}/v2/models/tiny/infer"],
        capture_output=True, text=True, timeout=60).stdout
    assert "3000 succeeded, 0 failed, 0 errored, 0 timeout" in said, said


def test_wrk_sees_no_errors(server, body_file, tmp_path):
    wrk = tool("wrk", "wrk")
    path, headers = body_file
    (tmp_path / "post.lua").write_text(
        f'local f = io.open("{path}", "rb")\nwrk.method = "POST"\nwrk.body = f:read("*a")\n' +
        "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in headers.items()))
    said = subprocess.run([wrk, "-t1", "-c16", "-d2s", "-s", tmp_path / "post.lua",
                           f"http://{server.address}/v2/models/tiny/infer"],
                          capture_output=True, text=True, timeout=60).stdout
    assert "requests in" in said and "Non-2xx" not in said and "Socket errors" not in said, said


def test_tls_token_and_model_control(tmp_path, pixels, expected, names):
    tool("openssl", "openssl")
    cert, key = serving.make_certificate(tmp_path)
    (tmp_path / "token").write_text("a token of some length\n")
    serving.put_model(tmp_path / "models", "tiny", TINY)
    with serving.Server(tmp_path / "models", "--tls-cert", cert, "--tls-key", key,
                        "--token-file", tmp_path / "token", "--model-control-mode", "explicit") as server:
        import gevent.ssl
        right = {"Authorization": "Bearer a token of some length"}
        with triton.InferenceServerClient(
                server.address, ssl=True, ssl_options={"ca_certs": str(cert)},
                ssl_context_factory=gevent.ssl.create_default_context) as c:
            assert c.is_server_live() and c.is_server_ready()  # without the token
            for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "a token of some length"}):
                with pytest.raises(triton.InferenceServerException, match="bearer token"):
                    c.infer("tiny", image_input(names, pixels), headers=wrong)
                with pytest.raises(triton.InferenceServerException, match="bearer token"):
                    c.get_model_metadata("tiny", headers=wrong)
            assert c.infer("tiny", image_input(names, pixels), headers=right).as_numpy(
                names["outputs"][0]).tobytes() == expected.tobytes()
            serving.put_model(tmp_path / "models", "text", TEXT)
            assert not c.is_model_ready("text", headers=right)
            c.load_model("text", headers=right)
            assert c.is_model_ready("text", headers=right)
            c.unload_model("text", headers=right)
            assert not c.is_model_ready("text", headers=right)
            with pytest.raises(triton.InferenceServerException):
                c.load_model("absent", headers=right)
        assert server.stop() == 0
