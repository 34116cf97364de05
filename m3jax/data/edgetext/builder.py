"""EdgeText as a TFDS set, made on this machine, with no download and no TensorFlow.

``prepare.prepare`` writes it; ``pipeline`` reads it.
"""

import dataclasses

import tensorflow_datasets as tfds

from m3jax.data.edgetext import domains, examples

_BYTES_PER_EXAMPLE = 1_000  # a generous guess, to see a full disk coming


@dataclasses.dataclass(eq=False)
class EdgeTextConfig(tfds.core.BuilderConfig):
    """Size and content of one variant of EdgeText.

    Attributes:
      settings: what is asked.
      num_experts: number of examples that models are pretrained and tuned on.
      num_train: number of examples that what joins the models is trained on.
      num_validation, num_test: number of examples of the splits of these names.
      seed: seed of all that is drawn.
    """

    settings: domains.Settings = domains.Settings()
    num_experts: int = 32_000
    num_train: int = 8_000
    num_validation: int = 1_000
    num_test: int = 2_000
    seed: int = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Split -> number of examples."""
        return {
            "experts": self.num_experts,
            "train": self.num_train,
            "validation": self.num_validation,
            "test": self.num_test,
        }

    @property
    def num_bytes(self) -> int:
        """About what the set takes on disk."""
        return _BYTES_PER_EXAMPLE * sum(self.sizes.values())

    def recipe(self) -> dict:
        """All that decides the content of the set, as JSON values."""
        return {
            "seed": self.seed,
            "sizes": self.sizes,
            "settings": repr(self.settings),
            "shares": domains.SHARES,
            "shapes": {n: list(shape) for n, (shape, _) in examples.FEATURES.items()},
        }


class EdgeText(tfds.core.GeneratorBasedBuilder):
    """Generated text tasks of nine domains, each exactly checkable."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    DEFAULT_BUILDER_CONFIG_NAME = "laptop"
    BUILDER_CONFIGS = [
        EdgeTextConfig(
            name="smoke",
            description="Some two thousand questions, for tests and notebooks.",
            num_experts=1_024,
            num_train=512,
            num_validation=128,
            num_test=256,
        ),
        EdgeTextConfig(name="laptop", description="43,000 questions."),
    ]
    url_infos = None  # nothing is downloaded, so there are no checksums to look for

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "question_text": tfds.features.Text(),
            "answer_text": tfds.features.Text(),
        }
        for name, (shape, dtype) in examples.FEATURES.items():
            features[name] = tfds.features.Tensor(shape=shape, dtype=dtype)
        features["domain"] = tfds.features.ClassLabel(names=domains.DOMAINS)
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # the order on disk is that of the index
            metadata=tfds.core.MetadataDict(self.builder_config.recipe()),
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in domains.SPLITS}

    def _generate_examples(self, split):
        config = self.builder_config
        drawn = examples.distinct(
            config.settings, config.seed, split, config.sizes[split]
        )
        for index, example in enumerate(drawn):
            texts = {
                "question_text": example.question,
                "answer_text": example.answer,
            }
            yield index, examples.encode(example) | texts
