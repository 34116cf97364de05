"""Folders are replaced at once, and addresses are no folders."""

import errno
import pathlib

import pytest

from m3jax.files import disk


def test_a_folder_takes_the_place_of_another(tmp_path):
    for text in ("old", "new"):
        with disk.replaced(tmp_path / "made") as folder:
            (folder / "file").write_text(text)
    assert (tmp_path / "made" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_what_fails_replaces_nothing(tmp_path):
    with disk.replaced(tmp_path / "made") as folder:
        (folder / "file").write_text("old")
    with (
        pytest.raises(disk.DiskFullError, match="no room"),
        disk.replaced(tmp_path / "made"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "made" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_name_is_no_folder(text):
    with pytest.raises(ValueError, match="--out is empty"):
        disk.local(text, "--out")


@pytest.mark.parametrize("text", ["gs://b/x", "s3://b", "https://h/x", "file:/x"])
def test_an_address_is_no_folder(text):
    with pytest.raises(ValueError, match="--out=.* is an address"):
        disk.local(text, "--out")


def test_a_folder_may_be_named_from_home_or_from_here(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert disk.local("~/runs", "--out") == tmp_path / "runs"
    assert disk.local("runs:a", "--out") == pathlib.Path(tmp_path, "runs:a")


def test_what_is_damaged_is_kept_beside(tmp_path):
    for number in (1, 2):
        (tmp_path / "run.json").write_text(str(number))
        kept = disk.set_aside(tmp_path / "run.json")
        assert kept.name == f"run.json.damaged-{number}"
        assert kept.read_text() == str(number)
    assert not (tmp_path / "run.json").exists()
