"""What speculation counted, sequence by sequence."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from m3jax import base


class Counts(NamedTuple):
    """Numbers of each sequence, int32 [B].

    Attributes:
      drafted: tokens that the draft said and sent up.
      accepted: of those, how many stand; all of them in ``edge_accept``.
      rejected: rounds in which one fell; the drafts after it were judged by nobody.
      calls: rounds in which the target was asked for a word.
      deferred: of those, how many because the draft was not confident (MSAO,
        Algorithm 1, lines 11 to 13).
      emitted: words of the answer, its end among them.
    """

    drafted: base.Array
    accepted: base.Array
    rejected: base.Array
    calls: base.Array
    deferred: base.Array
    emitted: base.Array

    @property
    def acceptance(self) -> base.Array:
        """Share of the judged drafts that stand, float [B]; NaN where none was.

        Of drafts after a fallen one nothing is known, so they count nowhere: accepted
        over drafted would be too low.
        """
        return self.accepted / (self.accepted + self.rejected)

    @property
    def tokens_per_call(self) -> base.Array:
        """Words of the answer for each call of the target, float [B]; E[N]."""
        return self.emitted / self.calls


@flax.struct.dataclass
class Result:
    """An answer and what it took.

    Attributes:
      words: int32 [B, N], ended by ``eos`` if it fits, then ``pad``.
      counts: of each sequence.
      num_rounds: int32 scalar, rounds of the batch.
      mode: static; see `m3jax.nn.speculation.speculate`.
      protocol: static, name of it.
    """

    words: base.Array
    counts: Counts
    num_rounds: base.Array
    mode: str = flax.struct.field(pytree_node=False)
    protocol: str = flax.struct.field(pytree_node=False)


def pool(results: Sequence[Result]) -> Counts:
    """The counts of several batches, as one.

    Raises:
      ValueError: there is none, or some verified their drafts and others did not: what
        is exact and what is not stands in no table together.
    """
    modes = {result.mode for result in results}
    if len(modes) != 1:
        raise ValueError(
            f"results of modes {sorted(modes)} cannot be pooled: give those of one"
            " mode."
        )
    return jax.tree.map(
        lambda *parts: jnp.concatenate(parts), *[result.counts for result in results]
    )


def zeros(batch_size: int) -> Counts:
    """Counts of a batch that has done nothing."""
    return Counts(*(jnp.zeros(batch_size, jnp.int32) for _ in Counts._fields))
