"""What every test may ask for."""

import jax
import pytest


@pytest.fixture
def key() -> jax.Array:
    """The root key of a test; split it, or fold a number in, for more."""
    return jax.random.key(0)
