"""The C API of mpq.h through ctypes: structs, signatures, and the shared library itself.

ctypes releases the GIL for the time of every call. tests/test_library.py compares the structs and
the signatures with the header.
"""

import ctypes
import os
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t
from ctypes import c_uint32, c_uint64, c_void_p
from pathlib import Path

from ._errors import error_of

MAX_RANK = 8


class Struct(ctypes.Structure):
    """A struct of mpq.h: begins with its own size."""

    def __init__(self, **fields):
        super().__init__(struct_size=ctypes.sizeof(type(self)), **fields)


class ModelOptions(Struct):
    _fields_ = [
        ("struct_size", c_uint32),
        ("skip_segment_digests", c_uint32),
        ("map_file", c_uint32),
        ("reserved", c_uint32),
        ("max_file_bytes", c_uint64),
    ]


class TensorInfo(Struct):
    _fields_ = [
        ("struct_size", c_uint32),
        ("dtype", c_uint32),
        ("name", c_char_p),
        ("rank", c_uint32),
        ("zero_point", c_int32),
        ("scale", c_float),
        ("reserved", c_uint32),
        ("shape", c_int64 * MAX_RANK),
        ("elements", c_uint64),
        ("bytes", c_uint64),
    ]


class Token(ctypes.Structure):
    _fields_ = [
        ("id", c_int32),
        ("type", c_int32),
        ("text", c_int32),
        ("begin", c_uint32),
        ("end", c_uint32),
    ]


class ImagePreprocess(Struct):
    _fields_ = [
        ("struct_size", c_uint32),
        ("resize", c_uint32),
        ("resize_shorter", c_uint32),
        ("crop_only_small", c_uint32),
        ("crop_h", c_uint32),
        ("crop_w", c_uint32),
        ("mean", c_float * 3),
        ("stddev", c_float * 3),
    ]


class Options(Struct):
    _fields_ = [
        ("struct_size", c_uint32),
        ("batch", c_uint32),
        ("threads", c_uint32),
        ("profile", c_uint32),
        ("keep_tensors", c_uint32),
        ("max_tokens", c_uint32),
        ("isa", c_char_p),
        ("memory_limit", c_uint64),
        ("parallel_for", c_void_p),
        ("parallel_for_user", c_void_p),
        ("allocate", c_void_p),
        ("deallocate", c_void_p),
        ("allocator_user", c_void_p),
        ("tune", c_uint32),
        ("reserved", c_uint32),
        ("tune_cache", c_char_p),
        ("device", c_char_p),
        ("step_done", c_void_p),
        ("step_done_user", c_void_p),
    ]


class MemoryInfo(Struct):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("activations", c_uint64),
        ("scratch", c_uint64),
        ("weights", c_uint64),
    ]


class StepInfo(Struct):
    _fields_ = [
        ("struct_size", c_uint32),
        ("node", c_uint32),
        ("name", c_char_p),
        ("op", c_char_p),
        ("kernel", c_char_p),
        ("isa", c_uint32),
        ("fallback", c_uint32),
        ("input_bits", c_uint32),
        ("weight_bits", c_uint32),
        ("output_bits", c_uint32),
        ("threads", c_uint32),
        ("macs", c_uint64),
        ("weight_bytes", c_uint64),
        ("activation_bytes", c_uint64),
        ("runs", c_uint64),
        ("last_ns", c_uint64),
        ("total_ns", c_uint64),
    ]


# Name: what it returns, what it takes. `Status` is checked on return and becomes an exception.
class Status(c_int):
    pass


