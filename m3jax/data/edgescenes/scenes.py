"""EdgeScenes: one question about a picture and a sound, drawn from four numbers.

``draw(settings, seed, split, index)`` is a pure function: the same arguments give the
same example, so a data set is a range of indices and any example can be made again.
"""

import dataclasses
import zlib

import numpy as np

from m3jax.data.edgescenes import canvas, clips, pictures, sounds, words

EXPERTS = ("recognise", "count", "compare", "document", "chart", "sign", "lesion")
"""The seven visual skills, each the domain of one expert of M3LLM."""
SKILLS = (
    *EXPERTS,
    *("pitch", "tones", "timbre", "audio_visual", "prior", "describe", "temporal"),
)
"""Every skill in the order of its id; ``temporal`` needs the video config."""
MODALITIES = ("image", "audio", "video")
QUESTION_LENGTH = 10
ANSWER_LENGTH = 16

_HELPFUL = {  # experts that help beyond the skill's own
    "describe": ("recognise", "count"),
    "audio_visual": ("recognise",),
    "count": ("recognise",),
    "sign": ("document",),
}
_NEEDS = {
    **dict.fromkeys((*EXPERTS, "describe"), ("image",)),
    **dict.fromkeys(("pitch", "tones", "timbre"), ("audio",)),
    "audio_visual": ("image", "audio"),
    "temporal": ("video",),
    "prior": (),
}
SOURCES = dict(zip(words.TIMBRES, words.SHAPES, strict=False))
"""Which shape makes which sound: a bell sounds from a circle, and so on."""


@dataclasses.dataclass(frozen=True)
class SceneSettings:
    """The knobs of difficulty.

    Attributes:
      skills: names of the skills asked about, each equally often.
      clutter: 0 (plain) to 1 (busy).
      contrast: least opacity of what the question is about, above 0 up to 1.
      audio_snr_db: range (low, high) of the audio's signal-to-noise ratio in dB.
      video: also draw the 8-frame clip.
    """

    skills: tuple[str, ...] = SKILLS[:-1]
    clutter: float = 0.5
    contrast: float = 0.7
    audio_snr_db: tuple[float, float] = (5.0, 25.0)
    video: bool = False

    def __post_init__(self):
        unknown = [name for name in self.skills if name not in SKILLS]
        if unknown or not self.skills:
            raise ValueError(f"skills {unknown or '()'}: choose some of {SKILLS}")
        if "temporal" in self.skills and not self.video:
            raise ValueError("skill 'temporal' needs the clip: set video=True")
        if not 0.0 <= self.clutter <= 1.0:
            raise ValueError(f"clutter is {self.clutter}; it must lie in [0, 1]")
        if not 0.0 < self.contrast <= 1.0:
            raise ValueError(f"contrast is {self.contrast}; it must lie in (0, 1]")
        low, high = self.audio_snr_db
        if not low <= high:
            raise ValueError(f"audio_snr_db is {self.audio_snr_db}; low exceeds high")


def needed(skill: str) -> tuple[str, ...]:
    """The modalities without which a skill's questions can't be answered."""
    return _NEEDS[skill]


def draw(settings: SceneSettings, seed: int, split: str, index: int) -> dict:
    """Draws one example.

    Args:
      settings: the knobs of difficulty.
      seed: seed of the whole set.
      split: "train", "validation" or "test"; decides which handwriting is used.
      index: number of the example within its split; skills take turns by index.

    Returns:
      image uint8 [64, 64, 3]; audio float32 [64, 40]; video uint8 [8, 32, 32, 3] when
      settings.video; question, answer and skill as text; needs bool [3] by MODALITIES;
      core_experts and irrelevant_experts bool [7] by EXPERTS; patch_kind and
      patch_colour int32 [8, 8] by canvas.KINDS and 1 + words.COLOURS; object_mask bool
      [8, 8]; sound int32 [3], its timbre, pitch and number of notes; static_fraction
      float32, the share of clip frames that repeat the one before (1 without a clip).
    """
    rng = np.random.default_rng((seed, zlib.crc32(split.encode()), index))
    skill = settings.skills[index % len(settings.skills)]
    asked = _QUESTIONS[skill](rng, settings, split)
    sound = asked.get("sound") or _any_sound(rng)
    picture = asked.get("picture") or _any_picture(rng, settings)
    out = {
        "image": picture.image(),
        "audio": sounds.spectrogram(sound, rng.uniform(*settings.audio_snr_db), rng),
        "question": asked["question"],
        "answer": asked["answer"],
        "skill": skill,
        "sound": np.array(sound, np.int32),
        "patch_kind": picture.kind,
        "patch_colour": picture.colour,
        "object_mask": picture.kind > 0,
        "static_fraction": np.float32(1.0),
        **_truth(skill),
    }
    if settings.video:
        clip = asked.get("clip") or clips.any_clip(rng)
        out["video"] = clips.draw_clip(rng, clip)
        out["static_fraction"] = np.float32(clip.static_fraction)
    return out


