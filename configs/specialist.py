r"""Pretrains one of M3LLM's experts on its skill, for the generalist's decoder.

    python launch/train.py --config=configs/specialist.py:chart \
        --workdir=runs/expert_chart

The argument is a skill; `all` learns all seven in one encoder, for comparison. `smoke`
shows in seconds that it runs, `tiny` in no time. Two to five minutes each on 2 cores.
"""

from m3jax.data.edgescenes import dataset, examples, scenes
from m3jax.experiments import supervised
from m3jax.foundation import sizes as sizes_lib
from m3jax.systems.m3llm import specialist
from m3jax.testing import tiny, tiny_runs
from m3jax.train import config as train_config
from m3jax.train import optimizers

# Binding a colour to a shape, and finding a digit in clutter, take longest to learn.
STEPS = {"recognise": 1_200, "sign": 1_200}
VARIANTS = (*scenes.EXPERTS, "all", "smoke", "tiny")


def get_config(arg: str = "recognise") -> supervised.Supervised:
    """The experiment of a variant, one of ``VARIANTS``."""
    if arg == "smoke":
        config = get_config("recognise")
        config.system.sizes.image = sizes_lib.image(
            dim=16, depth=1, mlp_dim=16, stem=(8, 16, 16)
        )
        config.data = dataset.Config(config="smoke", fresh=True)
        config.train.steps, config.learner.batch_size = 10, 8
        config.train.log_every, config.train.checkpoint_every = 5, 10
        return config
    if arg == "tiny":
        return supervised.Supervised(
            system=specialist.Config(
                sizes=tiny.scene_sizes(), num_tokens=4, patch_words=examples.PATCH_WORDS
            ),
            data=dataset.Config(config="smoke"),
            **tiny_runs.training(),
        )
    if arg not in (*scenes.EXPERTS, "all"):
        raise ValueError(
            f"configs/specialist.py knows {', '.join(VARIANTS)}, not {arg!r}"
        )
    skills = scenes.EXPERTS if arg == "all" else (arg,)
    return supervised.Supervised(
        system=specialist.Config(
            patch_words=examples.PATCH_WORDS, teacher=sizes_lib.Sizes()
        ),
        data=dataset.Config(config="laptop", fresh=True, curriculum=((0, skills),)),
        train=train_config.TrainConfig(
            steps=STEPS.get(arg, 500), log_every=50, checkpoint_every=250
        ),
        learner=train_config.LearnerConfig(
            batch_size=64,
            trainable="encoder|projector",
            optimizer=optimizers.OptimizerConfig(
                name="muon",
                learning_rate=2e-3,
                muon_learning_rate=5e-3,
                warmup_steps=40,
                weight_decay=1e-3,
                b2=0.95,
            ),
        ),
        start="generalist",
    )
