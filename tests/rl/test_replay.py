"""The replay against a ring written in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.rl import replay

add = jax.jit(replay.add)
sample = jax.jit(replay.sample, static_argnums=2)


def block_of(first, length):
    """Items numbered from ``first``, each field telling the number."""
    number = np.arange(first, first + length)
    return {
        "obs": np.stack([number, -number], axis=1).astype(np.float32),
        "action": number.astype(np.int32),
        "terminated": number % 3 == 0,
    }


def make(capacity):
    return replay.make(jax.tree.map(lambda a: a[0], block_of(0, 1)), capacity)


def test_buffer_holds_what_a_ring_in_numpy_holds():
    buffer = make(12)
    ring = jax.tree.map(np.array, buffer.items)
    for round_ in range(8):
        block = block_of(100 + 4 * round_, 4)
        buffer = add(buffer, block)
        places = (4 * round_ + np.arange(4)) % 12
        for name, values in block.items():
            ring[name][places] = values
        jax.tree.map(np.testing.assert_array_equal, buffer.items, ring)
        assert int(buffer.size) == min(4 * (round_ + 1), 12)
        assert int(buffer.position) == 4 * (round_ + 1) % 12


def test_dtypes_are_those_of_the_example():
    buffer = add(make(4), block_of(0, 4))
    kinds = {name: str(a.dtype) for name, a in buffer.items.items()}
    assert kinds == {"obs": "float32", "action": "int32", "terminated": "bool"}


def test_sampling_is_uniform_over_what_was_added(key):
    buffer = add(add(make(12), block_of(1, 4)), block_of(5, 4))
    drawn = np.asarray(sample(buffer, key, 8000)["action"])
    counts = np.bincount(drawn, minlength=9)
    assert counts[0] == 0
    error = 5 * np.sqrt(8000 * (1 / 8) * (7 / 8))
    assert (np.abs(counts[1:] - 1000) < error).all()


def test_fields_of_an_item_stay_together(key):
    buffer = add(add(make(12), block_of(0, 4)), block_of(50, 4))
    items = jax.tree.map(np.asarray, sample(buffer, key, 8000))
    np.testing.assert_array_equal(items["obs"][:, 0], items["action"])
    np.testing.assert_array_equal(items["terminated"], items["action"] % 3 == 0)


def test_donated_buffer_is_written_in_place():
    buffer = replay.make(jnp.zeros(64), 4096)
    jitted = jax.jit(replay.add, donate_argnums=0)
    memory = jitted.lower(buffer, jnp.zeros((8, 64))).compile().memory_analysis()
    size = buffer.items.nbytes
    assert memory.alias_size_in_bytes >= size
    assert memory.temp_size_in_bytes < size // 8


def test_buffer_carried_by_a_scan_is_written_in_place():
    buffer = replay.make(jnp.zeros(64), 4096)

    def fill_and_read(buffer, key):
        def body(buffer, key):
            buffer = replay.add(buffer, jnp.ones((8, 64)))
            return buffer, jnp.mean(replay.sample(buffer, key, 8))

        return jax.lax.scan(body, buffer, jax.random.split(key, 5))

    jitted = jax.jit(fill_and_read, donate_argnums=0)
    memory = jitted.lower(buffer, jax.random.key(0)).compile().memory_analysis()
    assert memory.temp_size_in_bytes < buffer.items.nbytes // 8


def test_block_that_does_not_divide_the_capacity_is_named():
    with pytest.raises(ValueError, match="block of 5 .* capacity 12"):
        replay.add(make(12), block_of(0, 5))
    with pytest.raises(ValueError, match="capacity must be 1 or more, got 0"):
        make(0)
