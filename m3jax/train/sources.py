"""Where batches come from: an iterator, its position, and the copy to the devices."""

import contextlib
from collections.abc import Iterable
from typing import Any

import jax
from jax.sharding import Mesh

from m3jax import base
from m3jax.train import interrupts, sharding


class DataEndedError(ValueError):
    """The batches ran out before the run was over."""


class NoBatches:
    """Empty batches without end, for learners that make their own data.

    They have no position, so every resume is exact.

    Example:
      >>> next(NoBatches())
      ()
    """

    def __iter__(self) -> "NoBatches":
        return self

    def __next__(self) -> tuple[()]:
        return ()

    def get_state(self) -> dict[str, int]:
        """Returns the position: there is none to keep."""
        return {}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position: there is nowhere to go."""
        del state


class Source:
    """Pulls host batches and starts their copy to the devices.

    Args:
      batches: host batches. If the iterator has ``get_state`` and ``set_state``, as
        grain's have, its position can be saved and restored.
      mesh: the devices to cut batches over.
    """

    def __init__(self, batches: Iterable[base.Batch], mesh: Mesh):
        # A loader's own processes must outlive Ctrl-C, for the state to be saved.
        with interrupts.hidden_from_children():
            self._iterator = iter(batches)
        self._mesh = mesh
        self._running = False
        self._held: base.Batch | None = None
        self._pulled = 0

    def shapes(self) -> base.Batch:
        """Returns the abstract batch; the batch looked at is still pulled first.

        Raises:
          ValueError: it does not divide evenly among the devices.
        """
        self._held = self._next()
        for leaf in jax.tree.leaves(self._held)[:1]:
            sharding.check_batch_size(len(leaf), self._mesh)
        # The dtypes are those the devices will hold: int64 becomes int32, for one.
        on_device = jax.eval_shape(lambda batch: batch, self._held)
        return sharding.with_sharding(on_device, sharding.split(self._mesh))

    def pull(self) -> base.Batch:
        """Returns the next batch; its copy to the devices goes on in the background."""
        batch, self._held = self._held, None
        return sharding.put_batch(self._next() if batch is None else batch, self._mesh)

    def position(self) -> Any:
        """Returns the position after the batches pulled so far; None if not kept."""
        get_state = getattr(self._iterator, "get_state", None)
        return None if get_state is None else get_state()

    def keeps(self, position: Any) -> bool:
        """Whether the iterator can go to a saved position."""
        return position is not None and hasattr(self._iterator, "set_state")

    def rewind(self, position: Any) -> None:
        """Goes to a saved position, if the iterator keeps any."""
        if self.keeps(position):
            self._iterator.set_state(position)
            self._held, self._running = None, False

    def _next(self) -> base.Batch:
        starting = contextlib.nullcontext()
        if not self._running:
            starting = interrupts.hidden_from_children()
        try:
            with starting:
                batch = next(self._iterator)
        except StopIteration:
            raise DataEndedError(
                f"the data ended after {self._pulled} batches, before the run did;"
                " make it repeat, or set fewer train.steps"
            ) from None
        self._running = True
        self._pulled += 1
        return batch
