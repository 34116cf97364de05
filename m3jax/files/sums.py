"""Checksums of numbers at rest: CRC-32, as zip and PNG files have it.

A sum finds every single flipped bit and all but one in 4e9 of other damage. It is no
protection against somebody who changes numbers on purpose.
"""

import concurrent.futures
import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

_PIECE = 2**24  # bytes


class DamagedError(ValueError):
    """What is on disk is not what was written there."""


def of_array(array: np.ndarray) -> str:
    """The sum of an array's bytes, in C order, as eight hexadecimal digits.

    Example:
      >>> of_array(np.float32([0.0, 1.0]))
      'e8c76a1f'
    """
    # An array without dimensions has no view of another size.
    flat = np.ascontiguousarray(array).reshape(-1)
    return f"{zlib.crc32(flat.view(np.uint8)):08x}"


def of_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The sums of several arrays, taken by all cores."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(arrays, pool.map(of_array, arrays.values()), strict=True))


def of_file(path: str | os.PathLike[str]) -> str:
    """The sum of a file's bytes, read piece by piece."""
    total = 0
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            total = zlib.crc32(piece, total)
    return f"{total:08x}"


def of_json(value: Any) -> str:
    """The sum of plain JSON values, whatever their layout and the order of keys.

    Example:
      >>> of_json({"a": 1, "b": [2.5]}) == of_json({"b": [2.5], "a": 1})
      True
    """
    return of_text(json.dumps(value, sort_keys=True, separators=(",", ":")))


def of_text(text: str) -> str:
    """The sum of a text, as of a file that holds it."""
    return f"{zlib.crc32(text.encode()):08x}"


def check(found: Mapping[str, str], wanted: Mapping[str, str | None]) -> None:
    """Compares sums of what was read with those that were written.

    Args:
      found: name -> sum of what was read.
      wanted: name -> sum that was written; None and missing ones are not compared.

    Raises:
      DamagedError: they differ; names the first.
    """
    wrong = [name for name, s in found.items() if wanted.get(name) not in (None, s)]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise DamagedError(f"{wrong[0]}{more} has changed on disk since it was written")
