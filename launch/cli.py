"""What every launcher does around its work: quiet logs, and errors of one line."""

import sys
from collections.abc import Callable

from absl import app, logging

from m3jax.train import cache, interrupts

_EXPECTED = (ValueError, TypeError, OSError, AttributeError, KeyError, RuntimeError)


def run(work: Callable[[], None]) -> None:
    """Runs a launcher: parses flags, does the work, exits with a clear line on errors.

    Exits with 1 on bad input, and with 128 + the signal's number after an interruption
    that saved a checkpoint. ``--verbosity=1`` shows the whole traceback.
    """

    def main(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"what is {argv[1]!r}? See --help")
        if logging.get_verbosity() == logging.INFO:
            logging.set_verbosity(logging.WARNING)  # libraries tell a lot
        cache.enable_compilation_cache()
        try:
            work()
        except interrupts.Interrupted as stop:
            print(stop, file=sys.stderr)
            sys.exit(stop.exit_code)
        except (*_EXPECTED, FloatingPointError) as error:
            logging.debug("in full:", exc_info=True)
            sys.exit(f"error: {error}")

    app.run(main)
