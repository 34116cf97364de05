"""Real handwritten digits (scikit-learn's 8x8 digits), one set of hands per split."""

import functools

import numpy as np

SPLIT_SHARES = {"train": (0.0, 0.7), "validation": (0.7, 0.8), "test": (0.8, 1.0)}
SIDE = 14


@functools.cache
def bank(split: str) -> tuple[np.ndarray, ...]:
    """Ink of one split's digits: for each of 0-9 a float32 [n, 14, 14] in [0, 1].

    No glyph is in two splits, so reading a test page asks for generalisation.
    """
    from sklearn import datasets  # here, as it takes a second that few callers need

    digits = datasets.load_digits()
    first, last = SPLIT_SHARES[split]
    out = []
    for label in range(10):
        ink = digits.images[digits.target == label].astype(np.float32) / 16.0
        ink = ink[int(first * len(ink)) : int(last * len(ink))]
        out.append(_resize(ink, SIDE))
    return tuple(out)


def _resize(images: np.ndarray, side: int) -> np.ndarray:
    """Bilinear resize of [n, s, s] images to [n, side, side]."""
    weights = _bilinear(images.shape[-1], side)
    return np.einsum("ai,nij,bj->nab", weights, images, weights).astype(np.float32)


def _bilinear(old: int, new: int) -> np.ndarray:
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    distance = np.abs(at[:, None] - np.arange(old)[None, :])
    return np.maximum(0.0, 1.0 - distance)
