"""Devices, models, time and energy: by hand, by published sizes, by other code."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.costs import devices, inference, models, servers
from m3jax.nn import decoder

pytestmark = pytest.mark.usefixtures("quick_compilation")

ON_RTX = devices.RTX_4090, models.QWEN2_5_7B_Q4


def test_a_decode_step_of_a_7b_model_on_an_rtx_4090_takes_what_it_does_by_hand():
    # Weights 7.61e9 * 4.5 / 8 = 4.281 GB and a cache of 2 * 28 * 512 * 2 B = 57,344 B a
    # token, at 0.7 * 1008 GB/s; 15.22 GFLOP and 4 * 28 * 3584 a token of the context,
    # at 0.4 * 165.2 TFLOP/s; 2 ms.
    reading = (4.280625e9 + 57_344 * 1000) / 705.6e9
    computing = (15.22e9 + 401_408 * 1000) / 66.08e12
    by_hand = reading + computing + 2e-3
    found = inference.decode_time(*ON_RTX, 1000.0)
    assert found == pytest.approx(by_hand, rel=0.01)
    assert by_hand == pytest.approx(8.384e-3, rel=0.01)
    roofline = inference.decode_time(*ON_RTX, 1000.0, "roofline")
    assert roofline == pytest.approx(reading + 2e-3, rel=1e-6)


def test_reading_a_prompt_is_decoding_its_tokens_with_the_weights_read_once():
    model, length = models.QWEN2_5_3B_Q4, 50
    steps = sum(model.decode_flops(context) for context in np.arange(length) + 0.5)
    assert model.prefill_flops(length) == pytest.approx(steps, rel=1e-9)
    assert model.prefill_bytes(length) == model.decode_bytes(length)


def test_a_long_prompt_is_bound_by_arithmetic_and_a_token_by_memory():
    device, model = ON_RTX
    for flops, moved, bound in (
        (model.prefill_flops(2000), model.prefill_bytes(2000), "arithmetic"),
        (model.decode_flops(2000), model.decode_bytes(2000), "memory"),
    ):
        computing = flops / device.usable_flops_per_s
        reading = moved / device.usable_bytes_per_s
        assert (computing > reading) == (bound == "arithmetic")


def test_energy_is_power_times_time_and_waiting_is_free_unless_asked_for():
    device = devices.JETSON_AGX_ORIN_64GB
    assert inference.energy(device, 2.5) == 40.0 * 2.5
    assert inference.energy(device, 2.5, waiting_s=4.0) == 40.0 * 2.5
    idle = dataclasses.replace(device, idle_power_w=10.0)
    assert inference.energy(idle, 2.5, waiting_s=4.0) == 140.0


@pytest.mark.parametrize(
    ("published", "sizes"),
    [
        (models.QWEN2_5_7B, (152_064, 3584, 28, 28, 4, 18_944, False)),
        (models.QWEN2_5_3B, (151_936, 2048, 36, 16, 2, 11_008, True)),
    ],
)
def test_counted_weights_are_the_published_ones(published, sizes):
    names = "vocab_size dim depth num_heads num_kv_heads ff_dim tie_embeddings"
    sizes = dict(zip(names.split(), sizes, strict=True))
    counted = models.from_sizes("counted", **sizes)
    assert counted.num_params == pytest.approx(published.num_params, rel=2e-3)
    for field in ("depth", "dim", "num_kv_heads", "head_dim", "vocab_size"):
        assert getattr(counted, field) == getattr(published, field)


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_counted_weights_are_those_of_our_own_decoder(tie_embeddings):
    sizes = {
        "vocab_size": 96,
        "dim": 32,
        "depth": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "ff_dim": 48,
        "tie_embeddings": tie_embeddings,
    }
    config = decoder.DecoderConfig(**sizes)
    net = decoder.Decoder(config)
    given = jax.random.key(0), jnp.zeros((1, 1, 32)), jnp.ones((1, 1), bool)
    params = jax.eval_shape(net.init, *given)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert models.from_sizes("ours", **sizes).num_params == count


def test_a_fleet_under_vmap_takes_the_times_of_its_servers():
    fleet = servers.stack(servers.TABLE_I)
    found = jax.vmap(inference.decode_time, in_axes=(0, 0, None))(
        fleet.device, fleet.model, 80.0
    )
    one_by_one = [
        inference.decode_time(server.device, server.model, 80.0)
        for server in servers.TABLE_I
    ]
    np.testing.assert_allclose(found, one_by_one, rtol=1e-6)


def test_counts_of_billions_survive_in_a_fleet():
    large = dataclasses.replace(models.QWEN2_5_7B, num_params=7_610_000_000)
    fleet = servers.stack([servers.Server(devices.A100, large)])
    assert fleet.model.num_params[0] == pytest.approx(7.61e9)
    assert fleet.model.vocab_size.dtype == jnp.int32


def test_table_one_rules_over_the_text():
    on_rtx = [server.device is devices.RTX_4090 for server in servers.TABLE_I]
    large = [server.model is models.QWEN2_5_7B_Q4 for server in servers.TABLE_I]
    assert np.flatnonzero(on_rtx).tolist() == [0, 1, 3]
    assert np.flatnonzero(large).tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", devices.DEVICES)
def test_presets_say_where_they_are_from(name):
    assert "estimate" in devices.device(name).source


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: dataclasses.replace(devices.A100, power_w=-1.0),
            "'A100 80GB SXM' has power_w=-1.0; give a finite number above 0",
        ),
        (
            lambda: dataclasses.replace(devices.A100, bytes_share=1.5),
            "bytes_share=1.5; give a finite number above 0 and at most 1",
        ),
        (lambda: devices.device("RTX 5090"), "no device 'RTX 5090'; choose one of"),
        (lambda: models.model("GPT"), "no language model 'GPT'; choose one of"),
        (lambda: servers.preset("table_2"), "no fleet 'table_2'; choose one of"),
        (
            lambda: dataclasses.replace(models.QWEN2_5_3B, bits_per_weight=0),
            "bits_per_weight=0; give a finite number above 0",
        ),
        (lambda: inference.decode_time(*ON_RTX, 1.0, "max"), "overlap='max'; choose"),
        (
            lambda: servers.Server(devices.PHONE, models.QWEN2_5_7B),
            "15.2 GB of weights and phone 12.0 GB of memory: take fewer",
        ),
        (
            lambda: servers.Server(*ON_RTX, bandwidth_hz=0.0),
            "bandwidth_hz=0.0; give a finite number above 0",
        ),
        (lambda: servers.Server(*ON_RTX, snr_db=float("nan")), "snr_db=nan; give"),
        (lambda: servers.at_distance(*ON_RTX, 0.0), "distance=0.0; give a finite"),
        (lambda: servers.stack([]), "at least one server"),
    ],
)
def test_bad_input_is_named_with_its_mend(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert message in str(caught.value)
