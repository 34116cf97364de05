"""Labels are the bits of ``modulation``, kept together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import bits, labels, modulation

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("order", modulation.ORDERS)
def test_symbols_and_decisions_are_those_of_the_bits(order, key):
    every = jnp.arange(order)
    received = 1.5 * jax.random.normal(key, (500,), complex)

    @jax.jit
    def by_labels():
        x = labels.modulate(every, order)
        return x, labels.demodulate(jnp.append(x, received), order)

    @jax.jit
    def by_bits():
        separate = bits.from_integers(every, modulation.bits_per_symbol(order))
        x = modulation.modulate(separate, order)
        decided = modulation.demodulate(jnp.append(x, received), order)
        return x, bits.to_integers(decided)

    ours, theirs = by_labels(), by_bits()
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])
    np.testing.assert_array_equal(ours[1][:order], every)


def test_bit_errors_are_the_bits_that_differ():
    sent, received = jnp.meshgrid(jnp.arange(256), jnp.arange(256))
    differ = bits.from_integers(sent, 8) != bits.from_integers(received, 8)
    found = labels.bit_errors(sent, received)
    np.testing.assert_array_equal(found, jnp.sum(differ, axis=-1))


def test_every_label_is_drawn_as_often_as_the_others(key):
    num = 64_000
    counts = np.bincount(labels.draw(key, (num,), 64), minlength=64)
    chi_square = np.sum((counts - num / 64) ** 2) / (num / 64)
    assert counts.size == 64
    assert chi_square < 104.0  # 63 degrees of freedom: exceeded once in 1000 keys


def test_an_unknown_order_is_refused(key):
    with pytest.raises(ValueError, match="order"):
        labels.draw(key, (3,), 32)
