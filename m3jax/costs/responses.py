"""Delay and energy of whole responses, drawn over prompts, lengths and fading.

A response has two phases: the prompt goes up, is read, and the first distribution comes
back; then each further token takes a step of all experts. A set of experts waits for
each token for its slowest one (MoE2, equation 7). Links fade once a response and the
steps of a response count at its mean context, so that in a phase the slowest is the
same for all tokens, and a phase is what a maximum is taken over. ``costs.tokens`` draws
token by token instead.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.costs import checks, hops, inference, lengths, servers
from m3jax.ops import tracing

FUSE_AT = hops.FUSE_AT
PER = ("response", "token")
NUM_PHASES = 2


@dataclasses.dataclass
class Workload:
    """What is asked, and how distributions are sent; plain and mutable, for configs.

    Attributes:
      prompt_tokens, prompt_spread, answer_tokens, answers: of the one application,
        as in ``lengths.Application``.
      applications: several instead; those four then count nowhere.
      top_k: words of a distribution that are sent; None: all.
      bits: of a probability.
      fuse_at: "user": every server sends its distributions to the user over the air;
        "server": to the nearest server over ``backhaul_bps``, which sends tokens on.
      backhaul_bps: bits a second between servers.
      user_offset_db: SNR of what the user sends against that of what servers send.
      gate_s: seconds that the gate takes for a prompt (MoE2, equation 8).
      overlap: of computing and reading, see ``inference.compute_time``.
      fading: whether links fade (Rayleigh); without, the mean SNR is the SNR.
    """

    prompt_tokens: float = 65.0
    prompt_spread: float = 0.5
    answer_tokens: float = 3.0
    answers: str = "geometric"
    applications: tuple[lengths.Application, ...] = ()
    top_k: int | None = None
    bits: int = 16
    fuse_at: str = "user"
    backhaul_bps: float = 1e9
    user_offset_db: float = 0.0
    gate_s: float = 5e-3
    overlap: str = "sum"
    fading: bool = True

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        given = tracing.known(self)
        if self.applications:
            for number, application in enumerate(self.applications):
                application.validate(f"workload.applications[{number}]")
        else:
            self.all_applications()[0].validate("workload")
        checks.number("workload", "backhaul_bps", given.backhaul_bps)
        checks.number("workload", "gate_s", given.gate_s, least=0.0)
        checks.number("workload", "user_offset_db", given.user_offset_db, least=-1e3)
        checks.choice("workload", "fuse_at", self.fuse_at, FUSE_AT)
        checks.choice("workload", "overlap", self.overlap, inference.OVERLAPS)
        checks.number("workload", "bits", self.bits, least=1)
        if self.top_k is not None:
            checks.number("workload", "top_k", self.top_k, least=1)

    def all_applications(self) -> tuple[lengths.Application, ...]:
        """The applications, or the one that the workload's own fields describe."""
        if self.applications:
            return self.applications
        return (
            lengths.Application(
                self.prompt_tokens, self.prompt_spread, self.answer_tokens, self.answers
            ),
        )


