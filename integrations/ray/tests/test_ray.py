"""The example on a Ray of two nodes: answers are the bytes of mpqrun, whatever replica and batch they come from."""

import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import mpq
import mpq_serve
import pytest
import ray
import reference
from ray import serve
from ray.cluster_utils import Cluster
from ray.exceptions import RayError

TINY, TEXT = Path(os.environ["MPQ_TINY"]), Path(os.environ["MPQ_TEXT"])
TEXTS = ["a b", "ad c f", "a", "b c d e f", "f e d"]
PORT = 8123


@pytest.fixture(scope="module")
def cases():
    return reference.images(TINY, 8)


@pytest.fixture(scope="module")
def text_cases():
    return reference.texts(TEXT, TEXTS)


NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


def two_nodes():
    """Ray gives a node's Python programs 15 s to start, which busy machines need not keep: then once more."""
    for attempt in range(4):
        nodes = Cluster()
        try:
            nodes.add_node(include_dashboard=False, **NODE)
            nodes.add_node(**NODE)
            return nodes
        except Exception:  # Ray raises no other
            nodes.shutdown()
            if attempt == 3:
                raise
    return None


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU each, so a replica on each."""
    nodes = two_nodes()
    ray.init(address=nodes.address, log_to_driver=False)
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": PORT})
    yield nodes
    serve.shutdown()
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def images(cluster):
    return serve.run(mpq_serve.app({"model": str(TINY)}), name="images", route_prefix="/images")


def same(outputs, expected):
    assert expected
    for got, (_, want) in zip(outputs, expected):
        assert got.dtype == want.dtype and got.tobytes() == want.tobytes()


def replicas():
    """{process: node} of the replicas."""
    found = {}
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["name"].startswith("SERVE_REPLICA::"):
            try:
                replica = ray.get_actor(**actor)
                process, node = ray.get(replica.__ray_call__.remote(
                    lambda _: (os.getpid(), ray.get_runtime_context().get_node_id())), timeout=60)
                found[process] = node
            except (RayError, ValueError):  # it has just died
                pass
    return found


def test_two_replicas_on_two_nodes_answer_as_mpqrun_does(images, cases):
    assert len(replicas()) == 2 and len(set(replicas().values())) == 2
    waiting = [(images.infer.remote(image), outputs) for image, outputs in cases * 25]
    for response, outputs in waiting:
        same(response.result(timeout_s=120), outputs)


def test_http_gives_the_same_bytes(images, cases):
    image, outputs = cases[0]
    address = f"http://127.0.0.1:{PORT}/images"
    with urllib.request.urlopen(urllib.request.Request(address, image.tobytes()), timeout=120) as answer:
        assert answer.read() == outputs[0][1].tobytes()
        assert answer.headers["X-Shape"] == str(list(outputs[0][1].shape))
    for url, body, word in ((address, image.tobytes()[:-1], b"764 numbers"), (address + "?output=none", image.tobytes(), b"no output")):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(urllib.request.Request(url, body), timeout=120)
        assert error.value.code == 400 and word in error.value.read()


def test_a_killed_replica_is_replaced_and_no_answer_is_wrong(images, cases):
    """Ray tells the caller that a replica died under a request; inference may be asked for again."""
    victim = next(iter(replicas()))
    retried, end = 0, None
    for turn in range(10000):
        waiting = [(i, images.infer.remote(cases[i][0])) for i in range(8)]
        if turn == 2:
            os.kill(victim, signal.SIGKILL)
        while waiting:
            i, response = waiting.pop()
            try:
                same(response.result(timeout_s=120), cases[i][1])
            except RayError:
                retried += 1
                assert retried < 100
                time.sleep(0.1)
                waiting.append((i, images.infer.remote(cases[i][0])))
        if turn > 2 and len(replicas()) == 2 and victim not in replicas():
            end = turn
            break
    assert end is not None


def test_texts_of_any_length_share_batches(images, text_cases):
    serve.delete("images")
    handle = serve.run(mpq_serve.app({"model": str(TEXT), "wait_ms": 20}), name="texts", route_prefix="/texts")
    waiting = [(handle.infer.remote(text), expected) for text, expected in text_cases * 10]
    for response, expected in waiting:
        same(response.result(timeout_s=120), expected)


def test_batches_of_every_size_are_split_right(cases, text_cases):
    """Without Ray: seven images run as 4 + 2 + 1."""
    network = mpq_serve.Network(str(TINY), 8, 1)
    for size in range(1, 9):
        results = network.run([network.sample(image) for image, _ in cases[:size]])
        assert len(results) == size
        for got, (_, expected) in zip(results, cases):
            same(got, expected)
    network = mpq_serve.Network(str(TEXT), 8, 1)
    with mpq.Model(TEXT) as model, model.session() as session:
        for size in range(1, len(TEXTS) + 1):
            results = network.run([network.sample(text.encode()) for text in TEXTS[:size]])
            assert len(results) == size
            for got, (text, expected) in zip(results, text_cases):
                same(got, expected)
                assert [o.tobytes() for o in got] == [o.tobytes() for o in session.run_texts([text])]


@reference.REAL_NETWORKS
def test_real_networks_answer_as_mpqrun_does(model, images):
    handle = serve.run(mpq_serve.app({"model": str(model)}), name="real", route_prefix="/real")
    waiting = [(handle.infer.remote(sample), expected) for sample, expected in reference.of_real_network(model) * 4]
    for response, expected in waiting:
        same(response.result(timeout_s=120), expected)
    serve.delete("real")


def test_unknown_arguments_are_refused():
    with pytest.raises(ValueError, match="unknown argument batches"):
        mpq_serve.app({"model": "x", "batches": "8"})
