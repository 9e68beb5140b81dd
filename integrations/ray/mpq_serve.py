"""mpq on Ray Serve: replicas on as many machines as Ray has, requests batched by Ray, answers independent of both.

    serve run mpq_serve:app model=resnet50.fb replicas=2          # mpq must be installed where the replicas run
    curl localhost:8000/ --data-binary @pixels.u8                 # one sample: pixels, or a text; the first output's bytes
    curl 'localhost:8000/?output=hidden' -d 'A man is eating.'

From Python: handle.infer.remote(sample) gives all outputs of a sample as NumPy arrays.
"""

import asyncio

import mpq
import numpy as np
from ray import serve
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response


class Network:
    """A model with its sessions; samples in any number go through them. One call of run() at a time."""

    def __init__(self, path: str, batch: int, threads: int):
        self.model = mpq.Model(path)
        # Sequences need no more than one session. Others: one for each power of two, all on the same weights.
        sizes = [batch] if self.model.sequence_length else [1 << i for i in reversed(range(batch.bit_length()))]
        self.sessions = {size: self.model.session(batch=size, threads=threads) for size in sizes}

    def sample(self, value):
        """A sample as run() takes it; ValueError when it is none. bytes: of pixels, or of a text."""
        if self.model.sequence_length:
            text = value.decode() if isinstance(value, bytes) else value
            return self.model.tokenize(text)
        spec = self.model.inputs[0]
        array = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else np.asarray(value)
        if array.dtype != spec.dtype or array.size != np.prod(spec.shape):
            raise ValueError(f"{array.size} numbers of {array.dtype}, expected {spec.dtype} {list(spec.shape[1:])}")
        return array.reshape(spec.shape)

    def run(self, samples: list) -> "list[list[np.ndarray]]":
        """The outputs of each sample; rows of tokens only of its own tokens."""
        if self.model.sequence_length:
            (session,) = self.sessions.values()
            outputs = session.run_sequences([[token.id for token in sample] for sample in samples],
                                            [[token.type for token in sample] for sample in samples])
            ends = np.cumsum([len(sample) for sample in samples])
            return [list(rows) for rows in zip(*(np.split(o, ends[:-1] if len(o) == ends[-1] else len(samples))
                                                 for o in outputs))]
        results = []
        while len(results) < len(samples):
            size = next(size for size in self.sessions if size <= len(samples) - len(results))
            outputs = self.sessions[size].run(np.concatenate(samples[len(results):len(results) + size]))
            results += [list(rows) for rows in zip(*(np.split(o, size) for o in outputs))]
        return results


@serve.deployment
class Server:
    def __init__(self, path: str, batch: int, threads: int, wait_seconds: float):
        self.network = Network(path, batch, threads)
        self._together.set_max_batch_size(batch)
        self._together.set_batch_wait_timeout_s(wait_seconds)

    async def infer(self, value) -> "list[np.ndarray]":
        return await self._together(self.network.sample(value))  # a wrong one fails here, alone

    @serve.batch  # one batch at a time, as sessions want it
    async def _together(self, samples: list) -> list:
        return await asyncio.to_thread(self.network.run, samples)  # the library leaves the interpreter to others

    async def __call__(self, request: Request) -> Response:
        names = [output.name for output in self.network.model.outputs]
        name = request.query_params.get("output", names[0])
        if name not in names:
            return PlainTextResponse(f"no output {name}, there are {', '.join(names)}", 400)
        try:
            outputs = await self.infer(await request.body())
        except ValueError as error:
            return PlainTextResponse(str(error), 400)
        output = outputs[names.index(name)]
        return Response(output.tobytes(), headers={"X-Shape": str(list(output.shape)), "X-Dtype": str(output.dtype)},
                        media_type="application/octet-stream")


def app(arguments: dict):
    """model: path, on every machine; replicas: 2; batch: 8; threads: 1, of a replica; wait_ms: 2, for company."""
    known = {"model": str, "replicas": int, "batch": int, "threads": int, "wait_ms": float}
    if unknown := sorted(arguments.keys() - known.keys()):
        raise ValueError(f"unknown argument {unknown[0]}, there are {', '.join(known)}")
    given = {"replicas": 2, "batch": 8, "threads": 1, "wait_ms": 2, **arguments}
    model, replicas, batch, threads, wait_ms = (kind(given[key]) for key, kind in known.items())
    return Server.options(num_replicas=replicas, ray_actor_options={"num_cpus": threads}).bind(
        model, batch, threads, wait_ms / 1000)
