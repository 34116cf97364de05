"""Delay and energy of whole responses, drawn over prompts, lengths and fading.

A response has two phases: the prompt goes up, is read, and the first distribution comes
back; then each further token takes a step of all experts. A set of experts waits in
each phase for its slowest one (MoE2, equation 7), so a phase is what a maximum is taken
over. The links fade once a response.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.costs import inference, payload, servers
from m3jax.ops import tracing

FUSE_AT = ("user", "server")
PER = ("response", "token")
NUM_PHASES = 2


@dataclasses.dataclass
class Workload:
    """What is asked, and how distributions are sent; plain and mutable, for configs.

    Attributes:
      prompt_tokens: mean length of prompts, which are log-normal.
      prompt_spread: standard deviation of their logarithm.
      answer_tokens: mean length of answers, which are geometric, at least 1.
      top_k: words of a distribution that are sent; None: all.
      bits: of a probability.
      fuse_at: "user": every server sends its distributions to the user over the air;
        "server": to the nearest server over ``backhaul_bps``, which sends tokens on.
      backhaul_bps: bits a second between servers.
      gate_s: seconds that the gate takes for a prompt (MoE2, equation 8).
      overlap: of computing and reading, see ``inference.compute_time``.
      fading: whether links fade (Rayleigh); without, the mean SNR is the SNR.
    """

    prompt_tokens: float = 80.0
    prompt_spread: float = 0.5
    answer_tokens: float = 3.0
    top_k: int | None = None
    bits: int = 16
    fuse_at: str = "user"
    backhaul_bps: float = 1e9
    gate_s: float = 5e-3
    overlap: str = "sum"
    fading: bool = True

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        given = tracing.known(self)
        for field, least in (
            ("prompt_tokens", 1.0),
            ("answer_tokens", 1.0),
            ("prompt_spread", 0.0),
            ("backhaul_bps", 1.0),
            ("gate_s", 0.0),
        ):
            value = getattr(given, field)
            if not least <= value < math.inf:
                raise ValueError(
                    f"workload.{field} is {value!r}; give a finite number, {least:g} or"
                    " more"
                )
        for field, choices in (("fuse_at", FUSE_AT), ("overlap", inference.OVERLAPS)):
            if getattr(self, field) not in choices:
                raise ValueError(
                    f"workload.{field} is {getattr(self, field)!r}; choose one of"
                    f" {choices}"
                )
        if self.bits < 1 or (self.top_k is not None and self.top_k < 1):
            raise ValueError(
                f"workload.bits is {self.bits} and workload.top_k {self.top_k}; give 1"
                " or more"
            )


class Responses(NamedTuple):
    """K drawn responses, each as every server would give it.

    Attributes:
      delays_s: ``[K, 2, N]`` seconds of each phase; `set_delays` joins them.
      energies_j: ``[K, N]``.
      answer_tokens: ``[K]``.
    """

    delays_s: base.Array
    energies_j: base.Array
    answer_tokens: base.Array

    def per(self, what: str) -> "Responses":
        """These, or their means over a token (MoE2, equations 8 and 11).

        Args:
          what: "response" or "token".

        Raises:
          ValueError: another word.
        """
        if what not in PER:
            raise ValueError(f"a budget is per one of {PER}, not per {what!r}")
        if what == "response":
            return self
        count = self.answer_tokens
        return Responses(
            self.delays_s / count[:, None, None],
            self.energies_j / count[:, None],
            count,
        )


def draw(
    key: base.Array,
    fleet: Sequence[servers.Server],
    workload: Workload,
    num: int,
    snr_offset_db: base.Array = 0.0,
    busy: base.Array | None = None,
) -> Responses:
    """Draws responses; the same key gives the same prompts, lengths and fading.

    Args:
      key: of all that is drawn.
      fleet: N servers.
      workload: what is asked.
      num: K.
      snr_offset_db: added to the mean SNR of every link, a scalar or ``[N]``.
      busy: ``[N]``, how many times longer each server computes for other users' sake;
        None: 1.
    """
    workload.validate()
    prompt_key, answer_key, gain_key = jax.random.split(key, 3)
    spread = workload.prompt_spread
    logs = jnp.log(workload.prompt_tokens) - spread**2 / 2
    prompt = jnp.exp(logs + spread * jax.random.normal(prompt_key, (num,)))
    prompt = jnp.maximum(jnp.round(prompt), 1.0)
    answer = _geometric(answer_key, num, workload.answer_tokens)
    gains = jnp.ones((num, len(fleet)))
    if workload.fading:
        gains = jax.random.exponential(gain_key, gains.shape)
    snrs_db = jnp.array([server.snr_db for server in fleet]) + snr_offset_db
    bandwidths = jnp.array([server.bandwidth_hz for server in fleet])
    rates = servers.rate(snrs_db, gains, bandwidths)
    busy = jnp.ones(len(fleet)) if busy is None else busy
    reads, steps, up, down = [], [], [], []
    for server in fleet:
        context = prompt + answer / 2
        on = server.device, server.model
        reads.append(inference.prefill_time(*on, prompt, workload.overlap))
        steps.append(inference.decode_time(*on, context, workload.overlap))
        words = server.model.vocab_size
        up.append(payload.distribution_bits(words, workload.top_k, workload.bits))
        down.append(payload.token_bits(words))
    read_s = jnp.stack(reads, axis=1) * busy
    step_s = jnp.stack(steps, axis=1) * busy
    up, down = jnp.array(up, jnp.float32), jnp.array(down, jnp.float32)
    on_air = up / rates
    if workload.fuse_at == "server":
        # Distributions go by cable; one token comes back over the air.
        on_air = up / workload.backhaul_bps + down / rates
    told = down / rates  # the last token, to every server
    first = prompt[:, None] * told + read_s + on_air
    later = (answer[:, None] - 1.0) * (step_s + on_air + told)
    powers = jnp.array([server.device.power_w for server in fleet])
    worked = read_s + (answer[:, None] - 1.0) * step_s
    return Responses(
        jnp.stack([first + workload.gate_s, later], axis=1), powers * worked, answer
    )


def set_delays(responses: Responses, members: base.Array) -> base.Array:
    """Seconds that a set of experts takes for each response, ``[..., K]``.

    Args:
      responses: drawn ones.
      members: bool ``[..., N]``.

    Returns:
      The sum over phases of the slowest member's; 0 for the empty set.
    """
    waiting = jnp.where(members[..., None, None, :], responses.delays_s, 0.0)
    return jnp.sum(jnp.max(waiting, axis=-1), axis=-1)


def phases_as_samples(responses: Responses) -> base.Array:
    """Delays ``[2 K, N]`` whose mean maximum is the mean delay of a set.

    For the tables of ``ops.subsets``, which take one maximum for each sample.
    """
    flat = responses.delays_s.reshape(-1, responses.delays_s.shape[-1])
    return NUM_PHASES * flat


def _geometric(key: base.Array, num: int, mean: base.Array) -> base.Array:
    """Lengths of the given mean, at least 1, as floats."""
    stop = 1.0 / mean
    uniform = jax.random.uniform(key, (num,), minval=1e-7, maxval=1.0)
    going_on = jnp.where(stop < 1.0, jnp.log1p(-jnp.minimum(stop, 1 - 1e-6)), -jnp.inf)
    return 1.0 + jnp.floor(jnp.log(uniform) / going_on)
