"""When it pays to draft at the edge and verify in the cloud: closed forms.

A round drafts g tokens, sends them, waits for the round trip, and has them verified in
one pass (Leviathan et al. 2023, 2211.17192):

    seconds(g) = g t_draft + bits(g) / R + RTT + t_verify(g),  t_verify(g) = t0 + g t1
    tokens a second = E[N](a, g) / seconds(g)

With ideal overlap, where the next draft is made while this one is verified, a round
takes the longer of the two. That is a bound: after a draft that falls the next one is
made again. The cloud alone streams its tokens, 1 / t0 a second, and meets the round
trip once; the edge alone gives 1 / t_draft. MSAO's equation 14 has no round trip per
round, and counts tokens twice; it is not used here.

All functions take arrays that broadcast, so `jit`, `vmap` and `grad` go through.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.costs import checks
from m3jax.ops import draft_lengths

_HALVINGS = 50


class Setting(NamedTuple):
    """Two machines and what lies between them; numbers or arrays that broadcast.

    Attributes:
      draft_s: t_draft, seconds of one token of the draft at the edge.
      verify_s: t0, seconds of a target pass; of one token of the cloud alone too.
      verify_token_s: t1, seconds more of the pass for each draft in it.
      rtt_s: round trip without what is sent, once a round.
      up_bits_per_s: rate of the uplink.
      down_bits_per_s: rate of the downlink.
      draft_bits: sent up for each draft, see `m3jax.costs.drafts`.
      call_bits: sent up once a round.
      answer_bits: sent down once a round.
    """

    draft_s: base.Array
    verify_s: base.Array
    verify_token_s: base.Array = 0.0
    rtt_s: base.Array = 0.0
    up_bits_per_s: base.Array = jnp.inf
    down_bits_per_s: base.Array = jnp.inf
    draft_bits: base.Array = 0.0
    call_bits: base.Array = 0.0
    answer_bits: base.Array = 0.0

    def validate(self) -> None:
        """Raises ValueError, naming the field, if a number makes no sense."""
        for name in ("draft_s", "verify_s"):
            checks.number("speculation.Setting", name, getattr(self, name))
        for name in ("verify_token_s", "rtt_s", "draft_bits"):
            checks.number("speculation.Setting", name, getattr(self, name), least=0.0)
        for name in ("call_bits", "answer_bits"):
            checks.number("speculation.Setting", name, getattr(self, name), least=0.0)


def round_s(setting: Setting, length: base.Array, overlap: bool = False) -> base.Array:
    """Seconds of a round that drafts so many tokens.

    Args:
      setting: machines and link.
      length: g; broadcasts with the setting.
      overlap: whether drafting and all else run at the same time.

    Example:
      >>> round_s(Setting(0.01, 0.0286, rtt_s=0.02), 3)
      Array(0.0786, dtype=float32, weak_type=True)
    """
    drafting = length * jnp.asarray(setting.draft_s)
    waiting = setting.rtt_s + _sent_and_verified_s(setting, length)
    return jnp.maximum(drafting, waiting) if overlap else drafting + waiting


def _sent_and_verified_s(setting, length):
    up = (setting.call_bits + length * setting.draft_bits) / setting.up_bits_per_s
    down = setting.answer_bits / setting.down_bits_per_s
    return up + down + setting.verify_s + length * setting.verify_token_s


def edge_rate(setting: Setting) -> base.Array:
    """Tokens a second of the draft alone, whose answers are not the target's."""
    return 1.0 / jnp.asarray(setting.draft_s)


def cloud_rate(setting: Setting) -> base.Array:
    """Tokens a second of the target alone, which streams them."""
    return 1.0 / jnp.asarray(setting.verify_s)


def rate(
    setting: Setting, acceptance: base.Array, length: base.Array, overlap: bool = False
) -> base.Array:
    """Tokens a second of speculation.

    Never above ``(g + 1) / g`` of the edge alone, since each round drafts g tokens.

    Args:
      setting: machines and link.
      acceptance: a, the probability that a draft stands.
      length: g, 1 or more.
      overlap: see `round_s`.
    """
    tokens = draft_lengths.expected_tokens(acceptance, length)
    return tokens / round_s(setting, length, overlap)


def speed_up(
    setting: Setting, acceptance: base.Array, length: base.Array, overlap: bool = False
) -> base.Array:
    """Tokens a second of speculation over those of the cloud alone.

    Example:
      >>> far = Setting(draft_s=0.010, verify_s=0.0286, rtt_s=0.020)
      >>> [round(float(speed_up(far, a, 5)), 2) for a in (0.7, 0.9, 0.95)]
      [0.85, 1.36, 1.54]
    """
    return rate(setting, acceptance, length, overlap) / cloud_rate(setting)


def target_work(acceptance: base.Array, length: base.Array) -> base.Array:
    """FLOPs of the target for a token of the answer, over those of the target alone.

    ``(g + 1) / E[N]``: never below 1. Verified decoding saves the cloud no work; what
    MSAO says it saves can come from pruning and from answers that stay at the edge.

    Example:
      >>> round(float(target_work(0.8, 5)), 2)
      1.63
    """
    return (length + 1.0) / draft_lengths.expected_tokens(acceptance, length)


class Best(NamedTuple):
    """The length of most tokens a second; see `best`."""

    length: base.Array
    tokens_per_s: base.Array
    speed_up: base.Array


