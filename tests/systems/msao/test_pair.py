"""Edge and cloud as parties: what they read, and that it is what the system reads."""

import dataclasses

import jax
import numpy as np
import pytest

from m3jax.nn import speculation
from m3jax.nn.speculation import policies
from m3jax.systems import msao
from m3jax.systems.msao import pair, parts
from m3jax.testing import tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = msao.Config(
    sizes=tiny.sizes(), num_image_tokens=4, num_audio_tokens=2, relevance_dim=4
)
NUM_WORDS = 5


@pytest.fixture(scope="module")
def case():
    """A batch, and parameters whose probes keep some of the windows of most."""
    batch = tiny.make_batch()
    params = jax.jit(CONFIG.make_system().init)(jax.random.key(1), batch)
    for leaf in (params["spatial"]["importance"], params["relevance"]["audio"]["down"]):
        leaf["kernel"] = 8.0 * leaf["kernel"]
    params["spatial"]["importance"]["bias"] -= 0.4
    params["relevance"]["image"]["down"]["bias"] += 1.0
    return params, batch


@pytest.mark.parametrize("kind", ["everything", "probed"])
def test_a_party_says_what_the_system_says(case, kind):
    params, batch = case
    config, made = CONFIG, parts.Parts(CONFIG)
    if kind == "everything":
        config = dataclasses.replace(
            config, importance_threshold=0.0, relevance_threshold=0.0
        )
    told = {**batch, "answer": np.zeros((4, NUM_WORDS), np.int32)}
    expected = jax.jit(config.make_system().predict["generate"])(params, told, None)

    def say(params, batch):
        choice = (
            pair.everything(made, 4)
            if kind == "everything"
            else pair.probed(made, params, batch)
        )
        party = pair.read(made, params, batch, choice)
        return choice, pair.say(party, NUM_WORDS)

    choice, words = jax.jit(say)(params, batch)
    np.testing.assert_array_equal(words, expected)
    counts = np.asarray(choice.num_windows)
    if kind == "probed":
        assert 1 <= counts.min() < counts.max() <= 4  # a choice was made
    else:
        np.testing.assert_array_equal(counts, 4)


def test_speculation_behind_pruned_prefixes_says_the_same(case):
    params, batch = case
    made = parts.Parts(CONFIG)
    small = jax.jit(CONFIG.make_system().init)(jax.random.key(2), batch)

    def both(params, small, batch):
        choice = pair.probed(made, params, batch)
        target = pair.read(made, params, batch, choice)
        draft = pair.read(made, small, batch, pair.everything(made, 4))
        found = speculation.speculate(target, draft, NUM_WORDS, policies.fixed(2))
        return pair.say(target, NUM_WORDS), found

    expected, found = jax.jit(both)(params, small, batch)
    np.testing.assert_array_equal(found.words, expected)
    assert (found.counts.emitted > 0).all()


def test_windows_by_chance_are_as_many_as_asked_and_others_each_time(case):
    made = parts.Parts(CONFIG)
    counts = np.array([1, 2, 4, 3], np.int32)
    places = []
    for seed in range(8):
        choice = pair.uniform(made, jax.random.key(seed), counts, 4)
        np.testing.assert_array_equal(choice.num_windows, counts)
        assert all(wanted.all() for wanted in choice.wanted.values())
        places.append(np.asarray(choice.windows.places)[0, 0])
    assert len(set(places)) > 1


def test_an_answer_is_right_to_the_last_word():
    words = np.array([[5, 2, 0], [5, 6, 2], [4, 2, 0]])
    answer = np.array([[5, 2, 0], [5, 2, 0], [5, 2, 0]])
    assert pair.is_right(words, answer).tolist() == [True, False, False]
