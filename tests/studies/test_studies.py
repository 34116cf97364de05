"""Verdicts follow from intervals; stores keep whole units; the runner resumes."""

import json
import os

import numpy as np
import pytest
from scipy import stats

from m3jax import base
from m3jax.studies import compiling, report, runner, store, study, workers
from m3jax.train import interrupts

ROW = base.Record("toy", "a", (("snr_db", 0.0),), 0, "accuracy", 0.5, "1")


@pytest.mark.parametrize(
    ("values", "asked", "below", "verdict"),
    [
        ([2.0, 2.1, 1.9], 1.5, False, "holds"),
        ([2.0, 2.1, 1.9], 2.0, False, "open"),
        ([2.0, 2.1, 1.9], 2.5, False, "fails"),
        ([2.0, 2.1, 1.9], 2.5, True, "holds"),
        ([2.0, 2.1, 1.9], 1.5, True, "fails"),
        ([0.0, 0.0, 0.0], 0.0, False, "fails"),
        ([5.0], 1.0, False, "open"),
    ],
)
def test_a_claim_holds_if_its_whole_interval_does(values, asked, below, verdict):
    found = study.judge("more", values, asked, unit="1", below=below)
    assert found.verdict == verdict
    if len(values) > 2 and np.std(values) > 0:
        interval = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        assert tuple(found.measured[1:]) == pytest.approx(interval)


def test_verdicts_are_written_for_machines_and_people(tmp_path):
    verdicts = [
        study.judge("gain", [0.2, 0.21], 0.137, unit="1", paper="+13.7 points"),
        study.judge("alone", [3.0], 1.0, unit="updates"),
    ]
    report.write_verdicts(tmp_path / "verdicts.json", verdicts)
    rows = json.loads((tmp_path / "verdicts.json").read_text())
    assert [row["claim"] for row in rows] == ["gain", "alone"]
    assert rows[0]["holds"] is (rows[0]["low"] > 0.137)
    assert rows[1]["low"] == "nan" and rows[1]["holds"] is False
    table = report.verdict_table(verdicts)
    assert "| gain | +13.7 points | 13.7 points | 20.5 points" in table


def test_a_unit_comes_back_as_it_was_kept(tmp_path):
    kept = store.Store(tmp_path, {"steps": 3})
    unit = study.Unit("a, 4", 1)
    assert not kept.has(unit)
    kept.put(
        unit,
        study.UnitResult([ROW], {"loss": [1.0, 0.5]}, {"points": np.arange(4.0)}),
    )
    found = store.Store(tmp_path, {"steps": 3}).get(unit)
    assert found.records == [ROW]
    assert found.curves == {"loss": [1.0, 0.5]}
    np.testing.assert_array_equal(found.arrays["points"], np.arange(4.0))


def test_results_of_other_settings_are_not_mixed(tmp_path):
    store.Store(tmp_path, {"steps": 3, "seeds": [0, 1]})
    with pytest.raises(ValueError, match="steps: 3 and 4.*take another --out"):
        store.Store(tmp_path, {"steps": 4, "seeds": [0, 1]})


def test_names_that_differ_in_signs_are_kept_apart(tmp_path):
    kept = store.Store(tmp_path, {})
    kept.put(study.Unit("w = 0.5", 0), study.UnitResult([ROW]))
    assert not kept.has(study.Unit("w = 0,5", 0))


class Toy:
    """A study whose units note that they were run."""

    settings = {"toy": 1}
    ran: list = []

    def units(self):
        return [study.Unit(name, seed) for name in "ab" for seed in (0, 1)]

    def prepare(self):
        pass

    def run(self, unit):
        self.ran.append(unit)
        value = float(ord(unit.variant)) + unit.seed
        row = ROW._replace(variant=unit.variant, seed=unit.seed, value=value)
        return study.UnitResult([row], {"loss": [value]})

    def conclude(self, results):
        total = sum(row.value for row in results.records)
        return [ROW._replace(variant="total", value=total, metric="sum")]

    def verdicts(self, results):
        b, a = (
            [row.value for row in results.records if row.variant == name]
            for name in "ba"
        )
        return [study.judge("b beats a", np.subtract(b, a), 0.5, unit="1")]

    def summarise(self, results):
        return f"{len(results.records)} rows"

    def draw(self, results, folder):
        assert results.curves["a", 1] == {"loss": [98.0]}
        return []


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(runner, "load", lambda system, size: Toy())
    monkeypatch.setattr(Toy, "ran", [])
    return Toy


def test_what_is_there_is_not_measured_again(toy, tmp_path):
    text = runner.run("toy", "smoke", tmp_path, num_workers=0)
    assert len(toy.ran) == 4
    assert "b beats a" in text and "5 rows" in text
    (tmp_path / "units" / "b-1.json").unlink()
    again = runner.run("toy", "smoke", tmp_path, num_workers=0)
    assert toy.ran[4:] == [study.Unit("b", 1)]
    assert again == text
    assert (tmp_path / "table.md").read_text() == text + "\n"
    rows = json.loads((tmp_path / "results.json").read_text())
    assert rows[-1]["value"] == 97 + 98 + 98 + 99


def test_a_stopped_study_says_what_is_kept_and_what_to_do(tmp_path):
    stop = workers.Stopped(interrupts.signal.SIGINT, 3, 10, tmp_path)
    assert stop.exit_code == 130
    assert "3 of 10 units are kept" in str(stop) and "same command" in str(stop)


@pytest.mark.parametrize(
    ("system", "size", "message"),
    [
        ("nobody", "smoke", "there are .'m3llm', 'moe2', 'msao', 'tokcom', 'wdmoe'"),
        ("tokcom", "huge", "size must be"),
    ],
)
def test_an_unknown_study_is_named(system, size, message):
    with pytest.raises(ValueError, match=message):
        runner.load(system, size)


def test_flags_are_added_for_a_while_and_the_environment_comes_back(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--some=1")
    with compiling.flags("--more=2"):
        assert os.environ["XLA_FLAGS"].split() == ["--some=1", "--more=2"]
        with compiling.flags(""):
            assert os.environ["XLA_FLAGS"].split() == ["--some=1", "--more=2"]
    assert os.environ["XLA_FLAGS"] == "--some=1"
