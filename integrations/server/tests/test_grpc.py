"""gRPC with clients that were not written here: tritonclient (synchronous, asynchronous, streams), grpcio, its health
package, h2load."""

import asyncio
import queue
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
import serving
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from conftest import HAS_GRPC, TEXT, TINY
from google.protobuf import descriptor_pb2, descriptor_pool
from serving import metric
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

if not HAS_GRPC:
    pytest.skip("this mpqserve was built without gRPC", allow_module_level=True)

PROTOCOL = Path(__file__).parent.parent / "inference.proto"
INFER = "/inference.GRPCInferenceService/ModelInfer"
PATIENT = {"dynamic_batching": {"default_queue_policy": {"default_timeout_microseconds": 0}}}
SLOW = {"max_batch_size": 16, "parameters": {"isa": "scalar", "threads": 1}, **PATIENT}


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(server.grpc_address) as c:
        yield c


@pytest.fixture(scope="module")
def stub(server):
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def image_input(names, pixels, module=triton):
    tensor = module.InferInput(names["input"], pixels.shape, "UINT8")
    tensor.set_data_from_numpy(pixels)
    return [tensor]


def message(names, pixels, **fields):
    request = service_pb2.ModelInferRequest(model_name="tiny", **fields)
    request.inputs.add(name=names["input"], datatype="UINT8", shape=pixels.shape)
    request.raw_input_contents.append(pixels.tobytes())
    return request


def code(call, *arguments, **options):
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments, **options)
    assert error.value.details() and len(error.value.details()) <= 1024
    return error.value.code()


# ---- The messages ----

def described(proto, tmp_path):
    subprocess.run(["protoc", f"--proto_path={proto.parent}", f"--descriptor_set_out={tmp_path / 'set'}", proto],
                   check=True)
    files = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "set").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool, files.file[0]


def facts_of(field):
    kind = field.message_type or field.enum_type
    return field.number, field.type, field.is_repeated, kind and kind.full_name


def test_every_message_is_one_of_tritons(tmp_path):
    if shutil.which("protoc") is None:
        pytest.skip("no protoc (Debian: protobuf-compiler)")
    pool, file = described(PROTOCOL, tmp_path)
    theirs = service_pb2.DESCRIPTOR.pool
    seen = 0

    def compare(ours):
        nonlocal seen
        other = theirs.FindMessageTypeByName(ours.full_name)
        for field in ours.fields:
            assert facts_of(field) == facts_of(other.fields_by_name[field.name]), field.full_name
            seen += 1
        for enum in ours.enum_types:
            assert {(v.name, v.number) for v in enum.values} <= {
                (v.name, v.number) for v in other.enum_types_by_name[enum.name].values}
        for nested in ours.nested_types:
            compare(nested)

    for name in file.message_type:
        compare(pool.FindMessageTypeByName(f"inference.{name.name}"))
    for enum in file.enum_type:
        assert {(v.name, v.number) for v in enum.value} == {
            (v.name, v.number) for v in model_config_pb2.DESCRIPTOR.enum_types_by_name[enum.name].values}
    other = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for method in file.service[0].method:
        theirs_method = other.methods_by_name[method.name]
        assert ("." + theirs_method.input_type.full_name, "." + theirs_method.output_type.full_name,
                theirs_method.client_streaming) == (method.input_type, method.output_type, method.client_streaming)
    assert seen > 90


# ---- tritonclient ----

def test_tritonclient_infers(client, pixels, expected, names):
    outputs = [triton.InferRequestedOutput(names["outputs"][0])]
    result = client.infer("tiny", image_input(names, pixels), outputs=outputs, request_id="7", model_version="1",
                          priority=1, timeout=5_000_000)
    assert result.as_numpy(names["outputs"][0]).tobytes() == expected.tobytes()
    assert result.get_response().id == "7" and result.get_response().model_version == "1"


