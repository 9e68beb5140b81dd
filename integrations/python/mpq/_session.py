"""A session: one run at a time of a model."""

import contextlib
import ctypes
import os
import threading
from dataclasses import dataclass
from typing import Iterable, Mapping, Sequence

import numpy as np

from . import _library as c
from ._errors import error_of
from ._library import lib
from ._model import Handle, Model, TensorSpec, spec_of


@dataclass(frozen=True)
class Step:
    """A step of the plan, with its times when the session profiles."""

    name: str
    op: str
    kernel: str
    input_bits: int
    weight_bits: int  # 0: no weights
    output_bits: int
    threads: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    runs: int
    last_ns: int
    total_ns: int


class Session:
    """Plans a model for this machine and allocates everything that runs need.

    batch: samples (or sequences) of a run. threads: 0 means all that the process may use. isa: "amx",
    "avx512vnni", "avx2", "scalar"; None: the best. max_tokens: of all sequences of a run together.
    memory_limit: bytes, 0 means 2 GiB. keep_tensors: every tensor can be read by its name.
    tune: choose kernels by their time on this machine; tune_cache: a file that keeps the times.
    device: "cuda", "cuda:1": an NVIDIA GPU, with the same outputs; None: the CPU.
    """

    def __init__(self, model: Model, *, batch: int = 1, threads: int = 0, isa: "str | None" = None,
                 max_tokens: int = 0, memory_limit: int = 0, profile: bool = False,
                 keep_tensors: bool = False, tune: bool = False, tune_cache: "str | os.PathLike | None" = None,
                 device: "str | None" = None):
        options = c.Options(batch=batch, threads=threads, isa=None if isa is None else isa.encode(),
                            max_tokens=max_tokens, memory_limit=memory_limit, profile=profile,
                            keep_tensors=keep_tensors, tune=tune,
                            tune_cache=None if tune_cache is None else os.fsencode(tune_cache),
                            device=None if device is None else device.encode())
        handle = ctypes.c_void_p()
        lib.mpq_session_create(model._c, options, handle)
        self._begin(model, handle)

    def _begin(self, model: Model, handle) -> None:
        self._model = model
        self._one_at_a_time = threading.Lock()
        self._handle = Handle(lib.mpq_session_destroy, handle)
        self._handle.model_bytes = model._bytes  # borrowed by the library as long as this handle is
        self._inputs = tuple(s.name for s in model.inputs)
        self._outputs = tuple(s.name for s in model.outputs)

    def clone(self) -> "Session":
        """Another session with the same options; weights are shared. For another thread."""
        handle = ctypes.c_void_p()
        lib.mpq_session_clone(self._c, handle)
        twin = Session.__new__(Session)
        twin._begin(self._model, handle)
        return twin

    def close(self) -> None:
        """Memory is freed when no array of input() or output() is left."""
        self._handle = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def run(self, *arrays, **named) -> list[np.ndarray]:
        """Sets inputs, by position or by name, runs, and returns copies of the outputs.

        Anything with __dlpack__ or __array__ will do; its type must be the input's and its shape the
        session's. Inputs that are left out keep their values. See run_sequences for texts.
        """
        with self._alone():
            for which, array in [*enumerate(arrays), *named.items()]:
                self._set_input(which, array)
            return self._run()

    def run_sequences(self, sequences: Sequence[Sequence[int]],
                      types: "Sequence[Sequence[int]] | None" = None) -> list[np.ndarray]:
        """Runs sequences of token ids of different lengths, without padding."""
        with self._alone():
            self._set_sequences(sequences, types)
            return self._run()

    def run_texts(self, texts: "Iterable[str | tuple[str, str]]") -> list[np.ndarray]:
        """Runs texts, or pairs of texts, as many as the session's batch."""
        sequences, types = [], []
        for text in texts:
            tokens = self._model.tokenize(*((text,) if isinstance(text, str) else text))
            sequences.append([t.id for t in tokens])
            types.append([t.type for t in tokens])
        return self.run_sequences(sequences, types)

    def set_input(self, which: "int | str", array) -> None:
        """Copies an array in; a contiguous one of the right type is read where it lies."""
        with self._alone():
            self._set_input(which, array)

    def set_sequences(self, sequences: Sequence[Sequence[int]],
                      types: "Sequence[Sequence[int]] | None" = None) -> None:
        with self._alone():
            self._set_sequences(sequences, types)

    @contextlib.contextmanager
    def _alone(self):
        """Setting inputs, running and reading outputs is one call of one thread."""
        if not self._one_at_a_time.acquire(blocking=False):
            raise error_of(3, "busy", "session: another call is in progress")
        try:
            yield
        finally:
            self._one_at_a_time.release()

    def _run(self) -> list[np.ndarray]:
        lib.mpq_session_run(self._c)
        return [self.output(i).copy() for i in range(len(self._outputs))]

    def _set_input(self, which, array) -> None:
        index = self._index(which, self._inputs)
        info = self._info(lib.mpq_session_input_info, index)
        data = _array(array, info)
        lib.mpq_session_set_input(self._c, index, data.ctypes.data, data.nbytes)

    def _set_sequences(self, sequences, types) -> None:
        lengths = [len(s) for s in sequences]
        if types is not None and [len(t) for t in types] != lengths:
            raise ValueError("types: other lengths than the sequences")
        ids = _joined(sequences)
        kinds = None if types is None else _joined(types)
        lib.mpq_session_set_sequences(
            self._c, ids, kinds, (ctypes.c_uint32 * max(len(lengths), 1))(*lengths), len(lengths))

    def input(self, which: "int | str") -> np.ndarray:
        """The input itself, to write in place between runs: no copy."""
        index = self._index(which, self._inputs)
        return self._view(lib.mpq_session_input_buffer, lib.mpq_session_input_info, index)

    def output(self, which: "int | str") -> np.ndarray:
        """The output itself, read-only: no copy, valid until the next run."""
        index = self._index(which, self._outputs)
        view = self._view(lib.mpq_session_output_buffer, lib.mpq_session_output_info, index)
        view.flags.writeable = False
        return view

    def tensor(self, name: str) -> np.ndarray:
        """A copy of any tensor of the file after a run; needs keep_tensors."""
        info = c.TensorInfo()
        lib.mpq_session_tensor_info(self._c, name.encode(), info)
        spec = spec_of(info)
        values = np.empty(spec.shape, spec.dtype)
        lib.mpq_session_get_tensor(self._c, name.encode(), values.ctypes.data, values.nbytes)
        return values

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """With the session's batch, or the sequences of the last set_sequences."""
        return tuple(self._info(lib.mpq_session_input_info, i) for i in range(len(self._inputs)))

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return tuple(self._info(lib.mpq_session_output_info, i) for i in range(len(self._outputs)))

    @property
    def batch(self) -> int:
        return lib.mpq_session_batch(self._c)

    @property
    def threads(self) -> int:
        return lib.mpq_session_threads(self._c)

    @property
    def isa(self) -> str:
        return lib.mpq_isa_name(lib.mpq_session_isa(self._c)).decode()

    @property
    def device(self) -> str:
        """The word cpu, or the GPU: cuda:0 (NVIDIA L4, sm_89)."""
        return lib.mpq_session_device(self._c).decode()

    @property
    def memory(self) -> dict[str, int]:
        """Bytes: activations and scratch of this session, weights shared with others of the model."""
        info = c.MemoryInfo()
        lib.mpq_session_memory_info(self._c, info)
        return {"activations": info.activations, "scratch": info.scratch, "weights": info.weights}

    @property
    def steps(self) -> list[Step]:
        found = []
        for i in range(lib.mpq_session_step_count(self._c)):
            s = c.StepInfo()
            lib.mpq_session_step_info(self._c, i, s)
            found.append(Step(s.name.decode(), s.op.decode(), s.kernel.decode(), s.input_bits,
                              s.weight_bits, s.output_bits, s.threads, s.macs, s.weight_bytes,
                              s.activation_bytes, s.runs, s.last_ns, s.total_ns))
        return found

    def profile(self, on: bool = True) -> None:
        """Starts or stops measuring every step; starting clears the times."""
        lib.mpq_session_profile(self._c, on)

    @property
    def _c(self):
        return None if self._handle is None else self._handle.value

    def _index(self, which: "int | str", names: tuple[str, ...]) -> int:
        if isinstance(which, str):
            if which not in names:
                raise error_of(2, "not found", f"no {which!r}, there are {', '.join(names)}")
            return names.index(which)
        return which

    def _info(self, function, index: int) -> TensorSpec:
        info = c.TensorInfo()
        function(self._c, index, info)
        return spec_of(info)

    def _view(self, buffer, info, index: int) -> np.ndarray:
        spec = self._info(info, index)
        address, size = ctypes.c_void_p(), ctypes.c_size_t()
        buffer(self._c, index, address, size)
        memory = (ctypes.c_uint8 * size.value).from_address(address.value)
        memory.owner = self._handle  # the session lives as long as the array
        return np.frombuffer(memory, spec.dtype).reshape(spec.shape)


def _array(value, spec: TensorSpec) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        value = np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)
    if value.dtype != spec.dtype:
        raise TypeError(f"{spec.name}: {value.dtype}, expected {spec.dtype}")
    if value.shape != spec.shape:
        raise ValueError(f"{spec.name}: shape {value.shape}, expected {spec.shape}")
    return np.ascontiguousarray(value)


def _joined(rows: Sequence[Sequence[int]]):
    if not rows:
        return (ctypes.c_int32 * 1)()
    flat = np.concatenate([np.asarray(r).reshape(-1) for r in rows])
    if flat.size and (flat.dtype.kind not in "iu" or flat.min() < -2**31 or flat.max() >= 2**31):
        raise ValueError("ids and types are integers of 32 bits")
    flat = np.ascontiguousarray(flat, np.int32)
    array = (ctypes.c_int32 * max(flat.size, 1))()
    ctypes.memmove(array, flat.ctypes.data, flat.nbytes)
    return array
