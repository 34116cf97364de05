"""What every launcher does around its work: quiet logs, and errors of one line."""

import itertools
import os
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging

from m3jax.train import cache, interrupts, memory, typed_json

_EXPECTED = (ValueError, TypeError, OSError, AttributeError, KeyError, RuntimeError)
_PACKAGE = flags.DEFINE_list(
    "package",
    [],
    "Packages of your own, imported first, whose configs may then be read from files.",
)


def run(work: Callable[..., None], argument: str = "") -> None:
    """Runs a launcher: parses flags, does the work, exits with a clear line on errors.

    Exits with 1 on bad input, and with 128 + the signal's number after an interruption
    that saved a checkpoint. ``--verbosity=1`` shows the whole traceback.

    Args:
      work: what the launcher does.
      argument: what the one word besides flags is, which ``work`` then gets; "": there
        is none.
    """

    def main(argv: list[str]) -> None:
        if logging.get_verbosity() == logging.INFO:
            logging.set_verbosity(logging.WARNING)  # libraries tell a lot
        memory.keep_freed_memory()
        cache.enable_compilation_cache()
        try:
            work(*argv[1:])
        except interrupts.Interrupted as stop:
            print(stop, file=sys.stderr)
            sys.exit(stop.exit_code)
        except (*_EXPECTED, FloatingPointError) as error:
            logging.debug("in full:", exc_info=True)
            sys.exit(f"error: {_first_line(error)}")

    # Packages of the user lie where the command is given.
    sys.path.append(os.getcwd())
    app.run(main, flags_parser=lambda argv: _parse(argv, argument))


def _parse(argv: list[str], argument: str) -> list[str]:
    """Parses flags and loads the config file; what is wrong is told in one line."""
    for package in _named_packages(argv):
        try:
            typed_json.trust(package)
        except ValueError as error:
            sys.exit(f"error: {error}")
    try:
        rest = flags.FLAGS(argv)
        # A config file that can't be read says so only when a field is asked for.
        if "config" in flags.FLAGS and _is_config_file(flags.FLAGS["config"]):
            getattr(flags.FLAGS["config"].value, "train", None)
    except (flags.Error, *_EXPECTED) as error:
        sys.exit(_explain(error, argv))
    wanted = 1 + bool(argument)
    if len(rest) < wanted:
        sys.exit(f"error: name {argument}; see --help")
    if len(rest) > wanted:
        sys.exit(f"error: what is {rest[wanted]!r}? Flags start with --; see --help")
    return rest


def _first_line(error: Exception) -> str:
    """What an error says; JAX's go on over many lines."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _named_packages(argv: list[str]) -> list[str]:
    """What --package names: it is imported before a config file is, which needs it."""
    values = [arg.partition("=")[2] for arg in argv if arg.startswith("--package=")]
    values += [b for a, b in itertools.pairwise(argv) if a == "--package"]
    return [name for value in values for name in value.split(",") if name]


def _is_config_file(flag: Any) -> bool:
    return not isinstance(flag.value, str)


def _explain(error: Exception, argv: list[str]) -> str:
    """One line on flags; all of it where a config file is broken."""
    text = str(error.args[0] if isinstance(error, KeyError) else error).strip()
    last = text.splitlines()[-1].strip()
    about = [arg for arg in argv if arg.startswith("--config")]
    if not isinstance(error, flags.Error):
        return f"error: {last}; correct {' '.join(about)}"
    if "Traceback" in text and not last.startswith("ValueError: "):
        return f"error: {text}"
    return f"error: {last.removeprefix('ValueError: ')}; see --help"
