"""What a person watching a run sees: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType

import tqdm

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Context manager showing step, steps a second, time left and loss.

    Args:
      start: updates finished before this run.
      steps: updates in the whole run.
      shown: False shows nothing.
    """

    def __init__(self, start: int, steps: int, shown: bool = True):
        self._start, self._steps, self._shown = start, steps, shown
        self._bar: tqdm.tqdm | None = None
        self._began = time.perf_counter()
        self._spoke = -float("inf")

    def __enter__(self) -> "Progress":
        if self._shown and sys.stderr.isatty():
            self._bar = tqdm.tqdm(
                total=self._steps, initial=self._start, unit="step", dynamic_ncols=True
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

    def advance(self) -> None:
        """Notes one more update."""
        if self._bar is not None:
            self._bar.update()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the loss after ``step`` updates."""
        loss = values.get("loss")
        if self._bar is not None:
            if loss is not None:
                self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            return
        now = time.perf_counter()
        due = now - self._spoke >= SECONDS_BETWEEN_LINES or step == self._steps
        if self._shown and due:
            self._spoke = now
            print(self._line(step, loss, now), file=sys.stderr, flush=True)

    def _line(self, step: int, loss: float | None, now: float) -> str:
        rate = (step - self._start) / max(now - self._began, 1e-9)
        left = (self._steps - step) / max(rate, 1e-9)
        text = f"step {step}/{self._steps}  {rate:.3g} steps/s  {left:.0f} s left"
        return text if loss is None else f"{text}  loss {loss:.4g}"
