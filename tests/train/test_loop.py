"""The loop trains, repeats itself after an interruption, and stops when it should."""

import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax import base
from m3jax.train import (
    cache,
    checkpoints,
    config,
    interrupts,
    learner,
    loop,
    metrics,
    optimizers,
    sources,
)


@pytest.fixture(autouse=True, scope="module")
def compiled_once(tmp_path_factory, cache_settings_restored):
    """Spares compiling the same step for each part of a run, as launchers do."""
    cache.enable_compilation_cache(tmp_path_factory.mktemp("compiled"))


class Stopping:
    """Batches whose loader dies when somebody presses Ctrl-C."""

    def __init__(self, batches, at):
        self._batches, self._at = batches, at

    def __iter__(self):
        return self

    def __next__(self):
        batch = next(self._batches)
        if batch["index"][0] == self._at:
            signal.raise_signal(signal.SIGINT)
            raise RuntimeError("a process of the loader died")
        return batch

    def __getattr__(self, name):
        return getattr(self._batches, name)


def counting_learner(metric):
    """A learner whose parameter counts steps; ``metric(count)`` is its loss."""

    def init(key, batch):
        del key, batch
        return base.TrainState(jnp.int32(0), {"count": jnp.float32(0)}, ())

    def step(state, batch, key):
        del batch, key
        count = state.params["count"] + 1
        return state._replace(step=state.step + 1, params={"count": count}), {
            "loss": metric(count)
        }

    return base.Learner(init, step)


def fit_counting(metric, steps, batches, key, **options):
    fields = {"log_every": 4, "checkpoint_every": 5, "keep": 9}
    names = set(config.TrainConfig.__dataclass_fields__) & set(options)
    fields |= {name: options.pop(name) for name in names}
    settings = config.TrainConfig(steps, **fields)
    return loop.fit(
        counting_learner(metric),
        batches,
        settings,
        key=key,
        show_progress=False,
        **options,
    )


def test_regression_reaches_the_closed_form(toy, key):
    x, y = (np.random.default_rng(0).normal(size=(16, n)) for n in (3, 1))
    batch = {"x": x, "y": y, "index": np.zeros(16)}
    batch = {name: value.astype(np.float32) for name, value in batch.items()}
    design = np.concatenate([x, np.ones((16, 1))], axis=1)
    expected = np.linalg.lstsq(design, y, rcond=None)[0]

    optimizer = optimizers.OptimizerConfig(learning_rate=0.1, weight_decay=0.0)
    method = learner.make_learner(
        toy.make_system(noise=0.0), optimizer, 400, trainable="linear/.*"
    )
    settings = config.TrainConfig(steps=400)
    state = loop.fit(
        method, iter(lambda: batch, None), settings, key=key, show_progress=False
    )

    linear = state.params["linear"]
    found = np.concatenate([linear["kernel"], linear["bias"][None]])
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert int(state.step) == 400


def test_run_stopped_by_ctrl_c_and_resumed_equals_an_unbroken_one(
    toy, tmp_path, assert_identical
):
    unbroken = toy.fit(40, writer=metrics.MetricWriter(tmp_path / "whole"))

    handlers = [signal.getsignal(n) for n in interrupts.SIGNALS]
    stopping = Stopping(toy.Batches(), at=17)
    writer = metrics.MetricWriter(tmp_path / "parts")
    with checkpoints.Checkpointer(tmp_path / "checkpoints") as saves:
        with pytest.raises(interrupts.Interrupted, match="--resume") as caught:
            toy.fit(40, stopping, checkpointer=saves, writer=writer)
    assert [signal.getsignal(n) for n in interrupts.SIGNALS] == handlers
    assert caught.value.exit_code == 128 + signal.SIGINT

    second = toy.Batches()
    with checkpoints.Checkpointer(tmp_path / "checkpoints") as saves:
        assert saves.steps() == [caught.value.step]
        resumed = toy.fit(40, second, checkpointer=saves, writer=writer, resume=True)
    assert_identical(unbroken, resumed)
    # The batch the shapes were looked at is pulled first; then the order goes on.
    assert second.pulled[1:] == list(range(caught.value.step, 40))
    whole, parts = (metrics.read(tmp_path / name)[-1] for name in ("whole", "parts"))
    for name in ("step", "loss", "first"):
        assert whole[name] == parts[name]


