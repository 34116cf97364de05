"""m3jax and its peers have the same posterior in the benchmark of optimisation."""

import pytest

pytest.importorskip("tinygp")


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["skopt", "botorch"])
def test_posteriors_agree_with_the_peers(peer):
    pytest.importorskip(peer)
    from benchmarks import bayesopt

    bayesopt.check([peer])


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["skopt", "botorch"])
def test_another_kernel_is_seen(peer, monkeypatch):
    pytest.importorskip(peer)
    from benchmarks import bayesopt, bayesopt_peers

    own = bayesopt_peers.POSTERIORS[peer]

    def other(points, values, queries, lengths, amplitude, noise):
        return own(points, values, queries, 1.3 * lengths, amplitude, noise)

    monkeypatch.setitem(bayesopt_peers.POSTERIORS, peer, other)
    with pytest.raises(RuntimeError, match="differs"):
        bayesopt.check([peer])


def test_the_objective_has_the_optimum_that_is_published():
    from benchmarks import bayesopt

    best = [0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573]
    assert bayesopt.objective(best) == pytest.approx(bayesopt.OPTIMUM, abs=1e-4)
    assert float(bayesopt.hartmann(best)) == pytest.approx(bayesopt.OPTIMUM, abs=1e-4)
