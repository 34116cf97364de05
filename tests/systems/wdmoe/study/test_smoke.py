"""The smallest whole study of WDMoE: slow, as all of it is compiled."""

import pytest

from m3jax.studies import runner


@pytest.mark.slow
def test_the_smoke_study_runs_and_its_files_are_there(tmp_path, data_dir, monkeypatch):
    monkeypatch.setenv("M3JAX_DATA_DIR", data_dir)
    text = runner.run("wdmoe", "smoke", tmp_path)
    assert "The paper's selection answers at most 1 point less" in text
    for name in ("results.json", "verdicts.json", "table.md", "plots/frontier.png"):
        assert (tmp_path / name).stat().st_size > 0
