"""What every launcher does around its work: quiet logs, and errors of one line."""

import sys
from collections.abc import Callable

from absl import app, flags, logging

from m3jax.train import cache, interrupts, memory

_EXPECTED = (ValueError, TypeError, OSError, AttributeError, KeyError, RuntimeError)


def run(work: Callable[[], None]) -> None:
    """Runs a launcher: parses flags, does the work, exits with a clear line on errors.

    Exits with 1 on bad input, and with 128 + the signal's number after an interruption
    that saved a checkpoint. ``--verbosity=1`` shows the whole traceback.
    """

    def main(argv: list[str]) -> None:
        del argv  # only the name of the script is left
        if logging.get_verbosity() == logging.INFO:
            logging.set_verbosity(logging.WARNING)  # libraries tell a lot
        memory.keep_freed_memory()
        cache.enable_compilation_cache()
        try:
            work()
        except interrupts.Interrupted as stop:
            print(stop, file=sys.stderr)
            sys.exit(stop.exit_code)
        except (*_EXPECTED, FloatingPointError) as error:
            logging.debug("in full:", exc_info=True)
            sys.exit(f"error: {error}")

    app.run(main, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    """Parses flags and loads the config file; what is wrong is told in one line."""
    try:
        rest = flags.FLAGS(argv)
        # A config file that can't be read says so only when a field is asked for.
        if "config" in flags.FLAGS:
            getattr(flags.FLAGS["config"].value, "train", None)
    except (flags.Error, *_EXPECTED) as error:
        sys.exit(_explain(error, argv))
    if len(rest) > 1:
        sys.exit(f"error: what is {rest[1]!r}? Flags start with --; see --help")
    return rest


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
