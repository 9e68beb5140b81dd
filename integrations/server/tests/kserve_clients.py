#!/usr/bin/env python3
"""mpqserve with the clients of KServe's SDK (PyPI kserve), REST and gRPC, typed and binary. Needs no other client.

    kserve_clients.py      MPQSERVE names the server, MPQ_TINY the small model with .input and .expected beside it
"""

import asyncio
import importlib.metadata
import json
import logging
import os
import tempfile
from pathlib import Path

import grpc
import httpx
import numpy as np
import serving
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

TINY = Path(os.environ["MPQ_TINY"])


def request(name, pixels, binary):
    tensor = InferInput(name, list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels, binary_data=binary)
    return InferRequest("tiny", [tensor], request_id="7")


async def over_http(server, name, pixels, expected):
    base = f"http://{server.address}"
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    assert await client.is_server_live(base) and await client.is_server_ready(base)
    assert await client.is_model_ready(base, "tiny") and not await client.is_model_ready(base, "absent")
    for binary in (False, True):
        answer = await client.infer(base, request(name, pixels, binary), model_name="tiny")
        assert answer.id == "7"
        assert answer.outputs[0].as_numpy().astype(np.float32).tobytes() == expected.tobytes()
    try:
        await client.infer(base, request("nothing", pixels, True), model_name="tiny")
        raise AssertionError("an unknown input was taken")
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == 400
    await client.close()


async def over_grpc(server, name, pixels, expected):
    async with InferenceGRPCClient(server.grpc_address, retries=0, channel_args=[]) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("tiny") and not await client.is_model_ready("absent")
        for binary in (False, True):
            answers = await asyncio.gather(*(client.infer(request(name, pixels, binary)) for _ in range(16)))
            assert {a.id for a in answers} == {"7"}
            assert {a.outputs[0].as_numpy().tobytes() for a in answers} == {expected.tobytes()}
        try:
            await client.infer(request("nothing", pixels, True))
            raise AssertionError("an unknown input was taken")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


def main():
    logging.disable(logging.CRITICAL)  # kserve prints the failures that are asked for
    with tempfile.TemporaryDirectory() as folder:
        serving.put_model(Path(folder), "tiny", TINY)
        with serving.Server(folder, "--grpc-port", "0") as server:
            name = json.loads(server.request("GET", "/v2/models/tiny")[2])["inputs"][0]["name"]
            pixels = np.fromfile(TINY.with_suffix(".input"), np.uint8).reshape(1, 17, 15, 3)
            expected = np.fromfile(TINY.with_suffix(".expected"), np.float32)
            asyncio.run(over_http(server, name, pixels, expected))
            asyncio.run(over_grpc(server, name, pixels, expected))
            assert server.stop() == 0
    print(f"kserve {importlib.metadata.version('kserve')}: REST and gRPC, JSON, typed and binary")


if __name__ == "__main__":
    main()
