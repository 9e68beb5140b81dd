"""A model file, open."""

import ctypes
import os
import weakref
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from . import _library as c
from ._library import lib

# One code a byte, whatever its width.
_NUMPY = (np.float32, np.int32, np.uint8, np.int8, np.uint8, np.int8, np.uint8, np.int8)
_NAMES = ("f32", "s32", "u8", "s8", "u4", "s4", "u2", "s2")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: real = scale * (code - zero_point) where scale is not 0."""

    name: str
    type: str  # "u4": the values' width; dtype is that of arrays
    dtype: np.dtype
    shape: tuple[int, ...]  # outermost first; the first is the batch
    scale: float
    zero_point: int


class TextToken(NamedTuple):
    id: int
    type: int  # 1 for the second of two texts
    text: int  # 0 or 1; -1: a special token
    begin: int  # bytes of that text in UTF-8
    end: int


def spec_of(info: c.TensorInfo) -> TensorSpec:
    return TensorSpec(info.name.decode(), _NAMES[info.dtype], np.dtype(_NUMPY[info.dtype]),
                      tuple(info.shape[:info.rank]), info.scale, info.zero_point)


class Handle:
    """A handle of the library that is released once: by close(), or with its last user."""

    def __init__(self, release, value):
        self.value = value
        self.close = weakref.finalize(self, release, value)


class Model:
    """Opens, verifies and validates a model file, or the bytes of one.

    verify=False skips the SHA-256 of the weights (structure is always checked). map_file=True maps
    the file instead of reading it: nobody may change it while it is open.
    """

    def __init__(self, source: "str | os.PathLike | bytes | bytearray | memoryview", *,
                 verify: bool = True, map_file: bool = False, max_file_bytes: int = 0):
        options = c.ModelOptions(skip_segment_digests=not verify, map_file=map_file,
                                 max_file_bytes=max_file_bytes)
        handle = ctypes.c_void_p()
        if isinstance(source, (str, os.PathLike)):
            lib.mpq_model_open(os.fsencode(source), options, handle)
            self._bytes = None
        else:
            self._bytes = _aligned(source)  # the library borrows them
            lib.mpq_model_open_memory(self._bytes.ctypes.data, self._bytes.size, options, handle)
        self._handle = Handle(lib.mpq_model_close, handle)

    def close(self) -> None:
        """Sessions that exist go on working."""
        self._handle.close()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<mpq.Model {self.name!r}>"

    @property
    def name(self) -> str:
        return _text(lib.mpq_model_name(self._c))

    @property
    def producer(self) -> str:
        return _text(lib.mpq_model_producer(self._c))

    @property
    def file_bytes(self) -> int:
        return lib.mpq_model_bytes(self._c)

    @property
    def sha256(self) -> str:
        hexadecimal = ctypes.create_string_buffer(65)
        lib.mpq_model_sha256(self._c, hexadecimal)
        return hexadecimal.value.decode()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """For a batch of 1."""
        return self._specs(lib.mpq_model_input_count, lib.mpq_model_input_info)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._specs(lib.mpq_model_output_count, lib.mpq_model_output_info)

    @property
    def labels(self) -> list[str]:
        """Class names in the order of the classifier's outputs."""
        return [_text(lib.mpq_model_label(self._c, i))
                for i in range(lib.mpq_model_label_count(self._c))]

    @property
    def metadata(self) -> dict[str, str]:
        return {_text(lib.mpq_model_metadata_key(self._c, i)):
                _text(lib.mpq_model_metadata_value(self._c, i))
                for i in range(lib.mpq_model_metadata_count(self._c))}

    @property
    def sequence_length(self) -> int:
        """Longest sequence in tokens; 0: the model takes no sequences."""
        return lib.mpq_model_sequence_length(self._c)

    @property
    def vocabulary_size(self) -> int:
        return lib.mpq_model_vocabulary_size(self._c)

    @property
    def takes_text(self) -> bool:
        return lib.mpq_model_takes_text(self._c) != 0

    @property
    def image_preprocess(self) -> "c.ImagePreprocess | None":
        """How an encoded image becomes the input; None: the input is no image."""
        from ._errors import NotFoundError
        preprocess = c.ImagePreprocess()
        try:
            lib.mpq_model_image_preprocess(self._c, preprocess)
        except NotFoundError:
            return None
        return preprocess

    def tokenize(self, text: str, pair: "str | None" = None, max_tokens: int = 0) -> list[TextToken]:
        """Tokens of one text or of two, special ones included, at most max_tokens (0: all the model takes)."""
        first = text.encode("utf-8", "surrogatepass")
        second = None if pair is None else pair.encode("utf-8", "surrogatepass")
        capacity = self.sequence_length
        tokens = (c.Token * capacity)()
        count = ctypes.c_size_t()
        lib.mpq_model_tokenize(self._c, first, len(first), second, len(second or b""), max_tokens,
                               tokens, capacity, count, None)
        return [TextToken(t.id, t.type, t.text, t.begin, t.end) for t in tokens[:count.value]]

    def token(self, id: int) -> "str | None":
        """The vocabulary's entry, "##ing"."""
        entry = lib.mpq_model_token(self._c, id)
        return None if entry is None else entry.decode()

    def session(self, **options) -> "Session":
        """See Session."""
        from ._session import Session
        return Session(self, **options)

    @property
    def _c(self):
        return self._handle.value

    def _specs(self, count, info) -> tuple[TensorSpec, ...]:
        specs = []
        for i in range(count(self._c)):
            value = c.TensorInfo()
            info(self._c, i, value)
            specs.append(spec_of(value))
        return tuple(specs)


def _text(value: "bytes | None") -> str:
    return "" if value is None else value.decode()


def _aligned(source) -> np.ndarray:
    """The bytes themselves where they begin at a 64-byte boundary, else a copy that does."""
    view = np.frombuffer(source, np.uint8)
    if view.ctypes.data % 64 == 0:
        return view
    room = np.empty(view.size + 63, np.uint8)
    start = -room.ctypes.data % 64
    room[start:start + view.size] = view
    return room[start:start + view.size]
