"""EdgeScenes asks what it claims to ask: answers, balance and needed modalities."""

import collections
import itertools
import math

import numpy as np
import pytest

from m3jax.data.edgescenes import canvas, examples, pictures, scenes, sounds, words
from m3jax.evals import baselines

EVERYTHING = scenes.SceneSettings(skills=scenes.SKILLS, video=True)
NUM_EACH = 200

# What a guesser gets who knows the question alone, and the share of the most frequent
# answer: both follow from how the questions are drawn.
QUESTION_ONLY = {
    **dict.fromkeys(("recognise", "count", "compare"), 1 / 6),
    **{"document": 1 / 10, "chart": (1 / 6 + 1 / 8) / 2, "sign": 1 / 100},
    **{"lesion": 1 / 5, "pitch": 1 / 3, "tones": 1 / 5, "timbre": 1 / 5},
    **{"audio_visual": (1 / 6 + 1 / 2) / 2, "describe": 0.0},
}
LARGEST_SHARE = {
    **QUESTION_ONLY,
    **{"recognise": 1 / 12, "chart": 1 / 12, "audio_visual": 1 / 4, "prior": 3 / 28},
}


class Drawn(dict):
    """An example, with what was handed to the painter and to the synthesiser."""

    things: pictures.Things | None = None
    heard: sounds.Sound


@pytest.fixture(scope="module")
def drawn():
    """Skill -> ``NUM_EACH`` examples; their sounds are noted, not made."""
    painted, heard = [], []
    silence = np.zeros((sounds.FRAMES, sounds.MELS), np.float32)
    draw_things = pictures.draw_things

    def paint(rng, things, clutter, contrast):
        painted.append(things)
        return draw_things(rng, things, clutter, contrast)

    def listen(sound, snr_db, rng):
        heard.append(sound)
        return silence

    settings = scenes.SceneSettings()
    out = collections.defaultdict(list)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "draw_things", paint)
        patch.setattr(sounds, "spectrogram", listen)
        for index in range(NUM_EACH * len(settings.skills)):
            example = Drawn(scenes.draw(settings, 0, "test", index))
            example.things = painted.pop() if painted else None
            example.heard = heard.pop()
            out[example["skill"]].append(example)
    return dict(out)


@pytest.fixture(scope="module")
def arrays(drawn):
    """All examples of ``drawn`` as a model reads them, [n, ...]."""
    rows = [examples.encode(e) for e in itertools.chain(*drawn.values())]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def by_margin(share, count, sigmas=4.0):
    """A share that counting noise alone does not exceed."""
    return share + sigmas * math.sqrt(share * (1 - share) / count) + 1 / count


def colour_of(word):
    return words.COLOURS.index(word)


def cells(grid):
    """Patches [8, 8] as [16, 4], the four patches of each cell of the 4x4 grid."""
    return grid.reshape(4, 2, 4, 2).swapaxes(1, 2).reshape(16, 4)


def test_the_same_numbers_give_the_same_example():
    for index in range(len(scenes.SKILLS)):
        one, two = (scenes.draw(EVERYTHING, 3, "train", index) for _ in range(2))
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.parametrize("other", [(4, "train", 0), (3, "test", 0), (3, "train", 14)])
def test_another_seed_split_or_index_gives_another_example(other):
    one = scenes.draw(EVERYTHING, 3, "train", 0)
    two = scenes.draw(EVERYTHING, *other)
    assert one["skill"] == two["skill"]
    for name in ("image", "audio", "video"):
        assert (one[name] != two[name]).mean() > 0.1, name


def test_skills_take_turns():
    first = [scenes.draw(EVERYTHING, 0, "train", i)["skill"] for i in range(28)]
    assert first == [*scenes.SKILLS, *scenes.SKILLS]


def test_every_text_is_in_the_vocabulary_and_fits(drawn):
    for example in itertools.chain(*drawn.values()):
        encoded = examples.encode(example)  # raises where a word or length does not fit
        assert words.decode(encoded["question"]) == example["question"]
        assert words.decode(encoded["answer"]) == example["answer"]
    lengths = [len(e["answer"].split()) for e in drawn["describe"]]
    assert min(lengths) >= 11 and max(lengths) + 1 == scenes.ANSWER_LENGTH
    long = [len(e["question"].split()) for e in itertools.chain(*drawn.values())]
    assert max(long) <= scenes.QUESTION_LENGTH


def test_recognise_is_answered_by_the_only_thing_of_that_colour_or_shape(drawn):
    for example in drawn["recognise"]:
        kind, colour = example["patch_kind"], example["patch_colour"]
        asked, named = example["question"].split()[1::3]
        if asked == "shape":
            seen = {canvas.KINDS[k] for k in kind[colour == 1 + colour_of(named)]}
        else:
            there = colour[kind == canvas.KINDS.index(named)]
            seen = {words.COLOURS[c - 1] for c in there}
        assert seen == {example["answer"]}


