"""Dynamic batching: the same bytes as alone, limits of the queue, priorities, time-outs."""

import concurrent.futures
import http.client
import json
import time

import google.protobuf.json_format
import numpy as np
import pytest
import serving
from conftest import HAS_GRPC, TEXT, TINY
from serving import metric

SAMPLES = 16
SLOW = {"isa": {"string_value": "scalar"}, "threads": {"string_value": "1"}}


def slow_server(tmp_path, **batching):
    """A run of 16 samples takes a while on scalar kernels."""
    policy = {"default_timeout_microseconds": 0, **batching.pop("default_queue_policy", {})}
    serving.put_model(tmp_path, "tiny", TINY, config={
        "max_batch_size": SAMPLES, "parameters": SLOW, "dynamic_batching": {"default_queue_policy": policy, **batching}})
    return serving.Server(tmp_path, "--metrics-port", "0", "--io-threads", "2")


def ask(server, body, headers):
    start = time.monotonic()
    status, head, text = server.request("POST", "/v2/models/tiny/infer", body, headers)
    return status, head, text, time.monotonic() - start


def test_batched_answers_are_the_bytes_of_single_ones(tmp_path, names):
    random = np.random.default_rng(3)
    samples = random.integers(0, 256, (64, 1, 17, 15, 3), np.uint8)
    serving.put_model(tmp_path, "tiny", TINY, config={
        "max_batch_size": 16, "dynamic_batching": {"max_queue_delay_microseconds": 20000}})
    with serving.Server(tmp_path, "--metrics-port", "0") as server:
        bodies = [serving.infer_body(names, {names["input"]: s}) for s in samples]

        def answer(body):
            status, head, text, _ = ask(server, *body)
            assert status == 200, text
            return text[int(head["Inference-Header-Content-Length"]):]

        alone = [answer(b) for b in bodies]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            together = list(pool.map(answer, bodies * 3))
        assert together == alone * 3
        runs = metric(server, "mpq_inference_runs_total")
        assert metric(server, "mpq_inference_samples_total") == 4 * 64
        assert metric(server, "mpq_batch_size_bucket", le="1") < 4 * 64  # some did run together
        # Requests of several samples are cut into powers of two, and give the same bytes too.
        for count in (2, 3, 7, 16):
            body = serving.infer_body(names, {names["input"]: samples[:count, 0]})
            assert answer(body) == b"".join(alone[:count])
        assert metric(server, "mpq_inference_runs_total") == runs + 1 + 2 + 3 + 1


def test_texts_of_all_lengths_run_together_without_padding(tmp_path):
    texts = ["a", "a b", "a b c", "ad be c f", "zz a", "c"]
    serving.put_model(tmp_path, "text", TEXT, config={
        "max_batch_size": 8, "dynamic_batching": {"max_queue_delay_microseconds": 20000},
        "parameters": {"max_batch_tokens": 20}})
    with serving.Server(tmp_path, "--metrics-port", "0") as server:
        def answer(text):
            status, answer = server.json("POST", "/v2/models/text/infer", {
                "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]})
            assert status == 200, answer
            return answer["outputs"]

        alone = [answer(t) for t in texts]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            assert list(pool.map(answer, texts * 8)) == alone * 8
        assert metric(server, "mpq_inference_runs_total") < len(texts) * 9


def test_a_full_queue_refuses_at_once(tmp_path, names):
    body = serving.infer_body(names, {names["input"]: np.zeros((SAMPLES, 17, 15, 3), np.uint8)})
    with slow_server(tmp_path, default_queue_policy={"max_queue_size": 2}) as server:
        ask(server, *body)
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda _: ask(server, *body), range(48)))
        refused = [a for a in answers if a[0] == 503]
        good = [a for a in answers if a[0] == 200]
        assert len(refused) + len(good) == 48 and refused and len(good) >= 3
        assert all(a[1]["Retry-After"] == "1" and b"full" in a[2] for a in refused)
        assert metric(server, "mpq_inference_requests_total", status="queue_full") == len(refused)
        assert metric(server, "mpq_inference_requests_total", status="ok") == len(good) + 1
        assert metric(server, "mpq_pending_requests") == 0


