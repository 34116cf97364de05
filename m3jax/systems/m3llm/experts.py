"""M3LLM's experts as they are shipped: by name, as a pool, and with real examples."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.data import pipeline
from m3jax.data.edgescenes import dataset, scenes, words
from m3jax.foundation import answering
from m3jax.foundation import generalist as generalist_lib
from m3jax.nn import vit
from m3jax.serving import descriptors
from m3jax.systems import m3llm
from m3jax.systems.m3llm import context, routing_env, specialist
from m3jax.train import pretrained, typed_json

PREFIX = "expert_"
"""Before a skill: the name under which its expert is shipped."""
GENERALIST = "generalist"
NUM_QUESTIONS = 4
"""Questions that an expert's descriptor holds."""
_DESCRIPTIONS = {
    "recognise": "names shapes and colours of things in clutter",
    "count": "counts things of one colour",
    "compare": "compares areas",
    "document": "reads the digit at a place on a page",
    "chart": "reads bar charts",
    "sign": "reads signs in clutter",
    "lesion": "spots lesions in tissue",
}
_QUESTION_SEED = 7_000


class Specialist(NamedTuple):
    """An expert that can be served (``m3jax.serving``).

    Attributes:
      descriptor: what it can do.
      encode: uint8 [64, 64, 3], or a batch of them, -> float32 [B, L, D].
    """

    descriptor: descriptors.Descriptor
    encode: Callable[[np.ndarray], np.ndarray]


class Pool(NamedTuple):
    """Experts and the decoder that reads them.

    Attributes:
      config: of the data plane.
      system: its pure functions.
      params: {experts, decoder, silence}.
    """

    config: m3llm.Config
    system: base.System
    params: base.Params

    @property
    def task_model(self) -> base.Params:
        """The part of the parameters that reads and answers."""
        return {name: self.params[name] for name in ("decoder", "silence")}


class Examples(NamedTuple):
    """M examples of each of K tasks, as host arrays ``[K, M, ...]``."""

    image: np.ndarray
    question: np.ndarray
    answer: np.ndarray


def load(skill: str) -> Specialist:
    """Loads an expert.

    Args:
      skill: one of ``m3llm.EXPERTS``.

    Returns:
      Its descriptor and its encoder.

    Raises:
      FileNotFoundError: there is none; the message lists those that are shipped.
    """
    params, config = _load(PREFIX + skill)
    encoder = specialist.Encoder(config)

    @jax.jit
    def run(image):
        image = answering.encoder_input({"image": image}, "image")
        return encoder.apply({"params": params}, image)[0]

    def encode(image: np.ndarray) -> np.ndarray:
        return np.asarray(run(image if np.ndim(image) == 4 else image[None]))

    described = descriptors.Descriptor(
        name=skill,
        description=_DESCRIPTIONS[skill],
        skills=(skill,),
        questions=questions(skill),
        output_shape=(config.num_tokens, config.sizes.dim),
        device=descriptors.Device(name=jax.devices()[0].device_kind),
    )
    return Specialist(described, encode)


def load_pool(names: Sequence[str] = m3llm.EXPERTS, link: str = "analog") -> Pool:
    """Loads several experts as the data plane of M3LLM.

    Args:
      names: skills, or "all": the one small encoder that learned all seven.
      link: "analog" or "digital".

    Returns:
      The pool.

    Raises:
      FileNotFoundError: an expert is not shipped.
    """
    loaded = {name: _load(PREFIX + name) for name in names}
    generalist, known = _generalist()
    config = m3llm.Config(
        experts=tuple(names),
        expert=next(iter(loaded.values()))[1],
        link=link,
    )
    params = {
        "experts": {name: part for name, (part, _) in loaded.items()},
        **specialist.task_model(generalist, sizes=known.sizes),
    }
    return Pool(config, m3llm.make_system(config), jax.device_put(params))


def make_index(names: Sequence[str] = m3llm.EXPERTS) -> context.Index:
    """The descriptors of experts, embedded for retrieval."""
    table = _generalist()[0]["decoder"]["embedder"]["embedding"]
    ids = np.array([[_ids(text) for text in questions(name)] for name in names])
    return context.make_index(table, ids)


