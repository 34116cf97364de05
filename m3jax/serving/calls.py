"""What a caller asks of an expert, checked before the expert sees it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from m3jax.serving import codec, descriptors

TOOL = "encode"

_FROM_ZERO = ("max_inline_bytes", "max_waiting", "store_seconds")


class Refused(ValueError):
    """A request that is answered with an error, in words for the caller."""


class Busy(Refused):
    """A request that would be answered later."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a server takes and keeps; the defaults suit experts of 64 x 64 images.

    Attributes:
      max_batch: most images of a call.
      max_inline_bytes: largest answer that comes within the result of a call; a larger
        one comes by handle.
      max_parallel: most calls that experts work on at once.
      max_waiting: most calls that wait for that; further ones are refused.
      waiting_bytes: most bytes of images that are worked on or wait.
      store_bytes: bytes of answers kept to be fetched.
      store_items: most answers kept.
      store_seconds: how long an answer is kept.

    Raises:
      ValueError: a limit that is not positive.
    """

    max_batch: int = 64
    max_inline_bytes: int = 16 << 10
    max_parallel: int = 4
    max_waiting: int = 512
    waiting_bytes: int = 64 << 20
    store_bytes: int = 64 << 20
    store_items: int = 256
    store_seconds: float = 60.0

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            least = 0 if name in _FROM_ZERO else 1
            whole = type(value) is int or name == "store_seconds"
            if not whole or not least <= value < 1 << 40:
                raise ValueError(f"{name} is {value}; give a whole number from {least}")


DEFAULTS = Limits()


class Request(NamedTuple):
    """A checked request.

    Attributes:
      expert: name of the expert.
      images: ``[B, *input_shape]``.
      precision: in what the tokens are sent; None for the expert's own dtype.
    """

    expert: str
    images: np.ndarray
    precision: str | None


def input_bytes(experts: Mapping[str, descriptors.Descriptor], limits: Limits) -> int:
    """Size of the largest message that holds images for one of the experts."""
    sizes = [
        int(np.prod(d.input_shape)) * codec.DTYPES[d.input_dtype].itemsize
        for d in experts.values()
    ]
    return codec.HEADER_BYTES + limits.max_batch * max(sizes)


def schema(
    experts: Mapping[str, descriptors.Descriptor], limits: Limits
) -> dict[str, Any]:
    """JSON schema of what ``parse`` takes."""
    length = codec.text_length(input_bytes(experts, limits))
    return {
        "type": "object",
        "properties": {
            "expert": {"type": "string", "enum": sorted(experts)},
            "image": {
                "type": "string",
                "contentEncoding": "base64",
                "contentMediaType": codec.MIME_TYPE,
                "maxLength": length,
                "description": "one image, or a batch of images along a first axis",
            },
            "precision": {"type": "string", "enum": list(codec.PRECISIONS)},
        },
        "required": ["image"] if len(experts) == 1 else ["expert", "image"],
        "additionalProperties": False,
    }


def parse(
    arguments: Mapping[str, Any],
    experts: Mapping[str, descriptors.Descriptor],
    limits: Limits,
) -> Request:
    """Checks the arguments of a call.

    Args:
      arguments: ``expert`` (may be left out where there is only one), ``image`` as
        ``codec`` writes it, in base64, and ``precision`` if any.
      experts: descriptors by name.
      limits: of the server.

    Raises:
      Refused: anything else than that.
    """
    unknown = sorted(set(arguments) - {"expert", "image", "precision"})
    if unknown:
        raise Refused(f"unknown arguments: {', '.join(unknown):.200}")
    name = arguments.get("expert", next(iter(experts)) if len(experts) == 1 else None)
    precision = arguments.get("precision")
    _check(name, precision, experts)
    if "image" not in arguments:
        raise Refused("image is missing: an array as base64 text")
    try:
        data = codec.from_text(arguments["image"], input_bytes(experts, limits))
    except ValueError as error:
        raise Refused(f"image: {error}") from error
    return read(name, data, precision, experts, limits)


def read(
    name: Any,
    data: bytes,
    precision: Any,
    experts: Mapping[str, descriptors.Descriptor],
    limits: Limits,
) -> Request:
    """Checks a call whose images are a message of ``codec``; else as ``parse``."""
    _check(name, precision, experts)
    try:
        images = codec.decode(data, input_bytes(experts, limits))
    except ValueError as error:
        raise Refused(f"image: {error}") from error
    images = as_batch(images, experts[name])
    if len(images) > limits.max_batch:
        raise Refused(
            f"{len(images)} images in one call; at most {limits.max_batch} are taken"
        )
    return Request(name, images, precision)


def _check(
    name: Any, precision: Any, experts: Mapping[str, descriptors.Descriptor]
) -> None:
    if not isinstance(name, str) or name not in experts:
        raise Refused(f"no expert {name!r:.80}; there are {', '.join(sorted(experts))}")
    if precision is not None and precision not in codec.PRECISIONS:
        raise Refused(
            f"precision is {precision!r:.80}; choose one of {codec.PRECISIONS}"
        )


def as_batch(images: Any, descriptor: descriptors.Descriptor) -> np.ndarray:
    """One image, or several, as a batch ``[B, *input_shape]``.

    Raises:
      Refused: another shape or dtype than the descriptor says.
    """
    images = np.asarray(images)
    shape = descriptor.input_shape
    if images.dtype.name != descriptor.input_dtype:
        raise Refused(
            f"expert {descriptor.name} takes images of {descriptor.input_dtype}, not "
            f"{images.dtype}"
        )
    if images.shape == shape:
        return images[None]
    if images.shape[1:] != shape or not len(images):
        raise Refused(
            f"expert {descriptor.name} takes images of shape {shape}, or a batch of "
            f"them, not {images.shape}"
        )
    return images
