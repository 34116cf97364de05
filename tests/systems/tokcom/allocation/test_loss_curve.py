import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from m3jax.systems.tokcom.allocation import loss_curve
from m3jax.testing import gradients

LENGTHS = np.array([2, 4, 8, 16, 32, 64])
CURVES = {
    "exponential": loss_curve.ExponentialLoss(0.4, 2.0, 11.0),
    "power": loss_curve.PowerLoss(0.4, 2.0, 0.7),
}


@pytest.mark.parametrize("kind", CURVES)
def test_a_fit_finds_the_curve_that_made_the_points(kind):
    curve = CURVES[kind]
    floor, drop, shape = vars(curve).values()
    basis = np.exp(-LENGTHS / shape) if kind == "exponential" else LENGTHS**-shape
    found = loss_curve.fit(LENGTHS, floor + drop * basis, kind)
    assert type(found.curve) is type(curve)
    np.testing.assert_allclose(
        list(vars(found.curve).values()), [floor, drop, shape], rtol=1e-5
    )
    assert found.rmse < 1e-7 and found.r2 == pytest.approx(1.0)
    np.testing.assert_allclose(curve(LENGTHS), floor + drop * basis, rtol=1e-5)


@pytest.mark.parametrize("kind", CURVES)
def test_no_curve_nearby_fits_noisy_points_better(kind):
    rng = np.random.default_rng(0)
    losses = np.asarray(CURVES[kind](LENGTHS)) + 0.05 * rng.normal(size=len(LENGTHS))
    found = loss_curve.fit(LENGTHS, losses, kind)
    best = np.array(list(vars(found.curve).values()))

    def rmse(parameters):  # in float64, as rivals differ little
        floor, drop, shape = parameters
        is_power = kind == "power"
        basis = LENGTHS**-shape if is_power else np.exp(-LENGTHS / shape)
        return np.sqrt(np.mean((floor + drop * basis - losses) ** 2))

    assert found.rmse == pytest.approx(rmse(best), rel=1e-6)
    for size in (0.1, 0.01, 0.001):
        for step in size * rng.normal(size=(20, 3)):
            assert rmse(best * np.exp(step)) > found.rmse
    assert 0.9 < found.r2 < 1.0


def test_a_curve_never_rises_even_where_the_points_do():
    found = loss_curve.fit(LENGTHS, 0.1 * LENGTHS)
    assert found.curve.drop == 0.0
    assert found.curve.floor == pytest.approx(np.mean(0.1 * LENGTHS))
    assert float(found.curve.best_length(0.01)) < 1.0  # tokens are worth nothing


@pytest.mark.parametrize("kind", CURVES)
def test_the_best_length_minimises_price_and_loss(kind):
    curve = CURVES[kind]
    for price in (1e-3, 1e-2, 0.05):
        found = optimize.minimize_scalar(
            lambda m, price=price: price * m + float(curve(m)), bounds=(0.1, 300.0)
        )
        best = float(curve.best_length(price))
        assert best == pytest.approx(found.x, rel=1e-2)
        assert price * best + float(curve(best)) <= found.fun * (1.0 + 1e-6)


@pytest.mark.parametrize("kind", CURVES)
def test_gradients_are_finite_at_every_price_and_right_at_a_common_one(kind):
    def best_length(curve, price):
        return curve.best_length(price)

    args = CURVES[kind], 0.01
    gradients.check_against_finite_differences(jax.jit(best_length), args)
    prices = jnp.array([0.0, 1e-20, 1.0, 1e20])
    slopes = jax.vmap(jax.grad(best_length, argnums=(0, 1)), (None, 0))
    gradients.assert_finite(slopes(CURVES[kind], prices), "slopes")
    lengths = np.asarray(CURVES[kind].best_length(prices))
    assert np.isfinite(lengths).all() and (np.diff(lengths) <= 0.0).all()


@pytest.mark.parametrize(
    ("lengths", "losses", "kind", "told"),
    [
        ([1, 2, 3], [3, 2, 1], "linear", "kind must be one of"),
        ([1, 2, 3], [3, 2], "power", "one loss for each length"),
        ([1, 2, 2], [3, 2, 1], "power", "three different lengths"),
        ([0, 1, 2], [3, 2, 1], "exponential", "lengths must be positive"),
        ([1, 2, 3], [3, np.nan, 1], "exponential", "losses finite"),
    ],
)
def test_points_that_no_curve_fits_are_refused(lengths, losses, kind, told):
    with pytest.raises(ValueError, match=told):
        loss_curve.fit(lengths, losses, kind)