_SIGNATURES = {
    "mpq_version_string": (c_char_p,),
    "mpq_build_info": (c_char_p,),
    "mpq_status_string": (c_char_p, c_int),
    "mpq_last_error": (c_char_p,),
    "mpq_isa_available": (c_uint32,),
    "mpq_isa_name": (c_char_p, c_uint32),
    "mpq_default_threads": (c_uint32,),
    "mpq_model_open": (Status, c_char_p, POINTER(ModelOptions), POINTER(c_void_p)),
    "mpq_model_open_memory": (
        Status, c_void_p, c_size_t, POINTER(ModelOptions), POINTER(c_void_p)),
    "mpq_model_close": (None, c_void_p),
    "mpq_model_name": (c_char_p, c_void_p),
    "mpq_model_producer": (c_char_p, c_void_p),
    "mpq_model_bytes": (c_uint64, c_void_p),
    "mpq_model_sha256": (Status, c_void_p, c_char_p),
    "mpq_model_input_count": (c_size_t, c_void_p),
    "mpq_model_output_count": (c_size_t, c_void_p),
    "mpq_model_input_info": (Status, c_void_p, c_size_t, POINTER(TensorInfo)),
    "mpq_model_output_info": (Status, c_void_p, c_size_t, POINTER(TensorInfo)),
    "mpq_model_sequence_length": (c_uint32, c_void_p),
    "mpq_model_vocabulary_size": (c_uint32, c_void_p),
    "mpq_model_takes_text": (c_int, c_void_p),
    "mpq_model_tokenize": (
        Status, c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, c_uint32, POINTER(Token),
        c_size_t, POINTER(c_size_t), POINTER(c_size_t)),
    "mpq_model_token": (c_char_p, c_void_p, c_uint32),
    "mpq_model_label_count": (c_size_t, c_void_p),
    "mpq_model_label": (c_char_p, c_void_p, c_size_t),
    "mpq_model_metadata_count": (c_size_t, c_void_p),
    "mpq_model_metadata_key": (c_char_p, c_void_p, c_size_t),
    "mpq_model_metadata_value": (c_char_p, c_void_p, c_size_t),
    "mpq_model_image_preprocess": (Status, c_void_p, POINTER(ImagePreprocess)),
    "mpq_session_create": (Status, c_void_p, POINTER(Options), POINTER(c_void_p)),
    "mpq_session_clone": (Status, c_void_p, POINTER(c_void_p)),
    "mpq_session_destroy": (None, c_void_p),
    "mpq_session_input_info": (Status, c_void_p, c_size_t, POINTER(TensorInfo)),
    "mpq_session_output_info": (Status, c_void_p, c_size_t, POINTER(TensorInfo)),
    "mpq_session_set_input": (Status, c_void_p, c_size_t, c_void_p, c_size_t),
    "mpq_session_input_buffer": (
        Status, c_void_p, c_size_t, POINTER(c_void_p), POINTER(c_size_t)),
    "mpq_session_set_sequences": (
        Status, c_void_p, POINTER(c_int32), POINTER(c_int32), POINTER(c_uint32), c_size_t),
    "mpq_session_run": (Status, c_void_p),
    "mpq_session_get_output": (Status, c_void_p, c_size_t, c_void_p, c_size_t),
    "mpq_session_output_buffer": (
        Status, c_void_p, c_size_t, POINTER(c_void_p), POINTER(c_size_t)),
    "mpq_session_tensor_info": (Status, c_void_p, c_char_p, POINTER(TensorInfo)),
    "mpq_session_get_tensor": (Status, c_void_p, c_char_p, c_void_p, c_size_t),
    "mpq_session_memory_info": (Status, c_void_p, POINTER(MemoryInfo)),
    "mpq_session_threads": (c_uint32, c_void_p),
    "mpq_session_batch": (c_uint32, c_void_p),
    "mpq_session_isa": (c_uint32, c_void_p),
    "mpq_session_device": (c_char_p, c_void_p),
    "mpq_session_step_count": (c_size_t, c_void_p),
    "mpq_session_step_info": (Status, c_void_p, c_size_t, POINTER(StepInfo)),
    "mpq_session_profile": (Status, c_void_p, c_int),
}

SONAME = "libmpq.so.0"


def _path() -> str:
    """MPQ_LIBRARY; else the library inside the wheel; else the system's."""
    chosen = os.environ.get("MPQ_LIBRARY")
    if chosen:
        return chosen
    bundled = Path(__file__).resolve().parent.parent / ".mpq.mesonpy.libs"
    for file in sorted(bundled.glob("libmpq.so*")):
        return str(file)
    return SONAME


def _check(status, function, arguments):
    if status.value != 0:
        code = lib.mpq_status_string(status.value).decode()
        raise error_of(status.value, code, lib.mpq_last_error().decode(errors="replace"))


def _load(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(
            f"mpq: {error}; install libmpq or name the library in MPQ_LIBRARY") from error
    for name, (returned, *taken) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = returned
        function.argtypes = taken
        if returned is Status:
            function.errcheck = _check
    return library


lib = _load(_path())