def _truth(skill: str) -> dict[str, np.ndarray]:
    """Needed modalities and the core and irrelevant experts of a skill."""
    core = np.array([name == skill for name in EXPERTS])
    helpful = np.array([name in _HELPFUL.get(skill, ()) for name in EXPERTS])
    if not core.any():
        core, helpful = helpful, np.zeros_like(helpful)
    return {
        "needs": np.array([name in needed(skill) for name in MODALITIES]),
        "core_experts": core,
        "irrelevant_experts": ~(core | helpful),
    }


def _any_sound(rng) -> sounds.Sound:
    high = (len(words.TIMBRES), len(words.PITCHES), sounds.MAX_NOTES)
    timbre, pitch, notes = rng.integers(0, high)
    return sounds.Sound(int(timbre), int(pitch), 1 + int(notes))


def _any_picture(rng, settings) -> canvas.Canvas:
    return _paint(rng, settings, _different_things(rng, int(rng.integers(3, 7))))


def _paint(rng, settings, things: pictures.Things) -> canvas.Canvas:
    contrast = rng.uniform(settings.contrast, 1.0)
    return pictures.draw_things(rng, things, settings.clutter, contrast)


def _different_things(rng, count: int) -> pictures.Things:
    """Things of which no two share a shape or a colour."""
    return pictures.Things(
        cells=np.sort(rng.permutation(16)[:count]),
        shapes=rng.permutation(len(words.SHAPES))[:count],
        colours=rng.permutation(len(words.COLOURS))[:count],
    )


# Each question: (rng, settings, split) -> what it shows, asks and answers.


def _recognise(rng, settings, split):
    things = _different_things(rng, int(rng.integers(3, 7)))
    i = rng.integers(len(things.cells))
    shape, colour = words.SHAPES[things.shapes[i]], words.COLOURS[things.colours[i]]
    if rng.integers(2):
        question, answer = f"what shape is the {colour} thing", shape
    else:
        question, answer = f"what colour is the {shape}", colour
    picture = _paint(rng, settings, things)
    return {"question": question, "answer": answer, "picture": picture}


def _count(rng, settings, split):
    number, others = 1 + int(rng.integers(6)), int(rng.integers(1, 5))
    colour = int(rng.integers(6))
    other = (colour + rng.integers(1, 6, size=others)) % 6
    total = number + others
    things = pictures.Things(
        cells=rng.permutation(16)[:total],
        shapes=rng.integers(6, size=total),
        colours=np.concatenate([np.full(number, colour), other]),
    )
    return {
        "question": f"how many {words.COLOURS[colour]} things are there",
        "answer": words.NUMBERS[number],
        "picture": _paint(rng, settings, things),
    }


def _compare(rng, settings, split):
    picture, colours, _ = pictures.draw_regions(rng, settings.clutter)
    extreme = int(rng.integers(2))
    return {
        "question": f"which colour covers the {('largest', 'smallest')[extreme]} area",
        "answer": words.COLOURS[colours[-extreme]],
        "picture": picture,
    }


def _document(rng, settings, split):
    picture, digits = pictures.draw_page(rng, split, settings.clutter)
    row, column = rng.integers(4, size=2)
    where = f"row {words.NUMBERS[row + 1]} column {words.NUMBERS[column + 1]}"
    return {
        "question": f"which digit is at {where}",
        "answer": words.NUMBERS[digits[row, column]],
        "picture": picture,
    }


def _chart(rng, settings, split):
    picture, colours, heights = pictures.draw_chart(rng, settings.clutter)
    form = int(rng.integers(4))
    if form == 0:
        question = "which bar is the tallest"
        answer = words.COLOURS[colours[heights.argmax()]]
    elif form == 1:
        question = "which bar is the shortest"
        answer = words.COLOURS[colours[heights.argmin()]]
    else:
        i = rng.integers(4)
        question = f"how tall is the {words.COLOURS[colours[i]]} bar"
        answer = words.NUMBERS[heights[i]]
    return {"question": question, "answer": answer, "picture": picture}


