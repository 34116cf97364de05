"""What every system must hold, whatever its paper says."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.testing import gradients, traces

SNRS_DB = (-20.0, 10.0, 40.0)
"""SNRs in dB that one trace of each predict function must serve."""


def check_system(
    system: base.System,
    batch: base.Batch,
    key: base.Array,
    reaches: tuple[str, ...] = (),
    eager: Collection[str] | None = None,
    rtol: float = 1e-3,
    atol: float = 1e-4,
) -> None:
    """Checks a system against ``base.System``.

    ``init`` is deterministic; ``loss`` is a finite scalar with scalar metrics and
    finite gradients, equal under jit and eager, and vmaps over keys; every ``predict``
    gives arrays with a leading batch axis, equal under jit and eager, and is traced
    once for all SNRs; each consumes its key once. ``draw`` adds to a batch; ``reads``
    are all that the loss takes besides; ``predict["answer"]`` gives each of
    ``metrics``, the same of what ``prepare`` gives.

    Eagerly every operation is a program of its own, so that most of the time goes
    there: ``eager`` leaves out what another system's check runs.

    Args:
      system: the system.
      batch: a training batch, small.
      key: random key.
      reaches: patterns of parameter paths that the loss's gradient must reach, as for
        ``gradients.check_gradients_reach``.
      eager: names of the predictions that run eagerly too, and "loss"; None: all.
      rtol: relative tolerance between jit and eager.
      atol: absolute tolerance between jit and eager.

    Raises:
      AssertionError: names what does not hold.
    """
    batch = jax.tree.map(jnp.asarray, dict(batch))
    draw_key, init_key, loss_key, predict_key = jax.random.split(key, 4)
    if system.draw is not None:
        batch = {**batch, **_check_draw(system, batch, draw_key)}
    init = jax.jit(system.init)
    params = init(init_key, batch)
    jax.tree.map(np.testing.assert_array_equal, params, init(init_key, batch))
    gradients.assert_finite(params, "initial parameters")
    names = ("loss", *system.predict) if eager is None else eager
    _check_loss(system, params, batch, loss_key, reaches, "loss" in names, rtol, atol)
    _check_names(system, params, batch, loss_key)
    predictions = [name for name in names if name != "loss"]
    _check_predictions(system, params, batch, predict_key, predictions, rtol, atol)


def _check_draw(system, batch, key) -> base.Batch:
    drawn = jax.jit(system.draw)(batch, key)
    jax.tree.map(np.testing.assert_array_equal, drawn, system.draw(batch, key))
    size = len(next(iter(batch.values())))
    for name, rows in drawn.items():
        for leaf in jax.tree.leaves(rows):
            assert len(leaf) == size, f"draw gave {name!r} for {len(leaf)} of {size}"
    return drawn


def _check_names(system, params, batch, key) -> None:
    """What the system says of itself is what its functions do."""
    if system.reads:
        drawn = {} if system.draw is None else system.draw(batch, key)
        told = {n: rows for n, rows in batch.items() if n in (*system.reads, *drawn)}
        jax.eval_shape(system.loss, params, told, key)  # KeyError names what is missing
    if not system.metrics:
        return
    noisy = {**batch, "snr_db": jnp.zeros(len(next(iter(batch.values()))))}
    answer = jax.jit(system.predict["answer"])
    found = answer(params, noisy, key)
    missing = [name for name in system.metrics if name not in found]
    assert not missing, f"predict['answer'] gives no {missing}"
    if system.prepare is not None:
        prepared = answer(params, jax.jit(system.prepare)(params, noisy), key)
        _assert_close(prepared, found, 1e-4, 1e-5, "answers: prepared and not")


def _check_loss(system, params, batch, key, reaches, is_eager, rtol, atol) -> None:
    loss, metrics = jax.eval_shape(system.loss, params, batch, key)
    assert loss.shape == (), f"loss has shape {loss.shape}, must be a scalar."
    for name, value in metrics.items():
        assert value.shape == (), f"metric {name!r} has shape {value.shape}."
    keys = jnp.stack([key, jax.random.fold_in(key, 1)])
    # Values and gradients come from one program: compiling is most of the time.
    with jax.debug_key_reuse(True):
        calls = [(params, batch, jax.random.clone(k)) for k in keys]
        found = traces.assert_no_retrace(
            jax.value_and_grad(system.loss, has_aux=True), calls
        )
    jitted = [value for value, _ in found]
    gradients.assert_finite(jitted, "loss and metrics")
    if is_eager:
        eager = system.loss(params, batch, key)
        _assert_close(eager, jitted[0], rtol, atol, "loss: jit and eager")
    batched = jax.jit(jax.vmap(system.loss, (None, None, 0)))(params, batch, keys)
    for i, one in enumerate(jitted):
        row = jax.tree.map(lambda a, i=i: a[i], batched)
        _assert_close(row, one, rtol, atol, "loss: vmap over keys and loop")
    for _, grads in found:
        gradients.assert_finite(grads, "gradient of the loss")
    gradients.check_gradients_reach(found[0][1], reaches)


def _check_predictions(system, params, batch, key, names, rtol, atol) -> None:
    batch_size = next(iter(batch.values())).shape[0]
    batches = [
        {**batch, "snr_db": jnp.full((batch_size,), snr_db, jnp.float32)}
        for snr_db in SNRS_DB
    ]

    def predict(params, batch, key):
        """All that the system predicts: what the functions share compiles once."""
        return {
            name: one(params, batch, jax.random.clone(key))
            for name, one in system.predict.items()
        }

    with jax.debug_key_reuse(True):
        calls = [(params, b, jax.random.clone(key)) for b in batches]
        outputs = traces.assert_no_retrace(predict, calls)
    for name, output in ((n, o) for out in outputs for n, o in out.items()):
        gradients.assert_finite(output, f"predict[{name!r}]")
        for leaf in jax.tree.leaves(output):
            assert leaf.shape[:1] == (batch_size,), (
                f"predict[{name!r}] gave {leaf.shape} for a batch of {batch_size}."
            )
    for name in names:
        eager = system.predict[name](params, batches[-1], key)
        what = f"predict[{name!r}]: jit and eager"
        _assert_close(eager, outputs[-1][name], rtol, atol, what)


def _assert_close(a: Any, b: Any, rtol: float, atol: float, what: str) -> None:
    jax.tree.map(
        lambda p, q: np.testing.assert_allclose(
            np.asarray(p), np.asarray(q), rtol=rtol, atol=atol, err_msg=what
        ),
        a,
        b,
    )
