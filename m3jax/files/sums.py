"""Checksums of numbers at rest: XXH3 of 64 bits, at the speed of memory.

It finds damage, but is no protection against somebody who changes numbers on purpose.
"""

import concurrent.futures
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import xxhash

_PIECE = 2**24  # bytes


class DamagedError(ValueError):
    """What is on disk is not what was written there."""


def of_array(array: np.ndarray) -> str:
    """The sum of an array's bytes, in C order, as 16 hexadecimal digits.

    Example:
      >>> of_array(np.float32([0.0, 1.0]))
      'eb055cc52ede8ebf'
    """
    # An array without dimensions has no view of another size.
    flat = np.ascontiguousarray(array).reshape(-1)
    return xxhash.xxh3_64_hexdigest(flat.view(np.uint8))


def of_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The sums of several arrays, taken by all cores."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(arrays, pool.map(of_array, arrays.values()), strict=True))


def of_file(path: str | os.PathLike[str]) -> str:
    """The sum of a file's bytes, read piece by piece."""
    total = xxhash.xxh3_64()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            total.update(piece)
    return total.hexdigest()


def of_json(value: Any) -> str:
    """The sum of plain JSON values, whatever their layout and the order of keys.

    Example:
      >>> of_json({"a": 1, "b": [2.5]}) == of_json({"b": [2.5], "a": 1})
      True
    """
    return of_text(json.dumps(value, sort_keys=True, separators=(",", ":")))


def of_text(text: str) -> str:
    """The sum of a text, as of a file that holds it."""
    return xxhash.xxh3_64_hexdigest(text.encode())


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
