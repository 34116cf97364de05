"""The flag --config: a config file, whose fields are flags too.

Values are read as ``sweep.py --over`` reads them: ``inf``, ``-inf``, ``nan`` and
``None`` mean the same in both. Whether a field takes them is for its ``validate``.
"""

from collections.abc import Callable
from typing import Any

from absl import flags
from ml_collections import config_flags

from m3jax.experiments import fields


class _OrNone(flags.ArgumentParser):
    """Reads ``None``, and anything else as another parser does."""

    def __init__(self, parser: flags.ArgumentParser):
        self._parser = parser
        self.syntactic_help = parser.syntactic_help

    def parse(self, argument: Any) -> Any:
        """The value of a text."""
        return None if argument in (None, "None") else self._parser.parse(argument)

    def flag_type(self) -> str:
        """Name of the type, for --help."""
        return self._parser.flag_type()


class _Tuple(flags.ArgumentParser):
    """Reads tuples as people type them, such as ``(0, inf)`` or ``image,audio``."""

    def parse(self, argument: Any) -> Any:
        """The tuple of a text; values that are no text pass."""
        if not isinstance(argument, str):
            return argument
        value = fields.parse_value(argument)
        if isinstance(value, tuple):
            return value
        return fields.parse_values(argument) if argument.strip() else ()

    def flag_type(self) -> str:
        """Name of the type, for --help."""
        return "tuple"


def define(default: str | None, about: str) -> flags.FlagHolder:
    """Defines --config, a Python file with a ``get_config``.

    Args:
      default: a file, or None.
      about: the help.
    """
    parsers: dict[type, Callable[[], flags.ArgumentParser]] = {
        int: flags.IntegerParser,
        float: flags.FloatParser,
        str: flags.ArgumentParser,
    }
    for kind, parser in parsers.items():
        config_flags.register_flag_parser_for_type(kind, _OrNone(parser()))
    config_flags.register_flag_parser_for_type(tuple, _Tuple())
    return config_flags.DEFINE_config_file("config", default, about)
