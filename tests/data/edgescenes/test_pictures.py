"""What a picture shows is what its painter says, read off the pixels."""

import numpy as np
import pytest

from m3jax.data.edgescenes import canvas, glyphs, pictures, words

NUM = 40


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def nearest_colour(image, palette=canvas.PALETTE):
    """Index of the nearest colour and the distance to it, [64, 64] each."""
    square = ((image[:, :, None].astype(np.float32) - palette) ** 2).sum(-1)
    return square.argmin(-1), np.sqrt(square.min(-1))


def per_patch(pixels):
    """Mean over each 8x8 patch, [8, 8]."""
    return pixels.reshape(8, 8, 8, 8).mean((1, 3))


def some_things(rng, count=5):
    return pictures.Things(
        cells=rng.permutation(16)[:count],
        shapes=rng.integers(len(words.SHAPES), size=count),
        colours=rng.integers(len(words.COLOURS), size=count),
    )


def test_the_largest_and_smallest_regions_are_those_with_most_and_fewest_pixels(rng):
    for _ in range(NUM):
        out, colours, areas = pictures.draw_regions(rng, clutter=0.5)
        owner, _ = nearest_colour(out.image(), 0.8 * canvas.PALETTE)
        seen = np.bincount(owner.ravel(), minlength=len(words.COLOURS))
        assert np.argsort(-seen)[[0, 3]].tolist() == [colours[0], colours[3]]
        np.testing.assert_allclose(seen[colours], areas, atol=60)
        assert areas[0] >= 1.3 * areas[1] and areas[2] >= 1.3 * areas[3]


def test_bars_are_as_tall_as_said_in_units_of_the_ruled_paper(rng):
    for _ in range(NUM):
        out, colours, heights = pictures.draw_chart(rng, clutter=0.5)
        owner, distance = nearest_colour(out.image())
        for colour, height in zip(colours, heights, strict=True):
            tall = ((owner == colour) & (distance < 30)).sum(axis=0)
            assert round(np.median(tall[tall >= 4]) / 7) == height
        assert len(set(heights)) == len(set(colours)) == 4


@pytest.mark.parametrize("split", ["train", "test"])
def test_pages_are_written_by_the_hands_of_their_split(rng, split):
    """Template matching with the glyphs of both splits finds digit and hand."""
    other = {"train": "test", "test": "train"}[split]
    banks = [glyphs.bank(name) for name in (split, other)]
    ink = np.concatenate([each for bank in banks for each in bank]).reshape(-1, 196)
    labels = np.concatenate(
        [[d] * len(b) for bank in banks for d, b in enumerate(bank)]
    )
    ours = np.arange(len(ink)) < sum(map(len, banks[0]))
    ink = unit(ink)
    out, digits = pictures.draw_page(rng, split, clutter=0.2)
    grey = -out.image().astype(np.float32).mean(-1)
    best = [
        match(ink, cell)
        for cell in grey.reshape(4, 16, 4, 16).swapaxes(1, 2).reshape(16, 16, 16)
    ]
    assert labels[best].tolist() == digits.ravel().tolist()
    assert ours[best].all()


def unit(rows):
    """Rows without their mean and at unit length."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def match(ink, cell):
    """Index of the glyph that fits a 16x16 cell best at any of its places."""
    places = [cell[y : y + 14, x : x + 14].ravel() for y in range(3) for x in range(3)]
    scores = unit(np.stack(places)) @ ink.T
    return scores.max(axis=0).argmax()


def test_no_handwriting_is_in_two_splits():
    seen = {
        split: {glyph.tobytes() for digit in glyphs.bank(split) for glyph in digit}
        for split in glyphs.SPLIT_SHARES
    }
    assert sum(len(digit) for s in seen for digit in glyphs.bank(s)) == 1797
    assert all(len(digit) > 10 for s in seen for digit in glyphs.bank(s))
    assert not seen["train"] & seen["validation"]
    assert not seen["train"] & seen["test"]
    assert not seen["validation"] & seen["test"]


def test_a_sign_bears_its_number_from_left_to_right(rng):
    for _ in range(NUM):
        out, digits = pictures.draw_sign(rng, "test", clutter=0.5)
        columns = out.kind.max(axis=0)
        ends = columns[np.flatnonzero(columns)[[0, -1]]]
        assert [canvas.KINDS[k] for k in ends] == [words.NUMBERS[d] for d in digits]


def test_a_lesion_is_the_darkest_place_and_without_one_no_place_is_as_dark(rng):
    darkest = {True: [], False: []}
    for _ in range(2 * NUM):
        out, quadrant = pictures.draw_tissue(rng, clutter=0.5, contrast=0.7)
        grey = out.image().astype(np.float32).mean(-1)
        blurred = box_mean(grey, 8)
        y, x = np.unravel_index(blurred.argmin(), blurred.shape)
        darkest[quadrant < 4].append(blurred.min() - np.median(grey))
        if quadrant < 4:
            assert 2 * (y + 4 >= 32) + (x + 4 >= 32) == quadrant
        assert out.kind.any() == (quadrant < 4)
    assert np.median(darkest[True]) < np.min(darkest[False])


def box_mean(grey, side):
    total = np.pad(grey, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    corners = total[side:, side:] - total[:-side, side:] - total[side:, :-side]
    return (corners + total[:-side, :-side]) / side**2


def test_the_mask_covers_what_is_drawn_and_nothing_else(rng):
    """Pixels that differ from the same picture with unseen things are of things."""
    for seed in range(NUM):
        things = some_things(rng)
        with_, without = (
            pictures.draw_things(np.random.default_rng(seed), things, 0.5, contrast)
            for contrast in (1.0, 0.0)
        )
        differs = np.abs(with_.pixels - without.pixels).max(-1) > 1
        share = per_patch(differs.astype(np.float32))
        mask = with_.kind > 0
        assert (share[mask] > 0.1).all()
        assert (share[~mask] < 0.3).all()
        assert ((with_.colour > 0) == mask).all()


def test_patches_of_a_kind_and_colour_look_so(rng):
    for _ in range(NUM):
        things = some_things(rng, count=3)
        out = pictures.draw_things(rng, things, clutter=0.0, contrast=1.0)
        owner, distance = nearest_colour(out.image())
        for colour in np.unique(out.colour[out.colour > 0]):
            seen = (owner == colour - 1) & (distance < 45)
            assert (per_patch(seen)[out.colour == colour] > 0.05).all()


def test_contrast_scales_things_and_leaves_the_rest(rng):
    things = some_things(rng)
    plain, half, full = (
        pictures.draw_things(np.random.default_rng(1), things, 0.5, contrast).pixels
        for contrast in (0.0, 0.5, 1.0)
    )
    np.testing.assert_allclose(half - plain, 0.5 * (full - plain), atol=0.5)


def test_clutter_adds_marks_and_noise():
    rough = []
    for clutter in (0.0, 0.3, 0.6, 1.0):
        pixels = canvas.cluttered(np.random.default_rng(0), clutter).pixels
        rough.append(np.abs(np.diff(pixels, axis=1)).mean())
    assert (np.diff(rough) > 0.5).all()


def test_the_six_shapes_differ_even_when_turned_and_sized():
    masks = canvas.shape_masks()
    assert masks.min() == 0 and masks.max() == 1
    flat = masks.reshape(len(words.SHAPES), -1, canvas.CELL**2)
    for i in range(len(flat)):
        for j in range(i):
            apart = np.abs(flat[i][:, None] - flat[j][None]).sum(-1)
            assert apart.min() > 15, (words.SHAPES[i], words.SHAPES[j])  # pixels
