"""The flat hash gives the very bits of ``jax.random``."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from m3jax.ops import random

pytestmark = pytest.mark.usefixtures("quick_compilation")
on_cpu = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="only the CPU has a hash of its own"
)

DRAWS = {
    "bits8": functools.partial(jax.random.bits, shape=(33,), dtype="uint8"),
    "bits16": functools.partial(jax.random.bits, shape=(5, 1, 7), dtype="uint16"),
    "bits32": functools.partial(jax.random.bits, shape=(), dtype="uint32"),
    "none": functools.partial(jax.random.bits, shape=(3, 0), dtype="uint32"),
    "bfloat16": functools.partial(jax.random.uniform, shape=(64,), dtype="bfloat16"),
    "uniform": functools.partial(jax.random.uniform, shape=(4, 5, 6), minval=-2.0),
    "normal": functools.partial(jax.random.normal, shape=(257,)),
    "complex": functools.partial(jax.random.normal, shape=(8, 9), dtype="complex64"),
    "bernoulli": functools.partial(jax.random.bernoulli, p=0.3, shape=(50,)),
    "randint": functools.partial(jax.random.randint, shape=(40,), minval=0, maxval=16),
}


def draw_all(key, change=lambda key: key):
    return {name: draw(change(key)) for name, draw in DRAWS.items()}


def kolmogorov(uniform):
    """How far numbers lie from uniform on (0, 1), in units of 1 / sqrt(n)."""
    n = uniform.size
    steps = np.sort(uniform.ravel()) - (np.arange(n) + 0.5) / n
    return np.sqrt(n) * np.abs(steps).max()


def assert_same(left, right):
    for name in left:
        assert left[name].dtype == right[name].dtype, name
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_same_bits_under_jit_for_every_kind_of_draw(key):
    ours = jax.jit(lambda key: draw_all(key, random.fusible))(key)
    assert_same(ours, jax.jit(draw_all)(key))


def test_same_bits_eagerly_and_for_raw_keys():
    raw = jax.random.PRNGKey(5)
    for draw in (DRAWS["normal"], DRAWS["bits32"], DRAWS["none"]):
        np.testing.assert_array_equal(draw(random.fusible(raw)), draw(raw))


def test_same_bits_under_vmap_over_keys(key):
    keys = jax.random.split(key, 6).reshape(2, 3)
    draw = functools.partial(jax.random.normal, shape=(4, 5))
    one_by_one = jnp.stack([jnp.stack([draw(k) for k in row]) for row in keys])
    ours = jax.jit(jax.vmap(jax.vmap(lambda k: draw(random.fusible(k)))))(keys)
    np.testing.assert_array_equal(ours, one_by_one)
    whole = jax.jit(jax.vmap(jax.vmap(draw)))(random.fusible(keys))
    np.testing.assert_array_equal(whole, one_by_one)


def test_same_bits_in_double_precision():
    with jax.enable_x64(True):
        key = jax.random.key(7)
        draw = functools.partial(jax.random.normal, shape=(99,), dtype="complex128")
        np.testing.assert_array_equal(draw(random.fusible(key)), draw(key))


def test_hash_gives_the_known_answers():
    """Random123's vector for 20 rounds with key and counter 0."""
    with jax.enable_x64(True):
        word = jax.random.bits(random.fusible(jax.random.key(0)), (), "uint64")
    assert int(word) == 0x6B20015999BA4EFE


def test_splitting_and_folding_lead_to_the_same_keys(key):
    ours = random.fusible(key)
    for step in (jax.random.split, lambda key: jax.random.fold_in(key, 3)):
        np.testing.assert_array_equal(
            jax.random.key_data(step(ours)), jax.random.key_data(step(key))
        )


def test_other_generators_are_left_alone():
    key = jax.random.key(0, impl="rbg")
    assert random.fusible(key) is key


def test_the_old_counter_order_is_left_alone(key):
    with jax.threefry_partitionable(False):
        assert random.fusible(key) is key


