"""Whole decoding: greedy words are the target's own, sampled ones have its law."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.nn import decoder as decoder_lib
from m3jax.nn import generation, speculation
from m3jax.nn.speculation import caches, policies, protocols

CONFIG = decoder_lib.DecoderConfig(
    vocab_size=7, dim=16, depth=3, num_heads=2, num_kv_heads=1, ff_dim=24
)
SMALL = dataclasses.replace(CONFIG, dim=8, depth=1, ff_dim=12)
NUM_TOKENS, LENGTH, BATCH = 12, 4, 12
ROUND_S = np.array([0.03, 0.04, 0.05])
POLICIES = {
    "fixed 1": policies.fixed(1),
    "fixed 3": policies.fixed(3),
    "paper": policies.paper(0.9, confidence=0.6, max_draft=4),
    "throughput": policies.throughput_optimal(ROUND_S),
    "confidence": policies.confidence_stopped(0.8, max_draft=3),
}


def party(config, random_params, length=LENGTH, seed=0, gain=2.0):
    decoder = decoder_lib.Decoder(config)
    rng = np.random.default_rng(seed)
    embeds = 3 * rng.normal(size=(BATCH, length, config.dim)).astype(np.float32)
    mask = rng.random((BATCH, length)) < 0.7
    mask[0] = False
    params = random_params(decoder, embeds, mask, seed=seed, gain=gain)["params"]
    return speculation.Party(params, embeds, mask, decoder)


@pytest.fixture(scope="module")
def target(random_params):
    return party(CONFIG, random_params)


@pytest.fixture(scope="module")
def drafts(target, random_params):
    """A small model with a prefix of its own, and the target's first two layers."""
    decoder, params = speculation.first_layers(
        target.decoder, target.params, 2, speculation.init_exit(target.params)
    )
    return {
        "separate": party(SMALL, random_params, length=6, seed=1),
        "first layers": target.replace(decoder=decoder, params=params),
    }


@pytest.fixture(scope="module")
def alone(target):
    """What the target says by itself."""
    generate = jax.jit(generation.generate, static_argnums=(0, 4))
    return np.asarray(
        generate(target.decoder, target.params, target.embeds, target.mask, NUM_TOKENS)
    )


run = jax.jit(
    speculation.speculate,
    static_argnums=(2, 3),
    static_argnames=("protocol", "temperature", "mode", "vocab_size", "eos"),
)


QUICK = {
    ("fixed 3", "first layers"),
    ("paper", "separate"),
    ("confidence", "separate"),
}
PAIRS = [
    pytest.param(*pair, marks=[] if pair in QUICK else pytest.mark.slow)
    for pair in itertools.product(POLICIES, ("separate", "first layers"))
]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_greedy_words_are_the_targets_own(target, drafts, alone, name, kind):
    found = run(target, drafts[kind], NUM_TOKENS, POLICIES[name])
    np.testing.assert_array_equal(found.words, alone)
    counts = jax.tree.map(np.asarray, found.counts)
    ended = (alone == 2).any(axis=1)
    assert ended.any() and not ended.all()
    np.testing.assert_array_equal(
        counts.emitted, np.where(ended, (alone == 2).argmax(axis=1) + 1, NUM_TOKENS)
    )
    # Each call of the target brings one word of its own and the drafts that stand.
    brought = counts.accepted + counts.calls
    np.testing.assert_array_equal(brought[~ended], NUM_TOKENS)
    assert (brought >= counts.emitted).all()
    assert (counts.accepted + counts.rejected <= counts.drafted).all()
    assert 0 < counts.accepted.sum() < counts.drafted.sum()
    assert len(np.unique(counts.calls)) > 2  # each sequence goes its own way
    stops = name in ("paper", "confidence")
    assert (counts.deferred.sum() > 0) == stops


def test_a_draft_that_is_the_target_is_always_right(target):
    found = run(target, target, NUM_TOKENS, policies.fixed(3), eos=-1)
    np.testing.assert_array_equal(found.counts.accepted, found.counts.drafted)
    np.testing.assert_array_equal(found.counts.acceptance, 1.0)
    np.testing.assert_array_equal(found.counts.tokens_per_call, 4.0)
    assert int(found.num_rounds) == NUM_TOKENS / 4


def test_a_batch_of_one_says_the_same(target, drafts, alone):
    parts = [
        whole.replace(embeds=whole.embeds[3:4], mask=whole.mask[3:4])
        for whole in (target, drafts["separate"])
    ]
    found = run(*parts, NUM_TOKENS, policies.fixed(3))
    np.testing.assert_array_equal(found.words, alone[3:4])


