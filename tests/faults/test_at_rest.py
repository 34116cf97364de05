"""Data, units of a study and models that changed on disk are found and named."""

import shutil

import damage
import pytest

import runs
from m3jax.data import prepare
from m3jax.data.edgetext import builder as edgetext
from m3jax.evals import records
from m3jax.train import checkpoints, pretrained

CWD = runs.SYSTEMS[runs.QUICK].cwd
STUDY = "mine.study", "--package=mine", "--size=smoke", "--workers=0"


@pytest.fixture(scope="module")
def study(launch, tmp_path_factory):
    """A folder with all units of a study."""
    folder = tmp_path_factory.mktemp("study") / "whole"
    done = launch("reproduce.py", *STUDY, f"--out={folder}", cwd=CWD)
    assert done.code == 0, done.err
    return folder


UNITS = {
    "a digit of the records": lambda unit: damage.swap(unit, "0.", "1."),
    "records cut short": damage.cut,
    "records of other JSON": lambda unit: unit.write_text('{"x": 1}'),
    "a bit of the curves": lambda unit: damage.flip(unit.with_suffix(".curves")),
    "sums of garbage": lambda unit: unit.with_suffix(".sums").write_text("{"),
}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(name, marks=() if "bit" in name else pytest.mark.slow)
        for name in UNITS
    ],
)
def test_a_damaged_unit_is_named_kept_beside_and_run_again(
    launch, study, tmp_path, fault
):
    folder = tmp_path / "study"
    shutil.copytree(study, folder)
    unit = folder / "units" / "few uses-0.json"
    UNITS[fault](unit)
    done = launch("reproduce.py", *STUDY, f"--out={folder}", cwd=CWD)
    assert done.code == 0, done.err
    assert "unit 'few uses', seed 0, is damaged and is run again" in done.err
    assert unit.with_name(f"{unit.name}.damaged-1").exists()
    want = records.read(study / "results.json")
    assert records.read(folder / "results.json") == want


def test_a_damaged_record_of_the_data_names_folder_and_mend(tmp_path):
    made = prepare.prepare("smoke", tmp_path, edgetext.EdgeText)
    file = next(made.data_path.glob("*train*array_record*"))
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    file.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=rf"{made.data_path} is damaged .*delete this"):
        made = prepare.prepare("smoke", tmp_path, edgetext.EdgeText)
        source = prepare.Records(made, "train")
        for index in range(len(source)):
            source[index]


@pytest.mark.parametrize("fault", ["a bit", "cut", "a letter of the card", "gone"])
def test_a_damaged_model_is_one_clear_line(tmp_path, monkeypatch, fault):
    folder = tmp_path / "models" / "mine"
    shutil.copytree(pretrained.ROOT / "expert_sign", folder)
    monkeypatch.setenv("M3JAX_MODELS_DIR", str(folder.parent))
    large = max((folder / "params").rglob("d/*"), key=lambda file: file.stat().st_size)
    {
        "a bit": lambda: damage.flip(large),
        "cut": lambda: damage.cut(large),
        "a letter of the card": lambda: damage.swap(
            folder / "card.json", "kernel", "kernal"
        ),
        "gone": lambda: shutil.rmtree(folder / "params"),
    }[fault]()
    with pytest.raises(ValueError, match="model 'mine' is damaged .*export it again"):
        pretrained.load("mine")


@pytest.mark.parametrize("name", pretrained.shipped())
def test_shipped_models_have_checksums_that_hold(name, caplog):
    checkpoints.restore_params(pretrained.ROOT / name)
    assert "checksums" not in caplog.text
