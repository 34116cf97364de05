"""The pictures of EdgeScenes: things on clutter, regions, page, chart, sign, tissue.

Each function draws one picture and returns the canvas beside what it shows.
"""

from typing import NamedTuple

import numpy as np

from m3jax.data.edgescenes import canvas, glyphs, words

_FIRST_DIGIT = canvas.KINDS.index("zero")
_BAR = canvas.KINDS.index("bar")
_REGION = canvas.KINDS.index("region")
_LESION = canvas.KINDS.index("lesion")
_CELLS = canvas.SIDE // canvas.CELL


class Things(NamedTuple):
    """Things in reading order: cells (row-major in a 4x4 grid), shapes and colours."""

    cells: np.ndarray
    shapes: np.ndarray
    colours: np.ndarray


def draw_things(rng, things: Things, clutter: float, contrast: float) -> canvas.Canvas:
    """Coloured shapes on clutter, each near the middle of its cell.

    Args:
      rng: source of randomness.
      things: what to draw.
      clutter: 0 (plain) to 1 (busy).
      contrast: opacity of the shapes, 0 to 1.
    """
    out = canvas.cluttered(rng, clutter)
    masks = canvas.shape_masks()
    count = len(things.cells)
    jitter = rng.integers(-2, 3, size=(count, 2))
    looks = rng.integers(0, masks.shape[1:3], size=(count, 2))
    tints = rng.uniform(-18, 18, size=(count, 3)).astype(np.float32)
    rows, columns = np.divmod(things.cells, _CELLS)
    last = canvas.SIDE - canvas.CELL
    tops = np.clip(rows * canvas.CELL + jitter[:, 0], 0, last)
    lefts = np.clip(columns * canvas.CELL + jitter[:, 1], 0, last)
    for i in range(count):
        shape, colour = things.shapes[i], things.colours[i]
        alpha = masks[shape, looks[i, 0], looks[i, 1]] * np.float32(contrast)
        rgb = canvas.PALETTE[colour] + tints[i]
        out.blend(tops[i], lefts[i], alpha, rgb)
        out.label(tops[i], lefts[i], alpha, 1 + shape, 1 + colour)
    return out


