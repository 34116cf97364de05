"""What is measured of one seed."""

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.costs import budgets, models, payload, responses
from m3jax.systems.moe2 import baselines, evaluation, selection, tables
from m3jax.systems.moe2 import weights as weights_lib
from m3jax.systems.moe2.study import training, variants

_BATCH = 500


def gate(
    shared: training.Shared, seed: int
) -> tuple[list[base.Record], dict[str, np.ndarray]]:
    """Trains a gate, and measures it beside all that needs none."""
    split = shared.split(seed)
    params = shared.train_gate(split, seed)
    settings, made = shared.settings, shared.experts[1]
    rows = []
    for where, asked, places in (
        ("tuned", split.test, split.test_rows),
        ("held out", split.held_out, split.held_out_rows),
    ):
        judge = evaluation.Judge(made, params, split.train, asked)
        found = _methods(shared, split, judge, places)
        for name, right in found.items():
            accuracy = {"accuracy": np.mean(right)}
            rows += variants.rows(name, seed, accuracy, domains=where)
    judge = evaluation.Judge(made, params, split.train, split.test)
    refits = _refits(shared, split)
    rows += _under_budgets(shared, judge, refits, seed)
    rows += _uploads(judge, settings, seed)
    rows += _gap(shared, split, seed)
    drawn = made.spending.draw(
        jax.random.key(seed), judge.num_experts, settings.num_draws
    )
    numbers, points = selection.pareto(jnp.asarray(refits), *_costs(drawn)[::1])
    arrays = {"pareto": points, "pareto_numbers": numbers}
    return rows, arrays


