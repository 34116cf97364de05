"""One run on many devices equals one on a single device, and moves between them."""

import jax
import numpy as np
import pytest

from m3jax.train import checkpoints, sharding

TRAIN = """
import sys, jax, toy
from m3jax.train import checkpoints
assert jax.device_count() == 8
with checkpoints.Checkpointer(sys.argv[1]) as saves:
    state = toy.fit(12, checkpointer=saves)
assert len(state.params["linear"]["kernel"].devices()) == 8
"""

# The rows of a matrix on eight devices, so that each has written its own part.
SAVE = """
import sys, jax, jax.numpy as jnp
from m3jax import base
from m3jax.train import checkpoints, sharding
mesh = sharding.make_mesh()
rows = jax.device_put(jnp.arange(32.0).reshape(16, 2), sharding.split(mesh))
assert len(rows.addressable_shards) == 8
with checkpoints.Checkpointer(sys.argv[2]) as saves:
    saves.save(3, base.TrainState(jnp.int32(3), {"rows": rows}, ()))
"""

RESTORE = """
import sys, jax, numpy as np, toy
from m3jax import base
from m3jax.train import checkpoints, sharding
assert jax.device_count() == 2
mesh = sharding.make_mesh()
shape = lambda *s, d="float32": jax.ShapeDtypeStruct(s, d)
abstract = base.TrainState(shape(d="int32"), {"rows": shape(16, 2)}, ())
abstract = abstract._replace(params=sharding.with_sharding(
    abstract.params, sharding.split(mesh)))
with checkpoints.Checkpointer(sys.argv[2], read_only=True) as saves:
    rows = saves.restore(abstract).state.params["rows"]
assert len(rows.addressable_shards) == 2
assert (np.asarray(rows) == np.arange(32.0).reshape(16, 2)).all()
with checkpoints.Checkpointer(sys.argv[1]) as saves:
    state = toy.fit(12, checkpointer=saves, resume=True)
assert int(state.step) == 12
"""


def test_run_saved_on_eight_devices_restores_on_one_and_on_two(
    toy, tmp_path, start_python
):
    runs = tmp_path / "run", tmp_path / "rows"
    process = start_python("-W", "error", "-c", TRAIN + SAVE, *runs, devices=8)
    assert process.wait(timeout=300) == 0, process.stderr.read()
    process = start_python("-W", "error", "-c", RESTORE, *runs, devices=2)

    with checkpoints.Checkpointer(runs[1], read_only=True) as saves:
        shape = jax.ShapeDtypeStruct
        abstract = toy.base.TrainState(
            shape((), "int32"), {"rows": shape((16, 2), "float32")}, ()
        )
        rows = saves.restore(abstract).state.params["rows"]
    np.testing.assert_array_equal(rows, np.arange(32.0).reshape(16, 2))
    kernel = checkpoints.restore_params(runs[0])["linear"]["kernel"]
    single = toy.fit(12).params["linear"]["kernel"]
    np.testing.assert_allclose(kernel, single, rtol=1e-5)
    assert process.wait(timeout=300) == 0, process.stderr.read()


def test_batch_that_does_not_divide_is_named():
    class EightDevices:
        size = 8

    with pytest.raises(ValueError, match="batch_size=12.*8 devices.*multiple of 8"):
        sharding.check_batch_size(12, EightDevices())
    sharding.check_batch_size(16, EightDevices())
