"""EdgeScenes as a TFDS set, made on this machine, with no download and no TensorFlow.

Its examples are those of ``scenes.draw`` in the order of their index, with the texts
also as word ids. ``prepare.prepare`` writes it; ``pipeline`` reads it.
"""

import dataclasses
import itertools

import tensorflow_datasets as tfds
import tqdm

from m3jax.data.edgescenes import examples, scenes

_BYTES_PER_EXAMPLE = 12_000  # a generous guess, to see a full disk coming
_BYTES_PER_CLIP = 12_000


@dataclasses.dataclass(eq=False)
class EdgeScenesConfig(tfds.core.BuilderConfig):
    """Size and difficulty of one variant of EdgeScenes.

    Attributes:
      settings: the knobs of difficulty.
      num_train, num_validation, num_test: number of examples in each split.
      seed: seed of all that is drawn.
    """

    settings: scenes.SceneSettings = scenes.SceneSettings()
    num_train: int = 16_000
    num_validation: int = 2_000
    num_test: int = 2_000
    seed: int = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Split -> number of examples."""
        return {
            "train": self.num_train,
            "validation": self.num_validation,
            "test": self.num_test,
        }

    @property
    def num_bytes(self) -> int:
        """About what the set takes on disk."""
        each = _BYTES_PER_EXAMPLE + _BYTES_PER_CLIP * self.settings.video
        return each * sum(self.sizes.values())

    def recipe(self) -> dict:
        """All that decides the content of the set, as JSON values."""
        return {
            "seed": self.seed,
            "sizes": self.sizes,
            "settings": repr(self.settings),
            "shapes": {n: list(shape) for n, (shape, _) in examples.FEATURES.items()},
        }


class CompressedTensor(tfds.features.Tensor):
    """A zlib tensor that takes bytes too, which another process has compressed."""

    def encode_example(self, example_data):
        """See the base class."""
        if isinstance(example_data, bytes):
            return example_data
        return super().encode_example(example_data)


class EdgeScenes(tfds.core.GeneratorBasedBuilder):
    """Generated scenes, sounds and questions, with the truth about each."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    DEFAULT_BUILDER_CONFIG_NAME = "laptop"
    BUILDER_CONFIGS = [
        EdgeScenesConfig(
            name="smoke",
            description="A few hundred scenes, for tests and notebooks.",
            num_train=512,
            num_validation=128,
            num_test=256,
        ),
        EdgeScenesConfig(name="laptop", description="20,000 scenes."),
        EdgeScenesConfig(
            name="video",
            description="20,000 scenes, each with a short clip.",
            settings=scenes.SceneSettings(skills=scenes.SKILLS, video=True),
        ),
    ]
    url_infos = None  # nothing is downloaded, so there are no checksums to look for

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(_features(self.builder_config)),
            disable_shuffling=True,  # the order on disk is that of the index
            metadata=tfds.core.MetadataDict(self.builder_config.recipe()),
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        stream = self._generate_examples()
        sizes = self.builder_config.sizes
        return {split: itertools.islice(stream, sizes[split]) for split in sizes}

    def _generate_examples(self):
        """All splits one after the other, so that processes start only once."""
        config = self.builder_config
        places = [(split, i) for split, n in config.sizes.items() for i in range(n)]
        drawn = examples.records(config.settings, config.seed, places)
        with tqdm.tqdm(
            desc=f"EdgeScenes {config.name}",
            total=len(places),
            unit=" scenes",
            disable=None,  # a bar on terminals, silence in logs
        ) as bar:
            for (_, index), record in zip(places, drawn, strict=True):
                bar.update()
                yield index, record


def _features(config: EdgeScenesConfig) -> dict[str, tfds.features.FeatureConnector]:
    """TFDS's types; its Image and Audio would need TensorFlow, so tensors it is."""
    out = {
        "question_text": tfds.features.Text(),
        "answer_text": tfds.features.Text(),
    }
    for name, (shape, dtype) in examples.FEATURES.items():
        if name in examples.COMPRESSED:
            out[name] = CompressedTensor(shape=shape, dtype=dtype, encoding="zlib")
        else:
            out[name] = tfds.features.Tensor(shape=shape, dtype=dtype)
    out["skill"] = tfds.features.ClassLabel(names=scenes.SKILLS)
    if not config.settings.video:
        del out["video"]
    return out