def test_tritonclient_asynchronously(client, pixels, expected, names):
    answers = queue.Queue()
    for _ in range(32):
        client.async_infer("tiny", image_input(names, pixels), lambda result, error: answers.put((result, error)))
    for _ in range(32):
        result, error = answers.get(timeout=60)
        assert error is None and result.as_numpy(names["outputs"][0]).tobytes() == expected.tobytes()


def test_tritonclient_with_asyncio(server, pixels, expected, names):
    async def work():
        async with triton_aio.InferenceServerClient(server.grpc_address) as c:
            assert await c.is_server_ready() and await c.is_model_ready("tiny")
            results = await asyncio.gather(
                *(c.infer("tiny", image_input(names, pixels, triton_aio), request_id=str(i)) for i in range(32)))
            assert [r.get_response().id for r in results] == [str(i) for i in range(32)]
            assert {r.as_numpy(names["outputs"][0]).tobytes() for r in results} == {expected.tobytes()}

            async def requests():
                for i in range(5):
                    yield {"model_name": "tiny", "inputs": image_input(names, pixels, triton_aio), "request_id": str(i)}

            seen = [(r.get_response().id, error) async for r, error in c.stream_infer(requests())]
            assert seen == [(str(i), None) for i in range(5)]

    asyncio.run(work())


