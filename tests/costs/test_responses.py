"""Responses: by hand, with common random numbers, traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.costs import devices, inference, lengths, models, responses, servers

pytestmark = pytest.mark.usefixtures("quick_compilation")

ONE = servers.Server(
    devices.RTX_4090, models.QWEN2_5_7B_Q4, snr_db=20.0, bandwidth_hz=1e6
)
CERTAIN = {
    "prompt_tokens": 50.0,
    "prompt_spread": 0.0,
    "answer_tokens": 4.0,
    "answers": "fixed",
    "fading": False,
}


def draw(key, fleet, workload, num, *args):
    """As ``responses.draw``, in one program."""
    return jax.jit(lambda k: responses.draw(k, fleet, workload, num, *args))(key)


def test_a_certain_response_takes_what_it_does_by_hand(key):
    workload = responses.Workload(**CERTAIN, gate_s=0.25)
    drawn = draw(key, [ONE], workload, 2)
    rate = 1e6 * np.log2(101.0)
    on = ONE.device, ONE.model
    read = inference.prefill_time(*on, 50)
    steps = sum(inference.decode_time(*on, 50 + t) for t in (1, 2, 3))
    told, gathered = 18 / rate, 152_064 * 16 / rate
    first = 0.25 + 50 * told + read + gathered
    later = steps + 3 * (told + gathered)
    np.testing.assert_allclose(drawn.delays_s[:, :, 0], [[first, later]] * 2, rtol=1e-5)
    np.testing.assert_allclose(drawn.energies_j, 300.0 * (read + steps), rtol=1e-5)
    assert drawn.answer_tokens.tolist() == [4.0, 4.0]


def test_a_busy_server_computes_longer_and_sends_as_long(key):
    workload = responses.Workload(**CERTAIN)
    calm, busy = (
        draw(key, [ONE], workload, 1, 0.0, np.array([factor])) for factor in (1.0, 3.0)
    )
    worked = calm.energies_j[0, 0] / 300.0
    more = busy.total_s[0, 0] - calm.total_s[0, 0]
    np.testing.assert_allclose(more, 2 * worked, rtol=1e-3)
    np.testing.assert_allclose(busy.energies_j, 3 * calm.energies_j, rtol=1e-5)


def test_settings_meet_the_same_prompts_lengths_and_fading(key):
    whole = draw(key, servers.TABLE_I, responses.Workload(), 20)
    part = draw(key, servers.TABLE_I, responses.Workload(top_k=10), 20)
    few = draw(key, servers.TABLE_I[:3], responses.Workload(), 20)
    np.testing.assert_array_equal(whole.energies_j, part.energies_j)
    assert (part.total_s < whole.total_s).all()
    np.testing.assert_allclose(few.delays_s, whole.delays_s[..., :3], rtol=1e-6)


def test_better_links_are_faster_and_take_the_same_energy(key):
    poor, good = (
        draw(key, servers.TABLE_I, responses.Workload(), 20, offset_db)
        for offset_db in (0.0, 6.0)
    )
    assert (good.total_s <= poor.total_s).all()
    assert good.total_s.sum() < 0.9 * poor.total_s.sum()
    np.testing.assert_array_equal(good.energies_j, poor.energies_j)


def test_what_the_user_sends_slows_the_prompt_alone(key):
    workload = responses.Workload(**CERTAIN)
    same = draw(key, [ONE], workload, 1)
    workload.user_offset_db = -20.0  # an SNR of 1 for the user
    weak = draw(key, [ONE], workload, 1)
    told = 18 / 1e6 * (1.0 - 1.0 / np.log2(101.0))
    more = np.asarray(weak.delays_s - same.delays_s)[0, :, 0]
    np.testing.assert_allclose(more, [50 * told, 3 * told], rtol=0.02)


def test_fleet_and_snr_are_data_and_not_a_recompile(key):
    traces = []

    @jax.jit
    def mean_delay(fleet, offset_db, prompt_tokens):
        traces.append(0)
        workload = responses.Workload(prompt_tokens=prompt_tokens)
        return responses.draw(key, fleet, workload, 8, offset_db).total_s.mean()

    fleet = servers.stack(servers.TABLE_I)
    faster = fleet._replace(snr_db=fleet.snr_db + 3.0)
    first = mean_delay(fleet, 0.0, 65.0)
    assert mean_delay(fleet, 3.0, 65.0) == pytest.approx(
        float(mean_delay(faster, 0.0, 65.0))
    )
    assert mean_delay(fleet, 0.0, 500.0) > first
    plain = draw(key, servers.TABLE_I, responses.Workload(), 8)
    assert first == pytest.approx(float(plain.total_s.mean()), rel=1e-5)
    assert len(traces) == 1


def test_draws_under_vmap_are_draws_one_by_one(key):
    fleet, workload = servers.stack(servers.TABLE_I[:2]), responses.Workload()
    keys = jax.random.split(key, 3)

    def delays(k):
        return responses.draw(k, fleet, workload, 5).delays_s

    one_by_one = jax.jit(lambda ks: jax.lax.map(delays, ks))(keys)
    many = jax.jit(jax.vmap(delays))(keys)
    np.testing.assert_allclose(many, one_by_one, rtol=1e-5)


def test_delays_have_gradients_by_the_links(key):
    fleet = servers.stack(servers.TABLE_I)

    def mean_delay(snr_db):
        given = fleet._replace(snr_db=snr_db)
        return responses.draw(key, given, responses.Workload(), 50).total_s.mean()

    found = jax.jit(jax.grad(mean_delay))(fleet.snr_db)
    assert jnp.isfinite(found).all() and (found < 0).all()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("prompt_tokens", 0.5, "prompt_tokens=0.5; give a finite number of 1 or more"),
        ("prompt_spread", -1.0, "prompt_spread=-1.0; give a finite number of 0"),
        ("answer_tokens", float("inf"), "answer_tokens=inf; give a finite"),
        ("answers", "long", "answers='long'; choose one of ('geometric', 'fixed')"),
        ("fuse_at", "cloud", "fuse_at='cloud'; choose one of ('user', 'server')"),
        ("overlap", "max", "overlap='max'; choose one of ('sum', 'roofline')"),
        ("backhaul_bps", 0.0, "backhaul_bps=0.0; give a finite number above 0"),
        ("gate_s", -1.0, "gate_s=-1.0; give a finite number of 0 or more"),
        ("bits", 0, "bits=0; give a finite number of 1 or more"),
        ("top_k", 0, "top_k=0; give a finite number of 1 or more"),
        ("top_k", 200_000, "top_k is 200000; give 1 to 151936"),
        (
            "applications",
            (lengths.Application(share=0.0),),
            "workload.applications[0] has share=0.0",
        ),
    ],
)
def test_a_bad_workload_is_named_with_its_mend(key, field, value, message):
    workload = responses.Workload(**{field: value})
    with pytest.raises(ValueError) as caught:
        draw(key, servers.TABLE_I, workload, 2)
    assert message in str(caught.value)


def test_a_budget_per_sentence_is_refused(key):
    drawn = draw(key, [ONE], responses.Workload(), 2)
    with pytest.raises(ValueError, match=r"per one of .*, not per 'sentence'"):
        drawn.per("sentence")
