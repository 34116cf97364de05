"""What a request takes on average that edge and cloud share, in closed form; JAX.

A plan says how much of each modality is kept, how far it is compressed, whether it goes
to the cloud, from which confidence on tokens are drafted, and how many. The mean of
``speculative_batch.run`` over ``speculative_rounds.draw_rounds``, but for the last
round, which is cut; over a link that is as it is now. Arrays have any one shape, those
of modalities with M before it.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.costs import devices, inference, payload, vision_language

MAX_DRAFT = 16
"""Draft lengths go up to this."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Machines:
    """Who drafts, and who verifies; a pytree.

    Attributes:
      edge: a device.
      draft: what it runs.
      cloud: a device.
      target: what that runs.
    """

    edge: devices.Device = devices.RTX_3090
    draft: vision_language.VisionLanguageModel = vision_language.QWEN2_VL_2B
    cloud: devices.Device = devices.A100_40GB
    target: vision_language.VisionLanguageModel = vision_language.QWEN2_5_VL_7B


class Request(NamedTuple):
    """What is asked.

    Attributes:
      tokens: ``[M, ...]`` that each modality is; 0: it is not there.
      bits: ``[M, ...]`` of each as it is sent uncompressed.
      text: tokens of the question, which always goes to both.
      answer: tokens of the answer.
    """

    tokens: base.Array
    bits: base.Array
    text: base.Array
    answer: base.Array


class Plan(NamedTuple):
    """What is decided.

    Attributes:
      retention: ``[M, ...]`` in [0, 1], beta: share of the tokens that are kept, on
        both sides, and of the bits.
      compression: ``[M, ...]`` in [0, 1), rho: share of the bits that is saved.
      sent: ``[M, ...]``, 1 where the cloud gets a modality, 0 where only the edge does.
      draft_length: gamma, 0 to `MAX_DRAFT`, whole numbers.
    """

    retention: base.Array
    compression: base.Array
    sent: base.Array
    draft_length: base.Array


class Conditions(NamedTuple):
    """How things stand.

    Attributes:
      up_bits_per_s: from the edge.
      down_bits_per_s: to it.
      rtt_s: round-trip time, without the sending itself.
      edge_load: at least 1, by which everything takes longer on the edge.
      cloud_load: and in the cloud.
      confident: probability that a token may be drafted.
      acceptance: alpha, that a drafted one stands.
    """

    up_bits_per_s: base.Array
    down_bits_per_s: base.Array
    rtt_s: base.Array
    edge_load: base.Array
    cloud_load: base.Array
    confident: base.Array
    acceptance: base.Array


class Expected(NamedTuple):
    """Means.

    Attributes:
      upload_s: until the cloud has the prompt.
      prefill_s: from then until both have read it.
      decode_s: from then until the last token is there.
      send_s: ``[M, ...]``, T_comm of each modality, equation 8; 0 if it isn't sent.
      edge_bytes: weights and cache.
      cloud_bytes: weights and cache.
      tokens_per_round: of the answer.
      round_s: seconds of a round.
    """

    upload_s: base.Array
    prefill_s: base.Array
    decode_s: base.Array
    send_s: base.Array
    edge_bytes: base.Array
    cloud_bytes: base.Array
    tokens_per_round: base.Array
    round_s: base.Array

    @property
    def total_s(self) -> base.Array:
        """From the question to the last token."""
        return self.upload_s + self.prefill_s + self.decode_s


