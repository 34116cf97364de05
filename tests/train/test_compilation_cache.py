"""A second process finds what the first one compiled."""

import pathlib

from m3jax.train import cache

PROGRAM = """
import sys, jax, jax.numpy as jnp
from m3jax.train import cache
jax.jit(lambda x: x + 1)(1.0)  # A notebook may have compiled something before.
assert str(cache.enable_compilation_cache()) == sys.argv[1]
hits = []
jax.monitoring.register_event_listener(
    lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None)
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3))).block_until_ready()
print(len(hits))
"""


def test_second_process_compiles_nothing_anew(tmp_path, start_python, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    hits = []
    for _ in range(2):
        process = start_python("-W", "error", "-c", PROGRAM, tmp_path)
        out, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, "")
        hits.append(int(out))
    assert hits[0] == 0
    assert hits[1] > 0


def test_user_cache_directory_is_the_default(
    tmp_path, monkeypatch, cache_settings_restored
):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.enable_compilation_cache() == tmp_path / "m3jax" / "compiled"


def test_place_that_cannot_be_written_means_no_cache(tmp_path, cache_settings_restored):
    (tmp_path / "file").write_text("")
    assert cache.enable_compilation_cache(tmp_path / "file" / "below") is None
    assert isinstance(cache.enable_compilation_cache(tmp_path), pathlib.Path)
