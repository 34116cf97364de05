"""Rules that see what the probes see: the yardstick beside each of them.

Nothing here is trained but counts of words.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from m3jax import base


def _patches(image: base.Array, grid: tuple[int, int]) -> base.Array:
    """Pixels of each patch, float32 [B, H, W, pixels, C]."""
    batch, height, width, channels = image.shape
    rows, columns = grid
    cut = image.astype(jnp.float32).reshape(
        batch, rows, height // rows, columns, width // columns, channels
    )
    cut = cut.transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(batch, rows, columns, -1, channels)


def local_variance(image: base.Array, grid: tuple[int, int]) -> base.Array:
    """Standard deviation of the pixels of each patch, the mean over channels.

    Args:
      image: [B, H, W, C].
      grid: patches down and across.

    Returns:
      float32 [B, *grid].
    """
    return jnp.mean(jnp.std(_patches(image, grid), axis=3), axis=-1)


def contrast(image: base.Array, grid: tuple[int, int]) -> base.Array:
    """How far each patch's mean colour lies from the median patch of its picture.

    Args:
      image: [B, H, W, C].
      grid: patches down and across.

    Returns:
      float32 [B, *grid].
    """
    colours = jnp.mean(_patches(image, grid), axis=3)
    usual = jnp.median(colours, axis=(1, 2), keepdims=True)
    return jnp.linalg.norm(colours - usual, axis=-1)


def frame_difference(video: base.Array) -> base.Array:
    """Similarity of neighbouring frames by their pixels.

        1 - mean |x_t - x_{t-1}| / 255

    Args:
      video: uint8 [B, T, H, W, C].

    Returns:
      float32 [B, T - 1]; 1 for a frame that repeats the one before.
    """
    frames = video.astype(jnp.float32)
    change = jnp.abs(frames[:, 1:] - frames[:, :-1])
    return 1.0 - jnp.mean(change, axis=(2, 3, 4)) / 255.0


class NaiveBayes:
    """Which modalities a question needs, by counting its words in training.

    Each modality is a question of yes or no; words are independent given it, and every
    word has been seen once more on either side than it has (Laplace).

    Args:
      question: int [n, Q], padded by ``pad``.
      needs: bool [n, M].
      vocab_size: V.
      pad: id of what is no word.
    """

    def __init__(
        self, question: np.ndarray, needs: np.ndarray, vocab_size: int, pad: int = 0
    ):
        self._pad, self._size = pad, vocab_size
        seen = self._count(np.asarray(question))
        needs = np.asarray(needs, np.float64)
        # [2, M, V]: counts of words in questions that do not need it, and that do.
        counts = np.stack([(1 - needs).T @ seen, needs.T @ seen]) + 1.0
        self._words = np.log(counts / counts.sum(axis=-1, keepdims=True))
        sums = np.stack([(1 - needs).sum(axis=0), needs.sum(axis=0)]) + 1.0
        self._prior = np.log(sums / sums.sum(axis=0))

    def _count(self, question: np.ndarray) -> np.ndarray:
        counts = np.zeros((len(question), self._size))
        rows = np.broadcast_to(np.arange(len(question))[:, None], question.shape)
        np.add.at(counts, (rows, question), question != self._pad)
        return counts

    def __call__(self, question: np.ndarray) -> np.ndarray:
        """The probability of each modality to be needed, float64 [n, M]."""
        seen = self._count(np.asarray(question))
        scores = np.einsum("nv,cmv->cnm", seen, self._words) + self._prior[:, None]
        return 1.0 / (1.0 + np.exp(scores[0] - scores[1]))


def spatial(image: base.Array, grid: tuple[int, int]) -> Mapping[str, base.Array]:
    """Every heuristic of a picture's patches by name, float32 [B, *grid] each."""
    return {
        "local variance": local_variance(image, grid),
        "contrast": contrast(image, grid),
    }
