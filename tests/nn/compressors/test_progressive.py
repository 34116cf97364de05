"""Lengths chosen at run time: one program, the first valid tokens, a table of SNRs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import compressors
from m3jax.testing import traces

TOKENS = np.random.default_rng(0).normal(size=(3, 6, 2)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 0, 1], [0] * 6], bool)
LENGTHS = (-1, 0, 1, 2, 3, 4, 6, 99)


@pytest.mark.usefixtures("quick_compilation")
def test_one_program_serves_all_lengths():
    """The first valid tokens stay; holes in the mask do not count."""
    calls = [(TOKENS, MASK, np.int32(length)) for length in LENGTHS]
    for call, (tokens, mask) in zip(
        calls, traces.assert_no_retrace(compressors.keep, calls), strict=True
    ):
        for row in range(3):
            places = np.flatnonzero(MASK[row])[: max(call[2], 0)]
            np.testing.assert_array_equal(np.flatnonzero(mask[row]), places)
        np.testing.assert_array_equal(tokens, np.where(mask[..., None], TOKENS, 0))


@pytest.mark.usefixtures("quick_compilation")
def test_length_differs_by_example_and_gradients_stop_at_what_is_cut():
    def total(tokens, lengths):
        return compressors.keep(tokens, MASK, lengths)[0].sum()

    gradient = jax.jit(jax.grad(total))(TOKENS, np.array([4, 2, 3]))
    expected = [[1, 1, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0], [0] * 6]
    np.testing.assert_array_equal(gradient[..., 0], expected)


@pytest.mark.usefixtures("quick_compilation")
def test_a_cut_progressive_message_equals_a_shorter_selection():
    """And unmerge leaves empty the places of what was not sent."""
    compress = compressors.TopKNorm(5, progressive=True).apply
    long = jax.jit(functools.partial(compress, {}, method="compress"))(TOKENS, MASK)
    tokens, mask = compressors.keep(long.tokens, long.mask, jnp.array([3, 2, 1]))
    back, filled = jax.jit(compressors.unmerge)(tokens, mask, long.slots)
    norms = np.where(MASK, np.linalg.norm(TOKENS, axis=-1), -1)
    expected = norms >= -np.sort(-norms, axis=1)[np.arange(3), [2, 1, 0], None]
    expected &= MASK
    np.testing.assert_array_equal(filled, expected)
    np.testing.assert_array_equal(back, np.where(expected[..., None], TOKENS, 0))


@pytest.mark.parametrize("length", [2.0, np.ones((2,), int), np.ones((3, 1), int)])
def test_a_length_of_another_type_or_shape_is_refused(length):
    with pytest.raises(ValueError, match="an integer, or one for each of 3 examples"):
        compressors.keep(TOKENS, MASK, length)


def test_the_table_of_lengths_is_read_by_region():
    snr_db = np.array([[-np.inf, -0.001, 0.0], [7.4, 7.5, np.inf]], np.float32)
    choose = functools.partial(
        compressors.length_for_snr, thresholds_db=(0.0, 7.5), lengths=(16, 8, 2)
    )
    found = jax.jit(choose)(snr_db)
    assert found.dtype == jnp.int32
    assert found.tolist() == [[16, 16, 8], [8, 2, 2]]


@pytest.mark.parametrize(
    ("thresholds_db", "lengths", "told"),
    [
        ((0.0, 0.0), (3, 2, 1), "thresholds_db must rise"),
        ((0.0, 5.0), (3, 2), "lengths must be 3 integers"),
        ((0.0,), (3.0, 1.5), "lengths must be 2 integers"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(thresholds_db, lengths, told):
    with pytest.raises(ValueError, match=told):
        compressors.length_for_snr(0.0, thresholds_db, lengths)
