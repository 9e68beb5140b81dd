"""Statuses of the C API as exceptions that Python programs already catch."""


class Error(Exception):
    """A call of the library failed; `status` is its number in mpq.h, `code` its word."""

    status: int
    code: str

    def __init__(self, status: int, code: str, detail: str):
        super().__init__(f"{code}: {detail}" if detail else code)
        self.status = status
        self.code = code


class InvalidArgumentError(Error, ValueError):
    """A value out of its range, a buffer of the wrong size."""


class NotFoundError(Error, LookupError):
    """No input, output, tensor or precision map of that name."""


class BusyError(Error):
    """Another thread is inside this session: one session a thread."""


class BadHandleError(Error):
    """The model or session is closed."""


class IoError(Error, OSError):
    """The file cannot be opened or read."""


class CorruptError(Error):
    """Not a model file, or a damaged one."""


class ChecksumError(CorruptError):
    """Bytes of the file differ from their SHA-256."""


class UnsupportedError(Error):
    """Valid, but not something this build or model can do."""


class OutOfMemoryError(Error, MemoryError):
    """The system gave no memory."""


class LimitError(Error):
    """A limit of the options would be exceeded; nothing was allocated."""


class UnsupportedCpuError(Error):
    """This machine lacks the instruction set that was asked for."""


class DeviceError(Error):
    """The device failed."""


class InternalError(Error):
    """A defect of the library."""


_BY_STATUS = {
    1: InvalidArgumentError,
    2: NotFoundError,
    3: BusyError,
    4: BadHandleError,
    10: IoError,
    11: CorruptError,
    12: ChecksumError,
    13: UnsupportedError,
    20: OutOfMemoryError,
    21: LimitError,
    22: UnsupportedCpuError,
    23: DeviceError,
    30: InternalError,
}


def error_of(status: int, code: str, detail: str) -> Error:
    return _BY_STATUS.get(status, Error)(status, code, detail)