def test_using_a_key_twice_is_seen_by_the_checker():
    def twice(key):
        draw = DRAWS["normal"]
        return draw(random.fusible(key)) + draw(random.fusible(key))

    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        jax.jit(twice)(jax.random.key(0))


@on_cpu
def test_draw_leaves_no_loop_that_would_keep_it_from_its_consumer(key):
    def program(change):
        draw = jax.jit(lambda key: jax.random.normal(change(key), (512,)) > 2.0)
        return draw.lower(key).compile().as_text()

    assert " while(" not in program(random.fusible)
    assert " while(" in program(lambda key: key)


def test_numbers_are_standard_normal_and_independent(key):
    x = np.asarray(jax.random.normal(random.fusible(key), (400, 500)), np.float64)
    assert kolmogorov(special.ndtr(x)) < 1.95  # exceeded once in 1000 keys
    for lag in (np.roll(x, 1, axis=1), np.roll(x, 1, axis=0)):
        assert abs(np.mean(x * lag)) < 4.5 / np.sqrt(x.size)
        assert abs(np.mean(x**2 * lag**2) - 1.0) < 4.5 * np.sqrt(8.0 / x.size)


def test_complex_normals_are_those_of_jax_until_the_key_asks_for_others(key):
    draw = functools.partial(random.complex_normal, shape=(7, 9), dtype="complex64")
    theirs = jax.random.normal(key, (7, 9), "complex64")
    np.testing.assert_array_equal(draw(key), theirs)
    np.testing.assert_array_equal(draw(random.fusible(key)), theirs)
    assert not np.any(draw(random.box_muller(key)) == theirs)
    with jax.debug_key_reuse(True):
        np.testing.assert_array_equal(
            draw(random.box_muller(jax.random.key(0))), theirs
        )


def test_stored_complex_normals_are_the_same_numbers(key):
    draw = functools.partial(
        random.stored_complex_normal, shape=(33,), dtype="complex64"
    )
    theirs = jax.random.normal(key, (33,), "complex64")
    for change in (lambda key: key, random.fusible, random.box_muller):
        np.testing.assert_allclose(draw(change(key)), theirs, rtol=2e-7)


def test_a_box_muller_key_keeps_its_kind_and_the_bits_of_the_plain_one(key):
    ours = random.box_muller(key)
    children = (jax.random.split(ours)[0], jax.random.fold_in(ours, 1))
    for child in (*children, random.box_muller(ours)):
        assert jax.random.key_impl(child) == jax.random.key_impl(ours)
    assert_same({"x": DRAWS["normal"](ours)}, {"x": DRAWS["normal"](key)})
    assert jax.random.key_impl(random.fusible(ours)) != jax.random.key_impl(ours)


def test_box_muller_numbers_are_circular_complex_normal(key):
    draw = functools.partial(random.complex_normal, shape=(400, 500), dtype="complex64")
    z = np.asarray(jax.jit(draw)(random.box_muller(key)), np.complex128)
    phase = np.angle(z) / (2.0 * np.pi) + 0.5
    for uniform in (np.exp(-(np.abs(z) ** 2)), phase, special.ndtr(2**0.5 * z.real)):
        assert kolmogorov(uniform) < 1.95  # exceeded once in 1000 keys
    lags = (np.roll(z, 1, axis=1), np.roll(z, 1, axis=0))
    for product in (
        z * z,
        *(z * lag for lag in lags),
        *(z * lag.conj() for lag in lags),
    ):
        assert abs(product.mean()) < 4.5 * np.sqrt(2.0 / z.size)


def test_box_muller_numbers_reach_into_the_tail():
    key = random.box_muller(jax.random.key(1))
    z = jax.jit(lambda key: random.complex_normal(key, (1 << 20,), "complex64"))(key)
    tail = np.asarray(jnp.abs(z)) ** 2
    for level in (4.0, 8.0):
        expected = z.size * np.exp(-level)
        assert abs(np.sum(tail > level) - expected) < 4.5 * np.sqrt(expected)
    assert tail.max() > 10.0
