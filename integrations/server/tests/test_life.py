"""Versions, reloads, draining, connections: a server's life."""

import concurrent.futures
import os
import shutil
import signal
import socket
import threading
import time

import numpy as np
import pytest
import serving
from conftest import TEXT, TINY


class Load:
    """Requests from several threads until told to stop; every answer is kept."""

    def __init__(self, server, body, threads=4, path="/v2/models/tiny/infer"):
        self.server, self.body, self.path = server, body, path
        self.answers, self.errors, self.stopping = [], [], False
        self.threads = [threading.Thread(target=self._work) for _ in range(threads)]
        for t in self.threads:
            t.start()

    def _work(self):
        while not self.stopping:
            try:
                status, head, text = self.server.request("POST", self.path, *self.body)
                size = int(head.get("Inference-Header-Content-Length", len(text)))
                self.answers.append((status, text[size:]))
            except OSError as error:
                self.errors.append(error)
                if self.server.process.poll() is not None or isinstance(error, ConnectionRefusedError):
                    return

    def stop(self):
        self.stopping = True
        for t in self.threads:
            t.join()


def test_reloads_under_load_lose_and_mix_nothing(tmp_path, pixels, expected, names):
    serving.put_model(tmp_path, "tiny", TINY)
    body = serving.infer_body(names, {names["input"]: pixels})
    with serving.Server(tmp_path) as server:
        load = Load(server, body)
        for turn in range(10):
            if turn == 5:  # a file that is none leaves the old model in place
                serving.put_model(tmp_path, "tiny", TINY.with_suffix(".input"))
            else:
                serving.put_model(tmp_path, "tiny", TINY)
            seen = len(server.events("reload"))
            server.process.send_signal(signal.SIGHUP)
            assert serving.wait_until(lambda: len(server.events("reload")) > seen)
            assert server.request("GET", "/v2/health/ready")[0] == 200
        load.stop()
        assert not load.errors and len(load.answers) > 20
        assert set(load.answers) == {(200, expected.tobytes())}
        assert len(server.events("model_reloaded")) == 9 and len(server.events("model_failed")) == 1


def test_versions_come_and_go(tmp_path, pixels, names):
    serving.put_model(tmp_path, "tiny", TINY, 1, {"version_policy": {"latest": {"num_versions": 2}}})
    serving.put_model(tmp_path, "tiny", TINY, 10)
    serving.put_model(tmp_path, "tiny", TINY, 9)
    (tmp_path / "tiny" / "notes").mkdir()
    body = serving.infer_body(names, {names["input"]: pixels})
    with serving.Server(tmp_path, "--model-control-mode", "poll", "--repository-poll-secs", "1") as server:
        assert server.json("GET", "/v2/models/tiny")[1]["versions"] == ["9", "10"]
        status, _, text = server.request("POST", "/v2/models/tiny/infer", *body)
        assert status == 200 and b'"model_version":"10"' in text
        assert server.request("POST", "/v2/models/tiny/versions/1/infer", *body)[0] == 404
        shutil.rmtree(tmp_path / "tiny" / "10")
        assert serving.wait_until(
            lambda: server.json("GET", "/v2/models/tiny")[1]["versions"] == ["1", "9"])
        serving.put_model(tmp_path, "text", TEXT)
        assert serving.wait_until(lambda: server.request("GET", "/v2/models/text/ready")[0] == 200)
        shutil.rmtree(tmp_path / "tiny")
        assert serving.wait_until(lambda: server.request("GET", "/v2/models/tiny/ready")[0] == 503)


def test_links_out_of_the_repository_are_not_followed(tmp_path):
    repository, outside = tmp_path / "models", tmp_path / "outside"
    serving.put_model(outside, "tiny", TINY)
    serving.put_model(repository, "real", TEXT)
    os.symlink(outside / "tiny", repository / "link")
    (repository / "file" / "1").mkdir(parents=True)
    os.symlink(outside / "tiny" / "1" / "model.fb", repository / "file" / "1" / "model.fb")
    with serving.Server(repository) as server:
        assert server.request("GET", "/v2/models/real/ready")[0] == 200
        for name in ("link", "file"):
            assert server.request("GET", f"/v2/models/{name}/ready")[0] == 503


