"""MSAO's probes on EdgeScenes: what an answer needs, and the rest left out.

    python launch/train.py --config=configs/msao.py --workdir=runs/msao
    python launch/evaluate.py --workdir=runs/msao

`laptop` (default) tunes probes, later layers, projectors and decoder of a shipped model
that reads everything through the answers; `whole` is how that one came from the shipped
generalist; `draft` does the same as `laptop` to the small one that drafts, so that it
can read what is kept; `smoke` shows in seconds that it runs, `tiny` in no time.
Speculation between edge and cloud is in docs/speculation.md and docs/edge_cloud.md.
"""

from m3jax.data.edgescenes import dataset, examples, scenes
from m3jax.experiments import over_snr, running, supervised
from m3jax.foundation import generalist
from m3jax.systems import msao
from m3jax.systems.msao import evaluation
from m3jax.testing import tiny, tiny_runs
from m3jax.train import config as train_config
from m3jax.train import optimizers

# All that there is, and what is hard to answer more often.
MIX = (
    *scenes.SceneSettings().skills,
    *("document", "describe", "audio_visual", "count", "sign") * 2,
    *("recognise", "compare", "chart"),
)
VARIANTS = ("laptop", "draft", "whole", "smoke", "tiny")


def get_config(arg: str = "laptop") -> supervised.Supervised:
    """The experiment of a variant, one of ``VARIANTS``."""
    if arg == "laptop":
        return supervised.Supervised(
            system=msao.Config(budget=0.5),
            data=dataset.Config(config="laptop", fresh=True, curriculum=((0, MIX),)),
            train=train_config.TrainConfig(
                steps=1500, log_every=20, checkpoint_every=500
            ),
            learner=train_config.LearnerConfig(
                batch_size=48,
                trainable="probes|later|projector|decoder",
                optimizer=optimizers.OptimizerConfig(
                    name="muon",
                    learning_rate=1e-3,
                    muon_learning_rate=2e-3,
                    warmup_steps=50,
                    weight_decay=1e-3,
                    b2=0.95,
                ),
            ),
            evaluator=evaluation.Probed(),
            start="edge_cloud",
        )
    if arg == "draft":
        config = get_config("laptop")
        config.system.sizes = running.load("edge_draft").config.system.sizes
        config.system.budget = 0.4
        config.start, config.train.steps = "edge_draft", 1200
        return config
    if arg == "whole":
        config = get_config("laptop")
        config.system = generalist.Config(
            patch_words=examples.PATCH_WORDS, sound_words=examples.SOUND_WORDS
        )
        config.learner.trainable = "encoder|projector|decoder"
        config.start, config.train.steps = "generalist", 2400
        config.evaluator = over_snr.OverSnr()
        return config
    if arg == "smoke":
        config = get_config("laptop")
        config.data.config = "smoke"
        config.train.steps = config.train.checkpoint_every = 4
        config.train.log_every, config.train.evaluate_every = 2, 0
        config.learner.batch_size = 16
        return config
    if arg == "tiny":
        settings = tiny_runs.training()
        settings["evaluator"] = evaluation.Probed(batch_size=26, num_watched=8)
        return supervised.Supervised(
            system=msao.Config(
                sizes=tiny.scene_sizes(),
                num_image_tokens=4,
                num_audio_tokens=2,
                relevance_dim=4,
            ),
            data=dataset.Config(config="smoke"),
            **settings,
        )
    raise ValueError(f"configs/msao.py knows {', '.join(VARIANTS)}, not {arg!r}")
