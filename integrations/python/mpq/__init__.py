"""mpq: inference of mixed-precision (8, 4 and 2 bit) networks.

    with mpq.Model("resnet50.fb") as model, model.session() as session:
        logits = session.run(pixels)[0]

Models may be used by any threads at once; a session by one at a time (BusyError otherwise). The GIL
is free while the library works.
"""

from ._errors import (BadHandleError, BusyError, ChecksumError, CorruptError, DeviceError, Error,
                      InternalError, InvalidArgumentError, IoError, LimitError, NotFoundError,
                      OutOfMemoryError, UnsupportedCpuError, UnsupportedError)
from ._library import lib as _lib
from ._model import Model, TensorSpec, TextToken
from ._session import Session, Step

__version__ = _lib.mpq_version_string().decode()


def build_info() -> str:
    """Compiler and instruction sets of the library, one line."""
    return _lib.mpq_build_info().decode()


def available_isa() -> str:
    """The highest instruction set that this machine grants: "amx", "avx512vnni", "avx2", "scalar"."""
    return _lib.mpq_isa_name(_lib.mpq_isa_available()).decode()


def default_threads() -> int:
    """Threads of sessions that do not say how many: CPU affinity and cgroup quota are respected."""
    return _lib.mpq_default_threads()


__all__ = [
    "BadHandleError", "BusyError", "ChecksumError", "CorruptError", "DeviceError", "Error",
    "InternalError", "InvalidArgumentError", "IoError", "LimitError", "Model", "NotFoundError",
    "OutOfMemoryError", "Session", "Step", "TensorSpec", "TextToken", "UnsupportedCpuError",
    "UnsupportedError", "available_isa", "build_info", "default_threads"
]