def test_expired_requests_are_not_computed(tmp_path, names):
    zeros = np.zeros((SAMPLES, 17, 15, 3), np.uint8)
    long = serving.infer_body(names, {names["input"]: zeros})
    short = serving.infer_body(names, {names["input"]: zeros}, parameters={"timeout": 1000})
    with slow_server(tmp_path) as server:
        ask(server, *long)
        before = metric(server, "mpq_inference_samples_total")
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            first = [pool.submit(ask, server, *long) for _ in range(4)]
            assert serving.wait_until(lambda: metric(server, "mpq_pending_requests") >= 1)
            expired = [pool.submit(ask, server, *short) for _ in range(8)]
            late = sum(f.result()[0] == 504 for f in expired)
            assert all(f.result()[0] == 200 for f in first)
        assert late >= 1
        assert metric(server, "mpq_inference_requests_total", status="expired") == late
        assert metric(server, "mpq_inference_samples_total") == before + (12 - late) * SAMPLES


def test_a_client_that_goes_away_is_not_computed(tmp_path, names):
    body, headers = serving.infer_body(names, {names["input"]: np.zeros((SAMPLES, 17, 15, 3), np.uint8)})
    with slow_server(tmp_path) as server:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            first = [pool.submit(ask, server, body, headers) for _ in range(4)]
            assert serving.wait_until(lambda: metric(server, "mpq_pending_requests") >= 1)
            for _ in range(4):
                connection = http.client.HTTPConnection("127.0.0.1", server.port)
                connection.request("POST", "/v2/models/tiny/infer", body, headers)
                connection.close()
            assert all(f.result()[0] == 200 for f in first)
        assert serving.wait_until(lambda: metric(server, "mpq_pending_requests") == 0)
        ended = {s: metric(server, "mpq_inference_requests_total", status=s) for s in ("ok", "cancelled")}
        assert ended["cancelled"] >= 1 and sum(ended.values()) <= 8, ended


def test_the_first_level_runs_first(tmp_path, names):
    zeros = np.zeros((SAMPLES, 17, 15, 3), np.uint8)
    levels = {"priority_levels": 2, "default_priority_level": 2}
    with slow_server(tmp_path, **levels) as server, concurrent.futures.ThreadPoolExecutor(16) as pool:
        ends = []

        def timed(priority):
            body = serving.infer_body(names, {names["input"]: zeros}, parameters={"priority": priority})
            assert ask(server, *body)[0] == 200
            ends.append(priority)

        low = [pool.submit(timed, 0) for _ in range(10)]
        assert serving.wait_until(lambda: metric(server, "mpq_pending_requests") >= 8)
        high = [pool.submit(timed, 1) for _ in range(3)]
        for f in low + high:
            f.result()
        assert max(i for i, p in enumerate(ends) if p == 1) < len(ends) - 3, ends


def test_a_level_that_is_full_leaves_room_for_the_others(tmp_path, names):
    body = [serving.infer_body(names, {names["input"]: np.zeros((SAMPLES, 17, 15, 3), np.uint8)},
                               parameters={"priority": level}) for level in (1, 2)]
    levels = {"priority_levels": 2, "priority_queue_policy": {
        "2": {"max_queue_size": 1, "default_timeout_microseconds": 0}}}
    with slow_server(tmp_path, **levels) as server, concurrent.futures.ThreadPoolExecutor(24) as pool:
        low = [pool.submit(ask, server, *body[1]) for _ in range(16)]
        high = [pool.submit(ask, server, *body[0]) for _ in range(8)]
        assert all(f.result()[0] == 200 for f in high)
        ended = [f.result()[0] for f in low]
        assert set(ended) == {200, 503}, ended


