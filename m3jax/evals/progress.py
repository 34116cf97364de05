"""What a person waiting for a simulation sees: a bar on a terminal, else lines."""

import sys
import time
from types import TracebackType

import tqdm

from m3jax.evals import error_counts

SECONDS_BETWEEN_LINES = 10.0


class ProgressBar:
    """Context manager that ``monte_carlo.run`` can call with its progress.

    Args:
      title: stands before the bar.

    Example:
      ``with ProgressBar("16-QAM") as bar: monte_carlo.run(..., progress=bar)``
    """

    def __init__(self, title: str = "simulating"):
        self._title = title
        self._bar: tqdm.tqdm | None = None
        self._spoke = -float("inf")

    def __enter__(self) -> "ProgressBar":
        if sys.stderr.isatty():
            form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
            self._bar = tqdm.tqdm(desc=self._title, total=1.0, bar_format=form)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, counts: error_counts.ErrorCounts, share: float) -> None:
        """Shows the counts so far and the share of the work that is done."""
        text = f"{counts.errors.sum():.3g} errors in {counts.trials.sum():.3g} trials"
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(share - self._bar.n)
            return
        now = time.perf_counter()
        if now - self._spoke >= SECONDS_BETWEEN_LINES or share >= 1.0:
            self._spoke = now
            line = f"{self._title}: {share:.0%}, {text}"
            print(line, file=sys.stderr, flush=True)
