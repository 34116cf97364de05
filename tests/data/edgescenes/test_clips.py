import collections

import numpy as np
import pytest

from m3jax.data.edgescenes import clips, words


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    made = [clips.any_clip(rng) for _ in range(300)]
    return [(clip, clips.draw_clip(rng, clip)) for clip in made]


def moved(frames):
    """Absolute change from each frame to the next, [7, 32, 32]."""
    return np.abs(np.diff(frames.astype(np.float32), axis=0)).sum(-1)


def test_the_static_fraction_is_that_of_the_frames(drawn):
    """The first frame repeats nothing new either, so it counts as static."""
    for clip, frames in drawn:
        changes = moved(frames).any(axis=(1, 2)).sum()
        assert clip.static_fraction == 1 - changes / clips.FRAMES


def test_the_direction_is_that_of_what_changes(drawn):
    rows, columns = np.mgrid[: clips.SIDE, : clips.SIDE]
    for clip, frames in drawn:
        changes = [change for change in moved(frames) if change.any()]
        if not changes:
            assert words.DIRECTIONS[clip.direction] == "nowhere"
            continue
        first, last = (
            np.array([(at * change).sum() for at in (rows, columns)]) / change.sum()
            for change in (changes[0], changes[-1])
        )
        down, right = last - first
        way = ("up", "down")[int(down > 0)]
        if abs(right) > abs(down):
            way = ("left", "right")[int(right > 0)]
        assert words.DIRECTIONS[clip.direction] == way


def test_frames_that_rest_are_repeats_bit_for_bit_around_one_motion(drawn):
    for _, frames in drawn:
        active = np.flatnonzero(moved(frames).any(axis=(1, 2)))
        assert (np.diff(active) == 1).all()


def test_every_direction_is_equally_likely(drawn):
    counts = collections.Counter(clip.direction for clip, _ in drawn)
    assert set(counts) == set(range(len(words.DIRECTIONS)))
    assert max(counts.values()) / len(drawn) < 0.2 + 0.1


def test_where_the_thing_is_at_first_does_not_tell_the_way():
    """The best threshold on its place in one middle frame does little over chance."""
    rng = np.random.default_rng(1)
    places = []
    for direction in ("left", "right"):
        clip = clips.Clip(words.DIRECTIONS.index(direction), 4)
        for _ in range(60):
            frames = clips.draw_clip(rng, clip).astype(np.float32)
            change = moved(frames)
            seen = change[change.any(axis=(1, 2))].sum(axis=0)
            places.append((np.arange(clips.SIDE) * seen.sum(0)).sum() / seen.sum())
    left, right = np.split(np.array(places), 2)
    assert abs(left.mean() - right.mean()) < 1.5  # pixels, of a travel of 8


def test_repeats_are_the_static_frames_without_the_first(drawn):
    video = np.stack([frames for _, frames in drawn])
    expected = np.array([clip.static_fraction for clip, _ in drawn])
    found = clips.repeats(video)
    assert found.shape == (len(drawn), clips.FRAMES - 1)
    np.testing.assert_allclose((1 + found.sum(axis=1)) / clips.FRAMES, expected)
