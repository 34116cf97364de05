"""Greedy generation equals the definition: argmax of a full pass, word by word."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import decoder as decoder_lib
from m3jax.nn import generation

CONFIG = decoder_lib.DecoderConfig(
    vocab_size=7, dim=16, depth=2, num_heads=2, num_kv_heads=1, ff_dim=24
)
BOS, EOS, PAD, NUM_TOKENS, LENGTH = 1, 2, 0, 8, 4


@pytest.fixture(scope="module")
def case(random_params):
    """A random model of many moods, so that answers vary and some of them end."""
    decoder = decoder_lib.Decoder(CONFIG)
    rng = np.random.default_rng(0)
    embeds = 3 * rng.normal(size=(12, LENGTH, 16)).astype(np.float32)
    mask = rng.random((12, LENGTH)) < 0.7
    mask[0] = False
    params = random_params(decoder, embeds, mask, gain=2.0)["params"]
    return decoder, params, embeds, mask


@functools.partial(jax.jit, static_argnums=(0, 4))
def _generate(decoder, params, embeds, mask, num_tokens=NUM_TOKENS):
    return generation.generate(
        decoder, params, embeds, mask, num_tokens, bos=BOS, eos=EOS, pad=PAD
    )


@pytest.fixture(scope="module")
def answers(case):
    return np.asarray(_generate(*case))


def _by_definition(decoder, params, embeds, mask):
    """Rereads the whole sequence for each word, in a buffer masked beyond it."""
    variables = {"params": params}

    @jax.jit
    def next_word(words, step):
        told = decoder.apply(variables, words, method="embed")
        seen = jnp.broadcast_to(jnp.arange(words.shape[1]) <= step, words.shape)
        hidden, _ = decoder.apply(
            variables,
            jnp.concatenate([embeds, told], axis=1),
            jnp.concatenate([mask, seen], axis=1),
        )
        last = hidden[:, LENGTH + step]
        return jnp.argmax(decoder.apply(variables, last, method="logits"), axis=-1)

    words = np.zeros((len(embeds), NUM_TOKENS + 1), np.int32)
    words[:, 0] = BOS
    done = np.zeros(len(embeds), bool)
    for step in range(NUM_TOKENS):
        words[:, step + 1] = np.where(done, PAD, next_word(words, step))
        done |= words[:, step + 1] == EOS
    return words[:, 1:]


def test_equals_the_argmax_of_repeated_full_passes(case, answers):
    np.testing.assert_array_equal(answers, _by_definition(*case))
    assert len(np.unique(answers, axis=0)) > 3


def test_after_the_end_comes_padding_only(answers):
    ended = [row.tolist() for row in answers if EOS in row[:-1]]
    assert ended
    assert len(ended) < len(answers)
    for row in ended:
        after = row[row.index(EOS) + 1 :]
        assert after == [PAD] * len(after)


def test_a_longer_answer_starts_with_the_shorter_one(case, answers):
    np.testing.assert_array_equal(_generate(*case, 1), answers[:, :1])


def test_an_answer_does_not_depend_on_its_neighbours(case, answers):
    decoder, params, embeds, mask = case
    turned = _generate(decoder, params, embeds[::-1], mask[::-1])
    np.testing.assert_array_equal(turned, answers[::-1])


def test_no_words_is_an_error(case):
    with pytest.raises(ValueError, match="num_tokens must be at least 1"):
        _generate(*case, 0)
