r"""TokCom on EdgeScenes: a device sends tokens, a server answers.

    python launch/train.py --config=configs/tokcom.py --workdir=runs/tokcom

`laptop` (default) tunes every part from the shipped generalist; `smoke` shows in
seconds that all of it runs, `tiny` in no time; `from_scratch` is `laptop` without the
generalist.

The two stages of the paper, over frozen encoders:

    python launch/train.py --config=configs/tokcom.py:alignment --workdir=runs/aligned
    python launch/train.py --config=configs/tokcom.py:cotraining \
        --config.start=runs/aligned --workdir=runs/cotrained

`paper_alignment` and `paper` are these at the published sizes, with the settings of the
public code; pretrained parts and data of these shapes are the user's to bring.
"""

from m3jax.channels import links
from m3jax.data.edgescenes import dataset
from m3jax.experiments import supervised
from m3jax.foundation import published
from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import lora
from m3jax.systems import tokcom
from m3jax.systems.tokcom.study import variants
from m3jax.testing import tiny, tiny_runs
from m3jax.train import config as train_config
from m3jax.train import optimizers

VARIANTS = (
    *("laptop", "smoke", "tiny", "from_scratch", "alignment", "cotraining"),
    *("paper_alignment", "paper"),
)


def get_config(arg: str = "laptop") -> supervised.Supervised:
    """The experiment of a variant, one of ``VARIANTS``."""
    if arg in ("laptop", "from_scratch"):
        return _laptop(start="generalist" if arg == "laptop" else "")
    if arg == "smoke":
        return _smoke()
    if arg == "tiny":
        return _tiny()
    if arg in ("alignment", "cotraining"):
        return _stage(arg)
    if arg in ("paper_alignment", "paper"):
        return _paper("alignment" if arg == "paper_alignment" else "task")
    raise ValueError(f"configs/tokcom.py knows {', '.join(VARIANTS)}, not {arg!r}")


def _laptop(start: str) -> supervised.Supervised:
    return supervised.Supervised(
        system=tokcom.Config(),
        data=dataset.Config(config="laptop"),
        train=train_config.TrainConfig(steps=900, log_every=50, checkpoint_every=450),
        learner=train_config.LearnerConfig(
            batch_size=64,
            optimizer=optimizers.OptimizerConfig(
                name="muon",
                learning_rate=1e-3,
                muon_learning_rate=3e-3,
                warmup_steps=60,
                weight_decay=1e-3,
                b2=0.95,
            ),
        ),
        start=start,
    )


def _smoke() -> supervised.Supervised:
    return supervised.Supervised(
        system=tokcom.Config(
            sizes=sizes_lib.Sizes(
                decoder=sizes_lib.DecoderSizes(dim=32, ff_dim=64, depth=1),
                image=sizes_lib.image(depth=1, stem=(8, 16, 32), mlp_dim=64),
                audio=sizes_lib.audio(depth=1, mlp_dim=64),
            ),
            num_reals=16,
            receiver_dim=32,
        ),
        data=dataset.Config(config="smoke"),
        train=train_config.TrainConfig(steps=50, log_every=10, checkpoint_every=25),
        learner=train_config.LearnerConfig(batch_size=16),
    )


def _tiny() -> supervised.Supervised:
    return supervised.Supervised(
        system=tokcom.Config(
            sizes=tiny.scene_sizes(),
            modalities=("image",),
            num_image_tokens=4,
            num_reals=4,
            receiver_dim=8,
        ),
        data=dataset.Config(config="smoke"),
        **tiny_runs.training(),
    )


def _stage(stage: str) -> supervised.Supervised:
    """A stage with the settings of the study (`launch/reproduce.py tokcom`)."""
    is_aligning, study = stage == "alignment", variants.Settings()
    budget = study.stage_1 if is_aligning else study.long
    return supervised.Supervised(
        system=tokcom.Config(
            stage="alignment" if is_aligning else "task",
            lora=lora.LoraConfig() if is_aligning else study.lora,
        ),
        data=dataset.Config(config="laptop"),
        train=train_config.TrainConfig(steps=budget.steps, checkpoint_every=250),
        learner=train_config.LearnerConfig(
            batch_size=budget.batch_size,
            trainable="transceiver|alignment" if is_aligning else "transceiver|lora",
            optimizer=study.optimizer(budget),
        ),
        start="generalist",
        cache=True,
    )


def _paper(stage: str) -> supervised.Supervised:
    """The settings of the public code, at its sizes.

    ViViT-B and AST, frozen; 128 tokens of each by even spacing; one linear transmitter;
    a receiver of 1024 hidden units that does not know the SNR; AWGN; one-way InfoNCE
    and no other loss over captions; answers learnt by their first word. Otherwise than
    there, the temperature is learnt, tokens are averaged before they are compared, and
    the learning rate ends at zero.
    """
    is_aligning = stage == "alignment"
    snr_db = 10.0 if is_aligning else 12.0
    sizes = published.tokcom()
    return supervised.Supervised(
        system=tokcom.Config(
            sizes=sizes,
            modalities=("video", "audio", "text"),
            compressor="stride",
            num_video_tokens=128,
            num_audio_tokens=128,
            num_reals=sizes.dim,
            receiver="mlp",
            receiver_dim=1024,
            snr_conditioning=False,
            link=links.LinkConfig(fading="awgn"),
            train_snr_db=(snr_db, snr_db),
            stage=stage,
            alignment=tokcom.AlignmentConfig(kind="one_way", reconstruction="none"),
            lora=lora.LoraConfig(rank=0 if is_aligning else 4, alpha=16.0),
            scoring="first_word",
        ),
        data=dataset.Config(),
        train=train_config.TrainConfig(
            steps=500 if is_aligning else 300, seed=3407 if is_aligning else 1111
        ),
        learner=train_config.LearnerConfig(
            batch_size=32 if is_aligning else 8,
            trainable="transceiver|alignment" if is_aligning else "transceiver|lora",
            optimizer=optimizers.OptimizerConfig(learning_rate=1e-4),
        ),
    )
