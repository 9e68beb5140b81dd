#!/usr/bin/env python3
"""What a network, a queue and copies cost: h2load on the server beside `mpqrun --bench` of the same model, batch and threads.

    throughput.py MODEL MPQRUN [--batch 8] [--clients 24] [--seconds 6] [--rounds 2] [--tokens 128] [--no-latency]

MPQSERVE names the server. Rounds alternate between bench, HTTP and gRPC; the best and the median of each are compared, as
all share the machine with the client. Then latency at half of the best rate, on schedule. Prints samples per second and
quotients; and the CPU time of a request outside the threads that compute, which other work on the machine hardly changes.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import mpq
import numpy as np
import serving

GRPC_HEADERS = {"content-type": "application/grpc", "te": "trailers"}


class Load:
    """h2load on one front: which options, body and address."""

    def __init__(self, name, body, headers, url, options, folder, clients):
        (folder / name).write_bytes(body)
        self.name, self.clients, self.log = name, clients, folder / f"{name}.log"
        self.command = ["h2load", "-t", "1", "-d", str(folder / name), *options,
                        *(f"-H{k}: {v}" for k, v in headers.items()), url]

    def run(self, *options):
        self.log.unlink(missing_ok=True)
        said = subprocess.run([*self.command, "-c", str(self.clients), *options], capture_output=True, text=True,
                              check=True).stdout
        counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", said)
        if int(counts.group(2)) or int(counts.group(3)):
            raise RuntimeError(said)
        return float(re.search(r"([\d.]+) req/s", said).group(1))

    def latencies(self, rate, seconds):
        """Milliseconds of each request at this rate, sorted."""
        self.run("-D", str(int(seconds)), f"--rps={rate / self.clients}", f"--log-file={self.log}")
        return sorted(int(line.split("\t")[2]) / 1e3 for line in self.log.read_text().splitlines())


def bench(arguments):
    options = ["--seq-len", str(arguments.tokens)] if arguments.sequences else []
    said = subprocess.run(
        [arguments.mpqrun, arguments.model, "--bench", "-b", str(arguments.batch), "-t", str(arguments.threads),
         "--duration", str(arguments.seconds), "--warmup", "0.3", "--json", "-q", *options],
        capture_output=True, text=True, check=True).stdout
    row = json.loads(said)["results"][0]
    return row.get("images_per_second") or row.get("sequences_per_second")


def cpu_ms(server):
    """CPU time of each of the server's threads so far."""
    tasks = Path(f"/proc/{server.process.pid}/task").glob("*/schedstat")
    return {task.parent.name: int(task.read_text().split()[0]) / 1e6 for task in tasks}


def answered(server):
    return serving.metric(server, "mpq_inference_requests_total", status="ok")


def percentile(ordered, p):
    return ordered[max(0, -(-len(ordered) * p // 100) - 1)]


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
    parser.add_argument("--no-latency", action="store_true")
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens = arguments.batch * arguments.tokens if arguments.sequences else 0
        config = {"max_batch_size": arguments.batch,
                  "dynamic_batching": {"default_queue_policy": {"default_timeout_microseconds": 0}},
                  "parameters": {"threads": arguments.threads, "max_batch_tokens": tokens}}
        serving.put_model(folder / "models", "m", Path(arguments.model), config=config)
        with serving.Server(folder / "models", "--grpc-port", "0", "--metrics-port", "0") as server:
            body, headers = serving.infer_body(names, inputs)
            loads = [Load("HTTP", body, headers, f"http://{server.address}/v2/models/m/infer", ["--h1"], folder,
                          arguments.clients),
                     Load("gRPC", serving.grpc_message(serving.infer_message(names, inputs)), GRPC_HEADERS,
                          f"http://{server.grpc_address}/inference.GRPCInferenceService/ModelInfer", [], folder,
                          arguments.clients)]
            for load in loads:
                load.run("-n", str(2 * arguments.clients))
            plain, served, around = [], {load.name: [] for load in loads}, {load.name: [] for load in loads}
            for _ in range(arguments.rounds):
                plain.append(bench(arguments))
                for load in loads:
                    before, spent = answered(server), cpu_ms(server)
                    served[load.name].append(load.run("-D", str(int(arguments.seconds))))
                    # A status of gRPC is not one of HTTP: the server must have answered as many.
                    if answered(server) - before < 0.9 * served[load.name][-1] * arguments.seconds:
                        raise RuntimeError(f"{load.name}: not all answers were right")
                    spent = sorted(ms - spent.get(thread, 0) for thread, ms in cpu_ms(server).items())
                    around[load.name].append(sum(spent[:-arguments.threads]) / (answered(server) - before))
            for what, rates in {"mpqrun --bench": plain, **served}.items():
                told = [f"{name} {of(rates):7.1f} ({of(rates) / of(plain):5.3f})"
                        for name, of in (("most", max), ("median", statistics.median))]
                print(f"{what:14} samples/s: {', '.join(told)} of {[round(x, 1) for x in rates]}")
            for name, ms in around.items():
                print(f"{name}: {statistics.median(ms):.2f} ms of CPU a request outside the {arguments.threads} busiest threads")
            for load in [] if arguments.no_latency else loads:
                rate = max(served[load.name]) / 2
                times = load.latencies(rate, arguments.seconds)
                print(f"{load.name} at {rate:.1f}/s: p50 {percentile(times, 50):.1f}, p99 {percentile(times, 99):.1f}, "
                      f"max {times[-1]:.1f} ms of {len(times)}")
            return 0 if server.stop() == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
