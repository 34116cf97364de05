import itertools
import time

import numpy as np
import pytest

from m3jax.data import pipeline, prepare
from m3jax.data.edgetext import builder, dataset, domains, examples, words

TINY = builder.EdgeTextConfig(
    name="tiny", num_experts=27, num_train=18, num_validation=9, num_test=9, seed=5
)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A data_dir with the smoke set, and the seconds of work that it took."""
    root = tmp_path_factory.mktemp("sets")
    start = time.process_time()
    prepare.prepare("smoke", root, builder.EdgeText)
    return root, time.process_time() - start


def test_the_smoke_set_is_made_in_three_seconds(smoke):
    assert smoke[1] < 3


def test_what_is_read_is_what_was_drawn_in_the_order_of_the_index(tmp_path):
    made = prepare.prepare(TINY, tmp_path, builder.EdgeText)
    for split, size in TINY.sizes.items():
        source = made.as_data_source(split)
        expected = examples.distinct(TINY.settings, TINY.seed, split, size)
        for stored, example in zip(source, expected, strict=True):
            assert stored["question_text"].decode() == example.question
            assert stored["answer_text"].decode() == example.answer
            for name, array in examples.encode(example).items():
                np.testing.assert_array_equal(stored[name], array, err_msg=name)


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    def shards(folder):
        made = prepare.prepare(TINY, tmp_path / folder, builder.EdgeText)
        return {p.name: p.read_bytes() for p in made.data_path.glob("*array_record*")}

    one, two = shards("one"), shards("two")
    assert one == two
    assert len(one) == len(domains.SPLITS)


def test_the_laptop_set_has_the_sizes_of_the_paper_and_asks_all_domains_alike(smoke):
    sizes = {c.name: c.sizes for c in builder.EdgeText.BUILDER_CONFIGS}["laptop"]
    assert sizes == {
        "experts": 32_000,
        "train": 8_000,
        "validation": 1_000,
        "test": 2_000,
    }
    source = dataset.Config("smoke", smoke[0]).source("test")
    counts = np.bincount([int(e["domain"]) for e in source], minlength=9)
    assert len(source) == 256
    assert counts.max() - counts.min() <= 1


def test_a_damaged_set_is_refused_and_another_recipe_too(tmp_path):
    made = prepare.prepare(TINY, tmp_path, builder.EdgeText)
    other = builder.EdgeTextConfig(
        name="tiny", num_experts=27, num_train=18, num_validation=9, num_test=9, seed=6
    )
    with pytest.raises(ValueError, match="another recipe.*delete this folder"):
        prepare.prepare(other, tmp_path, builder.EdgeText)
    next(made.data_path.glob("*-experts.*")).unlink()
    with pytest.raises(ValueError, match="edge_text/tiny.* is damaged .*experts"):
        prepare.prepare(TINY, tmp_path, builder.EdgeText)


def test_an_unknown_variant_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="EdgeText has no config 'video'.*'laptop'"):
        prepare.prepare("video", tmp_path, builder.EdgeText)


FRESH = dataset.Config(fresh=True)
NAMES = tuple(examples.FEATURES)


def take(config, num, names=NAMES, seed=0, batch_size=18):
    stream = config.batches(names, batch_size, seed)
    rows = list(itertools.islice(stream, num))
    return {name: np.concatenate([row[name] for row in rows]) for name in names}


def splits_of(batch):
    return {domains.split_of(words.decode(ids)) for ids in batch["question"]}


@pytest.mark.parametrize("training_split", ["train", "experts"])
def test_stored_training_examples_are_of_the_split_that_is_named(smoke, training_split):
    config = dataset.Config("smoke", smoke[0], training_split=training_split)
    batch = take(config, 10)
    assert splits_of(batch) == {training_split}
    assert set(batch["domain"]) == set(range(9))
    assert 0.2 < batch["special"].mean() < 0.5


def test_fresh_examples_are_new_and_only_of_what_experts_may_see():
    batch = take(FRESH, 20)
    prompts = [words.decode(ids) for ids in batch["question"]]
    assert len(set(prompts)) == len(prompts)
    assert splits_of(batch) == {"experts"}
    assert np.bincount(batch["domain"]).tolist() == [40] * 9
    other = take(FRESH, 1, seed=1)
    assert (other["question"] != batch["question"][:18]).any()


@pytest.mark.parametrize("fresh", [False, True])
def test_training_is_narrowed_to_a_part_and_to_some_domains(smoke, fresh):
    config = dataset.Config("smoke", smoke[0], fresh=fresh)
    config.part, config.domains = "common", ("units", "sorting")
    batch = take(config, 4)
    assert {domains.DOMAINS[d] for d in batch["domain"]} == {"units", "sorting"}
    assert not batch["special"].any()
    # What is measured stays whole.
    assert {int(e["domain"]) for e in config.source("test")} == set(range(9))


@pytest.mark.parametrize("fresh", [False, True])
def test_batches_go_on_from_where_they_were(smoke, fresh):
    config = dataset.Config("smoke", smoke[0], fresh=fresh)
    first = config.batches(NAMES, 8, 3)
    next(first)
    state = first.get_state()
    expected = next(first)
    again = config.batches(NAMES, 8, 3)
    again.set_state(state)
    for name, array in next(again).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_features_are_those_of_the_examples(smoke):
    config = dataset.Config("smoke", smoke[0])
    arrays = pipeline.as_arrays(config.source("validation"), limit=9)
    assert arrays.keys() == config.features.keys()
    for name, leaf in config.features.items():
        assert (arrays[name].shape[1:], arrays[name].dtype) == (leaf.shape, leaf.dtype)
    assert config.groups[arrays["domain"][2]] == domains.DOMAINS[2]
    assert config.version == "edge_text 1.0.0 smoke"


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("config", "video", "data.config is 'video'; choose one of .*'laptop'"),
        ("seed", -1, "data.seed is -1"),
        ("part", "special", "data.part is 'special'; choose one of .*'common'"),
        ("training_split", "test", "data.training_split is 'test'; choose one of"),
        ("domains", ("units", "poetry"), "data.domains has 'poetry'; choose some of"),
        ("domains", ("units", "units"), "name each domain once"),
    ],
)
def test_a_field_that_cannot_be_used_is_named_with_the_mend(field, value, told):
    config = dataset.Config()
    setattr(config, field, value)
    with pytest.raises(ValueError, match=told) as error:
        config.validate()
    assert "\n" not in str(error.value)


def test_an_unknown_split_is_refused(smoke):
    with pytest.raises(ValueError, match="no split 'dev'; choose one of .*'experts'"):
        dataset.Config("smoke", smoke[0]).source("dev")
    with pytest.raises(ValueError, match="no split 'dev'"):
        domains.draw(domains.Settings(), 0, "dev", 0)
