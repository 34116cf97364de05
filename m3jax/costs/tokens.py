"""Delays token by token, where fading or the growing context changes who is slowest.

The delay of a set is then the sum over tokens of the slowest member's (MoE2, equation
7), which is more than the slowest member's sum.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.costs import checks, hops, inference, lengths, responses, servers

FADES_PER = ("token", "response")


class Tokens(NamedTuple):
    """K drawn responses of at most T tokens, as every server would give them.

    Attributes:
      delays_s: ``[K, T, N]`` seconds of each token, the gate's in the first; 0 where
        there is no token, so ``budgets.expected_max`` takes it as it is.
      valid: bool ``[K, T]``, tokens that there are.
      energies_j: ``[K, T, N]``, 0 where there is no token.
    """

    delays_s: base.Array
    valid: base.Array
    energies_j: base.Array


def draw(
    key: base.Array,
    fleet: Sequence[servers.Server] | servers.Fleet,
    workload: responses.Workload,
    num: int,
    max_tokens: int,
    fades_per: str = "token",
    snr_offset_db: base.Array = 0.0,
    busy: base.Array | None = None,
) -> Tokens:
    """Draws responses; prompts and lengths are those of ``responses.draw``.

    Args:
      key: of all that is drawn.
      fleet: N servers.
      workload: what is asked.
      num: K.
      max_tokens: T; longer answers are cut off.
      fades_per: "token": gains are fresh for each; "response": those of
        ``responses.draw`` for all tokens of one.
      snr_offset_db: as there.
      busy: as there.

    Raises:
      ValueError: a setting makes no sense.
    """
    workload.validate()
    checks.number("tokens.draw", "max_tokens", max_tokens, least=1)
    checks.choice("tokens.draw", "fades_per", fades_per, FADES_PER)
    fleet = servers.stack(fleet)
    length_key, gain_key = jax.random.split(key)
    prompt, answer, _ = lengths.draw(length_key, workload.all_applications(), num)
    drawn = num * max_tokens if fades_per == "token" else num
    gain = hops.gains(gain_key, drawn, fleet.num_servers, workload.fading)
    gain = gain.reshape(num, -1, fleet.num_servers)
    sent = responses.make_hops(fleet, workload, gain, snr_offset_db)
    place = jnp.arange(max_tokens)
    valid = place < answer[:, None]
    is_first = (place == 0)[:, None]  # [T, 1]
    prompt = prompt[:, None, None]
    busy = 1.0 if busy is None else busy
    on = fleet.device, fleet.model
    read_s = inference.prefill_time(*on, prompt, workload.overlap)
    step_s = inference.decode_time(*on, prompt + place[:, None], workload.overlap)
    worked = busy * jnp.where(is_first, read_s, step_s)
    told = jnp.where(is_first, prompt * sent.prompt_token_s, sent.told_s)
    gate_s = jnp.where(is_first, workload.gate_s, 0.0)
    delays = told + worked + sent.gathered_s + gate_s
    energies = inference.energy(fleet.device, worked)
    there = valid[..., None]
    return Tokens(jnp.where(there, delays, 0.0), valid, jnp.where(there, energies, 0.0))