def _sign(rng, settings, split):
    picture, digits = pictures.draw_sign(rng, split, settings.clutter)
    return {
        "question": "what number is on the sign",
        "answer": " ".join(words.NUMBERS[d] for d in digits),
        "picture": picture,
    }


def _lesion(rng, settings, split):
    contrast = rng.uniform(settings.contrast, 1.0)
    picture, quadrant = pictures.draw_tissue(rng, settings.clutter, contrast)
    places = ("top left", "top right", "bottom left", "bottom right", "nowhere")
    return {
        "question": "where is the lesion in the tissue",
        "answer": places[quadrant],
        "picture": picture,
    }


def _pitch(rng, settings, split):
    sound = _any_sound(rng)
    answer = words.PITCHES[sound.pitch]
    return {"question": "what pitch is the sound", "answer": answer, "sound": sound}


def _tones(rng, settings, split):
    sound = _any_sound(rng)
    answer = words.NUMBERS[sound.num_notes]
    return {"question": "how many tones do you hear", "answer": answer, "sound": sound}


def _timbre(rng, settings, split):
    sound = _any_sound(rng)
    answer = words.TIMBRES[sound.timbre]
    return {"question": "what makes the sound", "answer": answer, "sound": sound}


def _audio_visual(rng, settings, split):
    """Asks about the thing that sounds; the sound alone or picture alone won't do."""
    count = int(rng.integers(3, 5))
    columns = rng.permutation(4)[:count]
    things = pictures.Things(
        cells=4 * rng.integers(4, size=count) + columns,
        shapes=rng.permutation(len(words.TIMBRES))[:count],
        colours=rng.permutation(len(words.COLOURS))[:count],
    )
    source, other = rng.permutation(count)[:2]
    sound = _any_sound(rng)._replace(timbre=int(things.shapes[source]))
    if rng.integers(2):
        question = "what colour is the sounding thing"
        answer = words.COLOURS[things.colours[source]]
    else:
        colour = words.COLOURS[things.colours[other]]
        question = f"is the sounding thing left of the {colour} thing"
        answer = "yes" if columns[source] < columns[other] else "no"
    return {
        "question": question,
        "answer": answer,
        "picture": _paint(rng, settings, things),
        "sound": sound,
    }


def _prior(rng, settings, split):
    question, answer = FACTS[rng.integers(len(FACTS))]
    return {"question": question, "answer": answer}


def _describe(rng, settings, split):
    count = int(rng.integers(3, 5))
    things = pictures.Things(
        cells=np.sort(rng.permutation(16)[:count]),
        shapes=rng.integers(len(words.SHAPES), size=count),
        colours=rng.integers(len(words.COLOURS), size=count),
    )
    named = [
        f"a {words.COLOURS[colour]} {words.SHAPES[shape]}"
        for shape, colour in zip(things.shapes, things.colours, strict=True)
    ]
    return {
        "question": "describe the picture",
        "answer": " then ".join(named),
        "picture": _paint(rng, settings, things),
    }


def _temporal(rng, settings, split):
    clip = clips.any_clip(rng)
    return {
        "question": "which way did the thing move",
        "answer": words.DIRECTIONS[clip.direction],
        "clip": clip,
    }


def _facts() -> tuple[tuple[str, str], ...]:
    up = list(zip(words.NUMBERS[:-1], words.NUMBERS[1:], strict=True))
    pairs = (("left", "right"), ("top", "bottom"), ("low", "high"), ("yes", "no"))
    sides = (("triangle", "three"), ("square", "four"))
    return (
        *((f"what comes after {low}", high) for low, high in up),
        *((f"what comes before {high}", low) for low, high in up),
        *((f"how many sides has a {shape}", n) for shape, n in sides),
        *((f"what is the opposite of {a}", b) for a, b in pairs),
        *((f"what is the opposite of {b}", a) for a, b in pairs),
    )


FACTS = _facts()
"""Questions that need no picture and no sound, with their answers."""

_QUESTIONS = {
    "recognise": _recognise,
    "count": _count,
    "compare": _compare,
    "document": _document,
    "chart": _chart,
    "sign": _sign,
    "lesion": _lesion,
    "pitch": _pitch,
    "tones": _tones,
    "timbre": _timbre,
    "audio_visual": _audio_visual,
    "prior": _prior,
    "describe": _describe,
    "temporal": _temporal,
}
