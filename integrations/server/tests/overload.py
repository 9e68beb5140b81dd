#!/usr/bin/env python3
"""Twice as many requests as a server can answer: each must get exactly one answer, at once or right.

    overload.py [--protocol http|grpc] [--seconds 10] [--model FILE --samples N] [--attempts 2]
    MPQSERVE names the server

Measures what the server answers when 4 clients wait for each other (saturation), then sends twice
that rate on schedule, whatever the server does. Prints a table; ends with 1 when a rule is broken.
Times are those of this machine: where others may stop server and client for a while, allow more attempts or time.
"""

import argparse
import asyncio
import functools
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import serving

GROWTH_BYTES = 8 << 20


class HttpClient:
    """One connection, one request at a time, HTTP/1.1 by hand: a lost or doubled answer shows."""

    def __init__(self, port, request):
        self.port, self.request, self.streams = port, request, None

    async def ask(self):
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(self.request)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        body = await reader.readexactly(int(fields[b"Content-Length"]))
        offset = int(fields.get(b"Inference-Header-Content-Length", 0))
        return status, body[offset:]

    def nothing_is_left(self):
        return self.streams is None or not self.streams[0]._buffer

    def close(self):
        if self.streams is not None:
            self.streams[1].close()


class GrpcClient:
    """A call of grpcio at a time; a channel for all, closed with the first."""

    channel = None

    def __init__(self, port, request):
        import grpc
        if GrpcClient.channel is None:
            GrpcClient.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.infer = GrpcClient.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        self.request, self.error = request, grpc.aio.AioRpcError
        self.statuses = {grpc.StatusCode.UNAVAILABLE: 503, grpc.StatusCode.DEADLINE_EXCEEDED: 504}

    async def ask(self):
        from tritonclient.grpc.service_pb2 import ModelInferResponse
        try:
            return 200, ModelInferResponse.FromString(await self.infer(self.request)).raw_output_contents[0]
        except self.error as error:
            return self.statuses.get(error.code(), 500), error.details().encode()

    def nothing_is_left(self):
        return True  # grpcio gives a call one answer

    def close(self):
        GrpcClient.channel = None


async def once(make):
    client = make()
    answer = (await client.ask())[1]
    client.close()
    return answer


async def saturation(make, seconds):
    answers = 0
    end = time.monotonic() + seconds

    async def work():
        nonlocal answers
        client = make()
        while time.monotonic() < end:
            status, _ = await client.ask()
            answers += status == 200
        client.close()

    await asyncio.gather(*(work() for _ in range(4)))
    return answers / seconds


async def overload(make, rate, seconds):
    """[(status, body, seconds from the scheduled start)], and how many connections had bytes left."""
    idle, results, tasks, clients = [], [], [], []

    async def one(client, scheduled):
        status, body = await client.ask()
        results.append((status, body, time.monotonic() - scheduled))
        idle.append(client)

    start = time.monotonic()
    for i in range(int(rate * seconds)):
        scheduled = start + i / rate
        if (wait := scheduled - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        if not idle:
            clients.append(make())
            idle.append(clients[-1])
        tasks.append(asyncio.create_task(one(idle.pop(), scheduled)))
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    left = sum(not c.nothing_is_left() for c in clients)
    for client in clients:
        client.close()
    return results, left


def percentile(values, p):
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * p // 100) - 1)] if ordered else float("nan")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--protocol", choices=["http", "grpc"], default="http")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--model", type=Path, default=os.environ.get("MPQ_TINY"))
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--attempts", type=int, default=1)
    parser.add_argument("--refusal-ms", type=float, default=50, help="what 99 %% of refusals may take; 0: hold no rule of time")
    arguments = parser.parse_args()
    return 1 if all(attempt(arguments) for _ in range(arguments.attempts)) else 0


def attempt(arguments):
    """The names of the rules that were broken."""
    import mpq
    import numpy as np
    with mpq.Model(arguments.model) as model:
        spec, names = model.inputs[0], {"outputs": [o.name for o in model.outputs]}
    random = np.random.default_rng(5)
    samples = random.integers(0, 256, (arguments.samples, *spec.shape[1:]), np.uint8)
    if arguments.protocol == "http":
        body, headers = serving.infer_body(names, {spec.name: samples})
        lines = [f"{k}: {v}" for k, v in {**headers, "Host": "x", "Content-Length": len(body)}.items()]
        request = "\r\n".join(["POST /v2/models/m/infer HTTP/1.1", *lines, "", ""]).encode() + body
    else:
        request = serving.infer_message(names, {spec.name: samples})

    with tempfile.TemporaryDirectory() as folder:
        config = {"max_batch_size": arguments.samples, "parameters": {"threads": 1, "isa": "scalar"},
                  "dynamic_batching": {"default_queue_policy": {"max_queue_size": 8}}}
        serving.put_model(Path(folder), "m", arguments.model, config=config)
        with serving.Server(folder, *([] if arguments.protocol == "http" else ["--grpc-port", "0"])) as server:
            port = server.facts[f"{arguments.protocol}_port"]
            client = HttpClient if arguments.protocol == "http" else GrpcClient
            make = functools.partial(client, port, request)
            one = asyncio.run(once(make))
            peak = asyncio.run(saturation(make, min(3, arguments.seconds / 3)))
            asyncio.run(overload(make, 2 * peak, min(2, arguments.seconds / 4)))
            before = server.rss()
            results, left = asyncio.run(overload(make, 2 * peak, arguments.seconds))
            growth = server.rss() - before
            assert server.stop() == 0
    sent = int(2 * peak * arguments.seconds)
    good = [t for s, b, t in results if s == 200 and b == one]
    refused = [t for s, _, t in results if s == 503]
    late = [t for s, _, t in results if s == 504]
    table = {
        "saturation, requests/s": round(peak, 1), "sent": sent, "answered": len(results), "right": len(good),
        "refused (503)": len(refused), "expired (504)": len(late),
        "other or wrong": len(results) - len(good) - len(refused) - len(late), "bytes left over": left,
        "goodput / saturation": round(len(good) / arguments.seconds / peak, 3),
        "refusal ms p50, p99, max": [round(percentile(refused, p) * 1e3, 2) for p in (50, 99, 100)],
        "answer ms p50, p99, max": [round(percentile(good, p) * 1e3, 2) for p in (50, 99, 100)],
        "growth of memory, bytes": growth,
    }
    for name, value in table.items():
        print(f"{name:28} {value}")
    print(json.dumps(table), file=sys.stderr)
    rules = {
        "every request is answered once": len(results) == sent and left == 0,
        "no answer is wrong": table["other or wrong"] == 0,
        f"memory grows by less than {GROWTH_BYTES} bytes": growth < GROWTH_BYTES,
    }
    if arguments.refusal_ms:
        rules |= {
            "there are refusals and answers": bool(refused) and bool(good),
            f"refusals take less than {arguments.refusal_ms:g} ms (p99)":
                percentile(refused, 99) * 1e3 < arguments.refusal_ms,
            "goodput is 70 % of saturation": len(good) / arguments.seconds > 0.7 * peak,
        }
    broken = [name for name, holds in rules.items() if not holds]
    for name in broken:
        print(f"BROKEN: {name}")
    return broken


if __name__ == "__main__":
    sys.exit(main())