def test_one_file_is_served_under_its_name(tmp_path, pixels, expected, names):
    shutil.copy(TINY, tmp_path / "net.fb")
    with serving.Server(tmp_path / "net.fb") as server:
        body = serving.infer_body(names, {names["input"]: pixels})
        status, head, text = server.request("POST", "/v2/models/net/infer", *body)
        assert status == 200 and text[int(head["Inference-Header-Content-Length"]):] == expected.tobytes()


@pytest.mark.parametrize("round", range(3))
def test_sigterm_under_load_loses_nothing(tmp_path, names, round):
    serving.put_model(tmp_path, "tiny", TINY, config={
        "max_batch_size": 16, "parameters": {"isa": "scalar", "threads": 1},
        "dynamic_batching": {"default_queue_policy": {"default_timeout_microseconds": 0}}})
    body = serving.infer_body(names, {names["input"]: np.zeros((8, 17, 15, 3), np.uint8)})
    with serving.Server(tmp_path, "--drain-delay-secs", "1") as server:
        load = Load(server, body, threads=6)
        assert serving.wait_until(lambda: len(load.answers) > 12)
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert serving.wait_until(lambda: server.request("GET", "/v2/health/ready")[0] == 503, 0.5)
        assert server.request("POST", "/v2/models/tiny/infer", *body)[0] == 200  # still served
        assert server.process.wait(90) == 0  # 1 would say that requests were left
        assert time.monotonic() - start >= 1.0
        load.stop()
        # Whatever got an answer got a right one; nobody waited in vain. Errors are refused connections,
        # or connections closed before a request was read.
        assert {s for s, _ in load.answers} <= {200, 503}
        assert all(isinstance(e, (ConnectionRefusedError, ConnectionResetError, BrokenPipeError)) or
                   "without response" in str(e) for e in load.errors), load.errors
        assert len({b for s, b in load.answers if s == 200}) == 1
        assert server.events("stopped")[0]["active"] == 0


def test_a_slow_client_does_not_hold_the_exit(tmp_path, names):
    serving.put_model(tmp_path, "tiny", TINY)
    with serving.Server(tmp_path, "--exit-timeout-secs", "1") as server:
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.sendall(b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
            time.sleep(0.2)
            start = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - start < 25  # the default would be 30


def test_only_loopback_is_listened_on_by_default(tmp_path):
    serving.put_model(tmp_path, "tiny", TINY)
    with serving.Server(tmp_path) as server:
        from pathlib import Path
        inodes = {os.readlink(f) for f in Path(f"/proc/{server.process.pid}/fd").iterdir()
                  if os.path.islink(f)}
        sockets = {i[8:-1] for i in inodes if i.startswith("socket:[")}
        listening = []
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{server.process.pid}/net/{table}").read_text().splitlines()[1:]:
                field = line.split()
                if field[3] == "0A" and field[9] in sockets:
                    listening.append(field[1].split(":")[0])
        assert listening and set(listening) <= {"0100007F", "00000000000000000000000001000000"}


def test_more_connections_than_allowed_are_closed_and_room_comes_back(tmp_path):
    serving.put_model(tmp_path, "tiny", TINY)
    with serving.Server(tmp_path, "--max-connections", "20") as server:
        sockets = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
        time.sleep(0.3)
        for s in sockets:
            s.close()
        assert serving.wait_until(lambda: alive(server), 1.0)


def alive(server):
    try:
        return server.request("GET", "/v2/health/live")[0] == 200
    except OSError:
        return False


def test_kill_and_restart(tmp_path):
    serving.put_model(tmp_path, "tiny", TINY)
    for _ in range(3):
        with serving.Server(tmp_path) as server:
            assert server.request("GET", "/v2/health/ready")[0] == 200
            assert server.stop(signal.SIGKILL) == -signal.SIGKILL


def test_many_slow_headers_do_not_disturb_a_good_client(tmp_path, pixels, names):
    serving.put_model(tmp_path, "tiny", TINY)
    body = serving.infer_body(names, {names["input"]: pixels})
    with serving.Server(tmp_path) as server:
        before = server.rss()
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
        for s in slow:
            s.sendall(b"GET /v2 HTTP/1.1\r\nX")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(
                lambda _: server.request("POST", "/v2/models/tiny/infer", *body)[0], range(100)))
        assert set(statuses) == {200}
        assert server.rss() - before < 300 * 65536
        for s in slow:
            s.close()
