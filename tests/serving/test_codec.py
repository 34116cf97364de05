import ast
import pathlib
import struct
import zlib

import ml_dtypes
import numpy as np
import pytest

from m3jax import serving as mcp
from m3jax.serving import codec

RNG = np.random.default_rng(0)


def bits(array):
    """The bytes of an array's numbers, by which NaN and -0.0 count too."""
    return array.dtype.name, array.shape, np.asarray(array, order="C").tobytes()


@pytest.mark.parametrize("name", codec.DTYPES)
def test_every_bit_pattern_comes_back(name):
    dtype = codec.DTYPES[name]
    raw = RNG.integers(0, 256, 6 * 5 * dtype.itemsize, np.uint8)
    array = raw.view(dtype).reshape(6, 5)
    assert bits(codec.decode(codec.encode(array))) == bits(array)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3), (1, 2, 1, 2, 1, 2, 1, 2)])
def test_shapes_come_back_in_a_header_and_the_numbers(shape):
    array = RNG.normal(size=shape).astype(np.float32)
    message = codec.encode(array)
    assert len(message) == codec.HEADER_BYTES + 4 * array.size
    assert bits(codec.decode(message)) == bits(array)


def test_layout_in_memory_does_not_matter():
    array = RNG.normal(size=(4, 6)).astype(np.float32)
    expected = codec.encode(array)
    assert codec.encode(np.asfortranarray(array)) == expected
    assert codec.encode(array.astype(">f4")) == expected
    assert codec.encode(np.repeat(array, 2, axis=1)[:, ::2]) == expected
    half = array.astype(ml_dtypes.bfloat16)
    assert codec.encode(half.T.copy().T) == codec.encode(half)


def test_numbers_are_little_endian():
    assert codec.encode(np.array([1, 258], np.int32))[64:] == b"\1\0\0\0\2\1\0\0"


def test_a_decoded_array_cannot_be_written():
    for precision in (None, "int8_rows"):
        array = codec.decode(bytearray(codec.encode(np.ones((2, 2)), precision)))
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize(
    ("precision", "relative"), [("float16", 2**-11), ("bfloat16", 2**-8)]
)
def test_rounding_is_to_the_nearest(precision, relative):
    array = RNG.normal(size=1000)
    back = codec.decode(codec.encode(array, precision)).astype(np.float64)
    assert np.all(np.abs(back - array) <= relative * np.abs(array) + 2**-25)
    assert len(codec.encode(array, precision)) == codec.HEADER_BYTES + 2000


def test_int8_rows_err_by_half_a_step_of_each_row():
    array = RNG.normal(size=(5, 9, 33)) * 10.0 ** RNG.integers(-5, 5, (5, 9, 1))
    array[2, 3] = 0.0
    message = codec.encode(array, "int8_rows")
    back = codec.decode(message)
    step = np.abs(array).max(axis=-1, keepdims=True) / 127
    assert back.dtype == np.float32
    assert np.all(np.abs(back - array) <= 0.5001 * step)
    assert np.all(back[2, 3] == 0.0)
    assert len(message) == codec.HEADER_BYTES + array.size + 4 * 45


@pytest.mark.parametrize(
    ("array", "precision", "told"),
    [
        (np.array([object()]), None, "dtype object are not sent"),
        (np.array(["a"]), None, "not sent; convert"),
        (np.array([1j]), None, "complex128 are not sent"),
        (np.zeros(2, [("a", "f4")]), None, "are not sent"),
        (np.zeros((0, 3)), None, "at least one number"),
        (np.zeros((1,) * 9), None, "at most 8 dimensions"),
        (np.zeros(3), "float8", "precision is 'float8'; choose one of"),
        (np.zeros(3, np.int32), "float16", "for floating-point numbers, not int32"),
        (np.array([1e6]), "float16", "float16 cannot hold numbers so large"),
        (np.array([np.nan]), "int8_rows", "finite"),
        (np.array(1.0), "int8_rows", "at least one axis"),
    ],
)
def test_what_cannot_be_sent_is_named(array, precision, told):
    with pytest.raises(ValueError, match=told):
        codec.encode(array, precision)


