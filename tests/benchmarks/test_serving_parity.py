"""The benchmark of serving: both servers say the same, and rows are what they say."""

import asyncio

import numpy as np
import pytest

from benchmarks import harness, serving, serving_servers

MACHINE = harness.Machine({"jax": "1"}, 2, "cpu", 100.0)


def turns(rate, *waits):
    return [(rate, np.array(waits))]


def test_rows_say_how_much_better_we_are():
    found = {
        serving.OURS: turns(50.0, 0.1, 0.2, 0.3),
        serving.BY_PROTOCOL: turns(25.0, 0.4),
        serving.PEER: turns(100.0, 0.05, 0.1, 0.15),
    }
    rows = serving.make_rows(8, found, MACHINE)
    assert [row.unit for row in rows] == ["1/s", "1/s", "s", "s", "s"]
    assert [row.ratio for row in rows[:2]] == [0.5, 0.25], "fewer calls: below 1"
    np.testing.assert_allclose([row.ratio for row in rows[2:]], 0.5)
    assert rows[2].m3jax == 0.2 and rows[2].peer == 0.1, "medians of the waits"
    assert rows[0].target == 0.5 and rows[1].target is None
    assert len({row.workload for row in rows}) == len(rows)


def test_other_bytes_are_seen():
    right = serving.codec.encode(serving_servers.tokens())
    serving.check({"a": right})
    with pytest.raises(RuntimeError, match="b: other bytes"):
        serving.check({"a": right, "b": right[:-1]})


def test_load_counts_every_call():
    async def call():
        await asyncio.sleep(0.01)
        return b""

    rate, waits = asyncio.run(serving.load(call, clients=4, seconds=0.1))
    assert 4 <= len(waits) <= 44 and 0.0 < rate <= len(waits) / 0.1
    assert waits.min() >= 0.009


@pytest.mark.slow
def test_both_servers_answer_all_callers():
    pytest.importorskip("fastapi")
    pytest.importorskip("mcp")

    async def work():
        with serving.started("m3jax") as ours, serving.started("fastapi") as peer:
            return await serving.measure(ours, peer, MACHINE, rounds=1, seconds=0.1)

    rows = asyncio.run(work())
    assert len(rows) == len(serving.CLIENTS) * (3 + len(serving.PERCENTILES))
    assert all(row.m3jax > 0.0 and row.ratio > 0.0 for row in rows)
