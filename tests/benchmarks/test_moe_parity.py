"""m3jax and PyTorch compute the same thing in the benchmark of experts."""

import dataclasses

import pytest

from m3jax.nn import moe


@pytest.fixture
def tiny():
    pytest.importorskip("torch")
    from benchmarks import moe as benchmark

    experts = moe.MoeConfig(num_experts=4, top_k=2, ff_dim=12)
    sizes = {"dim": 16, "depth": 2, "num_heads": 4, "scan_unroll": 1}
    config = dataclasses.replace(benchmark.CONFIG, moe=experts, **sizes)
    return benchmark, config, benchmark.draw(config, 2, 7)


@pytest.mark.slow
def test_hidden_states_and_gradients_agree_with_pytorch(tiny):
    benchmark, config, drawn = tiny
    benchmark.check(config, *drawn)


@pytest.mark.slow
def test_a_wrong_formula_is_seen(tiny, monkeypatch):
    benchmark, config, drawn = tiny
    make_peers = benchmark.make_peers

    def other(config, weights, length):
        changed = dataclasses.replace(config.moe, top_k=1)
        return make_peers(dataclasses.replace(config, moe=changed), weights, length)

    monkeypatch.setattr(benchmark, "make_peers", other)
    with pytest.raises(RuntimeError, match="differ"):
        benchmark.check(config, *drawn)