class Responses(NamedTuple):
    """K drawn responses, each as every server would give it.

    Attributes:
      delays_s: ``[K, 2, N]`` seconds of each phase, the gate's in the first;
        `set_delays` joins them.
      energies_j: ``[K, N]``.
      answer_tokens: ``[K]``.
      application: int32 ``[K]``, which application asked.
      gate_s: scalar, the gate's part of the delay.
    """

    delays_s: base.Array
    energies_j: base.Array
    answer_tokens: base.Array
    application: base.Array
    gate_s: base.Array

    @property
    def total_s(self) -> base.Array:
        """Delay of each server alone, ``[K, N]``."""
        return jnp.sum(self.delays_s, axis=1)

    def per(self, what: str) -> "Responses":
        """These, or their means over a token (MoE2, equations 8 and 11).

            tau = 1/T sum over t of max over n of tau_n(t) + tau_gate

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
        # The gate is asked once, and equation 8 adds it to the mean undivided.
        gate = jnp.zeros(NUM_PHASES).at[0].set(self.gate_s)[:, None]
        return self._replace(
            delays_s=(self.delays_s - gate) / count[:, None, None] + gate,
            energies_j=self.energies_j / count[:, None],
        )


def draw(
    key: base.Array,
    fleet: Sequence[servers.Server] | servers.Fleet,
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

    Returns:
      The responses.

    Raises:
      ValueError: the workload makes no sense.

    Example:
      >>> drawn = draw(jax.random.key(0), servers.TABLE_I, Workload(), 100)
      >>> drawn.delays_s.shape, drawn.energies_j.shape
      ((100, 2, 8), (100, 8))
    """
    workload.validate()
    fleet = servers.stack(fleet)
    length_key, gain_key = jax.random.split(key)
    prompt, answer, which = lengths.draw(length_key, workload.all_applications(), num)
    gain = hops.gains(gain_key, num, fleet.num_servers, workload.fading)
    sent = make_hops(fleet, workload, gain, snr_offset_db)
    prompt, answer = prompt[:, None], answer[:, None]
    busy = 1.0 if busy is None else busy
    on = fleet.device, fleet.model
    # The mean context of the second to the last token.
    context = prompt + answer / 2
    read_s = busy * inference.prefill_time(*on, prompt, workload.overlap)
    step_s = busy * inference.decode_time(*on, context, workload.overlap)
    first = prompt * sent.prompt_token_s + read_s + sent.gathered_s
    later = (answer - 1.0) * (sent.told_s + step_s + sent.gathered_s)
    worked = read_s + (answer - 1.0) * step_s
    gate_s = jnp.asarray(workload.gate_s, jnp.float32)
    delays = jnp.stack([first + gate_s, later], axis=1)
    energies = inference.energy(fleet.device, worked)
    return Responses(delays, energies, answer[:, 0], which, gate_s)


def make_hops(
    fleet: servers.Fleet,
    workload: Workload,
    gain: base.Array,
    snr_offset_db: base.Array = 0.0,
) -> hops.Hops:
    """The hops of a workload, see ``hops.make``."""
    return hops.make(
        fleet,
        gain,
        top_k=workload.top_k,
        bits=workload.bits,
        fuse_at=workload.fuse_at,
        backhaul_bps=workload.backhaul_bps,
        snr_offset_db=snr_offset_db,
        user_offset_db=workload.user_offset_db,
    )


def set_delays(responses: Responses, members: base.Array) -> base.Array:
    """Seconds that a set of experts takes for each response, ``[..., K]``.

    Args:
      responses: drawn ones.
      members: bool ``[..., N]``.

    Returns:
      The sum over phases of the slowest member's; 0 for the empty set.
    """
    members = jnp.asarray(members)
    waiting = jnp.where(members[..., None, None, :], responses.delays_s, 0.0)
    return jnp.sum(jnp.max(waiting, axis=-1), axis=-1)


def phases_as_samples(
    responses: Responses, num_applications: int | None = None
) -> base.Array:
    """Delays whose mean maximum is the mean delay of a set.

    For ``ops.subsets`` and what else takes one maximum for each sample.

    Args:
      responses: drawn ones.
      num_applications: M, for means over each application's own responses; None: over
        all.

    Returns:
      ``[2 K, N]``, or ``[M, 2 K, N]``: the others' responses are zeros there, and its
      own are scaled so that the mean over 2 K is theirs.
    """
    flat = responses.delays_s.reshape(-1, responses.delays_s.shape[-1])
    if num_applications is None:
        return NUM_PHASES * flat
    own = responses.application == jnp.arange(num_applications)[:, None]
    shares = own / jnp.maximum(jnp.mean(own, axis=1, keepdims=True), 1e-9)
    return NUM_PHASES * jnp.repeat(shares, NUM_PHASES, axis=1)[..., None] * flat
