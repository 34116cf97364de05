import jax.numpy as jnp
import pytest

from m3jax.testing import traces


def test_new_values_do_not_count_as_traces():
    outputs = traces.assert_no_retrace(
        lambda x: x + 1, [(jnp.float32(i),) for i in (1, 5)]
    )
    assert outputs == [2.0, 6.0]


def test_a_new_shape_is_caught():
    with pytest.raises(AssertionError, match="traced 2 times"):
        traces.assert_no_retrace(jnp.sum, [(jnp.ones(2),), (jnp.ones(3),)])