@functools.cache
def questions(skill: str) -> tuple[str, ...]:
    """Different questions of a skill, as a descriptor holds them.

    Raises:
      ValueError: there is no such skill.
    """
    settings = scenes.SceneSettings(skills=(skill,))
    found: list[str] = []
    for index in range(50):
        scene = scenes.draw(settings, _QUESTION_SEED, "train", index)
        if scene["question"] not in found:
            found.append(scene["question"])
        if len(found) == NUM_QUESTIONS:
            break
    # A skill may have fewer kinds of questions than that.
    return tuple((found * NUM_QUESTIONS)[:NUM_QUESTIONS])


def draw_examples(
    num: int,
    seed: int,
    split: str,
    skills: Sequence[str] = m3llm.EXPERTS,
    clutter: float = 0.5,
    contrast: float = 0.7,
) -> Examples:
    """Draws examples of each skill.

    Args:
      num: M, of each.
      seed: of all that is drawn.
      split: whose handwriting: "train", "validation" or "test".
      skills: K of them.
      clutter: see ``scenes.SceneSettings``.
      contrast: likewise.

    Returns:
      Host arrays ``[K, M, ...]``.
    """
    rows = [
        pipeline.as_arrays(
            dataset.Fresh(
                scenes.SceneSettings((skill,), clutter, contrast), seed, num, split
            ),
            features=Examples._fields,
        )
        for skill in skills
    ]
    return Examples(
        *(np.stack([row[name] for row in rows]) for name in Examples._fields)
    )


def encode_examples(pool: Pool, drawn: Examples, batch_size: int = 100) -> np.ndarray:
    """What every expert says of every example, float32 ``[K, M, N, L, D]``."""
    encode = jax.jit(pool.system.predict["encode"])
    flat = drawn.image.reshape(-1, *drawn.image.shape[2:])
    key = jax.random.key(0)  # encoders draw nothing
    said = [
        np.asarray(encode(pool.params, {"image": flat[at : at + batch_size]}, key))
        for at in range(0, len(flat), batch_size)
    ]
    said = np.concatenate(said)
    return said.reshape(*drawn.image.shape[:2], *said.shape[1:])


def make_bank(
    drawn: Examples, num_passing: int = 4, batch_size: int = 100
) -> routing_env.Bank:
    """What a router sees of examples: features, tags and coarse masks.

    Features of a picture are the mean of the generalist's tokens, those of a question
    the mean of its words.

    Args:
      drawn: K tasks, M examples.
      num_passing: experts that retrieval lets pass.
      batch_size: pictures encoded at once.

    Returns:
      The bank.
    """
    generalist, known = _generalist()
    encoder = vit.ViT(known.sizes.encoder_config("image"))

    @jax.jit
    def see(image):
        image = answering.encoder_input({"image": image}, "image")
        tokens = encoder.apply({"params": generalist["image_encoder"]}, image)
        return jnp.mean(tokens, axis=1)

    shape = drawn.image.shape[:2]
    images = drawn.image.reshape(-1, *drawn.image.shape[2:])
    seen = [
        see(images[at : at + batch_size]) for at in range(0, len(images), batch_size)
    ]
    ids = drawn.question.reshape(-1, drawn.question.shape[-1])
    index = make_index()
    rows = routing_env.Bank(
        image=jnp.concatenate(seen),
        text=context.embed(index.words, ids),
        tag=context.tag(index, ids),
        mask=context.coarse_mask(index, ids, num_passing),
    )
    return jax.tree.map(lambda row: row.reshape(*shape, *row.shape[1:]), rows)


def _load(name: str) -> tuple[base.Params, Any]:
    params, card = pretrained.load(name)
    return params, typed_json.from_json(card["config"]).system


@functools.cache
def _generalist() -> tuple[base.Params, generalist_lib.Config]:
    """The generalist, and its settings as its card has them."""
    return _load(GENERALIST)


def _ids(text: str) -> np.ndarray:
    ids = words.encode(text)
    return np.array(ids + [words.PAD] * (scenes.QUESTION_LENGTH - len(ids)), np.int32)
