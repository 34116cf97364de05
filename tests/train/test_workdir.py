"""A workdir belongs to one config and tells what it holds."""

import pytest

from m3jax.train import checkpoints, config, typed_json, workdir


def with_checkpoint(directory):
    (directory / workdir.CHECKPOINTS / "5").mkdir(parents=True)


def test_config_and_run_are_written_and_read_back(tmp_path):
    wanted = config.TrainConfig(steps=7)
    directory = workdir.prepare(tmp_path / "a" / "b", wanted)
    assert workdir.load_config(directory) == wanted
    run = workdir.load_run(directory)
    assert run["versions"]["jax"]
    assert run["device"]["devices"] >= 1
    assert "commit" in run
    assert run["command"]


def test_other_config_is_refused_naming_field_and_mend(tmp_path):
    workdir.prepare(tmp_path, config.TrainConfig(steps=7))
    other = config.TrainConfig(steps=8)
    for resume in (False, True):
        with pytest.raises(ValueError, match="steps: 8 and 7.*--workdir.*--resume"):
            workdir.prepare(tmp_path, other, resume=resume)
    assert workdir.load_config(tmp_path).steps == 7, "nothing is lost"


def test_same_config_with_checkpoints_needs_resume(tmp_path):
    same = config.TrainConfig()
    workdir.prepare(tmp_path, same)
    workdir.prepare(tmp_path, same)  # It was stopped before its first checkpoint.
    with_checkpoint(tmp_path)
    with pytest.raises(FileExistsError, match="--resume"):
        workdir.prepare(tmp_path, same)
    workdir.prepare(tmp_path, same, resume=True)
    assert workdir.load_run(tmp_path)["starts"] == 3


def test_nothing_to_resume_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        workdir.prepare(tmp_path / "new", config.TrainConfig(), resume=True)
    assert not (tmp_path / "new").exists()
    with pytest.raises(FileNotFoundError, match="training run"):
        workdir.load_config(tmp_path)


def test_workdir_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        workdir.prepare(tmp_path / "file", config.TrainConfig())


def test_config_cut_short_is_named(tmp_path):
    workdir.prepare(tmp_path, config.TrainConfig())
    (tmp_path / workdir.CONFIG).write_text('{"type"')
    with pytest.raises(ValueError, match="config.json is not whole"):
        workdir.prepare(tmp_path, config.TrainConfig())


def test_wall_time_adds_up_over_starts(tmp_path):
    same = config.TrainConfig()
    workdir.prepare(tmp_path, same)
    workdir.update_run(tmp_path, seconds_to_first_step=1.5)
    run = workdir.load_run(tmp_path)
    assert run["seconds_to_first_step"] == 1.5
    typed_json.write(tmp_path / workdir.RUN, run | {"wall_seconds": 100.0})
    workdir.prepare(tmp_path, same, resume=True)
    workdir.update_run(tmp_path)
    assert 100.0 <= workdir.load_run(tmp_path)["wall_seconds"] < 200.0


def test_checkpointer_fills_the_place_that_workdir_looks_at(tmp_path):
    assert not workdir.has_checkpoints(tmp_path)
    with checkpoints.Checkpointer(tmp_path / workdir.CHECKPOINTS, read_only=True):
        assert not workdir.has_checkpoints(tmp_path)
    with_checkpoint(tmp_path)
    assert workdir.has_checkpoints(tmp_path)
