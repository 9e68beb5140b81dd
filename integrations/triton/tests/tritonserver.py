"""The tritonserver of PyPI's nvidia-pytriton with our back end, on free ports of the loopback interface."""

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import tritonclient.http as triton

PROGRAM = Path(importlib.util.find_spec("pytriton").origin).parent / "tritonserver" / "bin" / "tritonserver"


def put_model(repository, name, file, config, version=1):
    """NAME/VERSION/model.fb and NAME/config.pbtxt; config None: none."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, folder / "model.fb")
    if config is not None:
        (repository / name / "config.pbtxt").write_text(config)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Triton:
    def __init__(self, repository, folder, *options):
        backends = folder / "backends" / "mpq"
        backends.mkdir(parents=True)
        shutil.copy(os.environ["MPQ_SUBJECT"], backends / "libtriton_mpq.so")
        self.http, self.grpc = free_port(), free_port()
        self.log = folder / "tritonserver.log"
        os.chmod(PROGRAM, 0o755)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "--model-repository", repository, "--backend-directory", backends.parent, "--allow-metrics=false",
                 "--http-address=127.0.0.1", f"--http-port={self.http}", "--grpc-address=127.0.0.1", f"--grpc-port={self.grpc}",
                 "--exit-on-error=false", *options],
                stdout=log, stderr=log, env={**os.environ, "LD_LIBRARY_PATH": str(Path(os.environ["MPQ_LIBRARY"]).parent)})
        self.client = triton.InferenceServerClient(f"127.0.0.1:{self.http}", concurrency=16, network_timeout=120)
        end = time.monotonic() + 60
        while not self._is_live():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise RuntimeError("tritonserver did not start:\n" + self.log.read_text())
            time.sleep(0.05)

    def _is_live(self):
        try:
            return self.client.is_server_live()
        except OSError:
            return False

    def rss(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")

    def stop(self):
        """The exit status."""
        self.client.close()
        self.process.terminate()
        return self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
