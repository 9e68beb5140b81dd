#!/usr/bin/env python3
"""What HTTP and batching cost: h2load on the server beside `mpqrun --bench` of the same model, batch and threads.

    throughput.py MODEL MPQRUN [--batch 8] [--clients 24] [--seconds 6] [--rounds 2] [--tokens 128]

MPQSERVE names the server. Rounds alternate; the best of each is compared, as both share the machine with the
client. Prints samples per second and the quotient.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import mpq
import numpy as np
import serving


def h2load(server, body, *options):
    path, headers = body
    said = subprocess.run(
        ["h2load", "--h1", "-t", "1", "-d", str(path), *options,
         *(f"-H{name}: {value}" for name, value in headers.items()), f"http://{server.address}/v2/models/m/infer"],
        capture_output=True, text=True, check=True).stdout
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", said)
    if int(counts.group(2)) or int(counts.group(3)):
        raise RuntimeError(said)
    return said


def bench(arguments):
    options = ["--seq-len", str(arguments.tokens)] if arguments.sequences else []
    said = subprocess.run(
        [arguments.mpqrun, arguments.model, "--bench", "-b", str(arguments.batch), "-t", str(arguments.threads),
         "--duration", str(arguments.seconds / 2), "--warmup", "0.3", "--json", "-q", *options],
        capture_output=True, text=True, check=True).stdout
    row = json.loads(said)["results"][0]
    return row.get("images_per_second") or row.get("sequences_per_second")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("mpqrun")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=mpq.default_threads())
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128)
    arguments = parser.parse_args()
    random = np.random.default_rng(1)
    with mpq.Model(arguments.model) as model:
        names = {"outputs": [o.name for o in model.outputs]}
        arguments.sequences = model.sequence_length != 0
        if arguments.sequences:
            inputs = {"input_ids": random.integers(0, model.vocabulary_size, (1, arguments.tokens), np.int64)}
        else:
            spec = model.inputs[0]
            inputs = {spec.name: random.integers(0, 256, spec.shape, np.uint8)}
    body, headers = serving.infer_body(names, inputs)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "body").write_bytes(body)
        body = Path(folder) / "body", headers
        tokens = arguments.batch * arguments.tokens if arguments.sequences else 0
        config = {"max_batch_size": arguments.batch,
                  "dynamic_batching": {"default_queue_policy": {"default_timeout_microseconds": 0}},
                  "parameters": {"threads": arguments.threads, "max_batch_tokens": tokens}}
        serving.put_model(Path(folder) / "models", "m", Path(arguments.model), config=config)
        with serving.Server(Path(folder) / "models") as server:
            h2load(server, body, "-n", str(2 * arguments.clients), "-c", str(arguments.clients))
            served, plain = [], []
            for _ in range(arguments.rounds):
                plain.append(bench(arguments))
                said = h2load(server, body, "-D", str(int(arguments.seconds)), "-c", str(arguments.clients))
                served.append(float(re.search(r"([\d.]+) req/s", said).group(1)))
            print(f"mpqrun --bench    {max(plain):8.1f} samples/s   of {[round(x, 1) for x in plain]}")
            print(f"mpqserve          {max(served):8.1f} samples/s   of {[round(x, 1) for x in served]}")
            print(f"quotient          {max(served) / max(plain):8.3f}")
            return 0 if server.stop() == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
