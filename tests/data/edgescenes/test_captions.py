"""Captions tell what a scene's own labels say, each thing once."""

import numpy as np
import pytest

from m3jax.data import pipeline
from m3jax.data.edgescenes import canvas, captions, dataset, examples, scenes, words


@pytest.fixture(scope="module")
def source():
    return dataset.Fresh(scenes.SceneSettings(), seed=3)


def told(example, name):
    return words.decode(captions.make(example)[name])


def test_every_thing_is_named_once_in_the_order_of_reading(source):
    for index in range(39):
        example = source[index]
        pairs = []
        for row in range(canvas.GRID):
            for column in range(canvas.GRID):
                kind = example["patch_kind"][row, column]
                colour = example["patch_colour"][row, column]
                if kind and (colour, kind) not in pairs:
                    pairs.append((colour, kind))
        names = []
        for colour, kind in pairs:
            if colour:
                names.append(words.COLOURS[colour - 1])
            names.append(words.WORDS[examples.PATCH_WORDS[0][kind]])
        assert told(example, "image_caption").split() == names


def test_a_described_picture_has_the_colours_of_its_description(source):
    example = source[12]
    assert words.decode(example["question"]) == "describe the picture"
    answer = set(words.decode(example["answer"]).split())
    caption = set(told(example, "image_caption").split())
    assert answer & set(words.COLOURS) == caption & set(words.COLOURS)
    assert answer & set(words.SHAPES) == caption & set(words.SHAPES)


def test_a_sound_is_told_by_timbre_pitch_and_number(source):
    answers = {"pitch": 1, "tones": 2, "timbre": 0}
    for skill, place in answers.items():
        example = source[scenes.SKILLS.index(skill)]
        said = told(example, "audio_caption").split()
        assert said[place] == words.decode(example["answer"])


def test_captions_end_and_fit(source):
    for index in range(26):
        for name, length in captions.FEATURES.items():
            caption = captions.make(source[index])[name]
            assert caption.shape == (length,) and caption.dtype == np.int32
            assert (caption == words.EOS).sum() == 1
            assert (caption[np.argmax(caption == words.EOS) + 1 :] == words.PAD).all()


def test_batches_hold_captions_that_are_asked_for(source):
    stream = pipeline.batches(
        source,
        batch_size=3,
        seed=0,
        shuffle=False,
        features=("question", "audio_caption"),
    )
    batch = next(stream)
    assert set(batch) == {"question", "audio_caption"}
    for row in range(3):
        np.testing.assert_array_equal(
            batch["audio_caption"][row], captions.make(source[row])["audio_caption"]
        )
