"""Experts on eight faked devices equal the dense path on one."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from m3jax.nn import moe

PROGRAM = """
import dataclasses, functools, jax, jax.numpy as jnp, numpy as np
from m3jax.nn import moe

assert jax.device_count() == 8
mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "expert"))
config = moe.MoeConfig(num_experts=8, top_k=2, ff_dim=10)
rng = np.random.default_rng(0)
x = rng.normal(size=(4, 10, 6)).astype(np.float32)
mask = rng.random((4, 10)) < 0.8
params = moe.MoeLayer(config).init(jax.random.key(0), x)
params["params"]["router"]["kernel"] *= 3

def run(path, factor=None):
    layer = moe.MoeLayer(
        dataclasses.replace(config, path=path, capacity_factor=factor)
    )
    def loss(params, x):
        out, routing = layer.apply(params, x, mask)
        return jnp.sum(jnp.sin(out)), (out, routing)
    value = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    with jax.set_mesh(mesh):
        return jax.tree.map(np.asarray, value(params, x))

close = functools.partial(np.testing.assert_allclose, atol=1e-5)
jax.tree.map(close, run("parallel"), run("dense"))

# Of each ten tokens an expert takes no more than ceil(0.8 * 10 * 2 / 8) = 2.
(_, (out, routing)), _ = run("parallel", 0.8)
weights = np.zeros((40, 8))
full = run("dense")[0][1][1]
np.put_along_axis(weights, full.experts.reshape(40, 2), full.weights.reshape(40, 2), 1)
kept = weights.copy()
for part in np.split(kept, 4):
    for i in range(8):
        part[np.flatnonzero(part[:, i])[2:], i] = 0
np.testing.assert_array_equal(routing.dropped, ((weights - kept) > 0).sum(axis=0))
assert routing.dropped.sum() > 5
kernels = moe.Kernels(*(params["params"][n]["kernel"] for n in ("gate", "up", "down")))
expected = moe.run_dense(x.reshape(40, 6), jnp.float32(kept), kernels)
np.testing.assert_allclose(out.reshape(40, 6), expected, atol=1e-5)

# The same through the function alone, told the mesh and the capacity.
flat = jnp.asarray(x.reshape(40, 6)), jnp.float32(weights), kernels, 2
found = jax.jit(
    lambda *a: moe.run_parallel(*a, 2, mesh=mesh, capacity=2)
)(*flat[:3])
np.testing.assert_allclose(found, expected, atol=1e-5)
assert len(found.sharding.device_set) == 8

# The program moves no other bytes than those that are counted: two buffers and counts.
text = jax.jit(
    lambda *a: moe.run_parallel(*a, 2, mesh=mesh, capacity=2)
).lower(*flat[:3]).as_text()
assert text.count("all_to_all\\"(") == 3, text.count("all_to_all\\"(")
for shape in ("tensor<4x4x6xf32>", "tensor<4x2xi32>"):  # 2 experts x 2 places, counts
    assert any("all_to_all" in l and shape in l for l in text.splitlines()), shape
moved = (2 * 4 * 4 * 6 * 4 + 4 * 2 * 4) * 3 / 4 / 10
assert moe.bytes_per_token(10, 8, capacity=2, dim=6, num_shards=4) == moved
"""


@pytest.mark.slow
def test_eight_devices_equal_one_in_value_and_gradient():
    root = pathlib.Path(__file__).parents[3]
    flags = os.environ.get("XLA_FLAGS", "")
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=8",
        "PYTHONPATH": str(root),
    }
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize(
    ("num_tokens", "num_experts", "message"),
    [(4, 6, "6 experts do not divide"), (5, 8, "5 tokens do not divide")],
)
def test_what_does_not_divide_is_refused(num_tokens, num_experts, message):
    mesh = jax.sharding.AbstractMesh((4,), ("expert",))
    shapes = moe.Kernels(*(np.zeros((num_experts, 1, 1)) for _ in range(3)))
    x, weights = np.zeros((num_tokens, 1)), np.zeros((num_tokens, num_experts))
    with pytest.raises(ValueError, match=message + " among the 4 devices"):
        moe.run_parallel(x, weights, shapes, 1, mesh=mesh)
    with pytest.raises(ValueError, match="axis 'model'"):
        moe.run_parallel(x, weights, shapes, 1, mesh=mesh, axis="model")
