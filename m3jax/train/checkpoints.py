"""Checkpoints: the one module that touches Orbax.

A step is a directory of its own: ``params`` and ``state`` (step, optimizer and the
rest) as Orbax arrays, and two JSON items beside them: ``card`` (tree, versions,
metrics, config) and ``position`` (where the data iterator stood). Orbax makes a step
visible by one rename, after all of it is written.
"""

import base64
import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from m3jax import base
from m3jax.files import disk, sums
from m3jax.train import cards, quiet, typed_json

_SECONDS_TO_FAIL = 30.0  # for threads that write what has failed already


class Restored(NamedTuple):
    """What a checkpoint gave back.

    Attributes:
      step: the step it was saved at.
      state: the train state, placed as the abstract state asked.
      position: the data iterator's position (dict or bytes), or None.
      metrics: the metrics saved with it.
      unlogged: averages that were under way.
      skipped: newer steps that could not be read -> why.
    """

    step: int
    state: base.TrainState
    position: Any
    metrics: dict[str, float]
    unlogged: Mapping[str, Any]
    skipped: dict[int, str]


class Checkpointer:
    """Saves train states in the background and keeps the newest and the best.

    Args:
      directory: where the steps go.
      keep: how many of the newest steps stay.
      best_metric: name of the metric whose best step stays besides; None for none.
      best_mode: "max" or "min".
      config: JSON values stored in each card, so a checkpoint explains itself.
      read_only: True for looking into the directory of a run that may be alive.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        keep: int = 2,
        best_metric: str | None = None,
        best_mode: str = "max",
        config: Any = None,
        read_only: bool = False,
    ):
        if keep < 1:
            raise ValueError(f"keep must be 1 or more checkpoints, got {keep}")
        if best_mode not in ("max", "min"):
            raise ValueError(f"best_mode must be 'max' or 'min', got {best_mode!r}")
        self.directory = pathlib.Path(directory).absolute()
        self._best_metric, self._best_mode = best_metric, best_mode
        self._config, self._read_only = config, read_only
        self._torn: set[int] = set()
        self._failed = False
        quiet.hush_orbax()
        policies: list[Any] = [checkpoint_managers.LatestN(keep)]
        if best_metric is not None:
            policies.append(
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: metrics[best_metric],
                    reverse=best_mode == "min",
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                create=not read_only,
                read_only=read_only,
                cleanup_tmp_directories=not read_only,
            ),
        )

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # What is already being raised must not be hidden by a failure to close.
        self._failed = self._failed or error is not None
        self.close()

    def steps(self) -> list[int]:
        """Returns the saved steps, oldest first."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """Returns the step with the best ``best_metric``, or None without one."""
        scored = []
        for step in self.steps():
            try:
                value = cards.read_card(self.directory / str(step))["metrics"]
            except (OSError, ValueError):
                continue
            if np.isfinite(float(value.get(self._best_metric, "nan"))):
                scored.append((float(value[self._best_metric]), step))
        if not scored:
            return None
        sign = 1 if self._best_mode == "max" else -1
        return max(scored, key=lambda pair: (sign * pair[0], pair[1]))[1]

    def save(
        self,
        step: int,
        state: base.TrainState,
        position: Any = None,
        metrics: Mapping[str, float] | None = None,
        unlogged: Mapping[str, Any] | None = None,
    ) -> None:
        """Copies the state to the host and writes it in the background.

        Args:
          step: the number of finished updates.
          state: the train state; it may be donated as soon as this returns.
          position: the data iterator's position after the batches consumed so far:
            JSON values or bytes.
          metrics: scalars to keep with it, ``best_metric`` among them.
          unlogged: JSON values: averages under way, which are not written yet.

        Raises:
          disk.DiskFullError: no room, for this step or for the one still being written.
        """
        metrics = dict(metrics or {})
        self._set_torn_aside()
        packed = typed_json.plain(_pack_position(position))
        card = cards.make_card(
            state,
            step=step,
            metrics=metrics,
            config=self._config,
            position_xxh3=sums.of_json(packed),
            unlogged=dict(unlogged or {}),
        )
        score = metrics.get(self._best_metric)
        scored = score is not None and np.isfinite(score)
        with self._explained(step):
            self._check_room(state)
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.params),
                    state=ocp.args.StandardSave(state._replace(params=())),
                    card=ocp.args.JsonSave(card),
                    position=ocp.args.JsonSave(packed),
                ),
                metrics={self._best_metric: float(score)} if scored else None,
            )

    def wait(self) -> None:
        """Waits until all is on disk; raises disk.DiskFullError if it does not fit."""
        with self._explained(None):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then frees the background threads; a told error is not told again."""
        with contextlib.suppress(*([Exception] if self._failed else [])):
            try:
                self.wait()
            finally:
                if not self._failed:  # else its threads may go on for a while
                    quiet.let_orbax_speak()
                self._manager.close()
        self._remove_unfinished()

    def restore(
        self,
        abstract: base.TrainState,
        step: int | None = None,
        rewind: Callable[[Any], None] = lambda position: None,
    ) -> Restored:
        """Restores a step onto the devices at hand, however many saved it.

        Arrays are compared with the checksums that they were saved with.

        Args:
          abstract: shapes, dtypes and shardings wanted, as ``jax.eval_shape`` gives
            them; without a sharding an array goes to the first device.
          step: the step; None for the newest whole one, falling back past torn ones.
          rewind: takes the data position; a step whose position it can't take counts
            as torn.

        Returns:
          The state, the data position, and which newer steps were skipped and why.

        Raises:
          FileNotFoundError: there is no checkpoint, no such step, or none is whole.
          ValueError: the saved tree is not the wanted one; names the first paths.
        """
        self.wait()
        steps = self.steps()
        if not steps:
            raise FileNotFoundError(f"no checkpoint in {self.directory}")
        if step is not None and step not in steps:
            raise FileNotFoundError(
                f"no checkpoint of step {step} in {self.directory}; there are {steps}"
            )
        skipped: dict[int, str] = {}
        for candidate in [step] if step is not None else reversed(steps):
            try:
                card = cards.read_card(self.directory / str(candidate))
            except (OSError, ValueError) as error:
                skipped[candidate] = _first_line(error)
                continue
            cards.check_tree(card["tree"], abstract, self.directory / str(candidate))
            try:
                state, position = self._read(candidate, abstract, card)
                rewind(position)
            except Exception as error:  # damage has many types in Orbax, TensorStore
                skipped[candidate] = _first_line(error)
                continue
            self._note_skipped(skipped, candidate)
            metrics = {name: float(value) for name, value in card["metrics"].items()}
            unlogged = card.get("unlogged", {})
            return Restored(candidate, state, position, metrics, unlogged, skipped)
        raise FileNotFoundError(
            f"no whole checkpoint in {self.directory}: "
            + "; ".join(f"step {torn}: {why}" for torn, why in skipped.items())
        )

    def _read(
        self, step: int, abstract: base.TrainState, card: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        wanted = jax.tree.map(_placed, abstract)
        read = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(wanted.params),
                state=ocp.args.StandardRestore(wanted._replace(params=())),
                position=ocp.args.JsonRestore(),
            ),
        )
        state = read["state"]._replace(params=read["params"])
        cards.check_sums(card, state, self.directory / str(step))
        position_sum = {"position": sums.of_json(read["position"])}
        sums.check(position_sum, {"position": card.get("position_xxh3")})
        return state, _unpack_position(read["position"])

    def _note_skipped(self, skipped: dict[int, str], used: int) -> None:
        for torn, why in skipped.items():
            logging.warning(
                "checkpoint of step %d in %s is torn and was skipped (%s); using the"
                " one of step %d",
                torn,
                self.directory,
                why,
                used,
            )
        self._torn = set(skipped)

    def _set_torn_aside(self) -> None:
        """Renames torn steps, so that the run may write these steps again."""
        for step in self._torn:
            torn = self.directory / str(step)
            torn.rename(self.directory / f"torn-{step}-{os.getpid()}")
        if self._torn:
            self._manager.reload()
        self._torn = set()

    def _check_room(self, state: base.TrainState) -> None:
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if shutil.disk_usage(self.directory).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextlib.contextmanager
    def _explained(self, step: int | None) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # raised again unless the disk is full
            self._failed = True
            if not disk.means_full(error):
                raise
            what = "a checkpoint" if step is None else f"the checkpoint of step {step}"
            self._remove_unfinished()
            whole = cards.list_steps(self.directory)
            kept = f"step {whole[-1]} is safe" if whole else "there is none before it"
            raise disk.DiskFullError(f"{what} ({kept})", self.directory) from error

    def _remove_unfinished(self) -> None:
        """Frees what a failed save has written; a running one is waited for first."""
        if self._read_only or not self._failed:
            return
        with contextlib.suppress(Exception):
            self._manager.wait_until_finished()
        quiet.wait_for_orbax(_SECONDS_TO_FAIL)
        for unfinished in self.directory.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(unfinished, ignore_errors=True)


