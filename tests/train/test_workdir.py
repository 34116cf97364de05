"""A workdir belongs to one run, and its checkpoints decide which."""

import dataclasses
import json

import jax.numpy as jnp
import pytest

from m3jax import base
from m3jax.files import locks
from m3jax.train import checkpoints, config, typed_json, workdir

WANTED = config.TrainConfig(seed=7)
STATE = base.TrainState(jnp.int32(5), {"w": jnp.ones(3)}, ())


def start(directory, wanted=WANTED, resume=False):
    """Takes the first step of a run."""
    with workdir.owned(directory, wanted, resume) as folder:
        workdir.started(folder, wanted, {"seconds_to_first_step": 1.5})
    return folder


def save(directory, wanted=WANTED, step=5):
    """Saves a step, as the loop does."""
    with checkpoints.Checkpointer(
        directory / workdir.CHECKPOINTS, config=typed_json.to_json(wanted)
    ) as saves:
        saves.save(step, STATE)


def test_config_and_run_are_written_and_read_back(tmp_path):
    directory = start(tmp_path / "a" / "b")
    assert workdir.load_config(directory) == WANTED
    run = workdir.load_run(directory)
    assert run["versions"]["jax"]
    assert run["device"]["devices"] >= 1
    assert "commit" in run
    assert run["command"]
    assert run["seconds_to_first_step"] == 1.5


def test_other_config_is_refused_naming_field_and_mend(tmp_path):
    start(tmp_path)
    save(tmp_path)
    other = config.TrainConfig(seed=8)
    for resume in (False, True):
        with pytest.raises(ValueError, match="seed: 8 and 7.*--workdir.*--resume"):
            start(tmp_path, other, resume=resume)
    assert workdir.load_config(tmp_path) == WANTED, "nothing is lost"


def test_a_start_that_saved_nothing_does_not_hinder_another(tmp_path):
    start(tmp_path)
    start(tmp_path, config.TrainConfig(seed=8))
    assert workdir.load_config(tmp_path).seed == 8


def test_a_start_that_took_no_step_leaves_no_config(tmp_path):
    with workdir.owned(tmp_path, WANTED):
        pass
    assert not (tmp_path / workdir.CONFIG).exists()


def test_same_config_with_checkpoints_needs_resume(tmp_path):
    start(tmp_path)
    start(tmp_path)  # It was stopped before its first checkpoint.
    save(tmp_path)
    with pytest.raises(FileExistsError, match="--resume"):
        start(tmp_path)
    start(tmp_path, resume=True)
    assert workdir.load_run(tmp_path)["starts"] == 3


def test_a_run_may_go_on_for_longer_and_with_other_intervals(tmp_path):
    start(tmp_path)
    save(tmp_path)
    longer = dataclasses.replace(WANTED, steps=5000, keep=7, checkpoint_every=3)
    wrapped = {"train": longer, "data": {"data_dir": "here"}}
    assert workdir._without(typed_json.plain({"a": 1}), ("a",)) == {}
    with pytest.raises(ValueError, match="steps"):
        start(tmp_path, longer)  # A new run is not the old one.
    shown = typed_json.to_json(wrapped)
    kept = workdir._without(shown, workdir.MAY_CHANGE)
    assert "seed" in kept["train"]
    assert not {"steps", "keep", "checkpoint_every"} & set(kept["train"])
    assert kept["data"] == {}


def test_fields_with_defaults_may_come_and_go(tmp_path):
    start(tmp_path)
    save(tmp_path)
    kept = typed_json.to_json(WANTED)
    old = {k: v for k, v in kept.items() if k != "keep"} | {"gone": 3}
    for step in (tmp_path / workdir.CHECKPOINTS).glob("[0-9]*"):
        path = step / "card" / "metadata"
        card = json.loads(path.read_text())
        del card["xxh3"]  # An old one.
        path.write_text(json.dumps(card | {"config": old}))
    start(tmp_path, resume=True)
    assert workdir.load_config(tmp_path) == WANTED


@pytest.mark.parametrize(
    "text", ['{"type"', "[]", "\0\0", '{"type": "os:path"}', '{"x": 1}']
)
def test_a_stray_config_is_kept_beside_and_the_checkpoints_decide(tmp_path, text):
    start(tmp_path)
    save(tmp_path)
    (tmp_path / workdir.CONFIG).write_text(text)
    assert workdir.load_config(tmp_path) == WANTED
    start(tmp_path, resume=True)
    assert typed_json.read(tmp_path / workdir.CONFIG) == typed_json.to_json(WANTED)
    assert (tmp_path / f"{workdir.CONFIG}.damaged-1").read_text() == text


@pytest.mark.parametrize("text", ["{}", "[]", '{"starts"', '{"wall_seconds": "x"}'])
def test_a_damaged_run_file_does_not_strand_the_run(tmp_path, text):
    start(tmp_path)
    save(tmp_path)
    (tmp_path / workdir.RUN).write_text(text)
    start(tmp_path, resume=True)
    assert workdir.load_run(tmp_path)["versions"]["jax"]


def test_nothing_to_resume_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        start(tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()
    with pytest.raises(FileNotFoundError, match="training run"):
        workdir.load_config(tmp_path)


@pytest.mark.parametrize("place", ["", " ", "gs://bucket/run", "s3://bucket", "az:/x"])
def test_a_workdir_that_is_no_directory_is_named(place):
    with pytest.raises(ValueError, match="--workdir"):
        start(place)


def test_workdir_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        start(tmp_path / "file")


def test_a_config_that_nothing_tells_is_named(tmp_path):
    start(tmp_path)
    for text in ('{"type"', "[]"):
        (tmp_path / workdir.CONFIG).write_text(text)
        with pytest.raises(ValueError, match=r"config\.json"):
            workdir.load_config(tmp_path)


def test_wall_time_adds_up_over_starts_whatever_the_clock_says(tmp_path, monkeypatch):
    start(tmp_path)
    run = workdir.load_run(tmp_path)
    typed_json.write(tmp_path / workdir.RUN, run | {"wall_seconds": 100.0})
    save(tmp_path)
    with workdir.owned(tmp_path, WANTED, resume=True) as folder:
        monkeypatch.setattr("time.time", lambda: 0.0)  # Set back.
        workdir.update_run(folder)
    assert 100.0 <= workdir.load_run(tmp_path)["wall_seconds"] < 200.0


def test_a_second_run_is_refused_while_the_first_is_alive(tmp_path):
    with (
        workdir.owned(tmp_path, WANTED),
        pytest.raises(locks.InUseError, match="in use by process .* take another"),
    ):
        start(tmp_path)
    start(tmp_path)


def test_checkpointer_fills_the_place_that_workdir_looks_at(tmp_path):
    assert not workdir.has_checkpoints(tmp_path)
    with checkpoints.Checkpointer(tmp_path / workdir.CHECKPOINTS, read_only=True):
        assert not workdir.has_checkpoints(tmp_path)
    save(tmp_path)
    assert workdir.has_checkpoints(tmp_path)
