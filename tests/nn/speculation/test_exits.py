"""An exit learns to say what the whole decoder says, and changes nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from m3jax.nn import decoder as decoder_lib
from m3jax.nn import speculation
from m3jax.nn.speculation import exits

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = decoder_lib.DecoderConfig(
    vocab_size=9, dim=16, depth=3, num_heads=2, num_kv_heads=1, ff_dim=24
)
BATCH, LENGTH, NUM_TOKENS = 16, 3, 6

loss_of = jax.jit(exits.loss, static_argnums=2)


@jax.jit
def scores_of(party, words, valid):
    return party.logits(party.read_answer(words, valid), CONFIG.vocab_size)


@pytest.fixture(scope="module")
def case(random_params):
    """A decoder with a prefix, and answers of unequal lengths."""
    rng = np.random.default_rng(0)
    decoder = decoder_lib.Decoder(CONFIG)
    embeds = rng.normal(size=(BATCH, LENGTH, CONFIG.dim)).astype(np.float32)
    mask = rng.random((BATCH, LENGTH)) < 0.7
    params = random_params(decoder, embeds, mask, gain=1.5)["params"]
    words = rng.integers(3, 9, size=(BATCH, NUM_TOKENS)).astype(np.int32)
    valid = np.arange(NUM_TOKENS) < rng.integers(1, NUM_TOKENS + 1, size=(BATCH, 1))
    return speculation.Party(params, embeds, mask, decoder), words, valid


def test_the_loss_is_the_mean_divergence_of_the_laws(case):
    target, words, valid = case
    own = speculation.init_exit(target.params, own_head=True)
    draft = exits.at_exit(target, 1, own)
    laws = [
        np.asarray(jax.nn.softmax(scores_of(party, words, valid)), float)
        for party in (target, draft)
    ]
    nats = (laws[0] * np.log(laws[0] / laws[1])).sum(axis=2)
    alike = laws[0].argmax(axis=2) == laws[1].argmax(axis=2)
    loss, metrics = loss_of(own, target, 1, words, valid)
    np.testing.assert_allclose(loss, nats[valid].mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["agreement"], alike[valid].mean(), rtol=1e-6)
    assert loss > 0.1 and 0 < alike[valid].mean() < 1


def test_an_answer_is_read_as_it_is_decoded(case):
    """One pass gives the scores that a cache gives word by word."""
    target, words, valid = case
    scores = scores_of(target, words, valid)
    cache = jax.jit(target.start, static_argnums=0)(NUM_TOKENS)
    said = np.pad(words[:, :-1], ((0, 0), (1, 0)), constant_values=1)

    @jax.jit
    def read(words, cache):
        hidden, cache = target.read(words, jnp.ones(words.shape, bool), cache)
        return target.logits(hidden[:, 0], 9), cache

    for place in range(NUM_TOKENS):
        found, cache = read(said[:, place : place + 1], cache)
        there = valid[:, place]
        np.testing.assert_allclose(found[there], scores[there, place], atol=1e-4)


def test_training_brings_the_exit_near_the_whole_and_touches_it_alone(case):
    target, words, valid = case
    optimizer = optax.adam(3e-2)

    def step(carry, _):
        own, state = carry
        grads, metrics = jax.grad(exits.loss, has_aux=True)(
            own, target, 1, words, valid
        )
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(own, updates), state), metrics["agreement"]

    own = speculation.init_exit(target.params, own_head=True)
    train = jax.jit(lambda carry: jax.lax.scan(step, carry, length=150))
    (trained, _), agreement = train((own, optimizer.init(own)))
    before, _ = loss_of(own, target, 1, words, valid)
    after, _ = loss_of(trained, target, 1, words, valid)
    assert after < 0.6 * before
    assert agreement[-1] > agreement[0] + 0.1
    draft = exits.at_exit(target, 1, trained)
    assert set(trained) == {"final_norm", "head"}
    for name in set(target.params) - set(trained) - {"layers"}:
        assert draft.params[name] is target.params[name]
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, b[:1]),
        draft.params["layers"],
        target.params["layers"],
    )


def test_where_no_word_counts_nothing_is_lost(case):
    target, words, valid = case
    own = speculation.init_exit(target.params)
    grad = jax.jit(jax.value_and_grad(exits.loss, has_aux=True), static_argnums=2)
    (value, _), grads = grad(own, target, 1, words, np.zeros_like(valid))
    assert float(value) == 0.0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))
