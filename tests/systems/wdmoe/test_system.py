"""WDMoE as a system: every policy through the blocks, latency, and its gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.foundation import answering
from m3jax.ops import round_trips, sum_of_maxima
from m3jax.systems.wdmoe import cell as cells
from m3jax.systems.wdmoe import config as config_lib
from m3jax.systems.wdmoe import latency, network
from tests.systems.wdmoe.conftest import make_batch, make_config

KEY = jax.random.key(5)
TOKEN_S = jnp.array([4.0, 2.0, 1.0, 1.0]) * 1e-3


@pytest.fixture(scope="module")
def reads(mixture):
    """Policy -> what a batch gave."""
    settings, params = mixture
    model = network.Network(settings)

    @jax.jit
    def read(params, batch):
        return {
            policy: model.read(params, batch, TOKEN_S, policy)
            for policy in ("top_k", "cosine", "dynamic", "testbed", "priced")
        }

    return read(params, make_batch())


def test_top_k_is_the_decoder_without_a_selection(mixture, reads):
    settings, params = mixture
    batch = make_batch()
    plain = answering.answer_logits(
        network.Network(settings).decoder,
        params["decoder"],
        jnp.zeros((3, 0, 8)),
        jnp.ones((3, 0), bool),
        batch["question"],
        batch["answer"],
    )
    np.testing.assert_allclose(reads["top_k"].logits, plain, atol=1e-5)


def test_usage_is_who_answered_in_every_block(reads):
    """What is counted is what the layers did, whatever the policy."""
    for policy, read in reads.items():
        counts = read.routing.counts  # of the layer itself
        np.testing.assert_array_equal(read.counts, counts, err_msg=policy)
        assert 1.0 <= float(read.asked) <= 2.0
    assert float(reads["top_k"].asked) == 2.0
    assert float(reads["dynamic"].asked) < 2.0


def test_generated_answers_are_those_that_score_as_right(mixture):
    settings, params = mixture
    made = dataclasses.replace(settings, policy="dynamic", split="even").make_system()
    batch = make_batch()
    said = jax.jit(made.predict["generate"])(params, batch, KEY)
    scores = jax.jit(made.predict["answer"])(
        params, {**batch, "answer": np.asarray(said)}, KEY
    )
    np.testing.assert_array_equal(scores["answer_accuracy"], 1.0)


def test_latency_is_that_of_the_counts_in_the_drawn_cell(mixture):
    settings, params = mixture
    made = dataclasses.replace(settings, split="even").make_system()
    found = jax.jit(made.predict["answer"])(params, make_batch(), KEY)["latency_ms"]
    gains = cells.draw_gains(KEY, settings.cell, 1)[0]
    trips = latency.make_trips(settings.cell, gains)
    even = latency.even_bandwidths(trips, settings.cell.bandwidth_hz)
    token_s = np.asarray(round_trips.seconds(trips, even))
    said = jax.jit(made.predict["routing"])(params, make_batch(), KEY)
    counts = np.asarray(said["usage"]).sum(axis=(0, 1))  # [I, n]
    by_hand = 1e3 * sum((row * token_s).max() for row in counts)
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)


COUNTS = jnp.array([[9.0, 4.0, 6.0, 2.0], [1.0, 8.0, 3.0, 7.0]])


@pytest.fixture(scope="module")
def trips():
    settings = make_config()
    gains = jnp.array([2e-8, 5e-9, 1e-8, 8e-10])
    return latency.make_trips(settings.cell, gains)


def test_the_split_pays_a_gradient_of_its_own(trips):
    """Of the value the envelope's slope; with the band held, that of whoever is last.

    By the duality of one split for all blocks the slope is mu t, of sum value.
    """

    def seconds(counts, stopped):
        return latency.split_seconds(counts, trips, 100e6, "per_sequence", stopped)

    whole, held = (jax.grad(seconds)(COUNTS, stopped) for stopped in (False, True))
    found = sum_of_maxima.sum_of_maxima(COUNTS, trips, 100e6)
    token_s = round_trips.seconds(trips, found.amounts)
    np.testing.assert_allclose(whole, found.weights * token_s, rtol=1e-3, atol=1e-8)
    assert float(seconds(COUNTS, False)) == pytest.approx(float(seconds(COUNTS, True)))
    assert not np.allclose(whole, held, rtol=1e-2)
    step = 1e-2 * jnp.ones_like(COUNTS)
    moved = seconds(COUNTS + step, False) - seconds(COUNTS - step, False)
    assert float(jnp.vdot(whole, 2 * step)) == pytest.approx(float(moved), rel=1e-2)


def test_a_band_split_for_the_sequence_lies_between_blocks_and_even(trips):
    found = [
        float(latency.split_seconds(COUNTS, trips, 100e6, split))
        for split in ("per_block", "per_sequence", "even")
    ]
    assert found[0] < found[1] < found[2]


def test_latency_reaches_prices_and_router_unless_it_is_stopped(mixture):
    _, params = mixture

    def gradient(stopped):
        made = make_config(
            policy="priced", latency_weight=10.0, stopped=stopped
        ).make_system()
        loss = jax.jit(jax.grad(lambda p: made.loss(p, make_batch(), KEY)[0]))
        return loss(params)

    whole, without = gradient(()), gradient(("latency",))
    for part in (
        lambda tree: tree["prices"]["price"],
        lambda tree: tree["prices"]["margin"],
        lambda tree: tree["decoder"]["layers"]["moe"]["router"]["kernel"],
    ):
        change = float(jnp.abs(part(whole) - part(without)).max())
        assert np.isfinite(change) and change > 1e-3


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"policy": "best"}, "policy"),
        ({"split": "none"}, "split"),
        ({"spare": 1.0}, "spare"),
        ({"threshold": 1.5}, "threshold"),
        ({"latency_weight": -1.0}, "latency_weight"),
        ({"stopped": ("all",)}, "stopped"),
        ({"cell": cells.Cell(flops_per_s=(1e12,) * 3)}, "flops_per_s"),
        ({"cell": cells.Cell(bandwidth_hz=0.0)}, "bandwidth_hz"),
        ({"expert": cells.Expert(0, 4)}, "width"),
        ({"experts": config_lib.Experts(num_experts=4, top_k=5)}, "top_k"),
        ({"experts": config_lib.Experts(num_experts=4, balance=-1.0)}, "balance"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes, field):
    with pytest.raises(ValueError, match=field):
        make_config(**changes).validate()
