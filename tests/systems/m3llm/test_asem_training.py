"""What ASEM is trained on, and that training forecasts better than none."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.envs.expert_routing import tasks, wireless, world
from m3jax.systems.m3llm import asem
from m3jax.train import learner, optimizers, scanned

pytestmark = pytest.mark.usefixtures("quick_compilation")

ENV = wireless.Wireless(actions="heads")
CONFIG = asem.Config(fast_dim=4, slow_dim=2, hidden_dim=8)


def make_params(**changes):
    made = tasks.make_tasks(np.eye(2, dtype=bool), ~np.eye(2, dtype=bool))
    return world.make_params(made)._replace(**changes)


@pytest.fixture(scope="module")
def reports():
    return asem.simulate(ENV, make_params(report_loss=0.3), jax.random.key(0), 64, 20)


def test_reports_are_late_and_noisy_truths(reports):
    assert reports.snr.shape == reports.true_snr.shape == (64, 20, 2)
    late, told = reports.true_snr[:, :-1], reports.snr[:, 1:]
    error = np.asarray(told - late)[np.asarray(reports.mask[:, 1:])]
    # 2 dB of noise on a scale of 20 dB.
    assert np.std(error) == pytest.approx(0.1, rel=0.1)
    assert abs(np.mean(error)) < 0.01
    assert np.mean(reports.mask) == pytest.approx(0.7, abs=0.03)


def test_scale_is_that_of_the_reports_that_came(reports):
    mean, std = asem.scale(reports)
    came = np.asarray(reports.snr)[np.asarray(reports.mask)]
    np.testing.assert_allclose([mean, std], [came.mean(), came.std()], rtol=1e-4)


def test_the_model_is_told_the_noise_of_the_reports():
    assert asem.make_model(CONFIG, make_params(), 0.5).observation_std == (
        pytest.approx(2.0 / 20.0 / 0.5)
    )
    quiet = make_params(report_noise_db=0.0)
    assert asem.make_model(CONFIG, quiet, 0.5).observation_std is None


def test_training_lowers_the_bound_and_the_error_of_forecasts(reports):
    mean, std = asem.scale(reports)
    model = asem.make_model(CONFIG, make_params(), float(std))
    system = asem.make_system(dataclasses.replace(CONFIG, gap_rate=0.0), model)
    examples = {"series": (reports.snr - mean) / std, "mask": reports.mask}
    trainer = learner.make_learner(
        system, optimizers.OptimizerConfig(learning_rate=0.02, warmup_steps=5), 60
    )
    state = jax.jit(trainer.init)(jax.random.key(0), {})
    start = jax.tree.map(jnp.copy, state.params)
    rows = scanned.draw_rows(64, 32, 60, 0)
    state, metrics = scanned.make_stretch(trainer)(
        state, examples, rows, jax.random.key(0)
    )
    loss = np.asarray(metrics["negative_elbo"])
    assert loss[-10:].mean() < loss[:10].mean() - 0.1

    forecast = jax.jit(system.predict["forecast"])

    def error(params):
        found = forecast(params, examples, jax.random.key(0))
        wrong = (found["mean"] - examples["series"])[:, 5:] ** 2
        return float(wrong[examples["mask"][:, 5:]].mean())

    assert error(state.params) < 0.9 * error(start)