def joint(shared: training.Shared, name: str, seed: int) -> list[base.Record]:
    """Trains a whole system, some gradients stopped, and measures what it spends."""
    settings, split = shared.settings, shared.split(seed)
    params, made = shared.train_whole(split, seed, variants.STOPPED[name])
    answer = jax.jit(made.make_system().predict["answer"])
    asked = split.test.take(np.arange(min(settings.joint_examples, len(split.test[0]))))
    found: dict[str, list[np.ndarray]] = {}
    size = min(_BATCH // 5, len(asked.answer))
    params = jax.device_put(params)
    for at in range(0, len(asked.answer) - size + 1, size):
        batch = {
            "question": asked.question[at : at + size],
            "answer": asked.answer[at : at + size],
            "snr_db": np.full(size, settings.snr_db, np.float32),
        }
        scores = answer(params, batch, jax.random.fold_in(jax.random.key(seed), at))
        for metric, values in jax.device_get(scores).items():
            found.setdefault(metric, []).append(values)
    means = {metric: np.concatenate(parts).mean() for metric, parts in found.items()}
    named = {"accuracy": means["answer_accuracy"]}
    named |= {m: means[m] for m in ("nll", "asked", "delay_s", "energy_j")}
    return variants.rows(name, seed, named)


def _methods(
    shared: training.Shared,
    split: training.Split,
    judge: evaluation.Judge,
    places: np.ndarray,
) -> dict[str, np.ndarray]:
    """Method -> what it answers correctly of the examples asked."""
    num = judge.num_experts
    everyone, right = np.ones(num, bool), judge.asked.right
    known, known_cluster = split.train, shared.cluster[split.train_rows]
    cluster = shared.cluster[places]
    best = baselines.best_of_groups(known.right, known_cluster, num)
    index = np.arange(len(right))
    rows = _cluster_rows(shared, split)
    weights = np.asarray(weights_lib.refit_subsets(rows, everyone[None]).weights)[0]
    return {
        variants.MOE2: judge.fused(everyone),
        **{name: agent[places] for name, agent in shared.agents.items()},
        variants.VOTE: judge.voted(everyone),
        variants.WEIGHTED: judge.voted(
            everyone, baselines.log_odds(known.right.mean(axis=0))
        ),
        variants.AVERAGE: right.mean(axis=1),
        variants.UNIFORM: mixed(judge.asked, np.full((1, num), 1 / num)),
        variants.BEST: right[:, baselines.best_single(known.right)],
        variants.CLUSTER: right[index, cluster],
        variants.BEST_OF_CLUSTER: right[index, best[cluster]],
        variants.REFIT: mixed(judge.asked, weights[cluster]),
        variants.ORACLE: right.any(axis=1),
    }


def mixed(
    asked: tables.Table, weights: np.ndarray, top_k: int | None = None
) -> np.ndarray:
    """Whether a token-level mixture answers each example correctly, bool [M].

    Args:
      asked: M examples.
      weights: ``[1, N]`` or ``[M, N]``, of sum one.
      top_k: words that each expert sends of its distribution; None: all.
    """
    weights = np.broadcast_to(weights, (len(asked.answer), asked.num_experts))
    right = []
    for at in range(0, len(weights), _BATCH):
        part = slice(at, at + _BATCH)
        right.append(
            _mixed(
                jnp.asarray(weights[part], jnp.float32),
                jnp.asarray(asked.log_probs[part], jnp.float32),
                asked.answer[part],
                top_k or asked.log_probs.shape[-1],
            )
        )
    return np.concatenate(right)


def _mixed(weights, log_probs, answer, top_k: int) -> np.ndarray:
    sent = payload.top_k_renormalised(log_probs, top_k)
    fused = jnp.einsum("bn,bnav->bav", weights, jnp.exp(sent))
    words = jnp.argmax(fused, axis=-1)
    return np.asarray(jnp.all((words == answer) | (answer == 0), axis=-1))


def _cluster_rows(shared: training.Shared, split: training.Split) -> weights_lib.Rows:
    """What experts gave to the right words of known prompts, by cluster."""
    given, example = split.train.token_rows()
    groups = shared.cluster[split.train_rows][example]
    return weights_lib.make_rows(given, groups, split.train.num_experts)


def _refits(shared: training.Shared, split: training.Split) -> np.ndarray:
    """Losses ``[2^N]`` of constant weights by cluster, refitted on each subset."""
    return np.asarray(weights_lib.refit_losses(_cluster_rows(shared, split)).losses)


def _costs(drawn: responses.Responses) -> tuple[np.ndarray, np.ndarray]:
    delays = np.asarray(responses.phases_as_samples(drawn))
    return delays, np.asarray(drawn.energies_j).mean(axis=0)


def _under_budgets(
    shared: training.Shared, judge: evaluation.Judge, refits: np.ndarray, seed: int
) -> list[base.Record]:
    """Tables II to IV: MoE2, and votes of the same and of random experts."""
    settings, made = shared.settings, shared.experts[1]
    drawn = made.spending.draw(
        jax.random.key(seed), judge.num_experts, settings.num_draws
    )
    delays, energies = _costs(drawn)
    rows = []
    for tau_s in settings.taus_s:
        for energy_j in settings.energies_j:
            budget = budgets.Budget(tau_s, energy_j)
            at = {"tau_s": tau_s, "energy_j": energy_j}
            problem = selection.make_problem(refits, delays, energies, budget)
            found = selection.smo(problem)
            restricted = selection.make_problem(
                judge.restricted, delays, energies, budget, kind="restrict"
            )
            by_weights = selection.enumerate_best(restricted)
            chance = selection.random_feasible(jax.random.key(seed), problem)
            for name, members, method in (
                (variants.MOE2, found.members, judge.fused),
                (variants.RESTRICT, by_weights.members, judge.fused),
                (variants.SMO_VOTE, found.members, judge.voted),
                (variants.RANDOM_VOTE, chance.members, judge.voted),
            ):
                accuracy = method(members).mean() if members.any() else 0.0
                told = {"accuracy": accuracy, "asked": members.sum()}
                rows += variants.rows(name, seed, told, **at)
            told = {"refit_loss": found.loss, "evaluated": found.num_evaluated}
            rows += variants.rows(variants.MOE2, seed, told, **at)
    return rows


def _uploads(
    judge: evaluation.Judge, settings: variants.Settings, seed: int
) -> list[base.Record]:
    """What sending only a distribution's most probable words costs."""
    weights = judge.weights()
    vocab_size = models.QWEN2_5_7B_Q4.vocab_size
    rows = []
    for top_k in (*settings.upload_words, None):
        right = mixed(judge.asked, weights, top_k)
        told = {
            "accuracy": right.mean(),
            "upload_bits": payload.distribution_bits(vocab_size, top_k),
        }
        words = float("inf") if top_k is None else float(top_k)
        rows += variants.rows(variants.MOE2, seed, told, words_sent=words)
    return rows


def _gap(
    shared: training.Shared, split: training.Split, seed: int
) -> list[base.Record]:
    """How far theorem 1 fails on our experts, over all subsets."""
    gap = weights_lib.theorem_gap(_cluster_rows(shared, split))
    rows = []
    for quantile, value in gap.quantiles.items():
        rows += variants.rows(
            variants.REFIT, seed, {"gap": value}, quantile=float(quantile)
        )
    return rows
