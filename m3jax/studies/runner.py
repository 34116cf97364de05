"""Runs a study: what is missing is measured, then all of it is judged and drawn."""

import functools
import importlib
import importlib.util
import os
import pathlib
from collections.abc import Callable

from m3jax.evals import records
from m3jax.files import disk, locks, places
from m3jax.studies import compiling, report, workers
from m3jax.studies import store as store_lib
from m3jax.studies import study as study_lib
from m3jax.train import interrupts

SIZES = ("laptop", "smoke")
_SYSTEMS = "m3jax.systems"


def names() -> list[str]:
    """The systems of m3jax that have a study."""
    roots = importlib.util.find_spec(_SYSTEMS).submodule_search_locations
    found = {p.parent.parent.name for r in roots for p in _studies(pathlib.Path(r))}
    return sorted(found)


def _studies(root: pathlib.Path):
    return root.glob("*/study/__init__.py")


def load(name: str, size: str) -> study_lib.Study:
    """Makes the study of a system.

    Args:
      name: a system of m3jax, such as "tokcom", or the module whose
        ``make_study(size)`` makes one, such as "mine.study".
      size: "laptop" or "smoke".

    Returns:
      The study.

    Raises:
      ValueError: there is no such system, module or size.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {SIZES}, got {size!r}")
    module = f"{_SYSTEMS}.{name}.study" if name in names() else name
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        if error.name and not module.startswith(error.name):
            raise  # the module is there, and lacks something of its own
        raise ValueError(
            f"there is no reproduction of {name!r}; there are {names()}, or give the"
            " module of your own study, such as mine.study"
        ) from error
    if not hasattr(found, "make_study"):
        raise ValueError(f"{module} has no make_study(size), which makes its study")
    return found.make_study(size)


def run(
    system: str,
    size: str,
    folder: str | os.PathLike[str],
    num_workers: int | None = None,
    show: Callable[[str], None] = lambda text: None,
) -> str:
    """Runs what is missing of a study, then judges and draws all of it.

    Args:
      system: as `load` takes it.
      size: "laptop" or "smoke".
      folder: gets results.json, verdicts.json, table.md and plots; results that are
        there already are not measured again.
      num_workers: processes that share the units; 0: this one runs them; None: one for
        each core of a CPU, as far as memory goes, and one on an accelerator.
      show: takes the tables before anything of them is written.

    Returns:
      The tables as Markdown.

    Raises:
      ValueError: no such study, the folder is of another one, or there can't be so few
        workers.
      OSError: the folder can't be written.
      workers.WorkerDiedError: the system ended a worker.
      workers.Stopped: SIGTERM, SIGHUP or Ctrl-C came.
    """
    if num_workers is not None and num_workers < 0:
        raise ValueError(f"--workers must be 0 or more, got {num_workers}")
    study = load(system, size)
    out = places.writable(folder, "--out")
    with (
        locks.owned(out, "take another --out"),
        compiling.flags(compiling.quick_flags() if size == "smoke" else ""),
    ):
        return _run(study, system, size, out, num_workers, show)


def _run(study, system, size, folder, num_workers, show) -> str:
    store = store_lib.Store(folder, study.settings)
    units = study.units()
    store.set_damaged_aside(units)
    missing = [unit for unit in units if not store.has(unit)]
    with interrupts.keeps(lambda: workers.kept(store, units)):
        if missing:
            study.prepare()
        if missing and num_workers == 0:
            workers.run_here(study, store, units, missing)
        elif missing:
            make = functools.partial(load, system, size)
            workers.run_shared(make, store, units, missing, num_workers)
        return _judge(study, store, units, show)


def _judge(study, store, units, show) -> str:
    """Judges, shows and keeps what has been measured."""
    results = _collect(store, units)
    results = results._replace(records=results.records + study.conclude(results))
    verdicts = study.verdicts(results)
    text = f"{report.verdict_table(verdicts)}\n\n{study.summarise(results)}"
    show(text)
    records.write(store.folder / "results.json", results.records)
    report.write_verdicts(store.folder / "verdicts.json", verdicts)
    disk.write_text(store.folder / "table.md", text + "\n")
    study.draw(results, store.folder / "plots")
    return text


def _collect(store, units) -> study_lib.Results:
    rows, curves, arrays = [], {}, {}
    for unit in units:
        found = store.get(unit)
        rows += found.records
        curves[unit.variant, unit.seed] = found.curves
        arrays[unit.variant, unit.seed] = found.arrays
    return study_lib.Results(rows, curves, arrays)
