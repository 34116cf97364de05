"""Runs a study: units in parallel processes, kept one by one, then judged and drawn."""

import collections
import concurrent.futures
import importlib
import importlib.util
import multiprocessing
import os
import pathlib
from collections.abc import Sequence

import jax

from m3jax.evals import records
from m3jax.files import disk, locks
from m3jax.studies import compiling, report
from m3jax.studies import store as store_lib
from m3jax.studies import study as study_lib
from m3jax.train import cache, interrupts, memory, progress

SIZES = ("laptop", "smoke")
_SECONDS_BETWEEN_LOOKS = 0.5
_BYTES_PER_WORKER = 2 * 2**30
_SYSTEMS = "m3jax.systems"
# With a process for each core, sharing out small products makes them wait for others.
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"


class Stopped(interrupts.Interrupted):
    """A study that was asked to stop; finished units are kept."""

    def __init__(self, received, done: int, total: int, folder: pathlib.Path):
        super().__init__(received, done, str(folder))
        self.args = (
            f"stopped by {received.name}: {done} of {total} units are kept in"
            f" {folder}; the same command goes on",
        )


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
) -> str:
    """Runs what is missing of a study, then judges and draws all of it.

    Args:
      system: as `load` takes it.
      size: "laptop" or "smoke".
      folder: gets results.json, verdicts.json, table.md and plots; results that are
        there already are not measured again.
      num_workers: processes that share the units; 0: this one runs them; None: one for
        each core of a CPU, as far as memory goes, and one on an accelerator.

    Returns:
      The tables as Markdown.

    Raises:
      ValueError: no such study, or the folder is of another one.
      Stopped: SIGTERM or Ctrl-C came.
    """
    study = load(system, size)
    with (
        locks.owned(disk.local(folder, "--out"), "take another --out"),
        compiling.flags(compiling.quick_flags() if size == "smoke" else ""),
    ):
        return _run(study, system, size, folder, num_workers)


def _run(study, system, size, folder, num_workers) -> str:
    store = store_lib.Store(folder, study.settings)
    units = study.units()
    store.set_damaged_aside(units)
    missing = [unit for unit in units if not store.has(unit)]
    if missing:
        study.prepare()
        if num_workers == 0:
            _run_here(study, store, units, missing)
        else:
            _run_missing(system, size, store, units, missing, num_workers)
    results = _collect(store, units)
    results = results._replace(records=results.records + study.conclude(results))
    records.write(store.folder / "results.json", results.records)
    verdicts = study.verdicts(results)
    report.write_verdicts(store.folder / "verdicts.json", verdicts)
    text = f"{report.verdict_table(verdicts)}\n\n{study.summarise(results)}"
    disk.write_text(store.folder / "table.md", text + "\n")
    study.draw(results, store.folder / "plots")
    return text


def _run_here(study, store, units, missing) -> None:
    """Runs the units one after the other in this process."""
    with interrupts.Watch() as watch, _Progress(store, units) as progress:
        for unit in missing:
            store.put(unit, study.run(unit))
            progress.look()
            if watch.received:
                raise _stopped(watch, store, units)


def _stopped(watch, store, units) -> Stopped:
    kept = sum(map(store.has, units))
    return Stopped(watch.received, kept, len(units), store.folder)


def _run_missing(system, size, store, units, missing, num_workers) -> None:
    """Shares the units among processes, those that compile alike to the same one."""
    alike = collections.defaultdict(list)
    for unit in missing:
        alike[unit.program or unit.variant].append(unit)
    groups = sorted(alike.values(), key=lambda units: -sum(u.weight for u in units))
    num_workers = min(num_workers or _default_workers(), len(groups))
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with (
        interrupts.Watch() as watch,
        _Progress(store, units) as progress,
        compiling.flags(_ONE_THREAD if num_workers > 1 else ""),
        concurrent.futures.ProcessPoolExecutor(
            *(num_workers, context), _start_worker, (system, size, str(store.folder))
        ) as pool,
    ):
        # Processes start as they are given work, and Ctrl-C must not reach them.
        with interrupts.hidden_from_children():
            waiting = {pool.submit(_run_group, group) for group in groups}
        ours = set(multiprocessing.active_children()) - others
        while waiting:
            done, waiting = concurrent.futures.wait(waiting, _SECONDS_BETWEEN_LOOKS)
            progress.look()
            failed = [future for future in done if future.exception()]
            if watch.received or failed:
                _abandon(pool, ours)
            if watch.received:
                raise _stopped(watch, store, units)
            for future in failed:
                future.result()  # raises what went wrong


def _abandon(pool: concurrent.futures.ProcessPoolExecutor, processes: set) -> None:
    """Ends the processes; the units under way are lost, the finished ones kept."""
    for process in processes:
        process.terminate()
    pool.shutdown(wait=False, cancel_futures=True)


_worker: tuple[study_lib.Study, store_lib.Store] | None = None
"""Of a process that runs units: the study, with what it shares among them."""


def _start_worker(system: str, size: str, folder: str) -> None:
    global _worker
    memory.keep_freed_memory()
    cache.enable_compilation_cache()
    study = load(system, size)
    _worker = study, store_lib.Store(folder, study.settings)


def _run_group(group: Sequence[study_lib.Unit]) -> None:
    """The work of a process: units that compile alike."""
    study, store = _worker
    for unit in group:
        store.put(unit, study.run(unit))
        if memory.resident_bytes() > _BYTES_PER_WORKER:
            jax.clear_caches()  # compiled programs, which are found on disk again


def _default_workers() -> int:
    """A process for each core, as far as memory goes; one on an accelerator."""
    if jax.default_backend() != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # not every system tells
        return 1
    return max(min(cores, free // _BYTES_PER_WORKER), 1)


class _Progress:
    """A bar over all units, by their weights, and the time that is left."""

    def __init__(self, store: store_lib.Store, units: Sequence[study_lib.Unit]):
        self._store, self._units = store, units
        total = sum(unit.weight for unit in units)
        self._bar = progress.Bar("measuring", total, start=self._done())

    def __enter__(self) -> "_Progress":
        self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)

    def look(self) -> None:
        """Shows what has been finished since the last look."""
        count = sum(map(self._store.has, self._units))
        self._bar.to(self._done(), f"{count}/{len(self._units)} units")

    def _done(self) -> float:
        return sum(unit.weight for unit in self._units if self._store.has(unit))


def _collect(store, units) -> study_lib.Results:
    rows, curves, arrays = [], {}, {}
    for unit in units:
        found = store.get(unit)
        rows += found.records
        curves[unit.variant, unit.seed] = found.curves
        arrays[unit.variant, unit.seed] = found.arrays
    return study_lib.Results(rows, curves, arrays)
