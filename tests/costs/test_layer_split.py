"""A model cut in two, beside the whole one and beside sums by hand."""

import numpy as np
import pytest

from m3jax.costs import devices, inference, layer_split, vision_language, workers

LINK = workers.Link(2e8, 1e8)
ANSWER = np.array([1, 5, 16])


def _run(share, **others):
    split = layer_split.Split(share=share, **others)
    found = layer_split.run(
        np.random.default_rng(0), split, LINK, text=40, seen=324, answer=ANSWER
    )
    return split, found


def test_seconds_are_those_of_the_parts():
    split, found = _run(0.25, bits_per_real=8)
    language, edge, cloud = split.model.language, split.edge, split.cloud
    state = language.dim * 8
    token = (
        inference.compute_time(
            edge, 0.25 * language.decode_flops(364), 0.25 * language.decode_bytes(364)
        )
        + state / 1e8
        + 0.02
        + inference.compute_time(
            cloud, 0.75 * language.decode_flops(364), 0.75 * language.decode_bytes(364)
        )
        + 18 / 2e8
    )
    np.testing.assert_allclose(found.decode_s, ANSWER * token, rtol=1e-6)
    np.testing.assert_allclose(found.up_bits, state * (364 + ANSWER))
    np.testing.assert_allclose(found.down_bits, 18 * ANSWER)
    sent = 364 * state / 1e8
    np.testing.assert_allclose(
        found.total_s - found.decode_s - sent - 0.02,
        found.edge_s + found.cloud_s - ANSWER * (token - state / 1e8 - 0.02 - 18 / 2e8),
        rtol=1e-6,
    )


def test_with_no_layer_on_the_edge_the_cloud_decodes_as_ever():
    split, found = _run(0.0)
    alone = inference.decode_time(split.cloud, split.model.language, 364)
    waits = found.decode_s - found.up_s + 364 * split.model.language.dim * 16 / 1e8
    np.testing.assert_allclose(waits - found.down_s, ANSWER * (alone + 0.02), rtol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_parts_make_the_whole(share):
    model = vision_language.QWEN2_5_VL_7B
    split = layer_split.Split(share=share)
    np.testing.assert_allclose(
        sum(split.memory_bytes(100)), model.memory_bytes(100), rtol=1e-12
    )
    flops = model.prefill_flops(40, 324) + ANSWER * model.language.decode_flops(364)
    np.testing.assert_allclose(sum(split.flops(40, 324, ANSWER)), flops, rtol=1e-12)


def test_it_fits_the_edge_only_in_part():
    edge, cloud = layer_split.Split(share=0.5).memory_bytes(600)
    assert edge < devices.RTX_3090.memory_bytes
    assert cloud < edge  # the tower is on the edge


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"bits_per_real": 0}])
def test_what_makes_no_sense_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        layer_split.Split(**wrong)
