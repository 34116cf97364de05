"""What an expert says about itself: typed, as JSON, under a stable URI.

M3LLM's experts advertise what they can do over the Model Context Protocol, and routing
reads it (sections II and III-A of the paper). Nothing here needs the protocol's SDK.
"""

import dataclasses
import json
import math
import re
from typing import Any, Protocol

import numpy as np

from m3jax.serving import codec

SCHEMA = "m3jax.expert/1"
EXPERTS = "m3jax://experts/"
"""Before the name of an expert: the URI of its descriptor."""
MAX_BYTES = 1 << 16
"""Largest descriptor that is read."""
MAX_NUMBERS = 1 << 24
"""Most numbers of one input or one output."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_FLOATS = ("float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Device:
    """What an expert runs on; None where it is not known.

    Attributes:
      name: in words.
      flops_per_s: floating-point operations per second.
      memory_bytes: memory for the model.
      power_w: watts drawn under load.
    """

    name: str = ""
    flops_per_s: float | None = None
    memory_bytes: float | None = None
    power_w: float | None = None

    def __post_init__(self):
        _check_text("device.name", self.name, empty=True)
        for name in ("flops_per_s", "memory_bytes", "power_w"):
            _check_number(f"device.{name}", getattr(self, name), low=0.0)


@dataclasses.dataclass(frozen=True)
class LinkStatistics:
    """The link to an expert as it was last measured; None where it is not known.

    Attributes:
      mean_snr_db: mean signal-to-noise ratio in dB.
      std_snr_db: its standard deviation in dB.
      delay_s: seconds one way.
      loss_rate: share of packets lost, in [0, 1].
    """

    mean_snr_db: float | None = None
    std_snr_db: float | None = None
    delay_s: float | None = None
    loss_rate: float | None = None

    def __post_init__(self):
        _check_number("link.mean_snr_db", self.mean_snr_db)
        _check_number("link.std_snr_db", self.std_snr_db, low=0.0)
        _check_number("link.delay_s", self.delay_s, low=0.0)
        _check_number("link.loss_rate", self.loss_rate, low=0.0, high=1.0)


@dataclasses.dataclass(frozen=True)
class Descriptor:
    """Capabilities of an expert.

    Attributes:
      name: 1 to 64 lower-case letters, digits, ``_`` and ``-``.
      description: what it is good at, in words; retrieval embeds it.
      skills: names of tasks it was made for.
      questions: examples of questions it helps to answer.
      input_shape: of one image, ``[height, width, channels]``.
      input_dtype: of the image.
      output_shape: ``[L, D]``, tokens and their size, for one image.
      output_dtype: of the tokens, a floating-point one.
      device: what it runs on.
      link: the link to it, if someone measures that.

    Raises:
      ValueError: a field that is not as described; the message names it.
    """

    name: str
    description: str
    skills: tuple[str, ...]
    output_shape: tuple[int, int]
    questions: tuple[str, ...] = ()
    input_shape: tuple[int, ...] = (64, 64, 3)
    input_dtype: str = "uint8"
    output_dtype: str = "float32"
    device: Device = dataclasses.field(default_factory=Device)
    link: LinkStatistics | None = None

    def __post_init__(self):
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name is {self.name!r}; use 1 to 64 of a-z, 0-9, _ and -, the first "
                "a letter or digit"
            )
        _check_text("description", self.description)
        _check_texts("skills", self.skills)
        _check_texts("questions", self.questions)
        _check_shape("input_shape", self.input_shape)
        _check_shape("output_shape", self.output_shape)
        if len(self.output_shape) != 2:
            raise ValueError(f"output_shape is {self.output_shape}; it must be (L, D)")
        _check_choice("input_dtype", self.input_dtype, tuple(codec.DTYPES))
        _check_choice("output_dtype", self.output_dtype, _FLOATS)
        if not isinstance(self.device, Device):
            raise ValueError(f"device is {self.device!r}; give a Device")
        if not isinstance(self.link, LinkStatistics | None):
            raise ValueError(f"link is {self.link!r}; give LinkStatistics or None")


class Expert(Protocol):
    """What a server serves: an encoder that knows what it can do."""

    @property
    def descriptor(self) -> Descriptor:
        """Its capabilities; read anew at each request, so ``link`` may be live."""

    def encode(self, image: np.ndarray) -> Any:
        """Tokens ``[B, L, D]`` of one image or of a batch of them.

        Called from several threads at once.
        """


def uri(name: str) -> str:
    """Where a server keeps the descriptor of an expert.

    Example:
      >>> uri("sign")
      'm3jax://experts/sign'
    """
    return EXPERTS + name


def to_json(descriptor: Descriptor) -> str:
    """Writes a descriptor as JSON text."""
    fields = {"schema": SCHEMA} | dataclasses.asdict(descriptor)
    return json.dumps(fields, allow_nan=False)


def from_json(text: str) -> Descriptor:
    """Reads a descriptor; nothing in it is trusted.

    Raises:
      ValueError: no whole JSON, another schema, a field that is unknown, missing or
        not as ``Descriptor`` describes it.

    Example:
      >>> sign = Descriptor("sign", "Reads road signs.", ("sign",), (16, 64))
      >>> from_json(to_json(sign)) == sign
      True
    """
    if not isinstance(text, str) or len(text.encode()) > MAX_BYTES:
        raise ValueError(f"a descriptor is JSON text of at most {MAX_BYTES} bytes")
    try:
        fields = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"descriptor is not whole JSON: {error}") from error
    if not isinstance(fields, dict) or fields.pop("schema", None) != SCHEMA:
        raise ValueError(f"descriptor is not an object with schema {SCHEMA!r}")
    parts = {"device": Device, "link": LinkStatistics}
    for name, kind in parts.items():
        if fields.get(name) is not None:
            fields[name] = _build(kind, fields[name], name)
    return _build(Descriptor, fields, "descriptor")


def _build(kind: type, fields: Any, where: str) -> Any:
    """A dataclass from a JSON object."""
    if not isinstance(fields, dict):
        raise ValueError(f"{where} must be an object, not {type(fields).__name__}")
    known = dataclasses.fields(kind)
    unknown = sorted(set(fields) - {field.name for field in known})
    if unknown:
        raise ValueError(f"{where} has unknown fields: {', '.join(unknown):.200}")
    missing = [
        field.name
        for field in known
        if field.name not in fields
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in fields.items()
    }
    return kind(**values)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _check_text(name: str, value: Any, empty: bool = False) -> None:
    if not isinstance(value, str) or not (value.strip() or empty) or len(value) > 4000:
        raise ValueError(f"{name} must be text of 1 to 4000 characters: {value!r:.80}")


def _check_texts(name: str, values: Any) -> None:
    if not isinstance(values, tuple) or len(values) > 256:
        raise ValueError(f"{name} must be a tuple of at most 256 texts: {values!r:.80}")
    for value in values:
        _check_text(f"each of {name}", value)


def _check_shape(name: str, shape: Any) -> None:
    if (
        not isinstance(shape, tuple)
        or not 1 <= len(shape) <= 7  # a batch axis comes before them
        or not all(type(size) is int and size > 0 for size in shape)
        or math.prod(shape) > MAX_NUMBERS
    ):
        raise ValueError(
            f"{name} must be 1 to 7 positive integers, with a product of at most "
            f"{MAX_NUMBERS}: {shape!r:.80}"
        )


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r:.80}; choose one of {choices}")


def _check_number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf
) -> None:
    if value is None:
        return
    if type(value) not in (int, float) or not -1e300 < value < 1e300:
        raise ValueError(f"{name} must be a finite number or None: {value!r:.80}")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; it must lie in [{low:g}, {high:g}]")