def save_params(
    directory: str | os.PathLike[str], params: base.Params, card: Mapping[str, Any]
) -> None:
    """Saves parameters alone, with a card, for others to start from.

    Args:
      directory: a new directory; an older one at this place is replaced, at once.
      params: nested dict of arrays.
      card: JSON values to put into the card.
    """
    with disk.replaced(pathlib.Path(directory).absolute()) as new:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(new / "params", params)
        # It names the path it was written to, which is nobody's business elsewhere.
        (new / "params" / "commit_success.txt").unlink(missing_ok=True)
        typed_json.write(new / "card.json", cards.make_card(params, **card))


def restore_params(
    directory: str | os.PathLike[str], step: int | None = None
) -> base.Params:
    """Reads parameters as NumPy arrays, without any model code.

    Args:
      directory: a workdir, its ``checkpoints``, one step, or what ``save_params`` made.
      step: the step; None for the newest whole one.

    Returns:
      A nested dict of NumPy arrays, dtypes as saved.

    Raises:
      FileNotFoundError: nothing to restore there, or nothing that is whole.
    """
    quiet.hush_tensorstore()
    skipped = []
    for found in cards.candidates(directory, step):
        try:
            card = cards.read_card(found)
            params = _read_arrays(found / "params")
            part = {"params": params} if "step" in card else params
            cards.check_sums(card, part, found)
            return params
        except Exception as error:  # damage has many types in Orbax and TensorStore
            why = _first_line(error)
            logging.warning("%s is torn and was skipped (%s)", found, why)
            skipped.append(f"{found.name}: {why}")
    raise FileNotFoundError(f"no whole parameters in {directory}: {'; '.join(skipped)}")


def _read_arrays(directory: pathlib.Path) -> base.Params:
    if not directory.is_dir():
        raise FileNotFoundError(f"no directory {directory}")
    handler = ocp.PyTreeCheckpointHandler()
    as_numpy = jax.tree.map(
        lambda _: ocp.RestoreArgs(np.ndarray), handler.metadata(directory).tree
    )
    return handler.restore(
        directory, args=ocp.args.PyTreeRestore(restore_args=as_numpy)
    )


def _placed(leaf: Any) -> jax.ShapeDtypeStruct:
    where = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)


def _pack_position(position: Any) -> dict[str, Any]:
    if isinstance(position, bytes):
        return {"base64": base64.b64encode(position).decode("ascii")}
    return {"json": position}


def _unpack_position(packed: Mapping[str, Any]) -> Any:
    if "base64" in packed:
        return base64.b64decode(packed["base64"])
    return packed["json"]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"
