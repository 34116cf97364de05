"""The smallest whole study of MSAO: slow, as all of it is compiled."""

import pytest

from m3jax.studies import runner


@pytest.mark.slow
def test_the_smoke_study_runs_and_its_files_are_there(tmp_path, data_dir, monkeypatch):
    monkeypatch.setenv("M3JAX_DATA_DIR", data_dir)
    text = runner.run("msao", "smoke", tmp_path)
    assert "Answers at most 0.4 points less than the cloud alone" in text
    for name in ("results.json", "verdicts.json", "table.md", "plots/timeline.png"):
        assert (tmp_path / name).stat().st_size > 0
