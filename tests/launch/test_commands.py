"""The table of commands: each of them, for every config, and for an outside package."""

import json
import math
import pathlib
import shutil

import jax
import pytest

from m3jax.experiments import running
from m3jax.train import checkpoints, metrics, typed_json, workdir

ROOT = pathlib.Path(__file__).parents[2]
OWN = ROOT / "tests" / "own_system"
STEPS = 4
CASES = {
    **{
        path.stem: ((f"--config=configs/{path.name}:tiny",), ROOT)
        for path in sorted((ROOT / "configs").glob("*.py"))
    },
    "mine": (("--package=mine", "--config=mine/config.py"), OWN),
    "end_to_end": (("--config=configs/m3llm.py:tiny_end_to_end",), ROOT),
}
# Experts of the first are measured first, which takes a minute; the others are to the
# commands as the generalist.
SLOW = {"end_to_end", "edge_experts", "specialist", "msao"}
# What the others do with a run that is there is what these do.
ALL_COMMANDS = {"mine", "tokcom", "generalist"}
# The others are to a sweep as these; side by side is of tests/experiments.
SWEPT = {"mine"}
HAS_LINK = set(CASES) - {"generalist", "edge_experts", "msao"}
GRID = ("--num_seeds=1", "--num_examples=13")

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in CASES
    ]
)
def name(request):
    return request.param


@pytest.fixture(
    params=[
        pytest.param(name, marks=() if name in ALL_COMMANDS else pytest.mark.slow)
        for name in CASES
    ]
)
def typical(request):
    return request.param


@pytest.fixture(scope="module")
def trained(launch, tmp_path_factory):
    """``trained(name)``: the workdir of a run that the launcher trained, once."""
    made = {}

    def train(name):
        if name not in made:
            argv, cwd = CASES[name]
            folder = tmp_path_factory.mktemp("runs") / name
            check(launch("train.py", *argv, f"--workdir={folder}", cwd=cwd))
            made[name] = folder
        return made[name]

    return train


def check(done):
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    return done


def package(name):
    return [arg for arg in CASES[name][0] if arg.startswith("--package")]


def test_train_leaves_checkpoints_and_metrics(trained, name):
    folder = trained(name)
    assert workdir.newest_step(folder) == STEPS
    logged = [row for row in metrics.read(folder) if "steps_per_second" in row]
    assert logged[-1]["step"] == STEPS


def test_a_run_that_was_killed_goes_on_bit_for_bit(launch, trained, typical, tmp_path):
    name = typical
    folder = trained(name)
    half = tmp_path / "half"
    shutil.copytree(folder, half)
    shutil.rmtree(half / workdir.CHECKPOINTS / str(STEPS))
    argv = f"--workdir={half}", "--resume", *package(name)
    check(launch("train.py", *argv, cwd=CASES[name][1]))
    one, two = (checkpoints.restore_params(f, STEPS) for f in (folder, half))
    jax.tree.map(lambda a, b: (a == b).all() or pytest.fail("differs"), one, two)


def test_evaluate_exports_a_model_that_predicts_as_the_run_does(
    launch, trained, typical, monkeypatch
):
    name = typical
    folder = trained(name)
    snr_db = ["--snr_db=0,10"] if name in HAS_LINK else []
    argv = f"--workdir={folder}", f"--export=my_{name}", *GRID, *snr_db, *package(name)
    done = check(launch("evaluate.py", *argv, cwd=CASES[name][1]))
    assert "evaluating: 100%" in done.err
    assert f" {folder.name} (" in done.out
    plots = [line for line in done.out.splitlines() if line.endswith(".png")]
    assert plots and all(pathlib.Path(plot).stat().st_size > 5_000 for plot in plots)
    rows = json.loads((folder / "evaluation.json").read_text())
    found = {at["snr_db"] for at in (row["at"] for row in rows) if "snr_db" in at}
    assert found == ({0.0, 10.0} if snr_db else set())

    exported = pathlib.Path(done.out.splitlines()[-1])
    card = json.loads((exported / "card.json").read_text())
    assert card["figures"] and card["config"]["type"].endswith(("vised", "Router"))
    monkeypatch.setenv("M3JAX_MODELS_DIR", str(exported.parent))
    monkeypatch.syspath_prepend(OWN)
    if package(name):
        typed_json.trust("mine")
    one, two = running.restore(folder), running.load(f"my_{name}")
    assert one.config == two.config and set(one.predict) == set(two.predict)
    for part, leaves in two.params.items():
        jax.tree.map(lambda a, b: close(a, b), one.params[part], leaves)


def close(a, b):
    assert math.isclose(
        float(abs(a - b).max()), 0.0, abs_tol=2**-6 * abs(a).max() + 1e-9
    )


def test_a_system_without_a_link_has_no_snr_to_choose(launch, trained):
    argv = f"--workdir={trained('generalist')}", "--snr_db=0,10"
    done = launch("evaluate.py", *argv)
    assert done.code == 1 and "generalist sends nothing over a link" in done.err


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in SWEPT else pytest.mark.slow)
        for name in CASES
    ],
)
def test_sweep_trains_and_measures_every_point(launch, name, tmp_path):
    argv, cwd = CASES[name]
    over = "--over=train.seed=0,1", "--config.train.evaluate_every=0", *GRID
    snr_db = ["--snr_db=0,10"] if name in HAS_LINK else []
    done = check(
        launch("sweep.py", *argv, *over, *snr_db, f"--workdir={tmp_path}", cwd=cwd)
    )
    assert "tuned (" in done.out and "training: step 8/8" in done.err
    for seed in (0, 1):
        assert workdir.newest_step(tmp_path / f"seed={seed}") == STEPS
    rows = json.loads((tmp_path / "evaluation.json").read_text())
    assert {row["seed"] for row in rows if row["variant"] == "tuned"} == {0, 1}


def test_describe_needs_no_code_of_the_system(launch, trained, name):
    done = check(launch("describe.py", trained(name)))
    assert f'"steps": {STEPS}' in done.out and "params/" in done.out


def test_an_outside_package_is_loaded_by_its_user_alone(launch, trained):
    done = launch("evaluate.py", f"--workdir={trained('mine')}", cwd=OWN)
    assert done.code == 1 and "give --package=mine" in done.err


def test_the_study_of_an_outside_package_is_reproduced(launch, tmp_path):
    argv = "mine.study", "--package=mine", "--size=smoke", "--workers=0"
    done = check(launch("reproduce.py", *argv, f"--out={tmp_path}", cwd=OWN))
    assert "Four uses lose less than one" in done.out
    for file in ("results.json", "verdicts.json", "table.md", "plots/error.png"):
        assert (tmp_path / file).stat().st_size > 0


@pytest.mark.slow
def test_the_audit_measures_and_says_what_it_missed(launch, tmp_path):
    """With a step for each probe nothing is learned, and the margins are missed."""
    argv = "--steps=1", "--num_examples=26", f"--out={tmp_path}"
    done = launch("audit.py", *argv)
    assert done.code == 1 and "error: the audit missed its margins: " in done.err
    assert "| oracle expert |" in (tmp_path / "audit.md").read_text()
