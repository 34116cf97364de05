"""The processes that run the units of a study."""

import collections
import concurrent.futures
import concurrent.futures.process
import multiprocessing
import os
import pathlib
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker
from typing import NoReturn

import jax

from m3jax.studies import compiling
from m3jax.studies import store as store_lib
from m3jax.studies import study as study_lib
from m3jax.train import cache, faults, interrupts, memory, orphans, progress

_SECONDS_BETWEEN_LOOKS = 0.5
_BYTES_PER_WORKER = 2 * 2**30
# With a process for each core, sharing out small products makes them wait for others.
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"


class Stopped(interrupts.Interrupted):
    """A study that was asked to stop; finished units are kept."""

    def __init__(self, received, done: int, total: int, folder: pathlib.Path):
        super().__init__(received, done, str(folder))
        self.args = (f"stopped by {received.name}: {_goes_on(done, total, folder)}",)


class WorkerDiedError(RuntimeError):
    """The system ended a process that ran units."""


def run_here(study, store, units, missing) -> None:
    """Runs the units that are missing one after the other in this process.

    Args:
      study: whose units they are.
      store: where they are kept.
      units: all of them, for the bar.
      missing: those to run.

    Raises:
      Stopped: a signal came; the unit under way has been finished and kept.
    """
    with interrupts.Watch() as watch, _Progress(store, units) as progress:
        for unit in missing:
            store.put(unit, study.run(unit))
            progress.look()
            if watch.received:
                raise _stopped(watch, store, units)


def _stopped(watch, store, units) -> Stopped:
    done = sum(map(store.has, units))
    return Stopped(watch.received, done, len(units), store.folder)


def kept(store: store_lib.Store, units: Sequence[study_lib.Unit]) -> str:
    """Says how many units are kept where, and how to go on."""
    return _goes_on(sum(map(store.has, units)), len(units), store.folder)


def _goes_on(done: int, total: int, folder: pathlib.Path) -> str:
    return f"{done} of {total} units are kept in {folder}; the same command goes on"


def run_shared(make, store, units, missing, num_workers: int | None) -> None:
    """Shares units among processes, those that compile alike to the same one.

    The processes end with this one, however it ends.

    Args:
      make: makes the study in each of them.
      store: where units are kept.
      units: all of them, for the bar.
      missing: those to run.
      num_workers: of the processes; None: one for each core of a CPU, as far as memory
        goes, and one on an accelerator.

    Raises:
      Stopped: a signal came; units under way are lost.
      WorkerDiedError: the system ended a process.
    """
    alike = collections.defaultdict(list)
    for unit in missing:
        alike[unit.program or unit.variant].append(unit)
    groups = sorted(alike.values(), key=lambda units: -sum(u.weight for u in units))
    num_workers = min(num_workers or _default_workers(), len(groups))
    context = multiprocessing.get_context("spawn")
    _hush_leaks()
    others = set(multiprocessing.active_children())
    with (
        interrupts.Watch() as watch,
        _Progress(store, units) as progress,
        compiling.flags(_ONE_THREAD if num_workers > 1 else ""),
        concurrent.futures.ProcessPoolExecutor(
            *(num_workers, context), _start_worker, (make, str(store.folder))
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
                _raise(future, store, units)


def _raise(future: concurrent.futures.Future, store, units) -> NoReturn:
    """Raises what went wrong in a worker, and says what is kept if it just died."""
    try:
        future.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise WorkerDiedError(
            "the system ended a worker, for one because memory ran out: take fewer"
            f" --workers; {kept(store, units)}"
        ) from error


def _abandon(pool: concurrent.futures.ProcessPoolExecutor, processes: set) -> None:
    """Ends the processes; the units under way are lost, the finished ones kept."""
    for process in processes:
        process.terminate()
    pool.shutdown(wait=False, cancel_futures=True)


_worker: tuple[study_lib.Study, store_lib.Store] | None = None
"""Of a process that runs units: the study, with what it shares among them."""


def _start_worker(make: Callable[[], study_lib.Study], folder: str) -> None:
    global _worker
    orphans.end_with_parent()
    memory.keep_freed_memory()
    cache.enable_compilation_cache()
    study = make()
    _worker = study, store_lib.Store(folder, study.settings)


def _run_group(group: Sequence[study_lib.Unit]) -> None:
    """The work of a process: units that compile alike."""
    study, store = _worker
    try:
        for unit in group:
            store.put(unit, study.run(unit))
            if memory.resident_bytes() > _BYTES_PER_WORKER:
                jax.clear_caches()  # compiled programs, which are found on disk again
    except Exception as error:  # raised again, with what to say of it
        faults.carry(error)
        raise


def _hush_leaks() -> None:
    """Starts the process that cleans up after this one, and tells it to do so quietly.

    What a command that leaves at once leaves behind is no news to its user.
    """
    quiet = "ignore:resource_tracker:UserWarning"
    with compiling.added("PYTHONWARNINGS", quiet, ","):
        resource_tracker.ensure_running()


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