def test_tritonclient_streams_in_order(server, pixels, expected, names):
    answers = queue.Queue()
    with triton.InferenceServerClient(server.grpc_address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for i in range(100):
            model = "absent" if i == 50 else "tiny"
            client.async_stream_infer(model, image_input(names, pixels), request_id=str(i))
        for i in range(100):
            result, error = answers.get(timeout=60)
            if i == 50:  # one bad message does not end the stream
                assert result is None and "no such model" in str(error)
                continue
            assert error is None and result.get_response().id == str(i)
            assert result.as_numpy(names["outputs"][0]).tobytes() == expected.tobytes()
        client.stop_stream()


def test_tritonclient_reads_everything_else(client, names):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1") and not client.is_model_ready("tiny", "2")
    metadata = client.get_server_metadata()
    assert metadata.name == "mpqserve" and "binary_tensor_data" in metadata.extensions
    metadata = client.get_model_metadata("tiny")
    assert metadata.platform == "mpq" and list(metadata.versions) == ["1"]
    assert (metadata.inputs[0].name, list(metadata.inputs[0].shape)) == (names["input"], [-1, 17, 15, 3])
    config = client.get_model_config("text").config
    assert config.max_batch_size == 8 and config.dynamic_batching.default_queue_policy.max_queue_size == 64
    assert config.instance_group[0].count == 1 and config.input[0].data_type == model_config_pb2.TYPE_INT32
    assert client.get_inference_statistics("tiny").model_stats[0].inference_stats.success.count >= 1
    assert len(client.get_inference_statistics().model_stats) == 2
    assert {(m.name, m.state) for m in client.get_model_repository_index().models} == {
        ("tiny", "READY"), ("text", "READY")}
    with pytest.raises(triton.InferenceServerException, match="UNIMPLEMENTED"):
        client.load_model("tiny")
    for bad in ("absent", "../tiny", "a/b", ""):
        with pytest.raises(triton.InferenceServerException, match="NOT_FOUND"):
            client.get_model_metadata(bad)
    with pytest.raises(triton.InferenceServerException, match="NOT_FOUND"):
        client.get_model_metadata("tiny", "1/config")
    with pytest.raises(triton.InferenceServerException, match="UNIMPLEMENTED"):
        client.get_system_shared_memory_status()


def test_tritonclient_sends_texts_and_images(client, server, names, picture, picture_expected):
    texts = np.array(["a b", "ad c f"], dtype=object)
    tensor = triton.InferInput("text", texts.shape, "BYTES")
    tensor.set_data_from_numpy(texts)
    both = client.infer("text", [tensor]).as_numpy(names["text_outputs"][0])
    status, over_http = server.json("POST", "/v2/models/text/infer", {"inputs": [
        {"name": "text", "datatype": "BYTES", "shape": [2], "data": texts.tolist()}]})
    assert status == 200 and np.array(over_http["outputs"][0]["data"], np.float32).tobytes() == both.tobytes()
    images = triton.InferInput(names["input"], [2], "BYTES")
    images.set_data_from_numpy(np.array([picture, picture], dtype=object))
    rows = client.infer("tiny", [images]).as_numpy(names["outputs"][0])
    assert rows[0].tobytes() == rows[1].tobytes() == picture_expected.tobytes()


def test_tritonclient_classifies(client, pixels, expected, names):
    outputs = [triton.InferRequestedOutput(names["outputs"][0], class_count=3)]
    (row,) = client.infer("tiny", image_input(names, pixels), outputs=outputs).as_numpy(names["outputs"][0])
    best = np.argsort(-expected[0], kind="stable")[:3]
    assert [entry.decode().split(":")[1:] for entry in row] == [[str(i), f"class {i}"] for i in best]


# ---- grpcio ----

def test_requests_are_logged_with_their_trace(stub, server, pixels, names):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    stub.ModelInfer(message(names, pixels, id="find me"), metadata=[("traceparent", trace)])
    body, headers = serving.infer_body(names, {names["input"]: pixels}, identity="find me")
    server.request("POST", "/v2/models/tiny/infer", body, {**headers, "traceparent": trace})
    assert serving.wait_until(lambda: sum(
        e["id"] == "find me" and e.get("traceparent") == trace for e in server.events("request")) == 2)



def test_typed_contents_give_typed_answers(stub, pixels, expected, names):
    request = service_pb2.ModelInferRequest(model_name="tiny", id="typed")
    tensor = request.inputs.add(name=names["input"], datatype="UINT8", shape=pixels.shape)
    tensor.contents.uint_contents.extend(pixels.reshape(-1).tolist())
    answer = stub.ModelInfer(request)
    assert answer.id == "typed" and not answer.raw_output_contents
    assert np.array(answer.outputs[0].contents.fp32_contents, np.float32).tobytes() == expected.tobytes()
    text = service_pb2.ModelInferRequest(model_name="text")
    text.inputs.add(name="text", datatype="BYTES", shape=[2]).contents.bytes_contents.extend([b"a b", b"c"])
    ids = service_pb2.ModelInferRequest(model_name="text")
    ids.inputs.add(name="input_ids", datatype="INT64", shape=[2, 4]).contents.int64_contents.extend(
        [2, 5, 6, 3, 2, 7, 3, 0])
    ids.inputs.add(name="attention_mask", datatype="INT32", shape=[2, 4]).contents.int_contents.extend(
        [1, 1, 1, 1, 1, 1, 1, 0])
    assert stub.ModelInfer(text).outputs == stub.ModelInfer(ids).outputs


BAD = {
    "no model": (lambda r: r.ClearField("model_name"), grpc.StatusCode.NOT_FOUND),
    "no such version": (lambda r: setattr(r, "model_version", "9"), grpc.StatusCode.NOT_FOUND),
    "no inputs": (lambda r: (r.ClearField("inputs"), r.ClearField("raw_input_contents")),
                  grpc.StatusCode.INVALID_ARGUMENT),
    "raw and typed": (lambda r: r.inputs[0].contents.uint_contents.append(1), grpc.StatusCode.INVALID_ARGUMENT),
    "too few bytes": (lambda r: r.raw_input_contents.__setitem__(0, b"x"), grpc.StatusCode.INVALID_ARGUMENT),
    "two contents": (lambda r: r.raw_input_contents.append(b"x"), grpc.StatusCode.INVALID_ARGUMENT),
    "wrong type": (lambda r: setattr(r.inputs[0], "datatype", "FP32"), grpc.StatusCode.INVALID_ARGUMENT),
    "no type": (lambda r: r.inputs[0].ClearField("datatype"), grpc.StatusCode.INVALID_ARGUMENT),
    "negative": (lambda r: r.inputs[0].shape.__setitem__(0, -1), grpc.StatusCode.INVALID_ARGUMENT),
    "huge": (lambda r: r.inputs[0].shape.__setitem__(0, 2**62), grpc.StatusCode.INVALID_ARGUMENT),
    "nine samples": (lambda r: r.inputs[0].shape.__setitem__(0, 9), grpc.StatusCode.INVALID_ARGUMENT),
    "unknown output": (lambda r: r.outputs.add(name="nothing"), grpc.StatusCode.INVALID_ARGUMENT),
    "output twice": (lambda r: [r.outputs.add(name="scores") for _ in range(2)], grpc.StatusCode.INVALID_ARGUMENT),
    "long id": (lambda r: setattr(r, "id", "x" * 256), grpc.StatusCode.INVALID_ARGUMENT),
    "priority": (lambda r: setattr(r.parameters["priority"], "int64_param", -1), grpc.StatusCode.INVALID_ARGUMENT),
    "65 inputs": (lambda r: [(r.inputs.add(name=f"x{i}", datatype="UINT8", shape=[1]), r.raw_input_contents.append(b"1"))
                             for i in range(64)], grpc.StatusCode.INVALID_ARGUMENT),
    "out of range": (lambda r: (r.ClearField("raw_input_contents"),
                                r.inputs[0].contents.uint_contents.extend([0] * 764 + [256])),
                     grpc.StatusCode.INVALID_ARGUMENT),
    "typed as another": (lambda r: (r.ClearField("raw_input_contents"),
                                    r.inputs[0].contents.int_contents.extend([0] * 765)),
                         grpc.StatusCode.INVALID_ARGUMENT),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_named_and_refused(stub, pixels, names, name):
    request = message(names, pixels)
    change, expected_code = BAD[name]
    change(request)
    assert code(stub.ModelInfer, request) == expected_code
    stub.ModelInfer(message(names, pixels))


def test_what_is_no_such_call_is_refused(server):
    with grpc.insecure_channel(server.grpc_address) as channel:
        plain = {"request_serializer": bytes, "response_deserializer": bytes}
        infer = channel.unary_unary(INFER, **plain)
        assert code(infer, b"\xff\xff\xff") == grpc.StatusCode.INTERNAL
        assert code(infer, b"\x0a\x10abc") == grpc.StatusCode.INTERNAL  # a text cut off
        assert code(channel.unary_unary("/inference.GRPCInferenceService/None", **plain),
                    b"") == grpc.StatusCode.UNIMPLEMENTED
        assert code(channel.unary_unary("/other.Service/ModelInfer", **plain), b"") == grpc.StatusCode.UNIMPLEMENTED
        assert code(channel.stream_unary(INFER, **plain), iter([b"", b""])) == grpc.StatusCode.UNIMPLEMENTED
        assert code(channel.stream_unary(INFER, **plain), iter([])) == grpc.StatusCode.UNIMPLEMENTED
        assert code(infer, b"a" * (65 << 20)) == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert code(infer, b"", compression=grpc.Compression.Gzip) == grpc.StatusCode.UNIMPLEMENTED
        metadata = channel.unary_unary("/inference.GRPCInferenceService/ServerMetadata", **plain)
        assert code(metadata, b"a" * (2 << 20)) == grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.RpcError) as error:
            metadata(b"", metadata=[("x", "y" * 9000)])
        assert error.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)


