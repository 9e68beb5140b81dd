"""Starts mpqserve on free ports, for tests and measurements."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path


class Server:
    def __init__(self, repository, *options, executable=None):
        self.lines = []
        self.process = subprocess.Popen(
            [executable or os.environ["MPQSERVE"], str(repository), "--http-port", "0",
             "--http-address", "127.0.0.1", *map(str, options)],
            stderr=subprocess.PIPE, text=True)
        self.ready = threading.Event()
        self.facts = {}
        threading.Thread(target=self._read, daemon=True).start()
        if not self.ready.wait(60) or not self.facts:
            self.process.kill()
            raise RuntimeError("mpqserve did not start:\n" + "\n".join(self.lines))
        self.port = self.facts["http_port"]
        self.address = f"127.0.0.1:{self.port}"
        self.grpc_address = f"127.0.0.1:{self.facts.get('grpc_port')}"

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == "serving":
                    self.facts = event
                    self.ready.set()
        self.ready.set()

    def events(self, name):
        found = []
        for line in list(self.lines):
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == name:
                    found.append(event)
        return found

    def request(self, method, path, body=None, headers=None, port=None):
        """(status, headers, body)"""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=120)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, headers=None):
        status, _, text = self.request(method, path, None if body is None else json.dumps(body), headers)
        return status, json.loads(text) if text else None

    def rss(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")

    def stop(self, how=signal.SIGTERM, wait=40):
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(wait)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def put_model(repository: Path, name: str, file: Path, version=1, config=None):
    """NAME/VERSION/model.fb, in place at once."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (repository / name / "config.json").write_text(json.dumps(config))
    shutil.copy(file, folder / "model.new")
    os.replace(folder / "model.new", folder / "model.fb")


def infer_body(names, arrays: dict, binary=True, parameters=None, identity="x"):
    """Body and headers of a request for the first output, with binary tensors, without any client library."""
    datatypes = {"uint8": "UINT8", "float32": "FP32", "int64": "INT64", "int32": "INT32"}
    inputs, raw = [], b""
    for name, array in arrays.items():
        data = array.tobytes()
        inputs.append({"name": name, "shape": list(array.shape), "datatype": datatypes[str(array.dtype)],
                       "parameters": {"binary_data_size": len(data)}})
        raw += data
    request = {"id": identity, "inputs": inputs, "outputs": [{"name": names["outputs"][0]}],
               "parameters": {"binary_data_output": binary, **(parameters or {})}}
    head = json.dumps(request).encode()
    return head + raw, {"Inference-Header-Content-Length": str(len(head)),
                        "Content-Type": "application/octet-stream"}


def infer_message(names, arrays: dict):
    """A ModelInferRequest for model m with raw inputs, for the first output."""
    from tritonclient.grpc import service_pb2
    request = service_pb2.ModelInferRequest(model_name="m")
    request.outputs.add(name=names["outputs"][0])
    for name, array in arrays.items():
        datatype = {"uint8": "UINT8", "float32": "FP32", "int64": "INT64", "int32": "INT32"}[str(array.dtype)]
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request.SerializeToString()


def grpc_message(payload):
    """Behind the length that gRPC puts before each message."""
    return b"\0" + len(payload).to_bytes(4, "big") + payload


def metric(server, name, **labels):
    text = server.request("GET", "/metrics", port=server.facts["metrics_port"])[2].decode()
    total = 0.0
    for line in text.splitlines():
        if line.startswith(name + "{") and all(f'{k}="{v}"' in line for k, v in labels.items()):
            total += float(line.split()[-1])
    return total


def make_certificate(folder):
    """PEM files cert and key for localhost, by openssl."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                    "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", folder / "key", "-out", folder / "cert"], check=True, capture_output=True)
    return folder / "cert", folder / "key"


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False
