"""Pretrains the generalist that every system starts from.

    python launch/train.py --config=configs/generalist.py --workdir=runs/pretrain

`laptop` (default) learns to look; `more` goes on from what is shipped, with most of its
questions about what is hard. `draft` is a small one of a sixth of the decoder's work,
which drafts for the large one (docs/speculation.md), and `draft_more` goes on from it;
`exit` is one behind the large one's first layer, and drafts as well. `smoke` shows in
seconds that it runs, `tiny` in no time.
"""

from m3jax.data.edgescenes import dataset, examples
from m3jax.experiments import supervised
from m3jax.foundation import early_exit
from m3jax.foundation import generalist as generalist_lib
from m3jax.foundation import sizes as sizes_lib
from m3jax.testing import tiny, tiny_runs
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
# What a small one has not learnt by then; describing is naming, again and again.
DRAFTED = (
    *("recognise", "describe") * 5,
    *("count", "compare", "chart", "sign", "document", "audio_visual") * 2,
    *("lesion", "pitch", "tones", "timbre", "prior"),
)
VARIANTS = ("laptop", "more", "draft", "draft_more", "exit", "smoke", "tiny")


def get_config(arg: str = "laptop") -> supervised.Supervised:
    """The experiment of a size, one of ``VARIANTS``."""
    if arg == "more":
        config = get_config("laptop")
        config.start, config.train.seed = "generalist", 1
        config.train.steps, config.data.curriculum = 2000, ((0, MORE),)
        return config
    if arg == "draft":
        config = get_config("laptop")
        config.system.sizes = sizes_lib.Sizes(
            # Two layers: one finds what the question names, the next looks it up.
            decoder=sizes_lib.DecoderSizes(dim=48, depth=2, ff_dim=96),
            image=sizes_lib.image(depth=1, stem=(12, 24, 48), mlp_dim=96),
            audio=sizes_lib.audio(depth=1, mlp_dim=96),
        )
        return config
    if arg == "draft_more":
        config = get_config("draft")
        config.start, config.train.seed = "edge_draft", 1
        config.train.steps, config.data.curriculum = 1700, ((0, DRAFTED),)
        return config
    if arg == "exit":
        config = get_config("laptop")
        config.system, config.start = early_exit.Config(config.system), "generalist"
        config.learner.trainable = "exit"
        config.learner.optimizer.learning_rate = 1e-2  # a norm and a linear map
        config.train.steps, config.data.curriculum = 400, ((0, THEN),)
        return config
    if arg == "laptop":
        return supervised.Supervised(
            system=generalist_lib.Config(
                patch_words=examples.PATCH_WORDS, sound_words=examples.SOUND_WORDS
            ),
            data=dataset.Config(
                config="laptop", fresh=True, curriculum=((700, FIRST), (0, THEN))
            ),
            train=train_config.TrainConfig(
                steps=2200, log_every=100, checkpoint_every=500, evaluate_every=500
            ),
            learner=train_config.LearnerConfig(
                batch_size=64,
                optimizer=optimizers.OptimizerConfig(
                    name="muon",
                    learning_rate=2e-3,
                    muon_learning_rate=5e-3,
                    warmup_steps=100,
                    weight_decay=1e-3,
                    b2=0.95,
                ),
            ),
        )
    if arg == "smoke":
        return supervised.Supervised(
            system=generalist_lib.Config(
                sizes=sizes_lib.Sizes(
                    decoder=sizes_lib.DecoderSizes(dim=32, ff_dim=64),
                    image=sizes_lib.image(depth=1, stem=(8, 16, 32), mlp_dim=64),
                    audio=sizes_lib.audio(depth=1, mlp_dim=64),
                ),
                patch_words=examples.PATCH_WORDS,
                sound_words=examples.SOUND_WORDS,
            ),
            data=dataset.Config(config="smoke", fresh=True),
            train=train_config.TrainConfig(steps=20, log_every=5),
            learner=train_config.LearnerConfig(batch_size=16),
        )
    if arg == "tiny":
        return supervised.Supervised(
            system=generalist_lib.Config(
                sizes=tiny.scene_sizes(),
                num_image_tokens=4,
                num_audio_tokens=2,
                patch_words=examples.PATCH_WORDS,
                sound_words=examples.SOUND_WORDS,
            ),
            data=dataset.Config(config="smoke"),
            **tiny_runs.training(),
        )
    raise ValueError(f"configs/generalist.py knows {', '.join(VARIANTS)}, not {arg!r}")
