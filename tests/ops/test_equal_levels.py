import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.ops import equal_levels
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")
ALL = jnp.ones(5, bool)


def of_powers(weights, exponent):
    """Levels of ``log(w x^-k)``: equal where x goes as ``w^(1 / k)``."""
    return lambda log_shares: jnp.log(weights) - exponent * log_shares


SOLVE = jax.jit(
    lambda weights, exponent, active: equal_levels.equalise(
        of_powers(weights, exponent), active
    )
)


def test_straight_levels_take_one_step_and_meet_the_closed_form():
    weights = jnp.array([0.1, 1.0, 5.0, 2.0, 300.0])
    found = SOLVE(weights, 2.0, ALL)
    roots = np.sqrt(np.asarray(weights))
    np.testing.assert_allclose(found.shares, roots / roots.sum(), rtol=1e-6)
    assert float(found.level) == pytest.approx(2.0 * np.log(roots.sum()), rel=1e-6)
    assert bool(found.converged) and int(found.num_iterations) <= 3


def test_who_is_not_active_gets_nothing_and_changes_nothing():
    weights, active = jnp.array([0.1, 7.0, 5.0, 2.0, 3.0]), ALL.at[1].set(False)
    found = SOLVE(weights, 1.5, active)
    roots = np.where(active, np.asarray(weights) ** (1.0 / 1.5), 0.0)
    np.testing.assert_allclose(found.shares, roots / roots.sum(), rtol=1e-6)
    nobody = SOLVE(weights, 1.5, ~ALL)
    everybody = SOLVE(weights, 1.5, ALL)
    np.testing.assert_array_equal(nobody.shares, everybody.shares)


def test_too_few_steps_are_told():
    # Far from straight: slopes from -1 to -40.
    def levels(log_shares):
        return jnp.arange(5.0) * 3.0 - log_shares - 40.0 * jnp.exp(log_shares)

    found, solved = jax.jit(
        lambda: [equal_levels.equalise(levels, ALL, most) for most in (2, 60)]
    )()
    assert not bool(found.converged) and int(found.num_iterations) == 2
    assert float(found.residual) > 1e-3
    assert bool(solved.converged) and float(solved.residual) < 1e-5
    np.testing.assert_allclose(jnp.sum(solved.shares), 1.0, rtol=1e-6)


def test_implicit_gradients_equal_finite_differences():
    @jax.jit
    def mixed(logs, bend):
        def levels(log_shares):
            return logs - log_shares - bend * jnp.exp(log_shares)

        found = equal_levels.equalise(levels, ALL)
        return jnp.sum(jnp.cos(jnp.arange(5.0)) * found.shares**2) + found.level

    args = np.array([0.3, -1.0, 0.0, 2.0, 0.7]), 0.8
    gradients.check_against_finite_differences(mixed, args)