def test_count_is_the_number_of_things_painted_in_that_colour(drawn):
    agree = []
    for example in drawn["count"]:
        colour = colour_of(example["question"].split()[2])
        assert len(set(example.things.cells)) == len(example.things.cells)
        number = np.sum(example.things.colours == colour)
        assert words.NUMBERS[number] == example["answer"]
        patches = cells(example["patch_colour"]) == 1 + colour
        agree.append((patches.sum(1) >= 2).sum() == number)
    assert np.mean(agree) > 0.97  # now and then things overlap in a patch


def test_document_and_sign_are_answered_by_the_digits_in_their_patches(drawn):
    for example in drawn["document"]:
        question = example["question"].split()
        row, column = (words.NUMBERS.index(question[i]) - 1 for i in (5, 7))
        there = cells(example["patch_kind"])[4 * row + column]
        assert {canvas.KINDS[k] for k in there if k} == {example["answer"]}
    for example in drawn["sign"]:
        columns = example["patch_kind"].max(axis=0)
        ends = np.flatnonzero(columns)[[0, -1]]
        assert " ".join(canvas.KINDS[k] for k in columns[ends]) == example["answer"]


def test_a_lesion_is_in_the_quadrant_of_its_patches(drawn):
    for example in drawn["lesion"]:
        rows, columns = np.nonzero(example["patch_kind"])
        if example["answer"] == "nowhere":
            assert not len(rows)
        else:
            side = ("top", "bottom")[int(rows.mean() > 3.5)]
            place = f"{side} {('left', 'right')[int(columns.mean() > 3.5)]}"
            assert place == example["answer"]


def test_a_description_names_the_things_in_reading_order(drawn):
    agree = []
    for example in drawn["describe"]:
        shape, colour = example.things.shapes, example.things.colours
        order = np.argsort(example.things.cells)
        named = [
            f"a {words.COLOURS[colour[i]]} {words.SHAPES[shape[i]]}" for i in order
        ]
        assert " then ".join(named) == example["answer"]
        grid = zip(
            *(cells(example[f"patch_{name}"]) for name in ("colour", "kind")),
            strict=True,
        )
        seen = [
            collections.Counter(zip(c[k > 0], k[k > 0], strict=True)).most_common(1)[0][
                0
            ]
            for c, k in grid
            if (k > 0).sum() >= 2
        ]
        said = [f"a {words.COLOURS[c - 1]} {canvas.KINDS[k]}" for c, k in seen]
        agree.append(said == named)
    assert np.mean(agree) > 0.95  # now and then things overlap in a patch


def test_what_is_asked_about_a_sound_is_what_was_played(drawn):
    for example in itertools.chain(*drawn.values()):
        assert tuple(example["sound"]) == tuple(example.heard)
    for example in drawn["pitch"]:
        assert words.PITCHES[example.heard.pitch] == example["answer"]
    for example in drawn["tones"]:
        assert words.NUMBERS[example.heard.num_notes] == example["answer"]
    for example in drawn["timbre"]:
        assert words.TIMBRES[example.heard.timbre] == example["answer"]


def test_audio_visual_is_answered_by_the_thing_that_sounds(drawn):
    for example in drawn["audio_visual"]:
        kind, colour = example["patch_kind"], example["patch_colour"]
        source = scenes.SOURCES[words.TIMBRES[example.heard.timbre]]
        sounding = kind == canvas.KINDS.index(source)
        asked = example["question"].split()
        if asked[1] == "colour":
            seen = {words.COLOURS[c - 1] for c in colour[sounding]}
            assert seen == {example["answer"]}
        else:
            named = colour == 1 + colour_of(asked[7])
            at, than = (np.nonzero(m)[1].mean() for m in (sounding, named))
            assert example["answer"] == ("yes" if at < than else "no")


def test_no_answer_is_more_frequent_than_stated(drawn):
    for skill, group in drawn.items():
        counts = collections.Counter(example["answer"] for example in group)
        share = counts.most_common(1)[0][1] / len(group)
        assert share <= by_margin(max(LARGEST_SHARE[skill], 0.01), len(group)), skill


def test_the_question_alone_gives_no_more_than_stated(drawn, arrays):
    half = np.arange(len(arrays["skill"])) % 2 == 0
    train, test = ({n: a[h] for n, a in arrays.items()} for h in (half, ~half))
    right = baselines.question_only(train, test)
    for skill, known in QUESTION_ONLY.items():
        got = right[test["skill"] == scenes.SKILLS.index(skill)]
        assert got.mean() <= by_margin(max(known, 0.01), len(got)), skill
    prior = right[test["skill"] == scenes.SKILLS.index("prior")]
    assert prior.mean() > 0.9  # all but questions that half the set never asks


def test_the_sound_alone_does_not_answer_audio_visual_questions(drawn):
    counts = collections.defaultdict(collections.Counter)
    for example in drawn["audio_visual"]:
        asked = example["question"].split()[1]
        counts[asked, example.heard.timbre][example["answer"]] += 1
    best = sum(c.most_common(1)[0][1] for c in counts.values())
    assert best / NUM_EACH < QUESTION_ONLY["audio_visual"] + 0.15


