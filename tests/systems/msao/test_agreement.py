"""One reading of an answer tells what decoding it by speculation takes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.costs import speculative_rounds
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import generation, speculation
from m3jax.nn.speculation import policies
from m3jax.systems.msao import agreement

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = decoder_lib.DecoderConfig(
    vocab_size=9, dim=16, depth=2, num_heads=2, num_kv_heads=1, ff_dim=24
)
BATCH, LENGTH, NUM_TOKENS = 32, 4, 14

run = jax.jit(
    speculation.speculate, static_argnums=(2, 3), static_argnames=("eos", "vocab_size")
)


@pytest.fixture(scope="module")
def target(random_params):
    decoder = decoder_lib.Decoder(CONFIG)
    rng = np.random.default_rng(0)
    embeds = 3 * rng.normal(size=(BATCH, LENGTH, CONFIG.dim)).astype(np.float32)
    mask = rng.random((BATCH, LENGTH)) < 0.7
    params = random_params(decoder, embeds, mask, gain=2.0)["params"]
    return speculation.Party(params, embeds, mask, decoder)


@pytest.fixture(scope="module")
def draft(target):
    """The target with noise on its weights, and a prefix that it sees less sharply."""
    rng = np.random.default_rng(1)
    noisy = jax.tree.map(
        lambda leaf: leaf + 0.05 * rng.normal(size=leaf.shape).astype(np.float32),
        target.params,
    )
    seen = np.pad(0.9 * target.embeds, ((0, 0), (1, 0), (0, 0)))
    mask = np.pad(target.mask, ((0, 0), (1, 0)))
    return target.replace(params=noisy, embeds=seen, mask=mask)


def alone(target, eos):
    say = jax.jit(generation.generate, static_argnums=(0, 4), static_argnames="eos")
    return say(
        *(target.decoder, target.params, target.embeds, target.mask),
        *(NUM_TOKENS,),
        eos=eos,
    )


def measured(target, draft, eos=2):
    words = alone(target, eos)
    read = jax.jit(agreement.measure, static_argnames="eos")
    return words, jax.tree.map(np.asarray, read(target, draft, words, eos=eos))


def totals(rounds):
    """What `speculation.Counts` counts, of rounds."""
    fell = rounds.valid & (rounds.accepted < rounds.drafted)
    unsure = rounds.valid & (rounds.steps > rounds.drafted)
    found = {
        "drafted": np.where(rounds.valid, rounds.drafted, 0),
        "accepted": rounds.accepted,
        "rejected": fell,
        "calls": rounds.valid,
        "deferred": unsure & ~fell,
        "emitted": rounds.emitted(),
    }
    return {name: values.sum(axis=1) for name, values in found.items()}


def check_same(rounds, counts, exact):
    """All but what nobody judged; where `exact`, that too."""
    found = totals(rounds)
    for name in set(found) - {"drafted"}:
        np.testing.assert_array_equal(found[name], getattr(counts, name), name)
    drafted = np.asarray(counts.drafted)
    np.testing.assert_array_equal(found["drafted"][exact], drafted[exact])


@jax.jit
def law_after(draft, words, place):
    """The draft's law of the word at a place: it sees none at or after it."""
    said = jnp.pad(words[:, :-1], ((0, 0), (1, 0)), constant_values=1)
    seen = jnp.broadcast_to(jnp.arange(NUM_TOKENS) <= place, said.shape)
    variables = {"params": draft.params}
    embeds = draft.decoder.apply(variables, said, method="embed")
    hidden, _ = draft.decoder.apply(
        variables,
        jnp.concatenate([draft.embeds, embeds], axis=1),
        jnp.concatenate([draft.mask, seen], axis=1),
    )
    own = hidden[:, draft.mask.shape[1] + place]
    return jax.nn.softmax(draft.decoder.apply(variables, own, method="logits"))


def test_what_is_read_is_what_the_draft_would_say(target, draft):
    words, found = measured(target, draft)
    laws = [law_after(draft, words, place) for place in range(NUM_TOKENS)]
    law = np.stack(laws, axis=1).astype(float)
    by_hand = law.argmax(axis=2) == words
    entropy = -(law * np.log(law)).sum(axis=2) / np.log(CONFIG.vocab_size)
    np.testing.assert_array_equal(found.agrees, by_hand & found.valid)
    np.testing.assert_allclose(found.entropy, entropy * found.valid, atol=1e-5)
    ended = np.asarray(words == 2)
    lengths = np.where(ended.any(1), ended.argmax(1) + 1, NUM_TOKENS)
    np.testing.assert_array_equal(found.valid.sum(axis=1), lengths)
    assert 0.3 < found.agrees[found.valid].mean() < 0.95  # neither always nor never
    assert 4 < ended.any(axis=1).sum() < BATCH


@pytest.mark.parametrize("eos", [2, -1])
@pytest.mark.parametrize("gamma", [1, pytest.param(4, marks=pytest.mark.slow), 5])
def test_fixed_drafts_take_the_rounds_that_were_told(target, draft, gamma, eos):
    words, (agrees, entropy, valid) = measured(target, draft, eos)
    rounds = speculative_rounds.of_agreement(agrees, entropy, valid, draft_length=gamma)
    found = run(target, draft, NUM_TOKENS, policies.fixed(gamma), eos=eos)
    np.testing.assert_array_equal(found.words, words)
    # Only a draft that fell may end early, by a word that nobody judged.
    exact = np.asarray(found.counts.rejected == 0) | (eos == -1)
    check_same(rounds, found.counts, exact)
    assert (totals(rounds)["drafted"] >= found.counts.drafted).all()
    assert 2 < exact.sum()


@pytest.mark.parametrize("percentile", [30, pytest.param(70, marks=pytest.mark.slow)])
def test_a_fixed_threshold_takes_the_rounds_that_were_told(target, draft, percentile):
    _, (agrees, entropy, valid) = measured(target, draft)
    threshold = float(np.percentile(entropy[valid], percentile)) + 1e-4
    assert np.abs(entropy[valid] - threshold).min() > 1e-5  # no float decides
    policy = policies.confidence_stopped(
        threshold, max_draft=4, rate=0.0, least=0.0, most=1.0
    )
    found = run(target, draft, NUM_TOKENS, policy)
    rounds = speculative_rounds.of_agreement(
        agrees, entropy, valid, draft_length=4, threshold=threshold
    )
    exact = np.asarray(found.counts.rejected == 0)
    check_same(rounds, found.counts, exact)
    assert 2 < exact.sum() and found.counts.deferred.sum() > 10


def test_padded_vocabularies_are_read_by_their_common_words(target, draft):
    rows = draft.vocab_size + 5
    table = np.pad(draft.params["embedder"]["embedding"], ((0, 5), (0, 0)))
    table[-5:] = 100.0  # words that would always win
    config = dataclasses.replace(draft.decoder.config, vocab_size=rows)
    wide = draft.replace(
        params={**draft.params, "embedder": {"embedding": table}},
        decoder=decoder_lib.Decoder(config),
    )
    words, expected = measured(target, draft)
    found = agreement.measure(target, wide, words, vocab_size=9)
    np.testing.assert_array_equal(found.agrees, expected.agrees)
    np.testing.assert_allclose(found.entropy, expected.entropy, atol=1e-5)
    with pytest.raises(ValueError, match="vocabularies differ"):
        agreement.measure(target, wide, words)


def test_words_of_another_batch_are_refused(target, draft):
    with pytest.raises(ValueError, match="words of the same batch"):
        agreement.measure(target, draft, jnp.zeros((BATCH - 1, 3), jnp.int32))