def draw_regions(rng, clutter: float) -> tuple[canvas.Canvas, np.ndarray, np.ndarray]:
    """The plane cut into four coloured regions of clearly different areas.

    Returns:
      The canvas, the four colours and their areas in pixels, largest first. The
      largest and the smallest are each at least 1.3 times apart from the next.
    """
    colours = rng.permutation(len(words.COLOURS))[:4]
    axis = np.arange(canvas.SIDE, dtype=np.float32)
    while True:
        y, x = rng.uniform(6, canvas.SIDE - 6, size=(2, 4, 1)).astype(np.float32)
        wave = 3 * np.sin(axis[:, None, None] / 7 + rng.uniform(0, 6))
        distance = (axis[:, None, None] - y[:, 0]) ** 2 + (
            axis[None, :, None] + wave - x[:, 0]
        ) ** 2
        owner = distance.argmin(-1)
        areas = np.bincount(owner.ravel(), minlength=4)
        order = np.argsort(-areas)
        a = areas[order]
        if a[3] > 150 and a[0] >= 1.3 * a[1] and a[2] >= 1.3 * a[3]:
            break
    pixels = canvas.PALETTE[colours][owner] * 0.8 + canvas.grain(rng, 6 + 10 * clutter)
    out = canvas.Canvas(pixels.astype(np.float32))
    out.kind[:] = _REGION
    middle = owner[canvas.PATCH // 2 :: canvas.PATCH, canvas.PATCH // 2 :: canvas.PATCH]
    out.colour[:] = 1 + colours[middle]
    return out, colours[order], a


def draw_page(rng, split: str, clutter: float) -> tuple[canvas.Canvas, np.ndarray]:
    """A page of 4x4 handwritten digits; returns the canvas and the digits [4, 4]."""
    paper = rng.uniform(200, 245)
    pixels = np.full((canvas.SIDE, canvas.SIDE, 3), paper, np.float32)
    out = canvas.Canvas(pixels + canvas.grain(rng, 3 + 8 * clutter))
    digits = rng.integers(10, size=(_CELLS, _CELLS))
    ink = rng.uniform(10, 60, size=3).astype(np.float32)
    for row in range(_CELLS):
        for column in range(_CELLS):
            top, left = row * canvas.CELL, column * canvas.CELL
            _write(out, rng, split, digits[row, column], top, left, ink)
    return out, digits


def draw_sign(rng, split: str, clutter: float) -> tuple[canvas.Canvas, np.ndarray]:
    """A board with a two-digit number somewhere in clutter; returns its digits [2]."""
    out = canvas.cluttered(rng, min(1.0, 1.5 * clutter))
    digits = rng.integers(10, size=2)
    top = int(rng.integers(2, canvas.SIDE - 20))
    left = int(rng.integers(2, canvas.SIDE - 36))
    board = np.ones((18, 34), np.float32)
    out.blend(top, left, board, rng.uniform(15, 60, size=3).astype(np.float32))
    face = rng.uniform(185, 250, size=3).astype(np.float32)
    out.blend(top + 1, left + 1, board[:16, :32], face)
    ink = rng.uniform(10, 60, size=3).astype(np.float32)
    for i in range(2):
        at = left + 1 + i * canvas.CELL
        _write(out, rng, split, digits[i], top + 1, at, ink, jitter=1)
    return out, digits


def _write(out, rng, split, digit, top, left, ink, jitter=2) -> None:
    """Writes one real glyph into the 16x16 cell at a place."""
    bank = glyphs.bank(split)[digit]
    alpha = bank[rng.integers(len(bank))]
    down, right = rng.integers(0, jitter + 1, size=2)
    out.blend(top + down, left + right, alpha * 0.95, ink)
    solid = np.ones_like(alpha)
    out.label(top + down, left + right, solid, _FIRST_DIGIT + digit, 0)


def draw_chart(rng, clutter: float) -> tuple[canvas.Canvas, np.ndarray, np.ndarray]:
    """A bar chart; returns the canvas, four colours and four different heights 1-8."""
    paper = rng.uniform(205, 245)
    pixels = np.full((canvas.SIDE, canvas.SIDE, 3), paper, np.float32)
    out = canvas.Canvas(pixels + canvas.grain(rng, 3 + 8 * clutter))
    colours = rng.permutation(len(words.COLOURS))[:4]
    heights = 1 + rng.permutation(8)[:4]
    unit, base = 7, canvas.SIDE - 4
    for level in range(1, 9):  # ruled paper, one line a unit
        out.pixels[base - unit * level] -= 45
    out.pixels[base : base + 2] = 40
    width = int(rng.integers(9, 13))
    for i in range(4):
        left = 2 + 15 * i + int(rng.integers(0, 3))
        solid = np.ones((unit * heights[i], width), np.float32)
        top = base - unit * heights[i]
        out.blend(top, left, solid, canvas.PALETTE[colours[i]])
        out.label(top, left, solid, _BAR, 1 + colours[i])
    return out, colours, heights


def draw_tissue(rng, clutter: float, contrast: float) -> tuple[canvas.Canvas, int]:
    """Textured tissue with a lesion in one quadrant, or with none (quadrant 4).

    Quadrants are 0 top left, 1 top right, 2 bottom left, 3 bottom right.
    """
    tone = np.array([205, 150, 165], np.float32) + rng.uniform(-15, 15, size=3)
    pixels = tone + canvas.grain(rng, 8 + 8 * clutter)
    out = canvas.Canvas(pixels.astype(np.float32))
    circles = canvas.shape_masks()[words.SHAPES.index("circle")]
    for top, left, size in rng.integers(0, (48, 48, 3), size=(14, 3)):  # healthy cells
        alpha = circles[size, 0] * 0.25
        out.blend(top, left, alpha, np.array([150, 80, 140], np.float32))
    quadrant = int(rng.integers(5))
    if quadrant < 4:
        row, column = divmod(quadrant, 2)
        top = 32 * row + int(rng.integers(2, 15))
        left = 32 * column + int(rng.integers(2, 15))
        rough = circles[int(rng.integers(3)), 0] * rng.uniform(
            0.5, 1.0, size=(canvas.CELL, canvas.CELL)
        ).astype(np.float32)
        out.blend(top, left, rough * 0.75 * contrast, np.array([90, 35, 60]))
        out.label(top, left, rough, _LESION, 0)
    return out, quadrant
