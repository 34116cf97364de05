import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import polar

pytestmark = pytest.mark.usefixtures("quick_compilation")


def kronecker(length):
    """The generator before any place is frozen."""
    matrix = np.ones((1, 1), int)
    while len(matrix) < length:
        matrix = np.kron([[1, 0], [1, 1]], matrix)
    return matrix


@pytest.mark.parametrize(("num_bits", "length"), [(1, 2), (8, 16), (64, 128)])
def test_encoding_is_the_product_with_the_kronecker_power(num_bits, length):
    code = polar.make_polar_code(num_bits, length)
    bits = np.random.default_rng(0).integers(0, 2, (20, num_bits))
    u = np.zeros((20, length), int)
    u[:, code.positions] = bits
    got = jax.jit(jax.vmap(lambda b: polar.encode(code, b)))(bits)
    np.testing.assert_array_equal(got, u @ kronecker(length) % 2)


def test_the_transform_undoes_itself():
    u = np.random.default_rng(1).integers(0, 2, (5, 64))
    again = jax.jit(lambda u: polar.transform(polar.transform(u)))(jnp.asarray(u))
    np.testing.assert_array_equal(again, u)


def test_places_are_nested_and_reliable_ones_first():
    # A place whose index has more ones, where the other has ones, is better.
    for num_bits in range(1, 64):
        less = set(polar.make_polar_code(num_bits, 64).positions)
        more = set(polar.make_polar_code(num_bits + 1, 64).positions)
        assert less < more
        for place in less:
            better = {place | 1 << j for j in range(6)}
            assert better <= less
    # Reed-Muller (1, 3), the extended Hamming code.
    assert polar.make_polar_code(4, 8).positions == (3, 5, 6, 7)


def test_a_code_is_static_and_says_its_rate():
    code = polar.make_polar_code(32, 128)
    assert hash(code) == hash(polar.make_polar_code(32, 128))
    assert (code.num_bits, code.rate) == (32, 0.25)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: polar.make_polar_code(8, 12), "power of two"),
        (lambda: polar.make_polar_code(0, 16), "1 to 16"),
        (lambda: polar.make_polar_code(17, 16), "1 to 16"),
        (lambda: polar.PolarCode(8, (3, 2)), "ascending"),
        (lambda: polar.PolarCode(8, (3, 8)), "from 0 to 7"),
        (
            lambda: polar.encode(polar.make_polar_code(4, 8), jnp.zeros((2, 4), int)),
            "jax.vmap",
        ),
    ],
)
def test_what_makes_no_code_is_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()
