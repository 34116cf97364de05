"""A regression small enough to train in a test; also run as a program of its own.

As a program: ``toy.py WORKDIR STEPS [resume]`` trains with a checkpoint every 1000
steps, prints "running" once step 20 is done, and exits as an interrupted run does.
"""

import os
import pathlib
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.train import checkpoints, config, interrupts, learner, loop, optimizers

TRUE_KERNEL = np.array([[1.0], [-2.0], [0.5]], np.float32)
BATCH_SIZE = 8


def make_system(noise: float = 0.1) -> base.System:
    """Linear regression on inputs disturbed by noise drawn from the step's key."""

    def init(key: jax.Array, batch: base.Batch) -> Any:
        del batch
        return {
            "linear": {"kernel": jax.random.normal(key, (3, 1)), "bias": jnp.zeros(1)},
            "scale": {"gain": jnp.ones(3)},
        }

    def predict(params: Any, batch: base.Batch, key: jax.Array) -> jax.Array:
        x = batch["x"] + noise * jax.random.uniform(key, batch["x"].shape)
        linear = params["linear"]
        return (x * params["scale"]["gain"]) @ linear["kernel"] + linear["bias"]

    def loss(params: Any, batch: base.Batch, key: jax.Array) -> tuple[Any, Any]:
        error = jnp.mean((predict(params, batch, key) - batch["y"]) ** 2)
        return error, {"first": batch["index"][0].astype(jnp.float32)}

    return base.System(init, loss, {"answer": predict})


class Batches:
    """An endless iterator that keeps its position, as grain's do.

    Attributes:
      pulled: the indices given out, in order.
    """

    def __init__(self):
        self.pulled: list[int] = []
        self._next = 0

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        index = self._next
        self._next += 1
        self.pulled.append(index)
        x = np.random.default_rng(index).normal(size=(BATCH_SIZE, 3))
        x = x.astype(np.float32)
        return {"x": x, "y": x @ TRUE_KERNEL, "index": np.full(BATCH_SIZE, index)}

    def get_state(self) -> dict[str, int]:
        return {"next": self._next}

    def set_state(self, state: dict[str, int]) -> None:
        self._next = state["next"]


def make_config(steps: int, **fields: Any) -> config.TrainConfig:
    settings = {"log_every": 10, "checkpoint_every": 1000}
    return config.TrainConfig(steps, **{**settings, **fields})


def fit(steps: int, batches: Any = None, **options: Any) -> base.TrainState:
    """Trains the toy with ``loop.fit``; options of the config go to the config."""
    names = set(config.TrainConfig.__dataclass_fields__)
    fields = {name: options.pop(name) for name in names & set(options)}
    settings = make_config(steps, **fields)
    optimizer = optimizers.OptimizerConfig(learning_rate=0.05, weight_decay=0.0)
    method = learner.make_learner(make_system(), optimizer, steps)
    return loop.fit(
        method,
        Batches() if batches is None else batches,
        settings,
        key=jax.random.key(settings.seed),
        show_progress=False,
        **options,
    )


class _Announcing(Batches):
    def __next__(self) -> dict[str, np.ndarray]:
        if self._next == 20:
            print("running", flush=True)
        if self._next >= 20:
            time.sleep(0.05)
        return super().__next__()


def main() -> None:
    directory, steps = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    with checkpoints.Checkpointer(directory / "checkpoints") as checkpointer:
        try:
            fit(steps, _Announcing(), checkpointer=checkpointer, resume=True)
        except interrupts.Interrupted as stopped:
            print(stopped.step, flush=True)
            sys.exit(stopped.exit_code)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