def test_the_picture_alone_answers_audio_visual_questions_at_most_as_stated(drawn):
    """The best guess takes each thing, but the one named, as equally likely to sound.

    Of 3 or 4 things one is right in 1/3 or 1/4; where sides are asked for, a thing at
    the end of the row gives the answer away, and the guess is right in 5/6.
    """
    right = {"colour": [], "the": []}
    for example in drawn["audio_visual"]:
        things, asked = example.things, example["question"].split()
        named = things.colours == colour_of(asked[7]) if len(asked) > 7 else False
        guesses = collections.Counter()
        for cell, colour in zip(things.cells, things.colours, strict=True):
            if asked[1] == "colour":
                guesses[words.COLOURS[colour]] += 1
            elif cell not in things.cells[named]:
                left = cell % 4 < things.cells[named][0] % 4
                guesses["yes" if left else "no"] += 1
        right[asked[1]].append(guesses.most_common(1)[0][0] == example["answer"])
    for asked, known in {"colour": 7 / 24, "the": 5 / 6}.items():
        assert np.mean(right[asked]) <= by_margin(known, len(right[asked])), asked


def test_pictures_beside_questions_about_sound_tell_nothing(drawn):
    for skill in ("pitch", "tones", "timbre", "prior"):
        counts = collections.defaultdict(collections.Counter)
        for example in drawn[skill]:
            counts[len(example.things.cells)][example["answer"]] += 1
        best = sum(c.most_common(1)[0][1] for c in counts.values()) / NUM_EACH
        assert best < LARGEST_SHARE[skill] + 0.2, skill


def test_the_skill_fixes_what_is_needed_and_who_helps(drawn):
    wanted = {
        **dict.fromkeys((*scenes.EXPERTS, "describe"), [True, False, False]),
        **dict.fromkeys(("pitch", "tones", "timbre"), [False, True, False]),
        **{"audio_visual": [True, True, False], "prior": [False] * 3},
    }
    for skill, group in drawn.items():
        for example in group:
            assert example["needs"].tolist() == wanted[skill]
            core, irrelevant = example["core_experts"], example["irrelevant_experts"]
            assert not (core & irrelevant).any()
            if skill in scenes.EXPERTS:
                assert np.flatnonzero(core).tolist() == [scenes.EXPERTS.index(skill)]
            else:
                assert core.any() == ("image" in scenes.needed(skill))
    temporal = scenes.draw(EVERYTHING, 0, "train", scenes.SKILLS.index("temporal"))
    assert temporal["needs"].tolist() == [False, False, True]


def test_every_example_has_picture_and_sound_whatever_it_asks():
    for index in range(len(scenes.SKILLS)):
        example = scenes.draw(EVERYTHING, 1, "train", index)
        for name in ("image", "audio", "video"):
            shape, dtype = examples.FEATURES[name]
            assert (example[name].shape, example[name].dtype) == (shape, dtype)
            assert example[name].std() > 0.1, name


def test_things_are_harder_to_see_at_less_contrast():
    """The knob changes nothing but the colour of things: it grows with contrast."""
    images = []
    for contrast in (1.0, 0.5, 0.1):
        settings = scenes.SceneSettings(("recognise",), contrast=contrast)
        drawn = [scenes.draw(settings, 0, "train", i) for i in range(30)]
        images.append(np.stack([e["image"] for e in drawn]).astype(np.float32))
        if contrast == 1.0:
            mask = np.stack([e["object_mask"] for e in drawn])
    mask = np.kron(mask, np.ones((8, 8), bool))
    strong, middle, weak = (np.ptp(image, axis=-1)[mask].mean() for image in images)
    assert strong > middle + 4 and middle > weak + 4


@pytest.mark.parametrize("skill", ["recognise", "document", "compare", "lesion"])
def test_clutter_makes_pictures_busier(skill):
    busy = []
    for clutter in (0.0, 0.5, 1.0):
        settings = scenes.SceneSettings((skill,), clutter=clutter)
        images = [scenes.draw(settings, 0, "train", i)["image"] for i in range(20)]
        steps = np.diff(np.stack(images).astype(np.float32), axis=2)
        busy.append(np.abs(steps).mean())
    assert busy[0] + 1 < busy[1] and busy[1] + 1 < busy[2]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"skills": ("count", "chess")}, r"skills \['chess'\]: choose some of"),
        ({"skills": ()}, r"skills \(\): choose some of"),
        ({"skills": ("temporal",)}, "'temporal' needs the clip: set video=True"),
        ({"clutter": 1.5}, r"clutter is 1.5; it must lie in \[0, 1\]"),
        ({"clutter": math.nan}, "clutter is nan"),
        ({"contrast": 0.0}, r"contrast is 0.0; it must lie in \(0, 1\]"),
        ({"contrast": math.nan}, "contrast is nan"),
        ({"audio_snr_db": (9.0, 3.0)}, "audio_snr_db is .*low exceeds high"),
        ({"audio_snr_db": (math.nan, 3.0)}, "audio_snr_db is"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        scenes.SceneSettings(**settings)
