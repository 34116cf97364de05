"""Linear regression as a system: fast, and its best answer is known in closed form.

For tests of loops, learners, checkpoints and evaluators, which see systems only through
the contract.
"""

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.channels import noise
from m3jax.ops import units


def make_system(num_features: int = 3) -> base.System:
    """Least squares by gradient descent.

        loss = mean_b (x_b . w + c - y_b)^2

    ``predict["regression"]`` sends its estimates over an AWGN channel if the batch
    names ``snr_db``; at the exact solution its mean square error is then the residual
    of ``solve`` plus ``1 / (2 snr)`` (one real value on one axis of a symbol).

    Args:
      num_features: D.

    Returns:
      A system over batches ``{x [B, D], y [B]}`` with parameters
      ``{"linear": {"kernel" [D], "bias" []}}``. Its predict function gives
      ``square_error``, float ``[B]``.
    """

    def init(key: base.Array, batch: base.Batch) -> base.Params:
        del batch
        kernel = jax.random.normal(key, (num_features,))
        return {"linear": {"kernel": kernel, "bias": jnp.zeros(())}}

    def estimate(params: base.Params, batch: base.Batch) -> base.Array:
        return batch["x"] @ params["linear"]["kernel"] + params["linear"]["bias"]

    def loss(params: base.Params, batch: base.Batch, key: base.Array):
        del key
        error = estimate(params, batch) - batch["y"]
        return jnp.mean(error**2), {"mean_error": jnp.mean(error)}

    def regression(params: base.Params, batch: base.Batch, key: base.Array):
        received = estimate(params, batch)
        if "snr_db" in batch:
            snr = units.db_to_lin(batch["snr_db"])
            symbols = received.astype(jnp.result_type(complex))
            received = noise.add_noise(key, symbols, snr).real
        return {"square_error": (received - batch["y"]) ** 2}

    return base.System(init=init, loss=loss, predict={"regression": regression})


def make_batch(
    seed: int, batch_size: int = 64, num_features: int = 3, noise_std: float = 0.1
) -> dict[str, np.ndarray]:
    """Draws a batch on the host.

    Args:
      seed: the same seed gives the same batch.
      batch_size: B.
      num_features: D.
      noise_std: standard deviation of the labels around the line; 0: exactly on it.

    Returns:
      ``{x [B, D], y [B]}``, float32, around ``y = sum_d d x_d + 1/2`` with d from 1.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch_size, num_features))
    y = x @ np.arange(1.0, num_features + 1.0) + 0.5
    y = y + noise_std * rng.normal(size=batch_size)
    return {"x": x.astype(np.float32), "y": y.astype(np.float32)}


def solve(batch: base.Batch) -> tuple[base.Params, float]:
    """The parameters of least loss and that loss, by NumPy's least squares.

    Args:
      batch: ``{x [B, D], y [B]}``, B above D.

    Returns:
      Parameters as ``init`` makes them, and the mean square residual.
    """
    x = np.asarray(batch["x"], np.float64)
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    y = np.asarray(batch["y"], np.float64)
    solution = np.linalg.lstsq(design, y, rcond=None)[0]
    residual = float(np.mean((design @ solution - y) ** 2))
    kernel, bias = jnp.float32(solution[:-1]), jnp.float32(solution[-1])
    return {"linear": {"kernel": kernel, "bias": bias}}, residual