def best(
    setting: Setting, acceptance: base.Array, most: int, overlap: bool = False
) -> Best:
    """The best of the lengths 1 to ``most``.

    Args:
      setting: machines and link.
      acceptance: a.
      most: longest draft, G; static.
      overlap: see `round_s`.

    Returns:
      Arrays of the broadcast shape.

    Example:
      >>> far = Setting(draft_s=0.010, verify_s=0.0286, rtt_s=0.020)
      >>> found = best(far, 0.7, 5)
      >>> int(found.length), round(float(found.speed_up), 2)
      (3, 0.92)
    """
    lengths = jnp.arange(1, most + 1)
    spread = Setting(*(jnp.asarray(leaf)[..., None] for leaf in setting))
    wide = jnp.asarray(acceptance)[..., None]
    rates = rate(spread, wide, lengths, overlap)
    length = 1 + jnp.argmax(rates, axis=-1).astype(jnp.int32)
    fastest = jnp.max(rates, axis=-1)
    return Best(length, fastest, fastest / cloud_rate(setting))


def break_even_acceptance(
    setting: Setting, most: int, overlap: bool = False
) -> base.Array:
    """The acceptance from which on some length is faster than the cloud alone.

    At a round trip of 0, with ``t1 = 0`` and nothing to send, it is the cost ratio
    ``t_draft / t0``, if a draft may be one token (Leviathan, corollary 3.9).

    Args:
      setting: machines and link.
      most: longest draft.
      overlap: see `round_s`.

    Returns:
      In [0, 1]; infinity where not even drafts that all stand are enough.
    """
    shape = jnp.broadcast_shapes(*(jnp.shape(leaf) for leaf in setting))

    def halve(_, span):
        low, high = span
        middle = (low + high) / 2
        pays = best(setting, middle, most, overlap).speed_up > 1.0
        return jnp.where(pays, low, middle), jnp.where(pays, middle, high)

    span = jnp.zeros(shape), jnp.ones(shape)
    _, found = jax.lax.fori_loop(0, _HALVINGS, halve, span)
    ever = best(setting, 1.0, most, overlap).speed_up > 1.0
    return jnp.where(ever, found, jnp.inf)


def break_even_rtt_s(
    setting: Setting, acceptance: base.Array, most: int, overlap: bool = False
) -> base.Array:
    """The round trip up to which some length is faster than the cloud alone.

    Args:
      setting: machines and link; its ``rtt_s`` is not looked at.
      acceptance: a.
      most: longest draft.
      overlap: see `round_s`.

    Returns:
      Seconds; 0 or below where not even none is short enough.

    Example:
      >>> far = Setting(draft_s=0.010, verify_s=0.0286)
      >>> round(1e3 * float(break_even_rtt_s(far, 0.7, 5)), 1)
      14.0
    """
    lengths = jnp.arange(1, most + 1)
    spread = Setting(*(jnp.asarray(leaf)[..., None] for leaf in setting))
    wide = jnp.asarray(acceptance)[..., None]
    tokens = draft_lengths.expected_tokens(wide, lengths)
    budget = tokens * spread.verify_s
    drafting = lengths * spread.draft_s
    left = budget - _sent_and_verified_s(spread, lengths)
    if overlap:
        left = jnp.where(budget > drafting, left, -jnp.inf)
    else:
        left = left - drafting
    return jnp.max(left, axis=-1)


class Advice(NamedTuple):
    """Whether to speculate; see `advise`.

    Attributes:
      speculate: whether it is faster than the cloud alone.
      length: the best draft length.
      tokens_per_s: at that length.
      speed_up: over the cloud alone.
      reason: one sentence, with what it would take to change the answer.
    """

    speculate: bool
    length: int
    tokens_per_s: float
    speed_up: float
    reason: str


def advise(
    setting: Setting, acceptance: float, most: int = 8, overlap: bool = False
) -> Advice:
    """Answers "should I speculate here?" for one setting of plain numbers.

    Args:
      setting: machines and link.
      acceptance: a, as measured: `m3jax.nn.speculation.Counts.acceptance`.
      most: longest draft.
      overlap: see `round_s`.

    Raises:
      ValueError: a number makes no sense.

    Example:
      >>> far = Setting(draft_s=0.010, verify_s=0.0286, rtt_s=0.020)
      >>> found = advise(far, 0.7, most=5)
      >>> found.speculate, found.reason[:47]
      (False, 'no: drafts of 3 bring 0.92x the cloud alone; it')
    """
    setting.validate()
    checks.number("advise", "acceptance", acceptance, least=0.0, most=1.0)
    checks.number("advise", "most", most, least=1)
    found = best(setting, acceptance, most, overlap)
    length, faster = int(found.length), float(found.speed_up)
    needed = float(break_even_acceptance(setting, most, overlap))
    rtt_ms = 1e3 * float(break_even_rtt_s(setting, acceptance, most, overlap))
    brings = f"drafts of {length} bring {faster:.2f}x the cloud alone"
    if faster > 1.0:
        reason = (
            f"yes: {brings}; it pays down to acceptance {needed:.2f}, and up to a round"
            f" trip of {rtt_ms:.1f} ms"
        )
    elif rtt_ms > 0.0:
        other = f", or a round trip of {rtt_ms:.1f} ms in place of"
        other += f" {1e3 * float(setting.rtt_s):.1f} ms"
        ask = f"it takes acceptance {needed:.2f}{other}"
        if needed > 1.0:
            ask = f"even drafts that all stand are not enough{other}"
        reason = f"no: {brings}; {ask}"
    elif needed <= 1.0:
        reason = f"no: {brings}, with no round trip either; it takes acceptance"
        reason += f" {needed:.2f}"
    else:
        reason = f"no: {brings}, and even with drafts that all stand and no round trip"
        reason += " to wait for the draft is too slow or too large to send"
        alone = setting._replace(rtt_s=0.0)
        if float(break_even_acceptance(alone, most, overlap)) <= 1.0:
            reason = f"no: {brings}; it takes better drafts and a shorter round trip"
    return Advice(faster > 1.0, length, float(found.tokens_per_s), faster, reason)
