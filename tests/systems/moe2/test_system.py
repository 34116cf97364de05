"""MoE2 as a system: one fused distribution, whatever has been prepared before."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.costs import budgets
from m3jax.ops import losses
from m3jax.systems.moe2 import fusion, gate, spending, upload
from tests.systems.moe2.conftest import make_batch, make_config, stir

KEY = jax.random.key(5)


def test_what_is_prepared_gives_what_is_not(system):
    made, params = system
    batch = make_batch()
    prepared = jax.jit(made.prepare)(params, batch)
    for name in ("answer", "weights"):
        predict = jax.jit(made.predict[name])
        plain, cached = (predict(params, b, KEY) for b in (batch, prepared))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain, cached
        )


def test_the_loss_is_that_of_the_mixture(system):
    made, params = system
    batch = jax.jit(made.prepare)(params, make_batch())
    weights = jax.jit(made.predict["weights"])(params, batch, KEY)
    fused = fusion.mixture(jnp.log(weights), batch["log_probs"])
    expected = losses.score_answers(fused, batch["answer"])
    found = jax.jit(made.predict["answer"])(params, batch, KEY)
    for name in ("nll", "answer_accuracy", "word_accuracy"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_a_right_answer_is_one_that_is_said(system):
    """Every word right given the words before is what decoding says."""
    made, params = system
    batch = make_batch(size=6)
    said = jax.jit(made.predict["generate"])(params, batch, KEY)
    batch["answer"][:3] = said[:3]
    scores = jax.jit(made.predict["answer"])(params, batch, KEY)
    ended = (np.asarray(said[:3]) == 2).any(axis=1) | (np.asarray(said[:3]) != 0).all(1)
    np.testing.assert_array_equal(scores["answer_accuracy"][:3][ended], 1.0)
    differs = (np.asarray(said[3:]) != batch["answer"][3:]).any(axis=1)
    np.testing.assert_array_equal(scores["answer_accuracy"][3:][differs], 0.0)


def test_members_of_the_batch_stand_in_for_the_settings_subset(system):
    plain, params = system
    subset = make_config(subset=(0, 2)).make_system()
    batch = jax.jit(plain.prepare)(params, make_batch())
    members = np.tile([True, False, True], (6, 1))
    found = jax.jit(plain.predict["answer"])(params, {**batch, "members": members}, KEY)
    expected = jax.jit(subset.predict["answer"])(params, batch, KEY)
    np.testing.assert_allclose(found["nll"], expected["nll"], rtol=1e-6)
    np.testing.assert_array_equal(expected["asked"], 2.0)


@pytest.mark.parametrize(
    "stopped",
    [
        pytest.param(("gate",), marks=pytest.mark.slow),
        ("adapters", "upload"),
    ],
)
def test_a_stopped_part_has_no_gradient_and_the_others_have(stopped):
    config = make_config(upload=upload.Config(num_reals=4), stopped=stopped)
    made = config.make_system()
    params = stir(jax.jit(made.init)(KEY, {}))
    batch = {**make_batch(), "snr_db": np.full(6, 10.0, np.float32)}
    grads = jax.jit(jax.grad(lambda p: made.loss(p, batch, KEY)[0]))(params)
    parts = {
        "gate": grads["gate"],
        "adapters": grads["pool"]["lora"],
        "upload": grads["upload"],
    }
    for name, part in parts.items():
        size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(part))
        assert (size == 0) == (name in stopped), name


def test_spending_is_that_of_those_asked(system):
    made, params = system
    costs = spending.Costs(make_config().spending, 3)
    batch = jax.jit(made.prepare)(params, make_batch())
    members = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]] * 2, bool)
    found = jax.jit(made.predict["answer"])(params, {**batch, "members": members}, KEY)
    alone = [costs.energy(jnp.eye(3))[n] for n in range(3)]
    np.testing.assert_allclose(found["energy_j"][2], alone[0] + alone[1], rtol=1e-5)
    slower = max(found["delay_s"][0], found["delay_s"][1])
    assert found["delay_s"][2] >= slower - 1e-6


def test_multipliers_climb_while_a_budget_is_overdrawn_and_fall_while_it_is_not():
    config = make_config(
        spending=spending.Config(
            budget=budgets.Budget(tau_s=1e-3, energy_j=1e9),
            threshold=0.1,
            in_training=True,
        )
    )
    made = config.make_system()
    params = jax.jit(made.init)(KEY, {})
    batch = jax.jit(made.prepare)(params, make_batch())
    grads = jax.jit(jax.grad(lambda p: made.loss(p, batch, KEY)[0]))(params)
    delay, energy = grads["multipliers"]["log"]
    assert delay < 0 < energy  # descent raises the first one and lowers the second


def test_overdrawing_pushes_weights_of_costly_experts_below_the_threshold():
    costs = spending.Costs(
        spending.Config(
            budget=budgets.Budget(energy_j=1.0), threshold=0.1, in_training=True
        ),
        3,
    )

    def penalty(weights):
        return costs.penalty(costs.init(), costs.usage(weights))[0]

    weights = jnp.array([[0.4, 0.5, 0.1001]])
    pull = jax.grad(penalty)(weights)[0]
    assert (pull > 0).all()
    assert pull[2] == pull.max()  # it is the closest to not being asked


@pytest.mark.parametrize("bits", [4, 8])
def test_an_upload_of_all_words_is_exact_and_of_few_bits_nearly(system, bits):
    made, params = system
    log_probs = jax.jit(made.prepare)(params, make_batch())["log_probs"]
    valid = make_batch()["answer"] != 0
    whole = upload.Upload(upload.Config(top_k=12), 12)
    np.testing.assert_allclose(whole({}, log_probs, valid, None, KEY), log_probs)
    coarse = upload.Upload(upload.Config(bits=bits), 12)
    sent = coarse({}, log_probs, valid, None, KEY)
    assert float(jnp.abs(sent - log_probs).max()) <= 2 * 20 / (2**bits - 1)


def test_the_best_word_survives_an_upload_of_one_word(system):
    made, params = system
    log_probs = jax.jit(made.prepare)(params, make_batch())["log_probs"]
    one = upload.Upload(upload.Config(top_k=1), 12)
    sent = one({}, log_probs, make_batch()["answer"] != 0, None, KEY)
    np.testing.assert_array_equal(jnp.argmax(sent, -1), jnp.argmax(log_probs, -1))
    np.testing.assert_allclose(jnp.exp(sent).max(-1), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": (3,)}, "system.subset"),
        ({"top_k": 4}, "system.top_k"),
        ({"stopped": ("base",)}, "system.stopped"),
        ({"gate": gate.Config(dropout=2.0)}, "system.gate.dropout"),
        ({"upload": upload.Config(num_reals=3)}, "system.upload.num_reals"),
        ({"upload": upload.Config(top_k=99)}, "system.upload.top_k"),
        ({"upload": upload.Config(bits=0)}, "system.upload.bits"),
        ({"spending": spending.Config(servers="moon")}, "system.spending.servers"),
        ({"spending": spending.Config(threshold=0.5)}, "system.spending.threshold"),
        ({"spending": spending.Config(in_training=True)}, "needs a budget"),
    ],
)
def test_senseless_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make_config(**changes).validate()


def test_a_system_without_adapters_is_refused():
    config = make_config()
    config.pool = dataclasses.replace(config.pool)
    config.pool.lora = dataclasses.replace(config.pool.lora, rank=0)
    with pytest.raises(ValueError, match="system.pool.lora.rank is 0"):
        config.validate()
