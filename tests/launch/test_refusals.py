"""What can't be is refused in one line, before data, compilation and measurement."""

import os
import pathlib
import re
import time

import pytest

TOKCOM = "--config=configs/tokcom.py:tiny"
ROUTER = "--config=configs/m3llm.py:tiny"
LONG = 10**30
NOWHERE = "/proc/self/status/x"  # below a file


@pytest.mark.parametrize(
    ("script", "argv", "told"),
    [
        ("train.py", [TOKCOM, f"--config.train.seed={LONG}"], "train.seed is 1000"),
        ("train.py", [TOKCOM, "--config.train.steps=None"], "train.steps is None"),
        (
            "train.py",
            [TOKCOM, "--config.learner.batch_size=1000000000"],
            "GB, and there",
        ),
        ("train.py", [ROUTER, "--config.world.copies=0"], "world.copies"),
        ("train.py", ["--config=some.json"], "names no Python file; give one with"),
        (
            "train.py",
            [TOKCOM, "--workdir=gs://bucket/run"],
            "gs://bucket/run is an addr",
        ),
        ("train.py", [TOKCOM, f"--workdir={NOWHERE}"], "is a file, not a directory"),
        ("sweep.py", [TOKCOM, "--over=system.compressor=stride,zip"], "compressor=zip"),
        ("sweep.py", [TOKCOM, f"--over=train.seed=0,{LONG}"], "can't be 10000"),
        ("sweep.py", [ROUTER, "--over=world.copies=2,0"], "point copies=0 can't be"),
        ("sweep.py", [TOKCOM, "--over=train.seed=0,1", "--num_seeds=0"], "num_seeds"),
        (
            "sweep.py",
            [TOKCOM, "--over=learner.optimizer.clip_norm=inf,nan"],
            "clip_norm is float 1.0; it can't be nan",
        ),
        ("sweep.py", [TOKCOM, "--over=train.seed=0", "--workdir="], "workdir is empty"),
        (
            "evaluate.py",
            ["--num_seeds=1000000000"],
            "--num_seeds=1000000000 .* GB, and",
        ),
        ("audit.py", ["--steps=0"], "--steps=0"),
        ("audit.py", [f"--out={NOWHERE}"], "--out=.* is a file, not a directory"),
        ("audit.py", ["--out="], "--out is empty"),
        ("reproduce.py", ["tokcom", "--workers=-3"], "--workers"),
        ("reproduce.py", ["tokcom", "--size=smoke", "--out="], "--out is empty"),
        ("bench.py", [f"--out={NOWHERE}"], "--out=.* is a file, not a directory"),
        ("prepare_data.py", ["--config=smoke", "--data_dir="], "--data_dir is empty"),
        ("serve_expert.py", ["--expert=nobody"], "no pretrained model 'expert_nobody'"),
    ],
)
def test_one_line_names_it_and_nothing_is_made(launch, tmp_path, script, argv, told):
    takes_workdir = script in ("train.py", "sweep.py", "evaluate.py")
    if takes_workdir and not any(arg.startswith("--workdir") for arg in argv):
        argv = [*argv, f"--workdir={tmp_path / 'run'}"]
    began = time.monotonic()
    done = launch(script, *argv)
    lines = done.err.strip().splitlines()
    assert done.code == 1 and not done.out, done
    assert len(lines) == 1 and lines[0].startswith("error: "), done.err
    assert re.search(told, lines[0]), lines[0]
    assert not list(tmp_path.iterdir())
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "None", "2.5"])
def test_train_and_sweep_take_the_same_values(launch, tmp_path, value):
    """The steps are wrong, so that what passes ends there."""
    path = "system.link.pilot_snr_db"
    wrong = "--config.train.steps=0"
    argv = TOKCOM, wrong, f"--config.{path}={value}", f"--workdir={tmp_path}"
    trained = launch("train.py", *argv).err
    argv = TOKCOM, wrong, f"--over={path}={value}", f"--workdir={tmp_path}"
    swept = launch("sweep.py", *argv).err
    passes = value in ("inf", "None", "2.5")
    for err in (trained, swept):
        assert ("train.steps must be" in err) == passes, err
        assert ("pilot_snr_db" in err.replace(f"{path}={value}", "")) or passes, err


def test_a_fault_of_a_config_file_is_told_with_its_place(launch, tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("def get_config():\n    return {}['size']\n")
    done = launch("train.py", f"--config={file}", f"--workdir={tmp_path / 'run'}")
    assert done.code == 1
    assert "broken.py, line 2: KeyError: size; correct it there" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_a_fault_of_m3jax_says_so_and_where_to_send_it(launch, tmp_path):
    """A place that is no text can only come from inside."""
    (tmp_path / "sitecustomize.py").write_text("")
    code = (
        "import cli\n"
        "from m3jax.files import places\n"
        "cli.run(lambda: places.writable(None, '--out'))\n"
    )
    script = tmp_path / "odd.py"
    script.write_text(code)
    done = launch(os.path.relpath(script, pathlib.Path(launch_folder())), cwd=tmp_path)
    assert done.code == 70, done
    *trace, line = done.err.strip().splitlines()
    assert trace[0].startswith("Traceback")
    assert line.startswith("error: this is a fault of m3jax, not yours: TypeError")
    assert "issue tracker" in line


def launch_folder():
    return pathlib.Path(__file__).parents[2] / "launch"


def test_a_user_without_home_and_name_runs_without_a_cache(launch, tmp_path):
    """As in a container; HOME names nothing, and so does the user's number."""
    code = (
        "import os, pwd, pathlib\n"
        "os.environ.pop('HOME', None)\n"
        "for name in ('XDG_CACHE_HOME', 'JAX_COMPILATION_CACHE_DIR'):\n"
        "  os.environ.pop(name, None)\n"
        "def nobody(uid): raise KeyError(f'getpwuid(): uid not found: {uid}')\n"
        "pwd.getpwuid = nobody\n"
        "import cli\n"
        "from m3jax.train import cache, kept, pretrained\n"
        "cli.run(lambda: print(kept.root().is_absolute(), pretrained.names()[:1]))\n"
    )
    script = tmp_path / "homeless.py"
    script.write_text(code)
    done = launch(os.path.relpath(script, launch_folder()), cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("True ['edge_base']")
