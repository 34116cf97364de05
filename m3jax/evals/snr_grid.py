"""SNR grids as people type them: ``-10:20:2.5``, ``0,10,20``, ``-10:20:5,inf``."""

import math

_MAX_POINTS = 1000
_FORMS = (
    "write start:stop:step (both ends count), numbers between commas, or inf for "
    "no noise; for example -10:20:2.5,inf"
)


def parse_range(text: str) -> tuple[float, ...]:
    """Turns text into SNRs in dB.

    Args:
      text: ranges ``start:stop:step`` and single numbers, separated by commas. A range
        has both ends if the step fits; ``inf`` stands for no noise.

    Returns:
      The SNRs in dB, in the order given.

    Raises:
      ValueError: a part is malformed, NaN or -inf, a step is not positive, a range is
        reversed or endless, a value comes twice, or there are over 1,000 values.

    Example:
      >>> parse_range("-5:5:2.5,inf")
      (-5.0, -2.5, 0.0, 2.5, 5.0, inf)
    """
    values: list[float] = []
    for part in str(text).split(","):
        values.extend(_parse_part(part.strip(), text))
    if len(values) > _MAX_POINTS:
        raise _error(text, f"has {len(values)} values and {_MAX_POINTS} is the limit")
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise _error(text, f"has {twice[0]:g} dB twice")
    return tuple(values)


def _parse_part(part: str, text: str) -> list[float]:
    fields = [_parse_number(field, text) for field in part.split(":")]
    if len(fields) == 1:
        return fields
    if len(fields) != 3:
        raise _error(text, f"has {part!r}, which is no start:stop:step")
    start, stop, step = fields
    if not all(map(math.isfinite, fields)):
        raise _error(text, f"has the endless range {part!r}")
    if step <= 0.0:
        raise _error(text, f"has the step {step:g}, which must be above 0")
    if stop < start:
        raise _error(text, f"runs backwards from {start:g} to {stop:g}")
    # A step such as 0.1 is not exact in binary, so an end that fits may lie a hair off.
    steps = math.floor((stop - start) / step + 1e-6)
    if steps >= _MAX_POINTS:
        raise _error(text, f"has over {_MAX_POINTS} values")
    return [round(start + i * step, 6) for i in range(steps + 1)]


def _parse_number(field: str, text: str) -> float:
    try:
        value = float(field)
    except ValueError:
        raise _error(text, f"has {field!r}, which is no number") from None
    if math.isnan(value) or value == -math.inf:
        raise _error(text, f"has {field.strip()}, which is no SNR")
    return value


def _error(text: str, fault: str) -> ValueError:
    return ValueError(f"the SNR grid {text!r} {fault}; {_FORMS}.")
