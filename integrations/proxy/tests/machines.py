"""Three machines with an mpqserve each, a proxy in front, and clients that account for every answer."""

import dataclasses
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import serving

CONFIGS = Path(__file__).resolve().parent.parent
NAMES = ("mpq1", "mpq2", "mpq3")
NAMESPACES = os.environ.get("MPQ_NAMESPACES") == "1"  # else several addresses of the loopback interface
ADDRESSES = {name: f"10.77.0.{i}" if NAMESPACES else f"127.0.0.{10 + i}" for i, name in enumerate(NAMES, 1)}
PROXY_PORT = 8080
HAPROXY_SOCKET = "/run/haproxy/admin.sock"  # as Debian has it
DRAIN_SECONDS = 4  # longer than the proxy needs to see that a server is not ready


class Machine:
    """mpqserve at port 8000 of one machine."""

    def __init__(self, name, repository, log):
        self.name, self.repository, self.log = name, repository, log
        self.process = None
        self.start()

    def start(self):
        enter = ["ip", "netns", "exec", self.name] if NAMESPACES else []
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*enter, os.environ["MPQSERVE"], str(self.repository), "--http-address", ADDRESSES[self.name],
                 "--drain-delay-secs", str(DRAIN_SECONDS)], stderr=log)
        assert serving.wait_until(lambda: status_of("/v2/health/live", ADDRESSES[self.name], 8000) == 200), self.log.read_text()

    def stop(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        return self.process.wait(60)


class Proxy:
    """HAProxy or nginx with the configuration of this folder, or with `edit` applied to its text."""

    def __init__(self, kind, folder, edit=None):
        self.kind, self.folder = kind, folder
        file = CONFIGS / {"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[kind]
        self.socket = Path(HAPROXY_SOCKET) if NAMESPACES else folder / "haproxy.sock"
        if edit is not None or not NAMESPACES:
            text = file.read_text()
            changed = (edit or (lambda t: t))(text)
            assert edit is None or changed != text
            if not NAMESPACES:
                changed = re.sub(r"(mpq\d):8000", lambda m: f"{ADDRESSES[m[1]]}:8000", changed)
                changed = changed.replace(HAPROXY_SOCKET, str(self.socket))
            file = folder / f"edited.{kind}"
            file.write_text(changed)
        if kind == "haproxy":
            command = ["haproxy", "-db", "-f", str(file)]
        else:  # the file is part of an http block
            whole = folder / "nginx.conf"
            whole.write_text(f"daemon off; pid nginx.pid; error_log stderr; events {{ }} http {{ access_log off; include {file}; }}")
            (folder / "logs").mkdir(exist_ok=True)
            command = ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(whole)]
        self.log = folder / f"{kind}.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        assert serving.wait_until(lambda: self.process.poll() is not None or status_of("/v2/health/ready") == 200), \
            self.log.read_text()

    def haproxy(self):
        """HAProxy's statistics: {server: {field: value}}."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.socket))
            s.sendall(b"show stat\n")
            text = b""
            while part := s.recv(65536):
                text += part
        head, *lines = text.decode().lstrip("# ").strip().splitlines()
        rows = [dict(zip(head.split(","), line.split(","))) for line in lines]
        return {row["svname"]: row for row in rows if row["pxname"] == "mpqserve"}

    def resent(self, answers):
        """How many requests went to more than one server."""
        if self.kind == "haproxy":
            backend = self.haproxy()["BACKEND"]
            return int(backend["wretr"]) + int(backend["wredis"])
        return sum(answer.server.count(",") for answer in answers)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def status_of(path, address="127.0.0.1", port=PROXY_PORT):
    """0: no answer."""
    connection = http.client.HTTPConnection(address, port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@dataclasses.dataclass
class Answer:
    identity: int
    status: int
    right: bool
    server: str
    seconds: float
    at: float


class Load:
    """Clients that ask one after the other through the proxy until told to stop. Each request has a number of its own, and one of
    several inputs, whose answer is known."""

    def __init__(self, cases, names, threads=8):
        self.cases, self.names = cases, names
        self.answers, self.failures, self.sent, self.leftover = [], [], 0, 0
        self.stopping, self.lock = False, threading.Lock()
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _work(self):
        connection = http.client.HTTPConnection("127.0.0.1", PROXY_PORT, timeout=60)
        while not self.stopping:
            with self.lock:
                identity = self.sent
                self.sent += 1
            inputs, expected = self.cases[identity % len(self.cases)]
            try:
                answer = self._ask(connection, identity, inputs, expected)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self.failures.append((identity, error))
                continue
            self.answers.append(answer)
            if answer.status != 200:
                time.sleep(0.05)
        connection.close()

    def _ask(self, connection, identity, inputs, expected):
        start = time.monotonic()
        body, headers = serving.infer_body(self.names, inputs, identity=str(identity))
        connection.request("POST", "/v2/models/tiny/infer", body, headers)
        response = connection.getresponse()
        text = response.read()
        if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            self.leftover += len(connection.sock.recv(1, socket.MSG_PEEK))  # nothing may follow an answer
        right = False
        if response.status == 200:
            size = int(response.headers["Inference-Header-Content-Length"])
            right = json.loads(text[:size])["id"] == str(identity) and text[size:] == expected
        return Answer(identity, response.status, right, response.headers["X-Served-By"] or "",
                      time.monotonic() - start, time.monotonic())

    def since(self, start):
        return [answer for answer in self.answers if answer.at >= start]

    def wait_for_answers(self, count, seconds=60):
        goal = len(self.answers) + count
        assert serving.wait_until(lambda: len(self.answers) >= goal, seconds), (len(self.answers), goal, self.failures)

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()

    def report(self, proxy):
        slowest = max(answer.seconds for answer in self.answers)
        print(f"{proxy.kind}: {self.sent} requests, {len(self.answers)} answers, {proxy.resent(self.answers)} sent again, "
              f"slowest {slowest:.2f} s")

    def problems(self):
        """Broken promises, as texts: every request has one answer, and it is the right one."""
        found = [f"request {i}: {error!r}" for i, error in self.failures]
        found += [f"request {a.identity}: status {a.status}" for a in self.answers if a.status != 200]
        found += [f"request {a.identity}: wrong answer" for a in self.answers if a.status == 200 and not a.right]
        if sorted([a.identity for a in self.answers] + [i for i, _ in self.failures]) != list(range(self.sent)):
            found.append(f"{self.sent} requests, {len(self.answers)} answers, {len(self.failures)} failures")
        if self.leftover:
            found.append(f"{self.leftover} bytes behind answers")
        return found


def server_name(answer):
    """Of the last server that a request went to."""
    last = answer.server.split(", ")[-1].removesuffix(":8000")
    return next((name for name in NAMES if last in (name, ADDRESSES[name])), None)
