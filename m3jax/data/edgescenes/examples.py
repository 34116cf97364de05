"""Scenes as the arrays that models read, and the drawing of many by many processes."""

import contextlib
import itertools
import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from m3jax.data.edgescenes import canvas, scenes, sounds, words

_IMAGE = (canvas.SIDE, canvas.SIDE, 3)
_PATCHES = (canvas.GRID, canvas.GRID)
_EXPERTS = (len(scenes.EXPERTS),)
FEATURES = {
    "image": (_IMAGE, np.uint8),
    "audio": ((sounds.FRAMES, sounds.MELS), np.float32),
    "video": ((8, 32, 32, 3), np.uint8),
    "question": ((scenes.QUESTION_LENGTH,), np.int32),
    "answer": ((scenes.ANSWER_LENGTH,), np.int32),
    "skill": ((), np.int32),
    "needs": ((len(scenes.MODALITIES),), np.bool_),
    "core_experts": (_EXPERTS, np.bool_),
    "irrelevant_experts": (_EXPERTS, np.bool_),
    "sound": ((3,), np.int32),
    "patch_kind": (_PATCHES, np.int32),
    "patch_colour": (_PATCHES, np.int32),
    "object_mask": (_PATCHES, np.bool_),
    "static_fraction": ((), np.float32),
}
"""Name -> (shape, dtype) of all that a model may read; few sets have ``video``."""

COMPRESSED = ("image", "audio", "video")
"""The features that are stored compressed."""


def _ids(names: Sequence[str]) -> tuple[int, ...]:
    return tuple(words.encode(" ".join(names)))


PATCH_WORDS = (
    _ids(("<pad>", *canvas.KINDS[1:-2], "area", "lesion")),
    _ids(("<pad>", *words.COLOURS)),
)
"""Ids of the words for each value of ``patch_kind`` and of ``patch_colour``."""

SOUND_WORDS = (
    _ids(words.TIMBRES),
    _ids(words.PITCHES),
    _ids(words.NUMBERS[: 1 + sounds.MAX_NOTES]),
)
"""Ids of the words for each value of the three parts of ``sound``."""

_LEVEL = 4  # of zlib: 7 % more bytes than the default of 6, in under half the time
_WORTH_PROCESSES = 4_000  # fewer examples are drawn before a process has started


def encode(scene: dict) -> dict[str, np.ndarray]:
    """Turns a scene into the arrays of ``FEATURES``.

    Args:
      scene: what ``scenes.draw`` returned.

    Returns:
      Name -> array. ``question`` is padded with PAD; ``answer`` ends with EOS and is
      then padded; ``skill`` is the index into ``scenes.SKILLS``.

    Raises:
      ValueError: a text is too long or has a word outside the vocabulary.
    """
    ids = {
        "question": words.pad(words.encode(scene["question"]), scenes.QUESTION_LENGTH),
        "answer": words.pad(
            [*words.encode(scene["answer"]), words.EOS], scenes.ANSWER_LENGTH
        ),
        "skill": np.int32(scenes.SKILLS.index(scene["skill"])),
    }
    return {name: ids.get(name, scene[name]) for name in FEATURES if name in scene}


def record(
    settings: scenes.SceneSettings, seed: int, split: str, index: int
) -> dict[str, np.ndarray | bytes | str]:
    """Draws an example in the form in which it is stored.

    Args:
      settings: the knobs of difficulty.
      seed: seed of the whole set.
      split: "train", "validation" or "test".
      index: number of the example within its split.

    Returns:
      ``encode`` of the scene, those of ``COMPRESSED`` as zlib bytes, and its texts as
      ``question_text`` and ``answer_text``.
    """
    scene = scenes.draw(settings, seed, split, index)
    out = encode(scene)
    for name in COMPRESSED:
        if name in out:
            out[name] = zlib.compress(out[name].tobytes(), _LEVEL)
    return out | {"question_text": scene["question"], "answer_text": scene["answer"]}


def records(
    settings: scenes.SceneSettings,
    seed: int,
    places: Sequence[tuple[str, int]],
    num_processes: int | None = None,
) -> Iterator[dict]:
    """Yields the ``record`` of each place, in order.

    Args:
      settings: the knobs of difficulty.
      seed: seed of the whole set.
      places: (split, index) of the examples.
      num_processes: drawing processes beside this one, 0 for none; by default one per
        core, at most 4, if there is enough to draw. The records do not depend on it.
    """
    if num_processes is None:
        num_processes = min(4, os.cpu_count() or 1)
        if len(places) < _WORTH_PROCESSES:
            num_processes = 0
    if num_processes == 0:
        for split, index in places:
            yield record(settings, seed, split, index)
        return
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker()) for _ in range(num_processes)]
        for first, worker in enumerate(workers):
            _send(worker, (settings, seed, places[first::num_processes]))
        for place, worker in zip(places, itertools.cycle(workers), strict=False):
            # What a lost process should have drawn is drawn here, and if it is the
            # drawing that fails, this is where the caller sees why.
            yield _receive(worker) or record(settings, seed, *place)


@contextlib.contextmanager
def _worker() -> Iterator[subprocess.Popen]:
    """A process that draws the records of a job that it is sent.

    It runs this module and not the caller's script, as multiprocessing would: so the
    first use of the data may stand unguarded in a script or a notebook.
    """
    # One core each; and it finds this package wherever the caller found it.
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-m", __name__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=env, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def _send(process: subprocess.Popen, job: tuple) -> None:
    with contextlib.suppress(BrokenPipeError), process.stdin:  # lost already
        pickle.dump(job, process.stdin)


def _receive(process: subprocess.Popen) -> dict | None:
    """The next record of a process, or None from the moment that it is lost."""
    if process.stdout.closed:
        return None
    try:
        return pickle.load(process.stdout)
    except (EOFError, pickle.UnpicklingError) as error:
        logging.warning("a process that draws scenes was lost: %r", error)
        process.kill()
        process.stdout.close()
        return None


def _work() -> None:
    """Draws the job on standard input; ends when its reader has gone."""
    settings, seed, places = pickle.load(sys.stdin.buffer)
    with contextlib.suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # whatever prints shall not print between the records
        for split, index in places:
            pickle.dump(record(settings, seed, split, index), out)


if __name__ == "__main__":
    _work()
