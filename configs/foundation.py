"""Pretrains the generalist that every system starts from.

    python launch/pretrain.py --config=configs/foundation.py --workdir=runs/pretrain

`laptop` (default) learns to look; `more` goes on from what is shipped, with most of its
questions about what is hard. `smoke` shows in seconds that it runs.
"""

from m3jax import experiment
from m3jax.data import examples, pipeline
from m3jax.nn import foundation as sizes
from m3jax.systems import foundation
from m3jax.train import config as train_config
from m3jax.train import optimizers

# Binding a colour to a shape is what the other lookups build on, so it comes first.
FIRST = (
    *("recognise",) * 8,
    *("count", "compare", "document", "document", "chart", "chart", "sign", "lesion"),
    *("pitch", "tones", "timbre", "audio_visual"),
)
# Then everything, and what is harder more often.
THEN = (
    *("recognise", "count", "compare", "sign", "describe") * 2,
    *("document", "chart", "audio_visual") * 3,
    *("lesion", "pitch", "tones", "timbre", "prior", "sign", "describe"),
)
# And last, what is hardest.
MORE = (
    *("document",) * 7,
    *("describe", "chart") * 4,
    *("recognise", "count", "audio_visual", "sign") * 3,
    *("compare", "lesion", "pitch", "tones", "timbre", "prior"),
)


def get_config(arg: str = "laptop") -> experiment.Experiment:
    """The experiment of a size: "laptop", "more" or "smoke"."""
    if arg == "more":
        config = get_config("laptop")
        config.start, config.train.seed = "generalist", 1
        config.train.steps, config.curriculum = 2000, ((0, MORE),)
        return config
    if arg == "laptop":
        return experiment.Experiment(
            system=foundation.Config(
                patch_words=examples.PATCH_WORDS, sound_words=examples.SOUND_WORDS
            ),
            data=pipeline.DataConfig(config="laptop"),
            train=train_config.TrainConfig(
                steps=2200,
                batch_size=64,
                log_every=100,
                checkpoint_every=500,
                evaluate_every=500,
                optimizer=optimizers.OptimizerConfig(
                    name="muon",
                    learning_rate=2e-3,
                    muon_learning_rate=5e-3,
                    warmup_steps=100,
                    weight_decay=1e-3,
                    b2=0.95,
                ),
            ),
            fresh_scenes=True,
            curriculum=((700, FIRST), (0, THEN)),
        )
    if arg == "smoke":
        return experiment.Experiment(
            system=foundation.Config(
                sizes=sizes.FoundationConfig(
                    dim=32,
                    mlp_dim=64,
                    ff_dim=64,
                    image_depth=1,
                    audio_depth=1,
                    image_stem=(8, 16, 32),
                ),
                patch_words=examples.PATCH_WORDS,
                sound_words=examples.SOUND_WORDS,
            ),
            data=pipeline.DataConfig(config="smoke"),
            train=train_config.TrainConfig(steps=20, batch_size=16, log_every=5),
            fresh_scenes=True,
        )
    raise ValueError(
        f"configs/foundation.py knows 'laptop', 'more' and 'smoke', not {arg!r}"
    )
