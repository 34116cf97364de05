"""Fusion: by tokens as a mixture that decodes from caches, by answers as a vote."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.foundation import sizes
from m3jax.nn import lora
from m3jax.systems.moe2 import baselines, fusion, gate, pool

LENGTH = 5


@pytest.fixture(scope="module")
def experts():
    small = sizes.DecoderSizes(vocab_size=11, dim=16, depth=1, ff_dim=16)
    config = pool.Config(
        small=small,
        large=dataclasses.replace(small, dim=24, depth=2),
        placement=("large", "small", "small"),
        lora=lora.LoraConfig(rank=2, pattern=pool.KERNELS),
    )
    made = pool.Pool(config)
    params = jax.jit(made.init)(jax.random.key(0))
    # Fresh adapters change nothing; these do, and sharpen what the bases say.
    noise = jax.random.split(jax.random.key(1), len(jax.tree.leaves(params)))
    leaves, tree = jax.tree.flatten(params)
    leaves = [
        leaf + 0.3 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, noise, strict=True)
    ]
    params = jax.tree.unflatten(tree, leaves)
    for size in made.sizes:  # PAD is no word, but untrained networks say it
        head = params[size]["head"]
        head["kernel"] = head["kernel"].at[:, 0].set(0.0)
    return made, params


@pytest.fixture(scope="module")
def generate(experts):
    """``generate(scores, question, members, alive)``, in one program for all tests."""
    made, params = experts

    @jax.jit
    def run(params, scores, question, members, alive):
        return fusion.generate(
            made, params, scores, question, LENGTH, members=members, alive=alive
        )

    def call(scores, question, members=(True,) * 3, alive=None):
        alive = np.ones((LENGTH, 3), bool) if alive is None else alive
        return run(params, scores, question, np.array(members), alive)

    return call


@pytest.fixture(scope="module")
def question():
    asked = jax.random.randint(jax.random.key(2), (6, 4), 3, 11)
    return asked.at[:3, 3].set(0)


def greedy_from_scratch(made, params, scores, question, members):
    """Decodes the mixture word by word, reading everything again each time."""
    weights = gate.log_weights(scores, members)
    words = np.zeros((len(question), LENGTH), np.int32)
    speak = jax.jit(made.log_probs)
    for t in range(LENGTH):
        said = speak(params, question, jnp.asarray(words))
        fused = fusion.mixture(weights, said)
        words[:, t] = np.asarray(jnp.argmax(fused[:, t], axis=-1))
    ended = np.cumsum(words == 2, axis=1) - (words == 2) > 0
    return np.where(ended, 0, words)


def test_decoding_with_caches_is_decoding_from_scratch(experts, generate, question):
    made, params = experts
    scores = jax.random.normal(jax.random.key(3), (6, 3))
    members = np.array([True, True, False])
    found = generate(scores, question, members)
    expected = greedy_from_scratch(made, params, scores, question, members)
    np.testing.assert_array_equal(found.tokens, expected)
    assert not np.any(found.lost)


@pytest.mark.parametrize("number", [0, 2])
def test_one_expert_fused_says_what_it_says_alone(experts, generate, question, number):
    made, params = experts
    found = generate(jnp.zeros((6, 3)), question, np.arange(3) == number)
    decoder = made.decoders[made.config.placement[number]]
    one = made.expert(params, number)
    alone = jax.jit(lambda one: baselines.alone(decoder, one, question, LENGTH))(one)
    np.testing.assert_array_equal(found.tokens, alone)


def test_an_expert_that_dies_is_left_out_from_then_on_and_recorded(generate, question):
    scores = jnp.array([[3.0, 0.0, -1.0]] * 6)
    alive = np.ones((LENGTH, 3), bool)
    alive[2:, 0] = False
    alive[3, 0] = True  # it answers again, too late
    found = generate(scores, question, alive=alive)
    whole = generate(scores, question)
    np.testing.assert_array_equal(found.tokens[:, :2], whole.tokens[:, :2])
    assert np.argwhere(found.lost).tolist() == [[2, 0]]
    speaking = np.asarray(found.members)
    assert not speaking[2:, :, 0].any()
    assert speaking[:2, :, 0][np.asarray(whole.tokens[:, :2].T) != 0].all()


def test_dead_from_the_start_is_not_being_a_member(generate, question):
    scores = jax.random.normal(jax.random.key(4), (6, 3))
    alive = np.tile([True, False, True], (LENGTH, 1))
    dead = generate(scores, question, alive=alive)
    apart = generate(scores, question, (True, False, True))
    np.testing.assert_array_equal(dead.tokens, apart.tokens)


def test_if_nobody_is_left_the_last_ones_go_on(generate, question):
    scores = jnp.zeros((6, 3))
    alive = np.ones((LENGTH, 3), bool)
    alive[1:, 1:] = False
    alive[2:, 0] = False
    found = generate(scores, question, alive=alive)
    assert not np.any(np.isnan(found.tokens))
    going = np.asarray(found.members)[3:].any(axis=(0, 1))
    assert going.tolist() in ([True, False, False], [False] * 3)


def test_sampling_follows_the_mixture(experts, question):
    made, params = experts
    asked = jnp.repeat(question[:1], 4_000, axis=0)
    scores = jnp.tile(jnp.array([[0.5, 0.0, 1.0]]), (4_000, 1))
    found = jax.jit(
        lambda p: fusion.generate(made, p, scores, asked, 1, key=jax.random.key(5))
    )(params)
    said = made.log_probs(params, question[:1], jnp.zeros((1, 1), jnp.int32))
    law = jnp.exp(fusion.mixture(gate.log_weights(scores[:1], np.ones(3, bool)), said))
    law = np.asarray(law[0, 0], np.float64)
    counts = np.bincount(np.asarray(found.tokens[:, 0]), minlength=11)
    assert stats.chisquare(counts, 4_000 * law / law.sum()).pvalue > 1e-4


def test_mixture_is_the_weighted_mean_of_distributions():
    log_probs = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (2, 3, 4, 5)))
    weights = jax.nn.softmax(jax.random.normal(jax.random.key(1), (2, 3)))
    found = jnp.exp(fusion.mixture(jnp.log(weights), log_probs))
    expected = np.einsum("bn,bnav->bav", weights, np.exp(log_probs))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_majority_of_independent_experts_is_the_binomial_tail():
    num, chance, count = 5, 0.6, 20_000
    right = jax.random.bernoulli(jax.random.key(0), chance, (count, num))
    answers = jnp.where(right, 1, 3)[..., None].astype(jnp.int32)
    truth = jnp.ones((count, 1), jnp.int32)
    won = baselines.vote_is_right(answers, truth, jnp.ones(num), jnp.ones(num, bool))
    tail = stats.binom.sf(num // 2, num, chance)
    assert abs(float(won.mean()) - tail) < 4 * np.sqrt(tail * (1 - tail) / count)


def test_ties_go_to_the_answer_whose_first_supporter_comes_first():
    answers = jnp.array([[7], [5], [5], [7]])
    assert int(fusion.vote(answers, jnp.ones(4))) == 0
    members = jnp.array([False, True, True, True])
    assert answers[int(fusion.vote(answers, jnp.ones(4), members)), 0] == 5
    heavy = jnp.array([0.1, 0.1, 0.1, 0.3])
    assert answers[int(fusion.vote(answers, heavy)), 0] == 7


def test_nobody_outside_of_the_subset_votes():
    answers = jnp.array([[7], [7], [5]])
    members = jnp.array([False, False, True])
    assert int(fusion.vote(answers, jnp.ones(3), members)) == 2


def test_mixed_vocabularies_are_refused_by_name():
    words = {"qwen": ("a", "b"), "llama": ("a", "c", "d")}
    with pytest.raises(ValueError, match=r"'qwen' .*'llama'.*fusion.vote"):
        fusion.check_vocabularies(words)
    fusion.check_vocabularies({"one": ("a", "b"), "two": ("a", "b")})
