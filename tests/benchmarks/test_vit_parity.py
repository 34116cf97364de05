"""m3jax and PyTorch compute the same thing in the training benchmark."""

import jax
import pytest

from benchmarks import vit_m3jax, vit_workload


def test_batch_has_the_shape_of_the_workload():
    workload = vit_workload.TINY
    batch = vit_workload.make_batch(workload)
    assert batch["image"].shape == (workload.batch, 8, 8, 3)
    assert batch["label"].max() < workload.num_classes


def test_unknown_size_is_an_error_that_names_the_others():
    with pytest.raises(ValueError, match="small, large, tiny"):
        vit_workload.named("huge")


def test_step_advances_its_donated_state_and_learns():
    batch = vit_workload.make_batch(vit_workload.TINY)
    learner, state = vit_m3jax.start(vit_workload.TINY, 1, batch)
    step = vit_m3jax.make_step(learner, state, jax.device_put(batch))
    losses = [step() for _ in range(4)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_losses_gradients_and_steps_agree_with_pytorch():
    pytest.importorskip("torch")
    from benchmarks import training

    training.check(vit_workload.TINY)


@pytest.mark.slow
def test_a_wrong_formula_is_seen(monkeypatch):
    pytest.importorskip("torch")
    from benchmarks import training

    monkeypatch.setattr(vit_workload, "LAYER_NORM_EPS", 1e-2)
    with pytest.raises(RuntimeError, match="differ"):
        training.check(vit_workload.TINY)
