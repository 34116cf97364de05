"""The smallest whole study of MoE2: slow, as all of it is compiled."""

import pytest

from m3jax.studies import runner


@pytest.mark.slow
def test_the_smoke_study_runs_and_its_files_are_there(tmp_path, data_dir, monkeypatch):
    monkeypatch.setenv("M3JAX_DATA_DIR", data_dir)
    text = runner.run("moe2", "smoke", tmp_path)
    assert "The refitted loss never rises with a budget" in text
    for name in ("results.json", "verdicts.json", "table.md", "plots/budgets.png"):
        assert (tmp_path / name).stat().st_size > 0
