"""Every field of every config, set to what nobody should: refused, or it works.

Refused means: one line of ``validate`` that names the field. What passes must build.
"""

import copy
import dataclasses
import importlib.util
import math
import pathlib

import pytest

from m3jax.experiments import contract

CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "configs").glob("*.py"))
HOSTILE = (
    *(-1, 0, -0.5, math.nan, math.inf, -math.inf, 10**30, True),
    *("", "x", None, (), (0,), (-1,), (math.inf, math.inf), [], object()),
)
# Those that look into shapes while they validate take a minute.
SLOW = {"tokcom", "msao"}


def load(path, size="tiny"):
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(size)


def fields_of(config, prefix=""):
    """Paths of all fields, of what dataclasses hold too."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        yield prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from fields_of(value, f"{prefix}{field.name}.")


def with_field(config, path, value):
    changed = copy.deepcopy(config)
    *parents, name = path.split(".")
    holder = changed
    for parent in parents:
        holder = getattr(holder, parent)
    object.__setattr__(holder, name, value)
    return changed


def outcome(config, path):
    """What is wrong with how a config is taken; "" for nothing."""
    try:
        contract.check(config)
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        if "\n" in text or path.split(".")[-1] not in text:
            return f"does not name the field: {text}"
        return ""
    except Exception as error:
        return f"raw: {error!r}"
    try:
        config.build()
    except Exception as error:
        return f"passes, and does not build: {error!r}"
    return ""


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=pytest.mark.slow if p.stem in SLOW else (), id=p.stem)
        for p in CONFIGS
    ],
)
def test_no_value_of_a_field_is_a_surprise(path):
    config = load(path)
    contract.check(config)
    bad = {}
    for name in fields_of(config):
        for value in HOSTILE:
            found = outcome(with_field(config, name, value), name)
            if found:
                bad[name, repr(value)] = found
    assert not bad
