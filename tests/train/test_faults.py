"""Whose fault an error is: by where it comes from, whatever its type."""

import dis
import errno
import os
import pickle
import re
import types

import numpy as np
import pytest

from m3jax.train import faults, optimizers, typed_json


def caught(work):
    try:
        work()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def made(code: str, module: str, file: str = "<made>"):
    """A function ``work`` of a module of this name, from source."""
    space = {"__name__": module}
    exec(compile(code, file, "exec"), space)
    return space["work"]


KINDS = [
    "KeyError",
    "IndexError",
    "ValueError",
    "TypeError",
    "RuntimeError",
    "EOFError",
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_m3jax_raises_on_purpose_is_told_as_it_is(kind):
    code = f"def work():\n  raise {kind}('x is 3; it must be 4')\n"
    told = faults.tell(caught(made(code, "m3jax.some")))
    assert told == ("error: x is 3; it must be 4", 1, "")


@pytest.mark.parametrize(
    "body",
    [
        "{}['seed']",
        "[][3]",
        "int('many')",
        "None.field",
        "1 / 0",
        "next(iter(()))",
        "float(10**400)",
        "b'\\xff'.decode()",
        "assert not True",
        "import json; json.loads('{')",
        "import zipfile, io; zipfile.ZipFile(io.BytesIO(b'no zip'))",
    ],
)
def test_what_escapes_from_m3jax_by_accident_is_its_own_fault(body):
    told = faults.tell(caught(made(f"def work():\n  {body}\n", "m3jax.some")))
    assert told.code == faults.OURS and "Traceback" in told.trace
    assert told.line.startswith("error: this is a fault of m3jax, not yours: ")
    assert "issue tracker" in told.line and "\n" not in told.line


def test_endless_recursion_is_a_fault_of_m3jax():
    told = faults.tell(caught(made("def work():\n  work()\n", "m3jax.some")))
    assert told.code == faults.OURS and "RecursionError" in told.line


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "runs/x"), "runs/x: No such"),
        (OSError(errno.ENOSPC, "No space left", "a/b"), "a/b: No space .*free some"),
        (PermissionError(errno.EACCES, "denied", "/x"), "/x: denied; choose a place"),
        (OSError(errno.EADDRINUSE, "in use"), "in use; take another --port"),
        (MemoryError(), "out of memory; take smaller batches"),
        (ModuleNotFoundError("No module named 'grain'", name="grain"), "install it"),
        (RuntimeError("RESOURCE_EXHAUSTED: 9 GB"), r"out of memory \(RESOURCE"),
    ],
)
def test_what_the_machine_refuses_is_not_a_fault_of_m3jax(error, told):
    def work():
        raise error  # as a library would, in no file of m3jax

    found = faults.tell(caught(made_in_numpy(work)))
    assert found.code == 1 and not found.trace
    assert found.line.startswith("error: ")
    assert re.search(told, found.line), found.line


def made_in_numpy(work):
    return types.FunctionType(
        work.__code__, {"__name__": "numpy"}, "work", None, work.__closure__
    )


def test_no_memory_for_an_array_is_told_with_its_size():
    told = faults.tell(caught(lambda: np.empty(10**17, np.int8)))
    assert told.code == 1 and "out of memory (Unable to allocate" in told.line


def test_a_users_own_accident_is_told_with_its_place(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def work():\n  return {}['weight']\n")
    told = faults.tell(caught(made(file.read_text(), "mine", str(file))))
    assert told.code == 1 and not told.trace
    assert "mine.py, line 2: KeyError: weight; correct it there" in told.line


def test_a_trusted_package_is_its_users_wherever_it_is_installed(monkeypatch):
    monkeypatch.setattr(typed_json, "_homes", {"m3jax", "mine"})
    told = faults.tell(caught(made("def work():\n  {}['w']\n", "mine.system")))
    assert told.code == 1 and "correct it there" in told.line


def test_validation_is_on_purpose():
    config = optimizers.OptimizerConfig(learning_rate=-1.0)
    told = faults.tell(caught(config.validate))
    assert told.code == 1 and "learning_rate" in told.line


def test_of_a_full_disk_twice_the_first_place_is_told():
    def work():
        try:
            raise OSError(errno.ENOSPC, "No space left", "checkpoints/4")
        finally:
            raise OSError(errno.ENOSPC, "No space left", "run.json")

    assert "checkpoints/4" in faults.tell(caught(work)).line


def test_a_translation_is_told_in_place_of_what_it_translates():
    code = (
        "def work():\n  try:\n    {}['x']\n"
        "  except KeyError as e:\n    raise ValueError('no x; give one') from e\n"
    )
    assert faults.tell(caught(made(code, "m3jax.some"))).line == "error: no x; give one"


def test_a_group_of_one_is_told_as_the_one():
    error = ExceptionGroup("of tasks", [OSError(errno.EADDRINUSE, "in use")])
    assert "in use; take another --port" in faults.tell(error).line


@pytest.mark.parametrize("body", ["raise ValueError('bad; mend it')", "{}['x']"])
def test_an_error_says_the_same_after_a_journey_between_processes(body):
    error = caught(made(f"def work():\n  {body}\n", "m3jax.some"))
    expected = faults.tell(error)
    faults.carry(error)
    arrived = pickle.loads(pickle.dumps(error))
    assert arrived.__traceback__ is None
    assert faults.tell(arrived) == expected


def test_raise_statements_are_still_found_by_this_name():
    """If Python renames the instruction, every error would become m3jax's fault."""
    code = made("def work():\n  raise ValueError\n", "m3jax.some").__code__
    assert "RAISE_VARARGS" in {i.opname for i in dis.get_instructions(code)}


def test_exit_code_of_own_faults_is_that_of_sysexits():
    assert faults.OURS == os.EX_SOFTWARE