def expected(
    machines: Machines,
    request: Request,
    plan: Plan,
    now: Conditions,
    pipelined: bool = False,
    probability_bits: base.Array = 0,
) -> Expected:
    """What a request takes.

    Args:
      machines: edge and cloud.
      request: what is asked.
      plan: what is decided.
      now: how things stand.
      pipelined: the edge drafts the next round while one is away.
      probability_bits: sent with each drafted token beside its id.

    Example:
      >>> one = jnp.ones((1,))
      >>> asked = Request(324 * one, 2e6 * one, 40.0, 64.0)
      >>> plan = Plan(one, 0 * one, one, 5.0)
      >>> now = Conditions(3e8, 3e8, 0.02, 1.0, 1.0, 0.9, 0.8)
      >>> round(float(expected(Machines(), asked, plan, now).total_s), 2)
      1.46
    """
    edge, cloud = machines.edge, machines.cloud
    language = machines.target.language
    kept = plan.retention * request.tokens
    seen, sent = jnp.sum(kept, axis=0), jnp.sum(kept * plan.sent, axis=0)
    bits = plan.sent * plan.retention * (1.0 - plan.compression) * request.bits
    token_bits = payload.token_bits(language.vocab_size)
    some = plan.sent * (request.tokens > 0)
    send_s = bits / now.up_bits_per_s + some * now.rtt_s
    upload_bits = jnp.sum(bits, axis=0) + request.text * token_bits
    upload_s = upload_bits / now.up_bits_per_s + 0.5 * now.rtt_s
    edge_prefill_s = now.edge_load * vision_language.prefill_time(
        edge, machines.draft, request.text, seen
    )
    cloud_prefill_s = now.cloud_load * vision_language.prefill_time(
        cloud, machines.target, request.text, sent
    )
    started = jnp.maximum(edge_prefill_s, upload_s + cloud_prefill_s + 0.5 * now.rtt_s)
    context = request.text + sent
    draft_s = now.edge_load * inference.decode_time(
        edge, machines.draft.language, request.text + seen
    )
    verify_s = now.cloud_load * inference.decode_time(cloud, language, context)
    verify_token_s = (
        now.cloud_load * language.decode_flops(context) / cloud.usable_flops_per_s
    )
    count_bits = payload.token_bits(MAX_DRAFT + 1)
    told_s = (token_bits + count_bits) / now.down_bits_per_s
    fixed_s = now.rtt_s + verify_s + count_bits / now.up_bits_per_s + told_s
    up_s = (token_bits + probability_bits) / now.up_bits_per_s
    per_round, round_s = _round(
        plan.draft_length,
        now.confident,
        now.acceptance,
        draft_s,
        fixed_s,
        verify_token_s + up_s,
        pipelined,
    )
    return Expected(
        upload_s=upload_s,
        prefill_s=started - upload_s,
        decode_s=request.answer / per_round * round_s,
        send_s=send_s,
        edge_bytes=machines.draft.memory_bytes(request.text + seen + request.answer),
        cloud_bytes=machines.target.memory_bytes(context + request.answer),
        tokens_per_round=per_round,
        round_s=round_s,
    )


def _round(length, confident, acceptance, draft_s, fixed_s, token_s, pipelined):
    """Mean tokens and seconds of a round; see ``speculative_rounds`` for the law.

    A place is reached by the draft if all before it were confident, and stands if all
    up to it are accepted too. Sums of powers, so that probabilities of 1 are no limit.
    """
    both = confident * acceptance
    reached, stood = jnp.ones_like(both), jnp.ones_like(both)
    steps = drafted = saved = 0.0 * both
    tokens = jnp.ones_like(both)
    whole_trip = fixed_s + length * token_s
    for place in range(1, MAX_DRAFT + 1):
        there = place <= length
        steps = steps + there * reached
        ended = jnp.where(place == length, reached, reached * (1.0 - confident))
        # A pass of the draft model more, which did not come to a token, is a step too.
        saved = saved + there * ended * jnp.minimum(whole_trip, place * draft_s)
        reached = jnp.where(there, reached * confident, reached)
        stood = jnp.where(there, stood * both, stood)
        drafted = drafted + there * reached
        tokens = tokens + there * stood
    seconds = steps * draft_s + fixed_s + drafted * token_s
    if not pipelined:
        return tokens, seconds
    full = jnp.where(length > 0, stood, 0.0)
    return tokens - full, seconds - full * saved