def test_health_by_grpcs_own_client(server):
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    with grpc.insecure_channel(server.grpc_address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService"):
            assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == \
                health_pb2.HealthCheckResponse.SERVING
        assert code(health.Check, health_pb2.HealthCheckRequest(service="x")) == grpc.StatusCode.NOT_FOUND


def test_deadlines_and_cancelled_calls_are_not_computed(tmp_path, names):
    serving.put_model(tmp_path, "tiny", TINY, config=SLOW)
    request = message(names, np.zeros((16, 17, 15, 3), np.uint8))
    with serving.Server(tmp_path, "--metrics-port", "0", "--grpc-port", "0") as server, \
            grpc.insecure_channel(server.grpc_address) as channel:
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        infer(request)
        first = [infer.future(request) for _ in range(6)]
        assert serving.wait_until(lambda: metric(server, "mpq_pending_requests") >= 1)
        late = [infer.future(request, timeout=0.001) for _ in range(8)]
        dropped = [infer.future(request) for _ in range(4)]
        serving.wait_until(lambda: metric(server, "mpq_pending_requests") >= 5, 5)
        for call in dropped:
            call.cancel()
        assert {call.code() for call in first} == {grpc.StatusCode.OK}
        assert {call.code() for call in late} <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK}
        assert serving.wait_until(lambda: metric(server, "mpq_pending_requests") == 0)
        # Whatever was not right in time did not cost a run.
        right = metric(server, "mpq_inference_requests_total", status="ok")
        assert metric(server, "mpq_inference_samples_total") == 16 * right < 16 * 19
        gone = sum(metric(server, "mpq_inference_requests_total", status=s) for s in ("expired", "cancelled"))
        assert gone >= 1
        infer(request)