def test_process_that_got_sigterm_resumes_bit_for_bit(
    toy, tmp_path, start_python, assert_identical
):
    process = start_python("-W", "error", toy.__file__, tmp_path, 100_000)
    assert process.stdout.readline().strip() == "running"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, err
    stopped_at = int(out)

    more = stopped_at + 7
    with checkpoints.Checkpointer(tmp_path / "checkpoints") as saves:
        assert saves.steps() == [stopped_at]
        optimizer = optimizers.OptimizerConfig(
            learning_rate=0.05, weight_decay=0.0, schedule="cosine"
        )
        method = learner.make_learner(toy.make_system(), optimizer, 100_000)
        common = {"key": jax.random.key(0), "show_progress": False}
        settings = toy.make_config(more)
        resumed = loop.fit(
            method, toy.Batches(), settings, checkpointer=saves, resume=True, **common
        )
    unbroken = loop.fit(method, toy.Batches(), settings, **common)
    assert_identical(unbroken, resumed)


def test_second_ctrl_c_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt), interrupts.Watch() as watch:
        signal.raise_signal(signal.SIGINT)
        assert watch.received == signal.SIGINT
        signal.raise_signal(signal.SIGINT)


def test_process_started_hidden_does_not_get_ctrl_c():
    program = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    command = [sys.executable, "-S", "-c", program]
    with interrupts.hidden_from_children():
        hidden = subprocess.run(command, capture_output=True, text=True, check=True)
    after = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "SIGINT" in hidden.stdout
    assert "SIGINT" not in after.stdout


def test_nan_loss_stops_and_names_steps_and_last_good_checkpoint(toy, tmp_path, key):
    with checkpoints.Checkpointer(tmp_path / "checkpoints") as saves:
        with pytest.raises(loop.NonFiniteError) as caught:
            fit_counting(
                lambda count: jnp.where(count < 13, 1.0, jnp.nan),
                40,
                toy.Batches(),
                key,
                checkpointer=saves,
            )
        assert saves.steps() == [5, 10]
    message = str(caught.value)
    assert "between steps 13 and 15" in message
    assert "last good checkpoint is step 10" in message
    assert str(tmp_path) in message


def test_infinite_gradient_stops_before_it_is_saved(toy, tmp_path):
    huge = toy.Batches()
    good = huge.__next__

    class Overflowing(toy.Batches):
        def __next__(self):
            batch = good()
            scale = np.float32(1e30) if batch["index"][0] == 7 else np.float32(1)
            return {**batch, "x": batch["x"] * scale}

    with checkpoints.Checkpointer(tmp_path) as saves:
        with pytest.raises(loop.NonFiniteError):
            toy.fit(20, Overflowing(), checkpointer=saves, checkpoint_every=8)
        assert saves.steps() == []


def test_step_is_traced_as_often_for_one_step_as_for_many(toy, key):
    traces = []

    def metric(count):
        traces.append(count)
        return count

    fit_counting(metric, 1, toy.Batches(), key)
    once = len(traces)
    fit_counting(metric, 30, toy.Batches(), key)
    assert len(traces) == 2 * once


def test_state_is_donated_so_memory_holds_it_once(toy, key):
    held = []
    options = {"evaluate": lambda state: held.append(state) or {}, "evaluate_every": 2}
    last = fit_counting(lambda count: count, 4, toy.Batches(), key, **options)
    assert held[0].params["count"].is_deleted()
    assert not last.params["count"].is_deleted()


def test_logged_metrics_are_means_since_the_last_log(toy, tmp_path, key):
    writer = metrics.MetricWriter(tmp_path)
    fit_counting(lambda count: count, 9, toy.Batches(), key, writer=writer)
    losses = {row["step"]: row["loss"] for row in metrics.read(tmp_path)}
    assert losses == {4: 2.5, 8: 6.5, 9: 9.0}


