"""Pictures of what is kept of a picture."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import patches as mpl_patches

from m3jax import base
from m3jax.evals import plot_style


def overlays(
    images: base.Array,
    importance: base.Array,
    kept: base.Array,
    titles: Sequence[str] = (),
    *,
    figure: mpl_figure.Figure | None = None,
) -> mpl_figure.Figure:
    """Draws pictures, how much each patch matters, and what is left of each.

    Args:
      images: [n, height, width, 3], uint8 or floats in [0, 1].
      importance: [n, H, W] of the patches, in [0, 1].
      kept: bool [n, H, W], True for patches that are kept.
      titles: one a picture, such as its question; () for none.
      figure: where to draw; a new one if None.

    Returns:
      The figure: a column for each picture, with the picture, the importance over it,
      and the kept patches framed, the others dark.

    Raises:
      ValueError: there is nothing to draw, or a picture, map or title is missing.
    """
    images, importance, kept = map(np.asarray, (images, importance, kept))
    count = len(images)
    if not count:
        raise ValueError("there is no picture to draw.")
    if importance.shape != kept.shape or len(kept) != count or kept.ndim != 3:
        raise ValueError(
            f"{count} pictures need importance and kept [{count}, H, W], got"
            f" {list(importance.shape)} and {list(kept.shape)}."
        )
    if len(titles) not in (0, count):
        raise ValueError(f"{count} pictures need as many titles, got {len(titles)}.")
    fig = figure or plot_style.new_figure(width=1.9 * count + 0.6, height=5.8)
    panels = fig.subplots(3, count, squeeze=False)
    shown = None
    for column, image in enumerate(images):
        top, middle, bottom = panels[:, column]
        top.imshow(image)
        shown = _importance(middle, image, importance[column])
        _kept(bottom, image, kept[column])
        if titles:
            top.set_title(textwrap.fill(titles[column], 24), fontsize=7)
    rows = ("picture", "importance", "kept")
    for ax, name in zip(panels[:, 0], rows, strict=True):
        ax.set_ylabel(name)
    for ax in panels.ravel():
        ax.set(xticks=[], yticks=[])
    fig.colorbar(shown, ax=panels[1].tolist(), shrink=0.8, label="importance")
    return fig


def _extent(image: np.ndarray) -> tuple[float, float, float, float]:
    height, width = image.shape[:2]
    return (-0.5, width - 0.5, height - 0.5, -0.5)


def _importance(ax: mpl_axes.Axes, image: np.ndarray, values: np.ndarray):
    """The picture in grey under the map of importance."""
    ax.imshow(np.mean(image, axis=-1), cmap="gray")
    look = {"cmap": "viridis", "vmin": 0.0, "vmax": 1.0, "alpha": 0.6}
    return ax.imshow(values, extent=_extent(image), interpolation="nearest", **look)


def _kept(ax: mpl_axes.Axes, image: np.ndarray, kept: np.ndarray) -> None:
    """The kept patches in a frame, the others dark."""
    ax.imshow(image)
    dark = np.zeros((*kept.shape, 4))
    dark[..., 3] = np.where(kept, 0.0, 0.75)
    ax.imshow(dark, extent=_extent(image), interpolation="nearest")
    height, width = (size / n for size, n in zip(image.shape, kept.shape, strict=False))
    for row, column in np.argwhere(kept):
        corner = (column * width - 0.5, row * height - 0.5)
        frame = mpl_patches.Rectangle(corner, width, height, fill=False)
        frame.set(edgecolor="#E69F00", linewidth=0.8)
        ax.add_patch(frame)
