"""m3jax and Transformers write the same words in the benchmark of decoding."""

import dataclasses

import numpy as np
import pytest


@pytest.fixture(scope="module")
def tiny():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from benchmarks import speculation as benchmark

    sizes = {"vocab_size": 50, "dim": 32, "depth": 2, "num_heads": 4, "scan_unroll": 1}
    config = dataclasses.replace(benchmark.CONFIG, ff_dim=48, **sizes)
    draft = dataclasses.replace(config, dim=16, depth=1)
    prompt = benchmark.draw_prompt(config, 5)
    return benchmark, prompt, benchmark.make_pairs(config, draft, prompt)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["never", "always"])
def test_words_agree_with_transformers(tiny, name):
    benchmark, prompt, pairs = tiny
    found = benchmark.check(pairs[name], prompt, 24)
    accepted = float(found.counts.acceptance[0])
    assert accepted == 1.0 if name == "always" else accepted < 0.3


@pytest.mark.slow
def test_other_weights_are_seen(tiny, monkeypatch):
    benchmark, prompt, pairs = tiny
    make_peer = benchmark.make_peer

    def other(party, length):
        table = np.asarray(party.params["embedder"]["embedding"])
        changed = {**party.params, "embedder": {"embedding": table[::-1].copy()}}
        return make_peer(party.replace(params=changed), length)

    monkeypatch.setattr(benchmark, "make_peer", other)
    with pytest.raises(RuntimeError, match="words differ from Transformers"):
        benchmark.check(pairs["never"], prompt, 24)
