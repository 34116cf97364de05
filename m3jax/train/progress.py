"""What a person waiting sees: a bar on a terminal, else a line now and then."""

import sys
import time
from types import TracebackType

import tqdm

SECONDS_BETWEEN_LINES = 10.0


class Bar:
    """Context manager that shows how much is done, and the time left.

    Args:
      title: stands before the bar.
      total: amount of the whole work.
      unit: what is counted, such as "step"; "" shows shares only.
      start: amount that was done before.
      shown: False shows nothing.

    Example:
      ``with Bar("evaluating") as bar: evaluate(..., tell=bar.to)``
    """

    def __init__(
        self,
        title: str,
        total: float = 1.0,
        unit: str = "",
        start: float = 0.0,
        shown: bool = True,
    ):
        self._title, self._total, self._unit = title, total, unit
        self._start = self._done = start
        self._shown, self._text = shown, ""
        self._bar: tqdm.tqdm | None = None
        self._began = time.perf_counter()
        # The first line comes soon, so that nobody wonders whether anything happens.
        self._spoke = self._began - SECONDS_BETWEEN_LINES + 2.0

    def __enter__(self) -> "Bar":
        if self._shown and sys.stderr.isatty():
            counted = "{n:.0f}/{total:.0f} " + self._unit if self._unit else ""
            form = "{desc}: {percentage:3.0f}%|{bar}| " + counted
            self._bar = tqdm.tqdm(
                desc=self._title,
                total=self._total,
                initial=self._start,
                dynamic_ncols=True,
                bar_format=form + " {elapsed}<{remaining}{postfix}",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def to(self, done: float, text: str | None = None) -> None:
        """Shows that so much is done, and a text that says how it goes."""
        self._text = self._text if text is None else text
        if self._bar is not None:
            self._bar.set_postfix_str(self._text, refresh=False)
            self._bar.update(done - self._done)
        self._done = done
        now = time.perf_counter()
        is_due = now - self._spoke >= SECONDS_BETWEEN_LINES or done >= self._total
        if self._bar is None and self._shown and is_due:
            self._spoke = now
            print(self._line(now), file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        new = self._done - self._start
        share = f"{self._done / self._total:.0%}"
        if self._unit:
            rate = new / max(now - self._began, 1e-9)
            share = f"{self._unit} {self._done:.0f}/{self._total:.0f}"
            share += f"  {rate:.3g} {self._unit}s/s"
        if new > 0:
            left = (self._total - self._done) * (now - self._began) / new
            share += f"  {left:.0f} s left"
        return f"{self._title}: {share}  {self._text}".rstrip()
