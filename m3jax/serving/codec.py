"""Arrays as a compact binary message, and that message as text for JSON.

A message is a header of 64 bytes and the numbers in C order, little-endian:

| Bytes | What |
|---|---|
| 0 to 3 | ``M3AR`` |
| 4, 5 | version (1), number of dimensions (0 to 8) |
| 6, 7 | zero |
| 8 to 23 | name of the encoding in ASCII, filled up with zeros |
| 24 to 27 | bytes after the header |
| 28 to 59 | eight dimensions, unused ones zero |
| 60 to 63 | CRC-32 of all other bytes |

Encodings are the plain dtypes of ``DTYPES``, and ``int8_rows``: float32 values as int8
with one float32 scale for each row of the last axis, the scales standing before the
values. No message can hold objects or code.
"""

import base64
import binascii
import math
import struct
import sys
import zlib
from typing import Any

import ml_dtypes
import numpy as np

HEADER_BYTES = 64
MAX_BYTES = 64 << 20
"""Default size above which ``decode`` refuses a message."""
MIME_TYPE = "application/vnd.m3jax.array"

DTYPES = {
    name: np.dtype(name)
    for name in (
        *("uint8", "int8", "int16", "int32", "int64"),
        *("float16", "float32", "float64"),
    )
} | {"bfloat16": np.dtype(ml_dtypes.bfloat16)}
"""The dtypes that are sent as they are."""
INT8_ROWS = "int8_rows"
PRECISIONS = ("float32", "float16", "bfloat16", INT8_ROWS)
"""In what floating-point numbers may be sent, from exact to coarse."""

_MAGIC = b"M3AR"
_VERSION = 1
_MAX_DIMENSIONS = 8
_HEAD = struct.Struct("<4sBBH16sI8I")
_CRC = struct.Struct("<I")
_SCALE = np.dtype(np.float32)


def encode(array: Any, precision: str | None = None) -> bytes:
    """Writes an array as a message.

    Args:
      array: numbers of a dtype in ``DTYPES``, at least one, at most 8 dimensions.
      precision: one of ``PRECISIONS``, into which floating-point numbers are rounded
        (to the nearest); None leaves the dtype as it is.

    Raises:
      ValueError: another dtype, an empty array, or numbers that the precision cannot
        hold.

    Example:
      >>> len(encode(np.zeros((2, 3), np.float32)))
      88
      >>> decode(encode(np.array([127.0, -2.2]), "int8_rows")).tolist()
      [127.0, -2.0]
    """
    array = np.asarray(array)
    if array.dtype.name not in DTYPES:
        raise ValueError(
            f"arrays of dtype {array.dtype} are not sent; convert to one of "
            + ", ".join(DTYPES)
        )
    if not array.size or array.ndim > _MAX_DIMENSIONS:
        raise ValueError(
            f"an array of shape {array.shape} is not sent; give at least one number "
            f"and at most {_MAX_DIMENSIONS} dimensions"
        )
    name = array.dtype.name if precision is None else precision
    if precision is not None:
        array = _round(array, precision)
    body = _rows(array) if name == INT8_ROWS else _little(array).tobytes()
    if len(body) >= 1 << 32:
        raise ValueError(f"{len(body)} bytes do not fit a message; send parts of it")
    shape = (*array.shape, *(0,) * (_MAX_DIMENSIONS - array.ndim))
    head = _HEAD.pack(
        _MAGIC, _VERSION, array.ndim, 0, name.encode("ascii"), len(body), *shape
    )
    return b"".join((head, _CRC.pack(zlib.crc32(body, zlib.crc32(head))), body))


def decode(data: bytes, max_bytes: int = MAX_BYTES) -> np.ndarray:
    """Reads a message; everything about it is checked before a number is.

    Args:
      data: the whole message.
      max_bytes: size of the largest message taken.

    Returns:
      The array, read-only; ``int8_rows`` comes back as float32.

    Raises:
      ValueError: too large, cut short, damaged, or of an unknown kind.
    """
    if len(data) > max_bytes:
        raise ValueError(f"array of {len(data)} bytes; at most {max_bytes} are taken")
    name, shape, length = _read_header(data)
    body = memoryview(data)[HEADER_BYTES:]
    numbers = math.prod(shape)
    if name == INT8_ROWS:
        rows = numbers // shape[-1]
        expected = rows * _SCALE.itemsize + numbers
    else:
        expected = numbers * DTYPES[name].itemsize
    if expected != length:
        raise ValueError(
            f"array declares shape {shape} of {name}, which is {expected} bytes, and "
            f"{length} bytes"
        )
    if len(body) != length:
        raise ValueError(f"array is torn: {len(body)} of {length} bytes are there")
    crc = zlib.crc32(body, zlib.crc32(data[: _HEAD.size]))
    if _CRC.unpack_from(data, _HEAD.size)[0] != crc:
        raise ValueError("array is damaged: its checksum does not fit")
    if name == INT8_ROWS:
        scales = _native(body[: rows * _SCALE.itemsize], _SCALE)
        values = np.frombuffer(body[rows * _SCALE.itemsize :], np.int8)
        array = values.reshape(rows, -1).astype(np.float32) * scales[:, None]
        array.flags.writeable = False
        return array.reshape(shape)
    return _native(body, DTYPES[name]).reshape(shape)


