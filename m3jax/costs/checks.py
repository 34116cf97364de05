"""What the costs refuse, with one message that names the field and the mend."""

import math
import numbers

from m3jax import base


def number(
    owner: str,
    field: str,
    value: base.Array,
    above: float = 0.0,
    most: float = math.inf,
    least: float | None = None,
) -> None:
    """Refuses a number that makes no sense; arrays and traced numbers pass.

    Args:
      owner: what the field belongs to, such as "device 'A100'".
      field: its name.
      value: of it.
      above: the value must be above this, unless ``least`` is given.
      most: the value may not be above this; it must be finite anyway.
      least: the value may not be below this.

    Raises:
      ValueError: names owner, field, value and range.
    """
    if not isinstance(value, (numbers.Real, str)):
        return
    if isinstance(value, numbers.Real) and math.isfinite(value) and value <= most:
        if value > above if least is None else value >= least:
            return
    floor = f"above {above:g}" if least is None else f"of {least:g} or more"
    ceiling = "" if math.isinf(most) else f" and at most {most:g}"
    raise ValueError(
        f"{owner} has {field}={value!r}; give a finite number {floor}{ceiling}"
    )


def choice(owner: str, field: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuses a word that is none of the choices.

    Raises:
      ValueError: names owner, field, value and choices.
    """
    if value not in choices:
        raise ValueError(f"{owner} has {field}={value!r}; choose one of {choices}")


def preset(kind: str, name: str, presets: dict):
    """The preset of a name.

    Raises:
      ValueError: there is none; names those that there are.
    """
    if name not in presets:
        raise ValueError(
            f"there is no {kind} {name!r}; choose one of {tuple(presets)}, or make one"
        )
    return presets[name]