@pytest.mark.parametrize("step", [None, 3])
def test_caches_that_run_full_are_closed_up(random_params, step):
    """Sixty words of twelve sequences that draft three and accept few.

    Once behind a prefix of which two of three tokens were left out.
    """
    target = party(dataclasses.replace(CONFIG, depth=1), random_params, gain=1.5)
    if step is not None:
        places = np.broadcast_to(step * np.arange(LENGTH), target.mask.shape)
        target = target.replace(positions=places)
    draft = party(SMALL, random_params, seed=1)
    generate = jax.jit(
        generation.generate, static_argnums=(0, 4), static_argnames="eos"
    )
    expected = generate(
        *(target.decoder, target.params, target.embeds, target.mask, 60),
        positions=target.positions,
        eos=-1,
    )
    found = run(target, draft, 60, policies.fixed(3), eos=-1)
    np.testing.assert_array_equal(found.words, expected)
    slots = LENGTH + 60 + 3 + 2 + 60
    assert int(found.num_rounds) * 4 > slots  # without closing up there is no room


def test_closing_up_keeps_order_and_what_is_read_next(target):
    read = jax.jit(lambda party, *args: party.read(*args))
    words = np.arange(BATCH * 4).reshape(BATCH, 4) % 7
    cache = jax.jit(lambda party: party.start(12))(target)
    before = cache
    _, cache = read(target, words, np.ones((BATCH, 4), bool), cache)
    kept = np.random.default_rng(0).random((BATCH, 4)) < 0.5
    cache = caches.keep(cache, before, kept)
    packed = caches.compact(cache)
    assert int(packed.index) == int(cache.lengths.max()) < int(cache.index)
    np.testing.assert_array_equal(packed.mask.sum(axis=1), cache.lengths)
    ones = np.ones((BATCH, 2), bool)
    hidden, _ = read(target, words[:, :2], ones, cache)
    again, _ = read(target, words[:, :2], ones, packed)
    np.testing.assert_allclose(again, hidden, atol=1e-5)


def laws(party, length, temperature):
    """Law of the target alone over all answers, by whole passes; [B, V^length]."""
    vocab_size = party.vocab_size
    answers = np.array(list(itertools.product(range(vocab_size), repeat=length)))
    rows = len(answers)

    @jax.jit
    def log_law(embeds, mask):
        told = np.concatenate([np.ones((rows, 1), int), answers[:, :-1]], axis=1)
        whole = party.replace(
            embeds=jnp.repeat(embeds[None], rows, 0),
            mask=jnp.repeat(mask[None], rows, 0),
        )
        cache = whole.start(length)
        hidden, _ = whole.read(told, np.ones(told.shape, bool), cache)
        logs = jax.nn.log_softmax(whole.logits(hidden, vocab_size) / temperature)
        return jnp.take_along_axis(logs, answers[..., None], axis=-1).sum((1, 2))

    logs = np.asarray(log_law(party.embeds[0], party.mask[0]), np.float64)
    return answers, np.exp(logs)


def alike(num, random_params, seed):
    """So many sequences of one prefix, over four words."""
    config = dataclasses.replace(SMALL, vocab_size=4)
    one = party(config, random_params, seed=seed, gain=1.5)
    return one.replace(
        embeds=np.repeat(one.embeds[1:2], num, 0), mask=np.ones((num, LENGTH), bool)
    )


@pytest.mark.parametrize(
    ("protocol", "policy"),
    [
        pytest.param(protocols.ids(), policies.fixed(2), marks=pytest.mark.slow),
        pytest.param(
            protocols.ids_and_probs(),
            policies.throughput_optimal(ROUND_S),
            marks=pytest.mark.slow,
        ),
        (protocols.top_k(2), policies.confidence_stopped(0.7, 2, rate=0.5)),
    ],
    ids=["ids", "ids_and_probs", "top_k"],
)
def test_sampled_words_have_the_targets_law(random_params, protocol, policy):
    """Against exact probabilities of all answers, in 20,000 sequences that differ."""
    num, length, temperature = 20_000, 3, 0.8
    target, draft = (alike(num, random_params, seed) for seed in (0, 1))
    found = run(
        target, draft, length, policy,
        protocol=protocol, temperature=temperature, key=jax.random.key(3), eos=-1,
    )  # fmt: skip
    answers, law = laws(target, length, temperature)
    index = np.asarray(found.words) @ 4 ** np.arange(length)[::-1]
    seen = np.bincount(index, minlength=len(answers))
    enough = law * num > 5
    assert enough.sum() > 15
    observed = np.append(seen[enough], seen[~enough].sum() + 1e-9)
    expected = np.append(law[enough], law[~enough].sum() + 1e-9)
    test = stats.chisquare(observed, expected * observed.sum() / expected.sum())
    assert test.pvalue > 1e-3
    _, other = laws(draft, length, temperature)
    assert np.abs(other - law).sum() / 2 > 0.2  # the draft's own law is another
    counts = found.counts
    assert 0.1 < float(counts.accepted.sum() / counts.drafted.sum()) < 0.95
    if protocol.name == "top_k":
        assert int(counts.deferred.sum()) > 0


