"""Batches filled up to a few sizes, so that each is compiled once, before any call."""

import itertools

import numpy as np

from m3jax.serving import codec, descriptors, handlers


def sizes(max_batch: int) -> tuple[int, ...]:
    """The powers of two below the largest batch, and that batch.

    Raises:
      ValueError: ``max_batch`` is below 1.

    Example:
      >>> sizes(8), sizes(6), sizes(1)
      ((1, 2, 4, 8), (1, 2, 4, 6), (1,))
    """
    if max_batch < 1:
        raise ValueError(f"max_batch is {max_batch}; give a whole number from 1")
    powers = (1 << n for n in itertools.count())
    return (*itertools.takewhile(lambda size: size < max_batch, powers), max_batch)


class Padded:
    """An expert that sees batches of ``sizes(max_batch)`` only.

    A batch is filled up with repeats of its last image, whose tokens are dropped. So at
    most twice the work is done, and a compiled expert compiles log2(max_batch) + 1
    programs, in ``warm_up``, instead of one in the middle of the first call of each
    size.

    Args:
      expert: any expert whose tokens of an image do not depend on the others.
      max_batch: most images of a call.

    Raises:
      ValueError: ``max_batch`` is below 1.
    """

    def __init__(self, expert: descriptors.Expert, max_batch: int):
        self._expert = expert
        self._sizes = sizes(max_batch)

    @property
    def descriptor(self) -> descriptors.Descriptor:
        """That of the expert."""
        return self._expert.descriptor

    def warm_up(self) -> None:
        """Runs the expert on a batch of each size.

        Raises:
          ValueError: it gave another shape than its descriptor says.
        """
        dtype = codec.DTYPES[self.descriptor.input_dtype]
        for size in self._sizes:
            batch = np.zeros((size, *self.descriptor.input_shape), dtype)
            handlers.tokens_of(self._expert, batch)

    def encode(self, image: np.ndarray) -> np.ndarray:
        """Tokens ``[B, L, D]`` of images ``[B, *input_shape]``.

        Raises:
          ValueError: more images than ``max_batch``, or tokens of another shape than
            the descriptor says.
        """
        num = len(image)
        if num > self._sizes[-1]:
            raise ValueError(f"{num} images in one call; at most {self._sizes[-1]}")
        missing = next(size for size in self._sizes if size >= num) - num
        filled = np.concatenate([image, np.repeat(image[-1:], missing, axis=0)])
        return handlers.tokens_of(self._expert, filled)[:num]
