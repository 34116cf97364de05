"""What of a grid is trained, together or alone, and what is trained again."""

import copy
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from m3jax import base
from m3jax.evals import axes, records
from m3jax.experiments import running, sweeping, together
from m3jax.train import metrics, workdir

OWN = Path(__file__).parents[1] / "own_system"
GRID = base.Grid(snrs_db=(0.0, 20.0), num_seeds=3, num_examples=26)

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def config():
    """A system of a few numbers, which compiles in no time."""
    sys.path.insert(0, str(OWN))
    from mine import config

    yield config.get_config()
    sys.path.remove(str(OWN))


@pytest.fixture(scope="module")
def swept(config, tmp_path_factory):
    """A grid of two variants and two seeds: its folder and its records."""
    folder = tmp_path_factory.mktemp("sweep")
    return folder, run_grid(config, folder)


def run_grid(config, folder, **options):
    points = {"system.uses": (1, 2), "train.seed": (0, 1)}
    return sweeping.run(config, points, folder, GRID, show_progress=False, **options)


def test_every_point_of_the_grid_is_a_run_of_its_own(swept):
    folder, _ = swept
    names = {f"uses={uses},seed={seed}" for uses in (1, 2) for seed in (0, 1)}
    assert {path.name for path in folder.glob("[!.]*")} == names
    for name in names:
        made = workdir.load_config(folder / name)
        assert name == f"uses={made.system.uses},seed={made.train.seed}"
        assert [row["step"] for row in metrics.read(folder / name)] == [2, 4]
        assert {r.seed for r in records.read(folder / name)} == {0, 1, 2}
        saved = json.loads((folder / name / "config.json").read_text())
        assert saved["system"]["type"] == "mine.system:Config"


def test_records_average_over_noise_and_keep_the_training_seed(swept):
    folder, rows = swept
    assert {(r.variant, r.seed) for r in rows} == {
        (f"uses={uses}", seed) for uses in (1, 2) for seed in (0, 1)
    }
    for row in records.select(rows, snr_db=0.0):
        noisy = records.read(folder / f"{row.variant},seed={row.seed}")
        noisy = records.select(noisy, snr_db=0.0)
        assert len(noisy) == 3
        np.testing.assert_allclose(row.value, np.mean([r.value for r in noisy]))


def test_what_is_done_is_not_trained_again(config, swept):
    """One of four runs is lost: it alone is trained, and the records are the same."""
    folder, rows = swept
    (folder / "uses=1,seed=1").rename(folder.parent / f"{folder.name}-lost")
    before = {path: path.read_text() for path in folder.glob("*/metrics.jsonl")}
    assert len(before) == 3
    again = run_grid(config, folder)
    after = {path: path.read_text() for path in folder.glob("*/metrics.jsonl")}
    assert len(after) == 4
    assert {path: after[path] for path in before} == before
    assert again == rows


def test_runs_trained_by_one_program_are_those_trained_alone(config, swept, tmp_path):
    folder, rows = swept
    shared = run_grid(config, tmp_path, shared=True)
    for one, two in zip(rows, shared, strict=True):
        assert one._replace(value=0.0) == two._replace(value=0.0)
        np.testing.assert_allclose(one.value, two.value, rtol=1e-4)
    for alone in folder.glob("[!.]*"):
        first, second = (running.restore(f / alone.name) for f in (folder, tmp_path))
        assert first.config == second.config
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            first.params,
            second.params,
        )
        told = [
            [row["loss"] for row in metrics.read(f / alone.name)]
            for f in (folder, tmp_path)
        ]
        np.testing.assert_allclose(*told, rtol=1e-4)


def test_floats_that_are_data_share_a_program_and_what_shapes_it_does_not(config):
    rate = "learner.optimizer.learning_rate"
    assert together.can_share(config, ["train.seed"])
    assert together.can_share(config, ["train.seed", rate])
    assert not together.can_share(config, ["system.uses"])
    watched = copy.deepcopy(config)
    watched.train.evaluate_every = 2
    assert not together.can_share(watched, ["train.seed"])


def test_a_swept_float_reaches_each_run_of_a_shared_program(config, tmp_path):
    points = {"learner.optimizer.learning_rate": (1e-3, 1e-1)}
    grid = GRID._replace(num_seeds=1)
    for name, shared in (("alone", False), ("together", True)):
        sweeping.run(
            *(config, points, tmp_path / name, grid),
            shared=shared,
            show_progress=False,
        )
    for run in (tmp_path / "alone").glob("[!.]*"):
        one = running.restore(run).params
        two = running.restore(tmp_path / "together" / run.name).params
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            *(one, two),
        )


def test_a_shared_training_that_was_broken_off_goes_on(config, tmp_path, monkeypatch):
    def run():
        points, options = {"train.seed": (0, 1)}, {"shared": True}
        options["show_progress"] = False
        return sweeping.run(config, points, tmp_path, GRID, **options)

    monkeypatch.setattr(together, "_write_run", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # all steps are taken, no run is written
        run()
    (kept,) = (tmp_path / ".together").iterdir()
    assert workdir.newest_step(kept) == config.train.steps
    monkeypatch.undo()
    assert {row.seed for row in run()} == {0, 1}
    assert not list((tmp_path / ".together").iterdir())


def test_a_grid_with_one_bad_point_trains_nothing(config, tmp_path):
    for points, told in (
        ({"train.steps": (3, 0)}, "steps=0 can't be: train.steps must be"),
        ({"system.uses": (1, 0)}, "uses=0 can't be: system.width and system.uses"),
    ):
        with pytest.raises(ValueError, match=told):
            sweeping.run(config, points, tmp_path, GRID)
    with pytest.raises(ValueError, match="--num_seeds must be 1 or more"):
        points = {"train.seed": (0, 1)}
        sweeping.run(config, points, tmp_path, GRID._replace(num_seeds=0))
    assert not list(tmp_path.iterdir())


def test_what_runs_are_compared_with_counts_once():
    at = axes.at(snr_db=0)
    ours = [base.Record("s", "v", at, seed, "m", 0.1 * seed, "1") for seed in (0, 1)]
    floor = base.Record("s", "chance", (), 0, "m", 0.5, "1")
    rows = []
    sweeping._add(rows, [ours[0], floor], "x=1")
    sweeping._add(rows, [ours[1], floor], "x=1")
    assert rows == [ours[0], floor, ours[1]]
    other = floor._replace(value=0.7)
    sweeping._add(rows, [other], "x=2")
    assert rows[3:] == [other._replace(variant="chance (x=2)")]
