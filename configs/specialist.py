r"""Pretrains one of M3LLM's experts on its skill, for the generalist's decoder.

    python launch/pretrain.py --config=configs/specialist.py:chart \
        --workdir=runs/expert_chart --export=expert_chart

The argument is a skill; `all` learns all seven in one encoder, for comparison. `smoke`
shows in seconds that it runs. Two to five minutes each on 2 cores.
"""

from m3jax import experiment
from m3jax.data import examples, pipeline, scenes
from m3jax.nn import foundation
from m3jax.systems.m3llm import specialist
from m3jax.train import config as train_config
from m3jax.train import optimizers

# Binding a colour to a shape, and finding a digit in clutter, take longest to learn.
STEPS = {"recognise": 1_200, "sign": 1_200}


def get_config(arg: str = "recognise") -> experiment.Experiment:
    """The experiment of a skill, of "all" seven, or "smoke"."""
    if arg == "smoke":
        config = get_config("recognise")
        config.system.sizes = foundation.FoundationConfig(
            image_dim=16, image_depth=1, image_mlp_dim=16, image_stem=(8, 16, 16)
        )
        config.data.config = "smoke"
        config.train.steps, config.train.batch_size = 10, 8
        config.train.log_every, config.train.checkpoint_every = 5, 10
        return config
    if arg not in (*scenes.EXPERTS, "all"):
        raise ValueError(
            f"configs/specialist.py knows {scenes.EXPERTS}, 'all' and 'smoke', not"
            f" {arg!r}"
        )
    skills = scenes.EXPERTS if arg == "all" else (arg,)
    return experiment.Experiment(
        system=specialist.Config(
            patch_words=examples.PATCH_WORDS, teacher=foundation.FoundationConfig()
        ),
        data=pipeline.DataConfig(config="laptop"),
        train=train_config.TrainConfig(
            steps=STEPS.get(arg, 500),
            batch_size=64,
            log_every=50,
            checkpoint_every=250,
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
        fresh_scenes=True,
        curriculum=((0, skills),),
    )
