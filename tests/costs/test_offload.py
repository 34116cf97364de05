"""Means in closed form against drawn requests; the limits of equation 11."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.costs import (
    offload,
    offload_limits,
    speculative_batch,
    speculative_delays,
    speculative_rounds,
    workers,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

ONE = jnp.ones(1)
MACHINES = offload.Machines()
LINK = workers.Link(down_bits_per_s=1e8, up_bits_per_s=3e8)


def now(confident=0.9, acceptance=0.8, rtt_s=0.02):
    return offload.Conditions(3e8, 1e8, rtt_s, 1.0, 1.0, confident, acceptance)


def plan(length, retention=1.0, sent=1.0, compression=0.0):
    length = jnp.float32(length)
    return offload.Plan(retention * ONE, compression * ONE, sent * ONE, length)


def asked(answer=400.0):
    return offload.Request(324 * ONE, 2e6 * ONE, 40.0, answer)


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize(
    ("length", "confident", "acceptance"),
    [(5, 1.0, 0.8), (5, 0.8, 0.9), (3, 0.6, 0.7), (0, 1.0, 0.5), (4, 1.0, 1.0)],
)
def test_means_are_those_of_drawn_requests(length, confident, acceptance, pipelined):
    setting = speculative_delays.of_machines(
        MACHINES.edge,
        MACHINES.draft,
        MACHINES.cloud,
        MACHINES.target,
        LINK,
        text=40,
        seen=324,
        pipelined=pipelined,
    )
    rng = np.random.default_rng(0)
    rounds = speculative_rounds.draw_rounds(
        rng,
        150,
        tokens=400,
        draft_length=length,
        acceptance=acceptance,
        confident=confident,
        pipelined=pipelined,
    )
    delays = speculative_delays.draw(rng, setting, rounds, (2e6, 40 * 18))
    drawn = speculative_batch.run(setting, rounds, delays)
    found = offload.expected(
        MACHINES, asked(), plan(length), now(confident, acceptance), pipelined
    )
    np.testing.assert_allclose(found.upload_s, drawn.upload_s[0], rtol=1e-5)
    np.testing.assert_allclose(found.prefill_s, drawn.prefill_s[0], rtol=1e-4)
    np.testing.assert_allclose(found.decode_s, drawn.decode_s.mean(), rtol=0.015)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 0.999])
@pytest.mark.parametrize("length", [1, 5, 16])
def test_tokens_of_a_round_are_the_sum_of_powers(alpha, length):
    found = offload.expected(MACHINES, asked(), plan(length), now(1.0, alpha))
    expected = (1 - alpha ** (length + 1)) / (1 - alpha)
    np.testing.assert_allclose(found.tokens_per_round, expected, rtol=1e-4)


def test_less_retention_load_and_bits_take_less_time():
    whole = offload.expected(MACHINES, asked(), plan(5), now())
    half = offload.expected(MACHINES, asked(), plan(5, 0.5), now())
    packed = offload.expected(MACHINES, asked(), plan(5, compression=0.5), now())
    edge = offload.expected(MACHINES, asked(), plan(5, sent=0.0), now())
    assert half.total_s < whole.total_s and half.cloud_bytes < whole.cloud_bytes
    assert packed.upload_s < whole.upload_s
    np.testing.assert_allclose(
        packed.send_s - 0.02, (whole.send_s - 0.02) / 2, rtol=1e-5
    )
    assert edge.send_s[0] == 0.0 and edge.edge_bytes == whole.edge_bytes
    busy = now()._replace(cloud_load=2.0)
    assert offload.expected(MACHINES, asked(), plan(5), busy).total_s > whole.total_s


def test_gradients_by_retention_and_conditions_are_finite():
    def total(retention, acceptance):
        given = now(1.0, acceptance)
        return offload.expected(
            MACHINES, asked(), plan(4, retention), given, True
        ).total_s

    found = jax.grad(total, (0, 1))(jnp.float32(0.7), jnp.float32(1.0))
    assert all(np.isfinite(g) and g != 0 for g in found)
    assert found[0] > 0 > found[1]


LIMITS = offload_limits.Limits(
    modalities=("image", "audio"), send_s=(0.1, 0.05), edge_bytes=6e9
)
KEPT = offload_limits.Taken(
    quality_loss=0.01,
    edge_bytes=5e9,
    cloud_bytes=17e9,
    send_s=np.array([0.08, 0.02]),
    retention=np.array([0.9, 0.4]),
    sparsity=np.array([0.2, 0.7]),
)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({}, []),
        ({"quality_loss": 0.021}, ["quality loss"]),
        ({"edge_bytes": 6.1e9}, ["edge memory"]),
        ({"cloud_bytes": 41e9}, ["cloud memory"]),
        ({"send_s": np.array([0.08, 0.06])}, ["sending time of audio"]),
        ({"retention": np.array([0.7, 0.4])}, ["retention of image"]),
        (
            {"quality_loss": 0.03, "edge_bytes": 18e9},
            ["edge memory", "quality loss"],
        ),
    ],
)
def test_what_is_broken_is_named(change, names):
    found = offload_limits.feasible(LIMITS, KEPT._replace(**change))
    assert found.broken(LIMITS) == names
    assert bool(found.within) == (not names)


def test_many_plans_are_judged_at_once():
    taken = offload_limits.Taken(
        quality_loss=np.array([0.01, 0.05, 0.02]),
        edge_bytes=5e9,
        cloud_bytes=17e9,
        send_s=np.array([[0.08] * 3, [0.02, 0.02, 0.2]]),
        retention=np.ones((2, 3)),
        sparsity=np.zeros((2, 3)),
    )
    found = offload_limits.feasible(LIMITS, taken)
    assert found.within.tolist() == [True, False, False]
    assert found.excess.shape == (len(LIMITS.names), 3)
    assert found.broken(LIMITS, (2,)) == ["sending time of audio"]


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        (offload_limits.Limits(quality_loss=0.0), "quality_loss"),
        (offload_limits.Limits(modalities=()), "modalities"),
        (offload_limits.Limits(send_s=(1.0,)), "send_s"),
        (offload_limits.Limits(send_s=(1.0, -1.0, 1.0)), "send_s"),
    ],
)
def test_limits_that_make_no_sense_are_named(limits, names):
    with pytest.raises(ValueError, match=names):
        limits.validate()
