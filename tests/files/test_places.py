"""Places that can't be written are found before the work; caches need no home."""

import os
import pathlib
import pwd

import pytest

from m3jax.files import homes, places


def test_a_place_is_made_by_whoever_writes_to_it(tmp_path):
    wanted = tmp_path / "a" / "b"
    assert places.writable(wanted, "--out") == wanted
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("", "--out is empty"),
        ("  ", "--out is empty"),
        ("gs://bucket/x", "is an address"),
        ("FILE/x", "is a file, not a directory"),
        ("FILE", "is a file, not a directory"),
        ("/proc/x", "can't be written .*; name another one"),
    ],
)
def test_what_is_no_place_is_refused(tmp_path, place, told):
    (tmp_path / "file").write_text("")
    place = place.replace("FILE", str(tmp_path / "file"))
    with pytest.raises((ValueError, OSError), match=told) as caught:
        places.writable(place, "--out")
    assert "--out" in str(caught.value)


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write")
def test_a_folder_of_somebody_else_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="can't be written"):
        places.writable(tmp_path / "x", "--out")


def test_without_a_home_things_lie_below_the_temporary_folder(monkeypatch, tmp_path):
    def nobody(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = homes.own("cache", "compiled"), homes.own("data", "models")
    assert all(tmp_path in path.parents for path in found) and found[0] != found[1]


def test_the_user_says_where_things_lie(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    assert homes.own("cache", "kept") == pathlib.Path("/some/cache/m3jax/kept")
