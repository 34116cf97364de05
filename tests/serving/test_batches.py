"""Batches padded to sizes that are warmed."""

import jax
import numpy as np
import pytest

from m3jax.serving import batches, descriptors, endpoints, registry, server


class Compiled:
    """A jitted expert that notes each size that it is traced for."""

    descriptor = descriptors.Descriptor(
        "sums", "sums", (), (2, 3), input_shape=(4, 4, 3)
    )

    def __init__(self):
        self.traced = []
        self._run = jax.jit(self._tokens)

    def _tokens(self, image):
        self.traced.append(len(image))
        return image[:, :2, 0].astype(np.float32) / 8.0

    def encode(self, image):
        return np.asarray(self._run(image))


@pytest.fixture
def draw():
    numbers = np.random.default_rng(0)
    return lambda n: numbers.integers(0, 256, (n, 4, 4, 3), np.uint8)


@pytest.mark.parametrize("max_batch", [1, 6, 8])
def test_no_size_compiles_after_the_warm_up(draw, max_batch):
    expert = Compiled()
    padded = batches.Padded(expert, max_batch)
    padded.warm_up()
    assert expert.traced == list(batches.sizes(max_batch))
    for num in range(1, max_batch + 1):
        images = draw(num)
        np.testing.assert_array_equal(
            padded.encode(images), images[:, :2, 0].astype(np.float32) / 8.0
        )
    assert expert.traced == list(batches.sizes(max_batch))


def test_callers_of_a_server_compile_nothing(draw):
    pytest.importorskip("mcp")
    expert = Compiled()
    padded = batches.Padded(expert, 4)
    padded.warm_up()
    where = [endpoints.InProcess(server.make_server([padded]))]
    with registry.Registry(where) as found:
        replies = [found.encode(draw(n))["sums"] for n in (3, 1, 4)]
    assert [reply.tokens.shape for reply in replies] == [(n, 2, 3) for n in (3, 1, 4)]
    assert expert.traced == [1, 2, 4]


def test_larger_batches_and_wrong_shapes_are_told(draw):
    padded = batches.Padded(Compiled(), 4)
    with pytest.raises(ValueError, match="5 images in one call; at most 4"):
        padded.encode(draw(5))
    with pytest.raises(ValueError, match="max_batch is 0"):
        batches.Padded(Compiled(), 0)
    wrong = Compiled()
    wrong.encode = lambda image: np.zeros((1, 2, 3))
    with pytest.raises(ValueError, match=r"gave tokens of shape \(1, 2, 3\)"):
        batches.Padded(wrong, 4).encode(draw(2))
    with pytest.raises(ValueError, match="its descriptor says"):
        batches.Padded(wrong, 4).warm_up()