@pytest.mark.slow
def test_measured_acceptance_is_one_less_total_variation(random_params):
    num = 20_000
    target, draft = (alike(num, random_params, seed) for seed in (0, 1))
    found = run(
        target,
        draft,
        2,
        policies.fixed(1),
        protocol=protocols.ids_and_probs(),
        temperature=1.0,
        key=jax.random.key(5),
        eos=-1,
    )
    (_, p), (_, q) = (laws(party, 1, 1.0) for party in (target, draft))
    expected = 1.0 - np.abs(p - q).sum() / 2
    judged = int(jnp.sum(found.counts.accepted + found.counts.rejected))
    assert judged == num  # one draft in each first round, none in the second
    measured = float(found.counts.accepted.sum()) / judged
    error = np.sqrt(expected * (1 - expected) / judged)
    assert 0.1 < expected < 0.9 and abs(measured - expected) < 4 * error


def test_edge_accept_leaves_confident_words_to_the_draft(target, drafts, alone):
    some = policies.confidence_stopped(0.7, 3, rate=0.0)
    found = run(target, drafts["separate"], NUM_TOKENS, some, mode="edge_accept")
    counts = found.counts
    np.testing.assert_array_equal(counts.calls, counts.deferred)
    np.testing.assert_array_equal(counts.accepted, counts.drafted)
    brought = np.asarray(counts.accepted + counts.calls)
    assert (brought >= counts.emitted).all()
    assert 0 < int(counts.calls.sum()) < int(counts.emitted.sum())
    assert not np.array_equal(found.words, alone)


@pytest.mark.slow
def test_edge_accept_at_full_and_at_no_confidence_is_draft_and_target(
    target, drafts, alone
):
    draft = drafts["separate"]
    generate = jax.jit(generation.generate, static_argnums=(0, 4))
    own = generate(draft.decoder, draft.params, draft.embeds, draft.mask, NUM_TOKENS)
    always = policies.confidence_stopped(1.0, 3, most=1.0, rate=0.0)
    found = run(target, draft, NUM_TOKENS, always, mode="edge_accept")
    np.testing.assert_array_equal(found.words, own)
    assert int(found.counts.calls.sum()) == 0
    never = policies.confidence_stopped(0.0, 2, least=0.0, rate=0.0)
    found = run(target, draft, NUM_TOKENS, never, mode="edge_accept")
    np.testing.assert_array_equal(found.words, alone)
    np.testing.assert_array_equal(found.counts.deferred, found.counts.emitted)


def test_modes_are_never_pooled(target, drafts):
    found = run(target, drafts["separate"], NUM_TOKENS, POLICIES["fixed 3"])
    both = speculation.pool([found, found])
    assert both.emitted.shape == (2 * BATCH,)
    with pytest.raises(ValueError, match="edge_accept.*verified.*cannot be pooled"):
        speculation.pool([found, found.replace(mode="edge_accept")])


def padded(party, rows):
    """A party whose embedding table has rows more, that would win every argmax."""
    params = jax.tree.map(lambda leaf: leaf, party.params)
    table = np.asarray(params["embedder"]["embedding"])
    extra = np.full((rows, table.shape[1]), 50.0, np.float32)
    params["embedder"] = {"embedding": np.concatenate([table, extra])}
    config = dataclasses.replace(party.decoder.config, vocab_size=len(table) + rows)
    return party.replace(params=params, decoder=decoder_lib.Decoder(config))


def test_padded_vocabularies_are_refused_or_masked(target, drafts, alone):
    other = padded(target, 3)
    policy = POLICIES["fixed 3"]
    with pytest.raises(ValueError, match="target has vocab_size=10, draft has vocab_s"):
        run(other, drafts["separate"], NUM_TOKENS, policy)
    with pytest.raises(ValueError, match="vocab_size=9 must be 1 to 7"):
        run(other, drafts["separate"], NUM_TOKENS, policy, vocab_size=9)
    draft = padded(drafts["separate"], 5)
    found = run(other, draft, NUM_TOKENS, policy, vocab_size=7)
    np.testing.assert_array_equal(found.words, alone)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "fast"}, "mode='fast'; choose one of"),
        ({"mode": "edge_accept"}, "give a policy that stops by it"),
        ({"protocol": protocols.top_k(2)}, "greedy decoding needs ids alone"),
        ({"temperature": 1.0}, "give a key"),
        ({"temperature": -1.0}, "give 0 for greedy"),
    ],
)
def test_settings_that_make_no_sense_are_named(target, changes, message):
    with pytest.raises(ValueError, match=message):
        speculation.speculate(target, target, 4, policies.fixed(2), **changes)


def test_an_exit_head_of_its_own_is_used(target):
    exit_params = speculation.init_exit(target.params, own_head=True)
    decoder, params = speculation.first_layers(
        target.decoder, target.params, 1, exit_params
    )
    assert not decoder.config.tie_embeddings
    hidden = np.ones((2, 16), np.float32)
    scores = [
        decoder.apply({"params": p}, hidden, method="logits")
        for p in (params, {**params, "head": {"kernel": np.zeros((16, 7))}})
    ]
    tied = target.logits(hidden, 7)
    np.testing.assert_allclose(scores[0], tied, rtol=1e-5)
    assert not np.asarray(scores[1]).any()
    with pytest.raises(ValueError, match="depth=4 must be 1 to 3"):
        speculation.first_layers(target.decoder, target.params, 4)
