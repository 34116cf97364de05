"""How routers are chosen and compared, and what of a model works on a token."""

import jax
import numpy as np

from m3jax.systems.wdmoe import network, selection
from m3jax.systems.wdmoe.study import claims, measure
from tests.systems.wdmoe.conftest import make_batch, make_config


def test_the_fastest_is_chosen_of_those_that_answer_no_worse():
    tried = {"fast": (0.8, 1.0), "good": (0.9, 3.0), "best": (0.95, 4.0)}
    assert measure.choose(tried, 0.9) == "good"
    assert measure.choose(tried, 0.5) == "fast"
    assert measure.choose(tried, 0.99) == "best"


def test_with_all_experts_every_parameter_works_on_a_token():
    for changes in ({}, {"tie_embeddings": True, "qkv_bias": False}):
        made = make_config()
        for name, value in changes.items():
            setattr(made.decoder, name, value)
        params = network.Network(made).init(jax.random.key(0))["decoder"]
        total = sum(leaf.size for leaf in jax.tree.leaves(params))
        everyone = made.experts.num_experts
        assert measure.active_parameters(made, everyone) == total
        expert = 3 * made.decoder.dim * made.experts.ff_dim * made.decoder.depth
        two = measure.active_parameters(made, 2)
        assert total - two == (everyone - 2) * expert


def test_fixed_prices_are_those_that_the_policy_sees(mixture):
    """A margin in nats is dynamic selection by its odds, in every block."""
    settings, params = mixture
    model = network.Network(make_config(policy="priced"))
    fixed = measure.with_prices(params, 0.0, np.log(0.7 / 0.3))
    token_s = np.ones(4, np.float32)
    read = model.read(fixed, make_batch(), token_s)
    probs = read.routing.probs.reshape(read.usage.shape)
    for block in range(settings.decoder.depth):
        plain = selection.dynamic(probs[block], read.mask, token_s, spare=0.3)
        np.testing.assert_array_equal(read.usage[block] > 0.5, plain.weights > 0.0)
    softplus = jax.nn.softplus(fixed["prices"]["margin"])
    np.testing.assert_allclose(softplus, np.log(0.7 / 0.3), rtol=1e-5)


def test_latency_at_an_accuracy_lies_between_its_neighbours():
    right = [[0.8, 0.9], [0.9, 0.7]]  # of two routers, by seed
    wait = [[10.0, 40.0], [30.0, 20.0]]
    found = claims._between(np.array([0.85, 0.75]), right, wait)
    np.testing.assert_allclose(found, [20.0, 25.0])
    beyond = claims._between(np.array([0.5, 0.95]), right, wait)
    np.testing.assert_allclose(beyond, [10.0, 40.0])  # nothing is guessed