def test_no_torn_message_is_read():
    message = codec.encode(RNG.normal(size=(2, 3)), "int8_rows")
    for length in range(len(message)):
        with pytest.raises(ValueError, match="torn"):
            codec.decode(message[:length])
    with pytest.raises(ValueError, match="torn"):
        codec.decode(message + b"\0")


def test_no_flipped_bit_goes_unseen():
    message = codec.encode(RNG.integers(0, 9, (2, 3), np.int16))
    for place in range(8 * len(message)):
        flipped = bytearray(message)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(ValueError):
            codec.decode(bytes(flipped))


def forge(name=b"float32", ndim=1, dims=(1,), length=4, body=b"\0" * 4, **head):
    """A message with a right checksum, whatever else it says."""
    fields = {"magic": b"M3AR", "version": 1, "zero": 0} | head
    dims = (*dims, *(0,) * (8 - len(dims)))
    start = struct.pack(
        "<4sBBH16sI8I",
        *(fields["magic"], fields["version"], ndim, fields["zero"], name, length),
        *dims,
    )
    return start + struct.pack("<I", zlib.crc32(body, zlib.crc32(start))) + body


def test_a_forged_message_can_be_right():
    assert codec.decode(forge()).tolist() == [0.0]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (forge(magic=b"\x93NUM"), "not an array: it starts with"),
        (b"\x80\x05" + b"." * 80, "not an array"),
        (forge(version=2), "version 2; this is version 1"),
        (forge(name=b"object"), "unknown encoding 'object'; known are"),
        (forge(name=b"\xff\xfe"), "unknown encoding"),
        (forge(name=b"float32\0x"), "unknown encoding"),
        (forge(dims=(2**32 - 1,) * 8, ndim=8), r"declares shape .* bytes, and 4 bytes"),
        (forge(dims=(2**32 - 1,)), "declares shape"),
        (forge(dims=(0,), length=0, body=b""), "no valid shape"),
        (forge(dims=(0, 2**32 - 1), ndim=2, length=0, body=b""), "no valid shape"),
        (forge(ndim=9, dims=(1,) * 8), "no valid shape"),
        (forge(ndim=0, dims=(5,)), "no valid shape"),
        (forge(zero=1), "no valid shape"),
        (forge(length=2**32 - 1), "declares shape"),
        (forge(name=b"int8_rows", ndim=0, dims=()), "no rows"),
        (forge(name=b"int8_rows"), "declares shape"),
    ],
)
def test_a_hostile_message_is_refused_before_memory_is_taken(message, told):
    with pytest.raises(ValueError, match=told):
        codec.decode(message)


def test_random_bytes_are_never_read():
    for length in (0, 1, 63, 64, 65, 200):
        with pytest.raises(ValueError):
            codec.decode(RNG.bytes(length))


def test_size_limits_come_first():
    message = codec.encode(np.zeros(100, np.uint8))
    assert codec.decode(message, max_bytes=164).size == 100
    with pytest.raises(ValueError, match="164 bytes; at most 163"):
        codec.decode(message, max_bytes=163)
    text = codec.to_text(message)
    assert codec.from_text(text, 164) == message
    with pytest.raises(ValueError, match="220 characters; at most 216"):
        codec.from_text(text, 162)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 100])
def test_text_length_is_exact(size):
    assert len(codec.to_text(bytes(size))) == codec.text_length(size)


@pytest.mark.parametrize("text", [None, 3, b"AAAA", "AAA", "AA A", "A\nAA", "ää"])
def test_only_base64_is_text(text):
    with pytest.raises(ValueError, match="base64"):
        codec.from_text(text)


def test_nothing_here_can_unpickle():
    for path in pathlib.Path(mcp.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                names.append(getattr(node, "module", None) or "")
                banned = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
                assert not banned & {name.split(".")[0] for name in names}, path
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("load", "loadtxt", "fromfile"), path