def test_a_full_queue_is_unavailable_at_once(tmp_path, names):
    policy = {"default_timeout_microseconds": 0, "max_queue_size": 2}
    serving.put_model(tmp_path, "tiny", TINY, config={
        **SLOW, "dynamic_batching": {"default_queue_policy": policy}})
    request = message(names, np.zeros((16, 17, 15, 3), np.uint8))
    with serving.Server(tmp_path, "--metrics-port", "0", "--grpc-port", "0") as server, \
            grpc.insecure_channel(server.grpc_address) as channel:
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        infer(request)
        codes = [call.code() for call in [infer.future(request) for _ in range(48)]]
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        refused = codes.count(grpc.StatusCode.UNAVAILABLE)
        assert metric(server, "mpq_inference_requests_total", status="queue_full") == refused


def test_grpc_and_http_share_batches_and_bytes(tmp_path, names):
    """Requests of both run together; the answers are the same bytes."""
    samples = np.random.default_rng(4).integers(0, 256, (24, 1, 17, 15, 3), np.uint8)
    serving.put_model(tmp_path, "tiny", TINY, config={
        "max_batch_size": 16, "dynamic_batching": {"max_queue_delay_microseconds": 50000}})
    with serving.Server(tmp_path, "--metrics-port", "0", "--grpc-port", "0") as server, \
            grpc.insecure_channel(server.grpc_address) as channel:
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        over_http = []
        for sample in samples:
            status, head, text = server.request("POST", "/v2/models/tiny/infer",
                                                *serving.infer_body(names, {names["input"]: sample}))
            over_http.append(text[int(head["Inference-Header-Content-Length"]):])
        runs = metric(server, "mpq_inference_runs_total")
        calls = [infer.future(message(names, sample)) for sample in samples]
        assert [call.result().raw_output_contents[0] for call in calls] == over_http
        assert metric(server, "mpq_inference_runs_total") - runs < len(samples)


def test_tls_token_and_model_control(tmp_path, pixels, expected, names):
    cert, key = serving.make_certificate(tmp_path)
    (tmp_path / "token").write_text("a token of some length\n")
    serving.put_model(tmp_path / "models", "tiny", TINY)
    with serving.Server(tmp_path / "models", "--tls-cert", cert, "--tls-key", key, "--token-file", tmp_path / "token",
                        "--model-control-mode", "explicit", "--grpc-port", "0") as server:
        right = {"authorization": "Bearer a token of some length"}
        with triton.InferenceServerClient(server.grpc_address, ssl=True, root_certificates=str(cert)) as c:
            assert c.is_server_live() and c.is_server_ready()  # without the token
            for wrong in ({}, {"authorization": "Bearer wrong"}, {"authorization": "a token of some length"}):
                for ask in (lambda: c.infer("tiny", image_input(names, pixels), headers=wrong),
                            lambda: c.get_model_metadata("tiny", headers=wrong),
                            lambda: c.is_model_ready("tiny", headers=wrong)):
                    with pytest.raises(triton.InferenceServerException, match="UNAUTHENTICATED"):
                        ask()
            assert c.infer("tiny", image_input(names, pixels), headers=right).as_numpy(
                names["outputs"][0]).tobytes() == expected.tobytes()
            serving.put_model(tmp_path / "models", "text", TEXT)
            assert not c.is_model_ready("text", headers=right)
            c.load_model("text", headers=right)
            assert c.is_model_ready("text", headers=right)
            c.unload_model("text", headers=right)
            assert not c.is_model_ready("text", headers=right)
            with pytest.raises(triton.InferenceServerException, match="without parameters"):
                c.load_model("text", headers=right, config="{}")
            with pytest.raises(triton.InferenceServerException, match="cannot be loaded"):
                c.load_model("absent", headers=right)
        for protocols, spoken in ((["-alpn", "h2"], True), (["-alpn", "http/1.1"], False), ([], False)):
            said = subprocess.run(["openssl", "s_client", "-connect", server.grpc_address, *protocols],
                                  input=b"", capture_output=True, timeout=30)
            assert (b"ALPN protocol: h2" in said.stdout) == spoken
        assert server.stop() == 0


