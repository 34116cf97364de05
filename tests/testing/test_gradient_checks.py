import jax
import jax.numpy as jnp
import pytest

from m3jax.testing import gradients

GRADS = {
    "encoder": {
        "block_0": {"w": jnp.ones(2), "b": jnp.zeros(2)},
        "block_1": jnp.zeros(2),
    },
    "decoder": {"w": jnp.array([jnp.nan])},
}


def test_a_zero_leaf_passes_in_a_group_that_is_reached():
    gradients.check_gradients_reach(GRADS, ["encoder", "encoder/block_0"])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("encoder/block_[0-9]", "no gradient reaches encoder/block_1"),
        ("decoder", "not finite"),
        ("receiver", "matches none"),
    ],
)
def test_a_group_that_is_not_reached_is_named(pattern, message):
    with pytest.raises(AssertionError, match=message):
        gradients.check_gradients_reach(GRADS, [pattern])


def test_right_gradients_pass_for_trees_and_complex_numbers():
    def fn(tree, z):
        return jnp.sum(tree["a"] ** 3) + jnp.sum((z * tree["a"]).imag ** 2)

    args = ({"a": jnp.array([0.5, -1.0])}, jnp.array([1 + 2j, 3 - 1j]))
    gradients.check_against_finite_differences(fn, args)


def test_a_wrong_gradient_is_caught():
    def fn(x, y):
        return jnp.sum(x * jax.lax.stop_gradient(y))

    with pytest.raises(AssertionError, match="argument 1"):
        gradients.check_against_finite_differences(fn, (jnp.ones(2), jnp.ones(2)))
