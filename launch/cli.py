"""What every launcher does around its work: signals, quiet logs, errors of one line.

Launchers import this module first, and it imports nothing slow: from then on Ctrl-C
ends them in one line, while JAX is imported too.
"""

import itertools
import os
import sys
import types
from collections.abc import Callable
from typing import Any

import early
from absl import app, flags, logging

from m3jax.train import faults, interrupts, typed_json

_PACKAGE = flags.DEFINE_list(
    "package",
    [],
    "Packages of your own, imported first, whose configs may then be read from files.",
)


def run(work: Callable[..., None], argument: str = "") -> None:
    """Runs a launcher: parses flags, does the work, exits with a clear line on errors.

    Exits with 1 on bad input and whatever else is not m3jax's fault, with 70 and a
    traceback on what is, and with 128 + the signal's number where a signal ended it;
    see ``m3jax.train.faults`` and ``m3jax.train.interrupts``. ``--verbosity=1`` shows
    every traceback.

    Args:
      work: what the launcher does.
      argument: what the one word besides flags is, which ``work`` then gets; "": there
        is none.
    """

    def main(argv: list[str]) -> None:
        # JAX is slow to import; what takes a launcher over must not wait for it.
        from m3jax.train import cache, memory

        if logging.get_verbosity() == logging.INFO:
            logging.set_verbosity(logging.WARNING)  # libraries tell a lot
        memory.keep_freed_memory()
        cache.enable_compilation_cache()
        work(*argv[1:])

    # Packages of the user lie where the command is given.
    sys.path.append(os.getcwd())
    try:
        app.run(main, flags_parser=lambda argv: _parse(argv, argument))
    except SystemExit:
        interrupts.ending()
        raise
    except BaseException as error:
        interrupts.ending()
        sys.exit(_report(error))


def _report(error: BaseException) -> int:
    """Says of an error what there is to say; returns what to exit with."""
    sys.stdout.flush()
    if isinstance(error, interrupts.Interrupted):
        print(error, file=sys.stderr)
        return error.exit_code
    logging.debug("in full:", exc_info=error)
    told = faults.tell(error)
    print(*filter(None, (told.trace, told.line)), sep="\n", file=sys.stderr)
    return told.code


def _report_early(
    kind: type[BaseException],
    error: BaseException,
    trace: types.TracebackType | None,
) -> None:
    """As `_report`, of what comes before `run`, while a launcher imports."""
    del kind, trace
    code = _report(error)
    sys.stderr.flush()
    os._exit(code)  # Python would exit in ways of its own


def _parse(argv: list[str], argument: str) -> list[str]:
    """Parses flags and loads the config file; what is wrong is told in one line."""
    for package in _named_packages(argv):
        typed_json.trust(package)
    try:
        rest = flags.FLAGS(argv)
        # A config file that can't be read says so only when a field is asked for.
        if "config" in flags.FLAGS and _is_config_file(flags.FLAGS["config"]):
            getattr(flags.FLAGS["config"].value, "train", None)
    except Exception as error:  # of whatever type: it is about what was typed
        logging.debug("in full:", exc_info=True)
        sys.exit(f"error: {_explain(error, argv)}")
    wanted = 1 + bool(argument)
    if len(rest) < wanted:
        sys.exit(f"error: name {argument}; see --help")
    if len(rest) > wanted:
        sys.exit(f"error: what is {rest[wanted]!r}? Flags start with --; see --help")
    return rest


def _named_packages(argv: list[str]) -> list[str]:
    """What --package names: it is imported before a config file is, which needs it."""
    values = [arg.partition("=")[2] for arg in argv if arg.startswith("--package=")]
    values += [b for a, b in itertools.pairwise(argv) if a == "--package"]
    return [name for value in values for name in value.split(",") if name]


def _is_config_file(flag: Any) -> bool:
    return not isinstance(flag.value, str)


def _explain(error: Exception, argv: list[str]) -> str:
    """One line on flags, or on the config file that they name."""
    about = [arg for arg in argv if arg.startswith("--config")]
    file = next((arg for arg in about if arg.startswith("--config=")), "")
    if file and not file.partition(":")[0].endswith(".py"):
        return (
            f"{file} names no Python file; give one with a get_config(), such as"
            " configs/tokcom.py"
        )
    told = faults.tell(error).line.removeprefix("error: ")
    if told.endswith(faults.SHOW_ALL) and not isinstance(error, flags.Error):
        return told  # the place in a config file
    text = str(error.args[0] if isinstance(error, KeyError) else error).strip()
    last = text.splitlines()[-1].strip() if text else type(error).__name__
    last = last.removeprefix("ValueError: ")
    if isinstance(error, flags.Error) and "Traceback" not in text:
        return f"{last}; see --help"
    return f"{last}; correct {' '.join(about)}"


if early.is_main_process():
    sys.excepthook = _report_early
