"""The audit finds what is wrong with data, and passes what is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax import base
from m3jax.data.edgescenes import scenes
from m3jax.foundation import audit

CHANCE = dict.fromkeys(scenes.EXPERTS, 0.2)


def ideal():
    """What the audit should measure: every modality matters and experts are experts."""
    needs = {skill: scenes.needed(skill) for skill in scenes.SKILLS[:-1]}
    modalities = {"all": dict.fromkeys(needs, 0.95)}
    for name in ("image", "audio"):
        modalities[f"no {name}"] = {
            skill: 0.3 if name in needed else 0.95 for skill, needed in needs.items()
        }
    experts = np.where(np.eye(7, dtype=bool), 0.9, 0.2)
    return modalities, experts, np.full(7, 0.7), CHANCE


def missed(modalities, experts, generalist, chance):
    found = audit.findings(modalities, experts, generalist, chance)
    assert {f.name for f in found} == set(audit.MARGINS)
    return {(f.name.split(",")[0], f.about) for f in found if not f.holds}


def test_ideal_measurements_keep_every_margin():
    assert not missed(*ideal())


def leaks_through_the_question(modalities, experts, generalist):
    modalities["no image"]["count"] = 0.9
    return ("needed modality", "count, image")


def needs_the_sound_it_should_not(modalities, experts, generalist):
    modalities["no audio"]["chart"] = 0.5
    return ("unneeded modality", "chart, audio")


def generalist_is_as_good(modalities, experts, generalist):
    generalist[:] = 0.85
    return ("specialist over generalist", "all")


def an_expert_does_anothers_work(modalities, experts, generalist):
    experts[0, 2] = 0.5
    return ("wrong specialist over chance at most", "compare")


@pytest.mark.parametrize(
    "spoil",
    [
        leaks_through_the_question,
        needs_the_sound_it_should_not,
        generalist_is_as_good,
        an_expert_does_anothers_work,
    ],
)
def test_one_fault_misses_its_own_margin(spoil):
    modalities, experts, generalist, chance = ideal()
    fault = spoil(modalities, experts, generalist)
    assert missed(modalities, experts, generalist, chance) == {fault}


def test_experts_without_domains_miss_what_routing_could_gain():
    modalities, _, generalist, _ = ideal()
    experts = np.full((7, 7), 0.9)
    names = {name for name, _ in missed(modalities, experts, generalist, CHANCE)}
    assert {"oracle over best constant expert", "oracle over random expert"} <= names


def test_a_nan_keeps_no_margin():
    modalities, experts, generalist, chance = ideal()
    experts[3, 3] = np.nan
    assert ("specialist over generalist", "all") in missed(
        modalities, experts, generalist, chance
    )


def only_reads(name, drawn):
    """A prediction that knows the answers of a set by one modality alone."""
    sums = jnp.sum(drawn[name], axis=tuple(range(1, drawn[name].ndim)), dtype=float)

    def answer(params, batch, key):
        del params, key
        seen = batch[name]
        seen = jnp.sum(seen, axis=tuple(range(1, seen.ndim)), dtype=float)
        known = drawn["answer"][jnp.argmin(jnp.abs(seen[:, None] - sums), axis=1)]
        right = jnp.all(known == batch["answer"], axis=1)
        return {"answer_accuracy": right.astype(float)}

    return answer


@pytest.mark.parametrize(("name", "other"), [("image", "audio"), ("audio", "image")])
def test_dropping_a_modality_hurts_who_reads_it_and_no_one_else(name, other):
    drawn = jax.tree.map(jnp.asarray, audit._draw(scenes.SceneSettings(), 26))
    measured = audit.modality_accuracy(only_reads(name, drawn), {}, 26)
    assert measured["all"] == dict.fromkeys(scenes.SKILLS[:-1], 1.0)
    assert measured[f"no {other}"] == measured["all"]
    # Of two examples of a skill, each is the other's stranger, and its answer is said.
    answers = np.asarray(drawn["answer"])
    alike = (answers[:13] == answers[13:]).all(axis=1)
    assert list(measured[f"no {name}"].values()) == alike.astype(float).tolist()
    assert alike.sum() < 6


def test_each_probe_is_measured_on_every_skill(monkeypatch):
    """A row for each specialist and a column for each skill that is asked about."""
    trained = []

    def train_probe(config, skills):
        trained.append(skills)
        number = float(len(trained))

        def answer(params, batch, key):
            return {"answer_accuracy": 10 * number + batch["skill"]}

        return base.System(init=None, loss=None, predict={"answer": answer}), {}

    monkeypatch.setattr(audit, "_train_probe", train_probe)
    told = []
    experts, generalist = audit.expert_accuracy(
        audit.ProbeConfig(num_test=2), told.append
    )
    assert trained == [*((skill,) for skill in scenes.EXPERTS), scenes.EXPERTS]
    wanted = 10 * np.arange(1, 9)[:, None] + np.arange(7)
    np.testing.assert_array_equal([*experts, generalist], wanted)
    assert len(told) == 8


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_a_probe_trains_from_scratch_on_fresh_scenes():
    config = audit.ProbeConfig(steps=2, batch_size=4)
    system, params = audit._train_probe(config, ("lesion",))
    drawn = audit._draw(scenes.SceneSettings(skills=("lesion",)), 4)
    scores = jax.jit(system.predict["answer"])(params, drawn, None)
    assert np.isfinite(scores["nll"]).all()