def test_evaluation_comes_when_due_and_its_best_checkpoint_stays(toy, tmp_path, key):
    scores = {3: 0.2, 6: 0.9, 9: 0.5, 11: 0.4}
    seen = []

    def evaluate(state):
        seen.append(int(state.step))
        return {"eval/accuracy": scores[seen[-1]]}

    writer = metrics.MetricWriter(tmp_path)
    options = {"evaluate": evaluate, "evaluate_every": 3, "checkpoint_every": 3}
    best = {"best_metric": "eval/accuracy"}
    with checkpoints.Checkpointer(tmp_path / "checkpoints", keep=1, **best) as saves:
        fit_counting(
            lambda c: c,
            11,
            toy.Batches(),
            key,
            checkpointer=saves,
            writer=writer,
            **options,
        )
        assert saves.steps() == [6, 11]
        assert saves.best_step() == 6
    assert seen == list(scores)
    written = [row for row in metrics.read(tmp_path) if "eval/accuracy" in row]
    assert {row["step"]: row["eval/accuracy"] for row in written} == scores


def test_run_that_is_over_does_nothing_more(toy, tmp_path, key, assert_identical):
    with checkpoints.Checkpointer(tmp_path) as saves:
        first = fit_counting(lambda c: c, 5, toy.Batches(), key, checkpointer=saves)
        again = fit_counting(
            lambda c: c, 5, toy.Batches(), key, checkpointer=saves, resume=True
        )
    assert_identical(first, again)


def test_checkpoints_of_an_earlier_run_are_not_overwritten(toy, tmp_path, key):
    with checkpoints.Checkpointer(tmp_path) as saves:
        fit_counting(lambda c: c, 5, toy.Batches(), key, checkpointer=saves)
        with pytest.raises(FileExistsError, match="up to step 5.*--resume"):
            fit_counting(lambda c: c, 5, toy.Batches(), key, checkpointer=saves)


def test_batches_that_run_out_are_named(toy, key):
    few = [next(toy.Batches()) for _ in range(3)]
    with pytest.raises(sources.DataEndedError, match="after 3 batches"):
        fit_counting(lambda c: c, 5, few, key)


def test_metric_that_is_no_scalar_is_named(toy, key):
    with pytest.raises(ValueError, match="'loss' has shape"):
        fit_counting(lambda count: jnp.ones(2) * count, 5, toy.Batches(), key)


def test_learner_without_batches_trains(key):
    state = fit_counting(lambda count: count, 3, iter(lambda: (), None), key)
    assert float(state.params["count"]) == 3


def test_grain_iterator_goes_on_where_it_stood(tmp_path, key):
    grain = pytest.importorskip("grain")

    def batches():
        source = grain.MapDataset.range(24).shuffle(seed=3).repeat()
        return iter(source.map(lambda i: {"index": i}).batch(8).to_iter_dataset())

    def init(key, batch):
        del key, batch
        return base.TrainState(jnp.int32(0), {"digest": jnp.int32(0)}, ())

    def step(state, batch, key):
        del key
        ordered = jnp.sum(jnp.arange(1, 9) * batch["index"])
        params = {"digest": 31 * state.params["digest"] + ordered}
        loss = params["digest"].astype(jnp.float32)
        return base.TrainState(state.step + 1, params, ()), {"loss": loss}

    def fit(steps, **options):
        settings = config.TrainConfig(steps)
        return loop.fit(
            base.Learner(init, step),
            batches(),
            settings,
            key=key,
            show_progress=False,
            **options,
        )

    unbroken = fit(11)
    with checkpoints.Checkpointer(tmp_path) as saves:
        fit(5, checkpointer=saves)
        resumed = fit(11, checkpointer=saves, resume=True)
    assert int(unbroken.params["digest"]) == int(resumed.params["digest"])


def test_timings_of_the_start_are_reported_once(toy, key):
    told = []
    fit_counting(lambda c: c, 3, toy.Batches(), key, report=told.append)
    assert len(told) == 1
    assert 0 < told[0]["seconds_to_compile"] < told[0]["seconds_to_first_step"]


def test_no_progress_is_shown_when_not_asked_for(toy, key, capfd):
    fit_counting(lambda c: c, 3, toy.Batches(), key)
    assert capfd.readouterr() == ("", "")


def test_line_of_progress_without_a_terminal_names_step_and_loss(toy, key, capfd):
    assert not os.isatty(2)
    settings = config.TrainConfig(3)
    loop.fit(counting_learner(lambda c: c), toy.Batches(), settings, key=key)
    assert "step 3/3" in capfd.readouterr().err
