"""m3jax and its peers have the same posterior in the benchmark of optimisation."""

import numpy as np
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


def test_the_regret_is_judged_with_its_standard_error():
    from benchmarks import bayesopt

    rng = np.random.default_rng(0)

    def around(regret, spread, num):
        values = rng.normal(size=num)
        values = (values - values.mean()) / values.std(ddof=1)
        return bayesopt.OPTIMUM + regret + spread * values

    few, many = around(0.02, 0.05, 5), around(0.02, 0.05, 500)
    worse = {"other": around(0.6, 0.1, 5)}
    found = bayesopt.judge(around(0.09, 0.08, 64), {"one": few, **worse})
    assert found["m3jax"] == pytest.approx((0.09, 0.01))
    assert found["one"] == pytest.approx((0.02, 0.05 / np.sqrt(5)))
    bayesopt.judge(around(0.09, 0.08, 64), {"one": many})  # below 0.05 + 2 errors
    with pytest.raises(RuntimeError, match=r"0\.110.*one 0\.020"):
        bayesopt.judge(around(0.11, 0.08, 64), {"one": many, **worse})
    bayesopt.judge(around(0.11, 0.08, 64), {"one": few})
    with pytest.raises(RuntimeError, match="speed alone"):
        bayesopt.judge(around(0.2, 0.08, 64), {"one": few})
