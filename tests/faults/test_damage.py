"""Whatever happens to a run's folder, it goes on bit for bit, and says what it met.

Each entry is a fault, a command and a system. Damage to the newest checkpoint sends the
commands back to the one before; damage to what only informs is told, and no more.
"""

import json
import shutil

import damage
import pytest

import runs
from m3jax.train import cards

GRID = ("--num_seeds=1", "--num_examples=13")
FAULTS = damage.CHECKPOINTS | damage.INFORMS
# What reads the numbers of a checkpoint, and not only its position.
READS_PARAMETERS = {
    name
    for name, fault in damage.CHECKPOINTS.items()
    if "position" not in name and "optimizer" not in name
}
# One of each place; resume meets all of them.
EVALUATED = {"a bit of the parameters", "card gone", "run.json of garbage"}


def _is_quick(fault, command, system):
    """Whatever decides: what only informs is read by nobody but a run that goes on."""
    if system != runs.QUICK or command == "export":
        return False
    return command != "evaluate" or fault in EVALUATED


TABLE = [
    pytest.param(
        *(fault, command, system),
        marks=() if _is_quick(fault, command, system) else pytest.mark.slow,
        id=f"{fault}-{command}-{system}",
    )
    for system in runs.SYSTEMS
    for command in ("resume", "evaluate", "describe", "export")
    for fault in FAULTS
    # Every fault meets every command; other systems meet those that differ by system.
    if system == runs.QUICK or command == "resume"
    if command == "resume" or fault in READS_PARAMETERS | set(damage.INFORMS)
]


def test_the_table_is_as_large_as_it_says():
    assert len(TABLE) >= 120
    assert len({param.id for param in TABLE}) == len(TABLE)


@pytest.mark.parametrize(("fault", "command", "system"), TABLE)
def test_fault(launch, trained, tmp_path, fault, command, system):
    whole, run = trained(system), tmp_path / "run"
    shutil.copytree(whole, run)
    if fault in damage.INFORMS:
        shutil.rmtree(damage.step(run))
    FAULTS[fault].hurt(run)
    done = CHECKS[command](launch, run, system)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err, done.err
    told = FAULTS[fault].told
    if command == "resume":
        assert told in done.err
        runs.check_same(whole, run, damage.STEPS)
    elif fault in READS_PARAMETERS and command != "describe":
        assert told in done.err
    for line in warnings(done.err):
        assert str(run) in line or "config" in line, line


def resume(launch, run, system):
    return launch("train.py", *runs.resume(system, run), cwd=runs.SYSTEMS[system].cwd)


def evaluate(launch, run, system, *more):
    package, _, cwd = runs.SYSTEMS[system]
    done = launch("evaluate.py", f"--workdir={run}", *GRID, *package, *more, cwd=cwd)
    if done.code == 0:
        assert json.loads((run / "evaluation.json").read_text())
    return done


def export(launch, run, system):
    root = run.parent / "models"
    done = evaluate(launch, run, system, "--export=mine", f"--export_root={root}")
    if done.code == 0:
        assert cards.read_card(root / "mine")["figures"]
    return done


def describe(launch, run, system):
    done = launch("describe.py", run)
    if done.code == 0:
        assert '"num_params"' in done.out
    return done


CHECKS = {
    "resume": resume,
    "evaluate": evaluate,
    "describe": describe,
    "export": export,
}


def warnings(text):
    """Lines of a log that are not of a progress bar."""
    return [line for line in text.splitlines() if line.startswith(("W", "E"))]
