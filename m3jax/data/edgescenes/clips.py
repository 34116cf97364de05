"""Short clips in which one thing moves, or does not."""

from typing import NamedTuple

import numpy as np

from m3jax.data.edgescenes import canvas, words

FRAMES, SIDE = 8, 32
_STEPS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}


class Clip(NamedTuple):
    """A motion: id into words.DIRECTIONS, and how many of the frames move."""

    direction: int
    moving_frames: int

    @property
    def static_fraction(self) -> float:
        """Share of the frames that repeat the one before them."""
        return 1.0 - self.moving_frames / FRAMES


def any_clip(rng: np.random.Generator) -> Clip:
    """A random motion; "nowhere" is as likely as each way."""
    direction = int(rng.integers(len(words.DIRECTIONS)))
    still = words.DIRECTIONS[direction] == "nowhere"
    return Clip(direction, 0 if still else int(rng.integers(2, FRAMES)))


def draw_clip(rng: np.random.Generator, clip: Clip) -> np.ndarray:
    """Frames uint8 [8, 32, 32, 3]: a shape that moves 2 pixels a frame, then rests."""
    tone = rng.uniform(60, 150, size=3).astype(np.float32)
    back = tone + canvas.grain(rng, 8)[:SIDE, :SIDE]
    masks = canvas.shape_masks()
    alpha = masks[rng.integers(len(masks)), 0, 0][..., None]
    rgb = canvas.PALETTE[rng.integers(len(canvas.PALETTE))]
    step = np.array(_STEPS.get(words.DIRECTIONS[clip.direction], (0, 0)))
    travel = 2 * clip.moving_frames
    last = SIDE - canvas.CELL
    # the middle of the path is uniform over what fits, so no single frame tells the way
    low = travel / 2 * np.abs(step)
    middle = rng.uniform(low, last - low)
    first = int(rng.integers(FRAMES - clip.moving_frames))
    frames = []
    for t in range(FRAMES):
        moved = np.clip(t - first, 0, clip.moving_frames)
        top, left = np.round(middle + step * (2 * moved - travel / 2)).astype(int)
        frame = back.copy()
        view = frame[top : top + canvas.CELL, left : left + canvas.CELL]
        view += alpha * (rgb - view)
        frames.append(np.clip(frame, 0, 255).astype(np.uint8) & 0xF8)
    return np.stack(frames)


def repeats(video: np.ndarray) -> np.ndarray:
    """Which frames repeat the one before them, the truth about what is static.

    Args:
      video: uint8 [..., T, H, W, C], of `draw_clip`.

    Returns:
      bool [..., T - 1], for all frames but the first.
    """
    frames = np.asarray(video)
    same = frames[..., 1:, :, :, :] == frames[..., :-1, :, :, :]
    return same.all(axis=(-3, -2, -1))
