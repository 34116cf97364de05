r"""MoE2 on EdgeText: a gate weighs eight edge language models by the prompt.

    python launch/train.py --config=configs/moe2.py --workdir=runs/moe2
    python launch/evaluate.py --workdir=runs/moe2 --num_seeds=5
    python launch/evaluate.py --workdir=runs/moe2 --snr_db=0:30:5

`laptop` (default) trains the gate on what the shipped experts say, which is asked once
and kept; `end_to_end` trains gate, adapters and the link that carries distributions
together, within a budget; `paper_gate` trains as the paper's tables V and VI say;
`smoke` shows in seconds that all of it runs, `tiny` in no time.
"""

from m3jax.costs import budgets
from m3jax.data.edgetext import dataset, domains
from m3jax.experiments import supervised
from m3jax.foundation import sizes
from m3jax.nn import lora
from m3jax.systems import moe2
from m3jax.systems.moe2 import evaluation, pool, spending, upload
from m3jax.systems.moe2.study import variants
from m3jax.testing import tiny_runs
from m3jax.train import config as train_config
from m3jax.train import optimizers

VARIANTS = ("laptop", "end_to_end", "paper_gate", "smoke", "tiny")
TUNED = tuple(name for name in domains.DOMAINS if name != domains.HELD_OUT)


def get_config(arg: str = "laptop") -> supervised.Supervised:
    """The experiment of a variant, one of ``VARIANTS``."""
    if arg == "laptop":
        return _laptop()
    if arg == "end_to_end":
        return _end_to_end()
    if arg == "paper_gate":
        return _paper_gate()
    if arg == "smoke":
        config = _laptop()
        config.data.config = "smoke"
        config.train.steps = config.train.checkpoint_every = 60
        return config
    if arg == "tiny":
        return _tiny()
    raise ValueError(f"configs/moe2.py knows {', '.join(VARIANTS)}, not {arg!r}")


def _laptop() -> supervised.Supervised:
    study = variants.Settings()
    system = study.system()
    system.spending.budget = budgets.Budget(*study.joint_budget)  # over SNRs
    return supervised.Supervised(
        system=system,
        data=dataset.Config(domains=TUNED),
        train=train_config.TrainConfig(
            steps=study.gate_steps, log_every=100, checkpoint_every=1_000
        ),
        learner=train_config.LearnerConfig(
            batch_size=study.gate_batch,
            trainable="gate",
            optimizer=study.gate_optimizer(),
        ),
        evaluator=evaluation.UnderBudgets(),
        start=study.experts,
        cache=True,
    )


def _end_to_end() -> supervised.Supervised:
    study = variants.Settings()
    config = _laptop()
    config.system = study.joint_system(stopped=())
    config.train.steps = config.train.checkpoint_every = study.joint_steps
    config.train.log_every = 20
    config.learner = train_config.LearnerConfig(
        batch_size=study.joint_batch,
        trainable="gate|adapters|upload",
        optimizer=study.joint_optimizer(),
    )
    config.cache = False
    return config


def _paper_gate() -> supervised.Supervised:
    """Tables V and VI: AdamW at 1e-5 that decays on a plateau, 8 x 8 prompts."""
    config = _laptop()
    config.train.steps = 20_000
    config.learner.batch_size = 8
    config.learner.optimizer = optimizers.OptimizerConfig(
        learning_rate=1e-5,
        schedule="plateau",
        plateau_factor=0.8,
        plateau_patience=50,
        accumulate=8,
        weight_decay=1e-2,
        clip_norm=1.0,
    )
    return config


def _tiny() -> supervised.Supervised:
    small = sizes.DecoderSizes(dim=8, num_heads=2, depth=1, ff_dim=8)
    settings = tiny_runs.training()
    settings["evaluator"] = evaluation.UnderBudgets(
        taus_s=(1.0, 3.0), energies_j=(20.0, 50.0), num_draws=8, num_watched=8
    )
    return supervised.Supervised(
        system=moe2.Config(
            pool=pool.Config(
                small=small,
                large=small,
                placement=("large", "small"),
                lora=lora.LoraConfig(rank=1, pattern=pool.KERNELS),
            ),
            upload=upload.Config(top_k=8, bits=8),
            spending=spending.Config(budget=budgets.Budget(tau_s=2.0)),
        ),
        data=dataset.Config(config="smoke"),
        **settings,
    )
