"""m3jax and its peers compute the same thing in the benchmarks of links and tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import links, tokens
from m3jax.channels import equalisers, fading
from m3jax.channels import links as link_lib
from m3jax.ops import random

# Raised by the peers' own dependencies, not by what is compared.
of_peers = pytest.mark.filterwarnings("default::DeprecationWarning")


@pytest.mark.parametrize("block_length", [None, links.BLOCK_LENGTH])
def test_our_error_rates_are_those_of_theory(block_length):
    key = random.box_muller(jax.random.key(0))
    counts = links.simulate(links.TINY, block_length, key)
    assert counts.trials.tolist() == [4 * links.TINY.symbols] * 2
    links.check_rates("ours", counts.errors, links.TINY, block_length)
    with pytest.raises(RuntimeError, match="theory says"):
        links.check_rates("doubled", 2 * counts.errors, links.TINY, block_length)


def test_chunks_change_neither_losses_nor_gradients():
    workload = tokens.TINY
    link = link_lib.AnalogLink(fading.RayleighBlock(workload.shape[2] // 2))
    inputs = workload.values(), jax.random.key(0), jnp.asarray(workload.snrs_db)
    one, whole = (tokens.step(*inputs, link=link, chunk=chunk) for chunk in (1, 4))
    for left, right in zip(one, whole, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)
    assert one[0].shape == (2,) and one[1].shape == workload.shape


def test_every_size_is_a_whole_number_of_batches_and_blocks():
    for workload in links.WORKLOADS.values():
        for batch in (workload.our_batch, workload.peer_batch):
            assert workload.symbols % batch == 0
            assert batch % 1000 == 0 and batch % links.BLOCK_LENGTH == 0
        assert workload.gradient_symbols % links.BLOCK_LENGTH == 0
    for workload in tokens.WORKLOADS.values():
        assert workload.shape[0] % workload.chunk == 0


@pytest.mark.slow
@of_peers
@pytest.mark.parametrize("block_length", [None, links.BLOCK_LENGTH])
def test_sionnas_error_rates_are_those_of_theory(block_length):
    pytest.importorskip("torch")
    pytest.importorskip("sionna")
    calls = links.peers(links.TINY, block_length)
    assert set(calls) == {links.EAGER, links.COMPILED, links.PER_AXIS}
    for name in (links.EAGER, links.PER_AXIS):
        links.check_rates(name, calls[name](), links.TINY, block_length)


@pytest.mark.slow
@of_peers
def test_gradients_of_symbols_agree_with_sionna():
    pytest.importorskip("torch")
    pytest.importorskip("sionna")
    links.check_gradient(links.TINY)


@pytest.mark.slow
@of_peers
def test_gradients_of_tokens_agree_with_pytorch():
    pytest.importorskip("torch")
    tokens.check(tokens.TINY)


@pytest.mark.slow
@of_peers
def test_a_wrong_equaliser_is_seen(monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("sionna")
    right = equalisers.mmse
    monkeypatch.setattr(equalisers, "mmse", lambda y, h, no, *a: right(y, h, 2 * no))
    for check, workload in (
        (links.check_gradient, links.TINY),
        (tokens.check, tokens.TINY),
    ):
        with pytest.raises(RuntimeError, match="gradients differ"):
            check(workload)
