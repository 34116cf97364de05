r"""TokCom on EdgeScenes: a device sends tokens, a server answers.

    python launch/train.py --config=configs/tokcom.py --workdir=runs/tokcom

`laptop` (default) tunes every part from the shipped generalist; `smoke` shows in
seconds that all of it runs; `from_scratch` is `laptop` without the generalist.

The two stages of the paper, over frozen encoders:

    python launch/train.py --config=configs/tokcom.py:alignment --workdir=runs/aligned
    python launch/train.py --config=configs/tokcom.py:cotraining \
        --config.start=runs/aligned --workdir=runs/cotrained

`paper_alignment` and `paper` are these at the published sizes, with the settings of the
public code; pretrained parts and data of these shapes are the user's to bring.
"""

from m3jax import experiment
from m3jax.data import pipeline
from m3jax.nn import foundation, published
from m3jax.systems import tokcom
from m3jax.train import config as train_config
from m3jax.train import optimizers

VARIANTS = (
    *("laptop", "smoke", "from_scratch", "alignment", "cotraining"),
    *("paper_alignment", "paper"),
)


def get_config(arg: str = "laptop") -> experiment.Experiment:
    """The experiment of a variant, one of ``VARIANTS``."""
    if arg in ("laptop", "from_scratch"):
        return _laptop(start="generalist" if arg == "laptop" else "")
    if arg == "smoke":
        return _smoke()
    if arg in ("alignment", "cotraining"):
        return _stage(arg)
    if arg in ("paper_alignment", "paper"):
        return _paper("alignment" if arg == "paper_alignment" else "task")
    raise ValueError(f"configs/tokcom.py knows {', '.join(VARIANTS)}, not {arg!r}")


def _laptop(start: str) -> experiment.Experiment:
    return experiment.Experiment(
        system=tokcom.Config(),
        data=pipeline.DataConfig(config="laptop"),
        train=train_config.TrainConfig(
            steps=900,
            batch_size=64,
            log_every=50,
            checkpoint_every=450,
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


def _smoke() -> experiment.Experiment:
    return experiment.Experiment(
        system=tokcom.Config(
            sizes=foundation.FoundationConfig(
                dim=32,
                mlp_dim=64,
                ff_dim=64,
                image_depth=1,
                audio_depth=1,
                decoder_depth=1,
                image_stem=(8, 16, 32),
            ),
            num_reals=16,
            receiver_dim=32,
        ),
        data=pipeline.DataConfig(config="smoke"),
        train=train_config.TrainConfig(
            steps=50, batch_size=16, log_every=10, checkpoint_every=25
        ),
    )


def _stage(stage: str) -> experiment.Experiment:
    is_aligning = stage == "alignment"
    return experiment.Experiment(
        system=tokcom.Config(
            stage="alignment" if is_aligning else "task",
            lora=tokcom.LoraConfig(
                rank=0 if is_aligning else 8, pattern="decoder/layers/.*/kernel"
            ),
        ),
        data=pipeline.DataConfig(config="laptop"),
        train=train_config.TrainConfig(
            steps=500 if is_aligning else 300,
            batch_size=32 if is_aligning else 64,
            checkpoint_every=250,
            trainable="transceiver|alignment" if is_aligning else "transceiver|lora",
            optimizer=optimizers.OptimizerConfig(
                learning_rate=3e-3, warmup_steps=20, weight_decay=1e-3, b2=0.95
            ),
        ),
        start="generalist",
        cache_features=True,
    )


def _paper(stage: str) -> experiment.Experiment:
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
    return experiment.Experiment(
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
            link=tokcom.LinkConfig(fading="awgn"),
            train_snr_db=(snr_db, snr_db),
            stage=stage,
            alignment=tokcom.AlignmentConfig(kind="one_way", reconstruction="none"),
            lora=tokcom.LoraConfig(rank=0 if is_aligning else 4, alpha=16.0),
            scoring="first_word",
        ),
        train=train_config.TrainConfig(
            steps=500 if is_aligning else 300,
            batch_size=32 if is_aligning else 8,
            seed=3407 if is_aligning else 1111,
            trainable="transceiver|alignment" if is_aligning else "transceiver|lora",
            optimizer=optimizers.OptimizerConfig(learning_rate=1e-4),
        ),
    )
