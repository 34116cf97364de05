"""The gate weighs the members of a subset, and nobody else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.systems.moe2 import gate

SCORES = jnp.array([[0.3, -1.0, 2.0, 0.1], [5.0, 5.0, -3.0, 0.0]])


@pytest.mark.parametrize("members", [[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0]])
def test_weights_are_gating_values_over_their_sum_in_the_subset(members):
    members = np.array(members, bool)
    found = jnp.exp(gate.log_weights(SCORES, members))
    values = np.exp(np.asarray(SCORES)) * members
    expected = values / values.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_top_k_keeps_the_highest_of_the_members_and_renormalises():
    members = np.array([True, True, False, True])
    found = np.exp(gate.log_weights(SCORES, members, top_k=2))
    pair = np.exp([0.3, 0.1]) / np.exp([0.3, 0.1]).sum()
    np.testing.assert_allclose(found[0], [pair[0], 0, 0, pair[1]], atol=1e-6)
    np.testing.assert_allclose(found[1], [0.5, 0.5, 0, 0], atol=1e-6)


def test_of_equal_scores_the_lower_index_is_kept():
    members = np.ones(3, bool)
    assert gate.chosen(jnp.zeros(3), members, 1).tolist() == [True, False, False]


def test_the_last_layer_sees_every_layers_input():
    net = gate.Gate(gate.Config(hidden_dim=7), num_experts=3)
    params = net.init(jax.random.key(0), jnp.ones((1, 5)))["params"]
    assert params["out"]["kernel"].shape == (5 + 7 + 7, 3)
    blind = jax.tree.map(jnp.zeros_like, params)
    blind["out"] = params["out"]
    out = net.apply({"params": blind}, jnp.eye(5)) - params["out"]["bias"]
    expected = params["out"]["kernel"][:5] * np.sqrt(5)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_dropout_is_in_training_alone_and_keeps_the_mean():
    net = gate.Gate(gate.Config(dropout=0.5), num_experts=2)
    x = jax.random.normal(jax.random.key(1), (1, 8))
    params = net.init(jax.random.key(0), x)
    plain = net.apply(params, x)
    assert jnp.array_equal(plain, net.apply(params, x))
    keys = jax.random.split(jax.random.key(2), 2)
    dropped = [net.apply(params, x, key) for key in keys]
    assert not jnp.allclose(*dropped)


@pytest.mark.parametrize(
    ("field", "value"), [("hidden_dim", 0), ("num_hidden", 0), ("dropout", 1.0)]
)
def test_senseless_sizes_are_named(field, value):
    with pytest.raises(ValueError, match=f"system.gate.{field}"):
        gate.Config(**{field: value}).validate()