def to_text(data: bytes) -> str:
    """Writes bytes as base64, for JSON."""
    return base64.b64encode(data).decode("ascii")


def from_text(text: Any, max_bytes: int = MAX_BYTES) -> bytes:
    """Reads base64 back; its length is checked before anything is decoded.

    Raises:
      ValueError: no string, too long, or no base64.
    """
    if not isinstance(text, str):
        raise ValueError(f"base64 text expected, got {type(text).__name__}")
    if len(text) > text_length(max_bytes):
        raise ValueError(
            f"base64 text of {len(text)} characters; at most {text_length(max_bytes)} "
            "are taken"
        )
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"text is no base64: {error}") from error


def text_length(num_bytes: int) -> int:
    """Number of base64 characters of so many bytes."""
    return 4 * -(-num_bytes // 3)


def _read_header(data: bytes) -> tuple[str, tuple[int, ...], int]:
    """Name of the encoding, shape, and bytes that follow."""
    if len(data) < HEADER_BYTES:
        raise ValueError(
            f"array is torn: {len(data)} bytes, less than a header ({HEADER_BYTES})"
        )
    magic, version, ndim, zero, padded, length, *dims = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError(f"not an array: it starts with {magic!r}, not {_MAGIC!r}")
    if version != _VERSION:
        raise ValueError(f"array of version {version}; this is version {_VERSION}")
    name = padded.rstrip(b"\0").decode("ascii", "replace")
    if name not in DTYPES and name != INT8_ROWS:
        raise ValueError(
            f"array of unknown encoding {name!r}; known are "
            + ", ".join([*DTYPES, INT8_ROWS])
        )
    if ndim > _MAX_DIMENSIONS or zero or any(dims[ndim:]) or 0 in dims[:ndim]:
        raise ValueError(f"array has no valid shape: {ndim} of the dimensions {dims}")
    if name == INT8_ROWS and not ndim:
        raise ValueError(f"a single number has no rows, so it is not {INT8_ROWS}")
    return name, tuple(dims[:ndim]), length


def _round(array: np.ndarray, precision: str) -> np.ndarray:
    """Floating-point numbers in another precision."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; choose one of {PRECISIONS}")
    if not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
        raise ValueError(
            f"a precision is for floating-point numbers, not {array.dtype}"
        )
    if precision == INT8_ROWS:
        if not array.ndim or not np.isfinite(array).all():
            raise ValueError(f"{INT8_ROWS} needs at least one axis of finite numbers")
        return array.astype(np.float32)
    with np.errstate(over="ignore"):
        rounded = array.astype(DTYPES[precision])
    if np.isinf(rounded).sum() != np.isinf(array).sum():
        raise ValueError(f"{precision} cannot hold numbers so large; use bfloat16")
    return rounded


def _rows(array: np.ndarray) -> bytes:
    """One scale for each row, then ``round(value / scale)`` in [-127, 127]."""
    rows = array.reshape(-1, array.shape[-1])
    scales = np.abs(rows).max(axis=1) / np.float32(127.0)
    # A row of zeros, or of numbers too small for a scale, is sent as zeros.
    divisors = np.where(scales > 0.0, scales, np.float32(1.0))
    values = np.clip(np.rint(rows / divisors[:, None]), -127, 127).astype(np.int8)
    return _little(scales).tobytes() + values.tobytes()


def _little(array: np.ndarray) -> np.ndarray:
    """The array in C order, with the bytes of each number in little-endian order."""
    if array.dtype.name == "bfloat16":
        array = array.view(np.uint16)
    return array.astype(array.dtype.newbyteorder("<"), order="C")


def _native(body: memoryview, dtype: np.dtype) -> np.ndarray:
    """Read-only numbers of this machine's byte order; a view where that is ``<``."""
    array = np.frombuffer(body, dtype)
    if sys.byteorder == "big":
        array = array.byteswap()
    array.flags.writeable = False
    return array
