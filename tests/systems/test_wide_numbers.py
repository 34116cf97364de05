"""Every system with 64-bit JAX on: it trains, answers, and stays in 32 bits."""

import os
import pathlib
import subprocess
import sys

import pytest

from m3jax.studies import compiling

HERE = pathlib.Path(__file__).parent
NAMES = ("tokcom", "router", "moe2", "wdmoe", "msao", "generalist", "specialist")

# A process of its own: what a module makes when it is imported is wide there too.
SCRIPT = """
import importlib.util, pathlib, sys
import jax, jax.numpy as jnp, numpy as np

def load(path):
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def narrow(what, tree):
    wide = {str(x.dtype) for x in jax.tree.leaves(tree)} & {"float64", "complex128"}
    assert not wide, f"{what} is {wide}"

def finite(what, tree):
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            assert np.isfinite(leaf).all(), f"{what} is not finite"

def check_system(system, batch, predictions, runs):
    keys = jax.random.split(jax.random.key(0), 4)
    batch = jax.tree.map(jnp.asarray, dict(batch))
    if system.draw is not None:
        batch |= system.draw(batch, keys[0])
    @jax.jit
    def play(batch):
        params = system.init(keys[1], batch)
        losses = jax.value_and_grad(system.loss, has_aux=True)(params, batch, keys[2])
        answers = {n: system.predict[n](params, batch, keys[3]) for n in predictions}
        return params, losses, answers
    # Types clash while a program is traced, which takes a fraction of running it.
    params, (_, slopes), answers = out = (play if runs else play.eval_shape)(batch)
    narrow("a parameter", params)
    narrow("a gradient", slopes)
    if runs:
        finite("something", out)

def traced(trainer, batch):
    state = jax.eval_shape(trainer.init, jax.random.key(0), batch)
    after, _ = jax.eval_shape(trainer.step, state, batch, jax.random.key(1))
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype), one) for one in (state, after)]
    assert kinds[0] == kinds[1], "a step changes the types of the state"
    narrow("a parameter", after.params)
    return {}

assert jax.config.jax_enable_x64
here, every, *names = sys.argv[1:]
systems = load(f"{here}/test_conformance.py").SYSTEMS
for name in names:
    if name == "router":
        golden = load(f"{here}/../test_golden.py")
        golden.STEPS = 1
        if every == "few":
            golden.sums = traced
        finite("a sum of parameters", jax.tree.map(jnp.asarray, golden.train_router()))
    else:
        system, batch, _ = systems[name]
        whole = every == "all"
        names = tuple(system.predict) if whole else ("answer",)
        check_system(system, batch, names, whole)
    print(name, "ok", flush=True)
"""


def run(names, every):
    quick = compiling.quick_flags()
    environment = os.environ | {
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": f"{quick} {os.environ.get('XLA_FLAGS', '')}".strip(),
    }
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(HERE), every, *names],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr[-4000:]
    assert found.stdout.split() == [word for name in names for word in (name, "ok")]


def test_every_system_takes_a_gradient_and_answers():
    run(NAMES, "few")


@pytest.mark.slow
def test_every_system_gives_all_its_predictions():
    run((*NAMES, "edge_experts", "early_exit", "tokcom_options"), "all")
