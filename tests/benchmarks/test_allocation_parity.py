"""m3jax and SLSQP find the same bandwidths in the benchmark of allocation."""

import jax
import numpy as np
import pytest

from benchmarks import allocation


@pytest.mark.parametrize("workload", allocation.WORKLOADS["tiny"])
def test_both_sides_reach_the_optimum(workload):
    given = workload.draw()
    optimum = allocation.exact_values(workload, given)
    ours = allocation.solver(workload.num_blocks)(*given)
    above = allocation.excess(allocation.values(given, ours), optimum)
    assert -1e-7 < above.min() and above.max() < allocation.EXCESS
    theirs = allocation.peer(allocation.SMOOTH, given, workload.num_peers)()
    first = jax.tree.map(lambda leaf: leaf[: workload.num_peers], given[:2])
    found = allocation.values((*first, given[2]), theirs)
    assert np.abs(allocation.excess(found, optimum)).max() < allocation.PEERS_EXCESS