# All that Triton's ModelDynamicBatching has.
VOCABULARY = {
    "preferred_batch_size": [2, 4], "max_queue_delay_microseconds": 100, "preserve_ordering": False,
    "priority_levels": 3, "default_priority_level": 2,
    "default_queue_policy": {"timeout_action": "DELAY", "default_timeout_microseconds": 5000000,
                             "allow_timeout_override": False, "max_queue_size": 9},
    "priority_queue_policy": {
        "1": {"timeout_action": "REJECT", "default_timeout_microseconds": 0, "allow_timeout_override": True,
              "max_queue_size": 0}}}


def test_a_configuration_is_told_as_it_was_given(tmp_path):
    import tritonclient.grpc
    import tritonclient.http
    serving.put_model(tmp_path, "tiny", TINY, config={"dynamic_batching": VOCABULARY})
    with serving.Server(tmp_path, *(["--grpc-port", "0"] if HAS_GRPC else [])) as server:
        with tritonclient.http.InferenceServerClient(server.address) as client:
            assert client.get_model_config("tiny")["dynamic_batching"] == VOCABULARY
        if HAS_GRPC:
            with tritonclient.grpc.InferenceServerClient(server.grpc_address) as client:
                told = client.get_model_config("tiny").config.dynamic_batching
            expected = tritonclient.grpc.model_config_pb2.ModelDynamicBatching()
            assert told == google.protobuf.json_format.ParseDict(VOCABULARY, expected)
            assert set(VOCABULARY) == {f.name for f in expected.DESCRIPTOR.fields}


@pytest.mark.parametrize("config, why", [
    ({"max_batch_size": 0}, "max_batch_size"), ({"preferred": 1}, "unknown key preferred"),
    ({"dynamic_batching": {"preferred_batch_size": [4, 9]}}, "preferred_batch_size 9, max_batch_size is 8"),
    ({"dynamic_batching": {"preferred_batch_size": 4}}, "not a list"),
    ({"dynamic_batching": {"preserve_ordering": 1}}, "preserve_ordering: true or false"),
    ({"dynamic_batching": {"preserve_ordering": True, "priority_levels": 2}}, "preserve_ordering with priority_levels 2"),
    ({"dynamic_batching": {"preserve_ordering": True, "default_queue_policy": {"timeout_action": "DELAY"}}},
     "preserve_ordering with timeout_action DELAY"),
    ({"dynamic_batching": {"priority_queue_policy": {"2": {}}}}, "priority_queue_policy for level 2 of 1"),
    ({"dynamic_batching": {"priority_queue_policy": {"high": {}}}}, ".high: not a whole number"),
    ({"dynamic_batching": {"priority_queue_policy": {"1": {}, "01": {}}}}, "that level stands twice"),
    ({"dynamic_batching": {"priority_queue_policy": {"1": {"max_size": 1}}}}, "unknown key max_size"),
    ({"dynamic_batching": {"default_queue_policy": {"timeout_action": "WAIT"}}}, "REJECT or DELAY"),
    ({"instance_group": [{"kind": "KIND_GPU"}]}, "KIND_CPU"), ({"parameters": {"isa": "sse9"}}, "sse9"),
    ({"dynamic_batching": {"default_priority_level": 3}}, "default_priority_level"), ([], "not an object")])
def test_bad_configurations_are_named(tmp_path, config, why):
    serving.put_model(tmp_path, "tiny", TINY, config=config)
    with serving.Server(tmp_path) as server:
        assert any(why in e["why"] for e in server.events("model_failed")), server.lines
        assert server.request("GET", "/v2/health/ready")[0] == 503
        assert server.request("GET", "/v2/models/tiny")[0] == 404
        row, = json.loads(server.request("POST", "/v2/repository/index")[2])
        assert row["state"] == "UNAVAILABLE" and str(tmp_path) not in row["reason"]
