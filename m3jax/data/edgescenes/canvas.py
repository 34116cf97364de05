"""Drawing: palette, shape masks, clutter and per-patch ground truth."""

import functools

import numpy as np

from m3jax.data.edgescenes import words

SIDE = 64
PATCH = 8
GRID = SIDE // PATCH
CELL = 16
_SIZES = (5.2, 6.0, 6.8)  # radius in pixels
_TURNS = 4

PALETTE = np.array(
    [
        [220, 50, 45],
        [60, 170, 60],
        [55, 90, 225],
        [235, 210, 50],
        [160, 60, 190],
        [60, 205, 215],
    ],
    np.float32,
)
"""RGB of words.COLOURS."""

KINDS = ("background", *words.SHAPES, *words.NUMBERS, "bar", "region", "lesion")
"""Names of the values of ``patch_kind``; digits are named by their number word."""


class Canvas:
    """A picture under construction, with the truth about each 8x8 patch.

    Attributes:
      pixels: float32 [64, 64, 3] in 0-255.
      kind, colour: int32 [8, 8], indices into KINDS and 1 + index into COLOURS.
    """

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels
        self.kind = np.zeros((GRID, GRID), np.int32)
        self.colour = np.zeros((GRID, GRID), np.int32)

    def blend(self, top: int, left: int, alpha: np.ndarray, rgb: np.ndarray) -> None:
        """Paints a colour through an opacity mask [h, w] at a place."""
        height, width = alpha.shape
        view = self.pixels[top : top + height, left : left + width]
        view += alpha[..., None] * (rgb - view)

    def label(self, top: int, left: int, alpha: np.ndarray, kind: int, colour: int):
        """Marks the patches that a mask covers by more than an eighth."""
        height, width = alpha.shape
        row, column = top // PATCH, left // PATCH
        rows, columns = -(-(top + height) // PATCH), -(-(left + width) // PATCH)
        cover = np.zeros(((rows - row) * PATCH, (columns - column) * PATCH), np.float32)
        y, x = top - row * PATCH, left - column * PATCH
        cover[y : y + height, x : x + width] = alpha
        shape = (rows - row, PATCH, columns - column, PATCH)
        hit = cover.reshape(shape).sum((1, 3)) > PATCH * PATCH / 8
        self.kind[row:rows, column:columns][hit] = kind
        self.colour[row:rows, column:columns][hit] = colour

    def image(self) -> np.ndarray:
        """uint8 [64, 64, 3], in steps of 8 so that the stored benchmark is small."""
        return np.clip(self.pixels, 0, 255).astype(np.uint8) & 0xF8


@functools.cache
def shape_masks() -> np.ndarray:
    """Opacity masks float32 [shape, size, turn, 16, 16], smoothed at the edge."""
    fine = 4
    axis = (np.arange(CELL * fine) + 0.5) / fine - CELL / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    out = np.empty(
        (len(words.SHAPES), len(_SIZES), _TURNS, CELL, CELL), dtype=np.float32
    )
    for i, name in enumerate(words.SHAPES):
        for j, radius in enumerate(_SIZES):
            for k in range(_TURNS):
                turn = (k - 1.5) * np.pi / 24
                u = (np.cos(turn) * x + np.sin(turn) * y) / radius
                v = (-np.sin(turn) * x + np.cos(turn) * y) / radius
                inside = _inside(name, u, v).astype(np.float32)
                blocks = inside.reshape(CELL, fine, CELL, fine)
                out[i, j, k] = blocks.mean((1, 3))
    return out


def _inside(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether points of the unit frame lie in a shape (v grows downwards)."""
    r = np.hypot(u, v)
    if name == "circle":
        return r < 1
    if name == "ring":
        return (r < 1.05) & (r > 0.55)
    if name == "square":
        return np.maximum(abs(u), abs(v)) < 0.86
    if name == "triangle":
        return (v < 0.8) & (abs(u) < (v + 1.0) * 0.6)
    if name == "cross":
        return (np.minimum(abs(u), abs(v)) < 0.32) & (np.maximum(abs(u), abs(v)) < 1)
    angle = np.mod(np.arctan2(u, -v), 2 * np.pi / 5)  # star
    edge = np.abs(angle - np.pi / 5) / (np.pi / 5)
    return r < 0.42 + 0.68 * edge


@functools.cache
def _noise() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((256, 256, 3)).astype(np.float32)


def grain(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Pixel noise float32 [64, 64, 3] of a standard deviation in grey levels."""
    top, left = rng.integers(256 - SIDE, size=2)
    return _noise()[top : top + SIDE, left : left + SIDE] * np.float32(scale)


def cluttered(rng: np.random.Generator, clutter: float) -> Canvas:
    """A dull background with a slope of light, stray marks and noise.

    Args:
      rng: source of randomness.
      clutter: 0 (plain) to 1 (busy); scales marks and noise.
    """
    tone = rng.uniform(60, 150, size=3).astype(np.float32)
    slope = rng.uniform(-30, 30, size=2).astype(np.float32)
    ramp = np.linspace(-0.5, 0.5, SIDE, dtype=np.float32)
    light = slope[0] * ramp[:, None] + slope[1] * ramp[None, :]
    pixels = tone + light[..., None] + grain(rng, 4 + 8 * clutter)
    canvas = Canvas(pixels.astype(np.float32))
    _add_marks(canvas, rng, int(round(10 * clutter)))
    return canvas


def _add_marks(canvas: Canvas, rng: np.random.Generator, count: int) -> None:
    """Short dull strokes, which no question is about."""
    tops, lefts = rng.integers(0, SIDE - 12, size=(2, count))
    lengths = rng.integers(5, 12, size=count)
    tones = rng.uniform(40, 190, size=count).astype(np.float32)
    for top, left, length, tone in zip(tops, lefts, lengths, tones, strict=True):
        if length % 2:
            canvas.pixels[top : top + length, left : left + 2] = tone
        else:
            canvas.pixels[top : top + 2, left : left + length] = tone