@pytest.mark.parametrize("round", range(2))
def test_sigterm_under_load_loses_nothing(tmp_path, names, round):
    serving.put_model(tmp_path, "tiny", TINY, config=SLOW)
    request = message(names, np.zeros((4, 17, 15, 3), np.uint8))
    with serving.Server(tmp_path, "--drain-delay-secs", "1", "--grpc-port", "0") as server:
        answers, errors, stopping = [], [], threading.Event()

        def work():
            with grpc.insecure_channel(server.grpc_address) as channel:
                infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
                while not stopping.is_set():
                    try:
                        answers.append(infer(request, timeout=60).raw_output_contents[0])
                    except grpc.RpcError as error:
                        errors.append((error.code(), error.details()))
                        return

        threads = [threading.Thread(target=work) for _ in range(6)]
        for t in threads:
            t.start()
        assert serving.wait_until(lambda: len(answers) > 12)
        with grpc.insecure_channel(server.grpc_address) as channel:
            ready = service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerReady
            assert ready(service_pb2.ServerReadyRequest()).ready
            server.process.send_signal(signal.SIGTERM)
            assert serving.wait_until(lambda: not ready(service_pb2.ServerReadyRequest()).ready, 0.8)
        assert server.process.wait(90) == 0  # 1 would say that requests were left
        stopping.set()
        for t in threads:
            t.join()
        assert len(set(answers)) == 1
        # Refused, or sent on a connection that said it takes no more: never a wrong or lost answer.
        assert {c for c, _ in errors} <= {grpc.StatusCode.UNAVAILABLE}, errors
        assert server.events("stopped")[0]["active"] == 0


def test_draining_ends_streams_and_connections(tmp_path, names, pixels):
    serving.put_model(tmp_path, "tiny", TINY)
    with serving.Server(tmp_path, "--grpc-port", "0") as server, \
            grpc.insecure_channel(server.grpc_address) as channel:
        held = threading.Event()

        def requests():
            yield message(names, pixels)
            held.wait(60)

        answers = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(requests())
        assert next(answers).infer_response.raw_output_contents
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as error:
            next(answers)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        assert server.process.wait(60) == 0 and time.monotonic() - start < 20
        held.set()


def test_h2load_gets_an_answer_to_every_request(server, pixels, names, tmp_path):
    h2load = shutil.which("h2load")
    if h2load is None:
        pytest.skip("no h2load (Debian: nghttp2-client)")
    (tmp_path / "body").write_bytes(serving.grpc_message(message(names, pixels).SerializeToString()))
    before = metric(server, "mpq_inference_requests_total", model="tiny", status="ok")
    said = subprocess.run(
        [h2load, "-n", "3000", "-c", "4", "-m", "8", "-d", str(tmp_path / "body"), "-H", "content-type: application/grpc",
         "-H", "te: trailers", f"http://{server.grpc_address}{INFER}"], capture_output=True, text=True, timeout=120).stdout
    assert "3000 succeeded, 0 failed, 0 errored, 0 timeout" in said, said
    assert metric(server, "mpq_inference_requests_total", model="tiny", status="ok") == before + 3000
