"""What MoE2 is compared with: votes, uniform mixtures, one expert, and bounds.

All take the same experts and the same examples. ``right`` says which expert answers
what correctly, ``answers`` what each says when it is asked alone.
"""

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.foundation import answering
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import generation
from m3jax.systems.moe2 import fusion
from m3jax.systems.moe2 import pool as pool_lib


def own_answers(
    pool: pool_lib.Pool, params: base.Params, question: base.Array, num_tokens: int
) -> base.Array:
    """What every expert answers when it is asked alone: int32 ``[B, N, T]``."""
    said = []
    for number in range(pool.config.num_experts):
        decoder = pool.decoders[pool.config.placement[number]]
        said.append(alone(decoder, pool.expert(params, number), question, num_tokens))
    return jnp.stack(said, axis=1)


def alone(
    decoder: decoder_lib.Decoder,
    params: base.Params,
    question: base.Array,
    num_tokens: int,
) -> base.Array:
    """What one language model answers, int32 ``[B, T]``."""
    embeds = decoder.apply({"params": params}, question, method="embed")
    return generation.generate(
        decoder,
        params,
        embeds,
        question != answering.PAD,
        num_tokens,
        bos=answering.BOS,
        eos=answering.EOS,
        pad=answering.PAD,
    )


def is_right(answers: base.Array, answer: base.Array) -> base.Array:
    """Which answers ``[..., T]`` are ``answer [..., T]`` word for word; bool."""
    return jnp.all(answers == answer, axis=-1)


@jax.jit
def vote_is_right(
    answers: base.Array,
    answer: base.Array,
    weights: base.Array,
    members: base.Array,
) -> base.Array:
    """Whether the vote of a subset is right, for each example.

    Args:
      answers: int32 ``[B, N, T]``.
      answer: int32 ``[B, T]``.
      weights: float ``[N]``, of the votes; equal ones for majority voting.
      members: bool ``[N]`` or ``[B, N]``.

    Returns:
      bool ``[B]``.
    """
    members = jnp.broadcast_to(members, answers.shape[:2])
    winner = jax.vmap(fusion.vote, (0, None, 0))(answers, weights, members)
    told = jnp.take_along_axis(answers, winner[:, None, None], axis=1)[:, 0]
    return is_right(told, answer)


def log_odds(accuracy: np.ndarray) -> np.ndarray:
    """Weights of votes by accuracy: ``log(p / (1 - p))``, at least 0.

    For two answers and independent experts no other weights do better (Nitzan and
    Paroush 1982).
    """
    clipped = np.clip(np.asarray(accuracy, np.float64), 0.01, 0.99)
    return np.maximum(np.log(clipped / (1 - clipped)), 0.0)


def best_single(right: np.ndarray) -> int:
    """The expert of the highest accuracy over ``right [M, N]``, such as validation."""
    return int(np.argmax(np.mean(right, axis=0)))


def best_of_groups(right: np.ndarray, groups: np.ndarray, num: int) -> np.ndarray:
    """The best expert of each group of prompts, int ``[G]``.

    Args:
      right: bool ``[M, N]``.
      groups: int ``[M]``, below ``num``, such as clusters.
      num: G. A group without examples gets the expert that is best overall.
    """
    overall = best_single(right)
    return np.array(
        [best_single(right[groups == g]) if np.any(groups == g) else overall
         for g in range(num)]
    )  # fmt: skip
