"""Times are paired, ratios point the right way, rows survive JSON."""

import dataclasses
import json

import pytest

from benchmarks import harness, report

SCHEMA = {
    *("workload", "unit", "m3jax", "peer", "peer_name", "ratio", "versions", "cores"),
    *("device", "matmul_gflops", "target", "others"),
}
MACHINE = harness.Machine({"jax": "0", "torch": None}, 2, "a processor", 300.0)


class DriftingMachine:
    """A clock, and work whose time doubles from round to round."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def work(self, name, seconds, num_names):
        def call():
            self.now += seconds * 2.0 ** (len(self.calls) // num_names)
            self.calls.append(name)

        return call

    def clock(self):
        return self.now


def drifting_rounds(rounds, warmup=0):
    machine = DriftingMachine()
    contestants = {
        name: machine.work(name, seconds, 3)
        for name, seconds in (("m3jax", 1.0), ("slow", 8.0), ("fast", 4.0))
    }
    times = harness.paired(contestants, rounds, warmup, 0.0, clock=machine.clock)
    return machine, times


def test_every_round_times_every_contestant_once():
    machine, times = drifting_rounds(5)
    assert [list(one_round) for one_round in times] == [["m3jax", "slow", "fast"]] * 5
    for start in range(0, 15, 3):
        assert sorted(machine.calls[start : start + 3]) == ["fast", "m3jax", "slow"]


def test_nobody_always_follows_the_same_other():
    machine, _ = drifting_rounds(6)
    before = {
        machine.calls[at - 1] for at in range(1, 18) if machine.calls[at] == "m3jax"
    }
    assert {"slow", "fast"} <= before


def test_warm_up_is_run_and_not_timed():
    machine, times = drifting_rounds(2, warmup=3)
    assert len(machine.calls) == 3 * (3 + 2)
    assert len(times) == 2


def test_paired_ratio_does_not_see_the_drift():
    _, times = drifting_rounds(6)
    row = harness.compare("w", times, MACHINE)
    assert row.ratio == pytest.approx(4.0)


def test_the_best_peer_is_the_row_and_the_others_are_kept():
    _, times = drifting_rounds(1)
    row = harness.compare("w", times, MACHINE, target=2.0)
    assert (row.m3jax, row.peer, row.peer_name) == (1.0, 4.0, "fast")
    assert row.others == {"slow": 8.0}
    assert row.target == 2.0


def test_ratio_is_below_one_where_m3jax_loses():
    row = harness.compare("w", [{"m3jax": 2.0, "peer": 1.0}], MACHINE)
    assert row.ratio == pytest.approx(0.5)


def test_ratio_is_the_median_of_pairs():
    times = [{"m3jax": 1.0, "peer": p} for p in (2.0, 3.0, 100.0)]
    assert harness.compare("w", times, MACHINE).ratio == pytest.approx(3.0)


@pytest.mark.parametrize("rounds", [[], [{"m3jax": 1.0}]])
def test_nothing_to_compare_is_an_error(rounds):
    with pytest.raises(ValueError, match="to compare"):
        harness.compare("w", rounds, MACHINE)


def test_no_round_is_an_error():
    with pytest.raises(ValueError, match="round"):
        harness.paired({"a": lambda: None}, rounds=0)


def test_rows_are_printed_as_one_json_list_of_the_schema(capsys):
    _, times = drifting_rounds(1)
    row = harness.compare("w", times, MACHINE)
    harness.print_rows([row, row])
    found = json.loads(capsys.readouterr().out)
    assert [set(one) for one in found] == [SCHEMA, SCHEMA]
    assert harness.Row(**found[0]) == row


def test_matrix_product_is_a_positive_rate():
    assert 0.0 < harness.matmul_gflops(size=64, repeats=1) < 1e7


def test_picture_and_table_show_every_row_and_target():
    _, times = drifting_rounds(1)
    won = harness.compare("won", times, MACHINE, target=2.0)
    lost = dataclasses.replace(won, workload="lost", ratio=0.5, target=None)
    ax = report.draw([won, lost])
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["won", "lost"]
    drawn = {line.get_label(): list(line.get_xdata()) for line in ax.get_lines()}
    assert drawn["measured"] == [won.ratio, 0.5]
    assert drawn["target"] == [2.0]
    low, high = ax.get_xlim()
    assert low < 0.5 < won.ratio < high
    lines = report.table([won, lost]).splitlines()
    assert [line.count("|") for line in lines] == [7] * 4
    assert "0.50x" in lines[3]


def test_drawing_nothing_is_an_error():
    with pytest.raises(ValueError, match="no benchmark"):
        report.draw([])


def test_a_missing_peer_is_named_with_the_mend():
    with pytest.raises(
        RuntimeError, match=r"no_such_peer.*pip install 'm3jax\[bench\]'"
    ):
        harness.require("no_such_peer")
    harness.require("json")
