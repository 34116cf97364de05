import itertools
import json
import multiprocessing

import jax
import numpy as np
import pytest

from m3jax.data import pipeline
from m3jax.data.edgescenes import dataset, examples, scenes

SETTINGS = scenes.SceneSettings()


class Numbers:
    """Example i is just i, and each reading of it is counted."""

    def __init__(self, size):
        self.reads = np.zeros(size, int)

    def __len__(self):
        return len(self.reads)

    def __getitem__(self, index):
        self.reads[index] += 1
        grid = np.full((8, 8), index, np.int32)
        return {"skill": np.int32(index), "patch_kind": grid}


def numbers(size=12, count=None, **kwargs):
    """The order in which a stream passes over Numbers, one list a batch."""
    arguments = {"batch_size": 4, "seed": 0, "shuffle": True} | kwargs
    stream = pipeline.batches(Numbers(size), **arguments)
    return [batch["skill"].tolist() for batch in itertools.islice(stream, count)]


def check_equal(one, two):
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
        assert one[name].dtype == two[name].dtype


def test_a_batch_has_the_features_a_model_reads_and_no_other():
    source = dataset.Fresh(SETTINGS, seed=3)
    batch = next(pipeline.batches(source, batch_size=3, seed=0, shuffle=False))
    assert set(batch) == set(examples.FEATURES) - {"video"}
    for name, array in batch.items():
        shape, dtype = examples.FEATURES[name]
        assert (array.shape, array.dtype) == ((3, *shape), dtype), name


def test_fresh_scenes_are_those_of_draw():
    batch = next(
        pipeline.batches(
            dataset.Fresh(SETTINGS, seed=3), batch_size=3, seed=0, shuffle=False
        )
    )
    for i in range(3):
        drawn = examples.encode(scenes.draw(SETTINGS, 3, "train", i))
        check_equal({name: batch[name][i] for name in batch}, drawn)


def test_fresh_scenes_end_at_their_size():
    source = dataset.Fresh(SETTINGS, seed=3, size=2)
    assert len(source) == 2
    with pytest.raises(IndexError, match="scene 2 of 2"):
        source[2]


def test_only_the_named_features_are_kept():
    source = Numbers(4)
    stream = pipeline.batches(
        source, batch_size=4, seed=0, shuffle=False, features=["patch_kind"]
    )
    assert set(next(stream)) == {"patch_kind"}


def test_a_feature_that_the_data_lack_is_named():
    with pytest.raises(ValueError, match="no 'sound', which the system reads; they h"):
        pipeline.as_arrays(Numbers(4), features=["skill", "sound"])


def test_without_shuffling_the_order_is_that_of_the_index():
    assert numbers(8, shuffle=False, num_epochs=1) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_each_epoch_holds_every_example_once_in_an_order_of_its_own():
    order = np.concatenate(numbers(12, count=6))
    first, second = order[:12], order[12:]
    assert sorted(first) == sorted(second) == list(range(12))
    assert not np.array_equal(first, second)


def test_the_order_depends_on_the_seed_alone():
    assert numbers(50, count=9) == numbers(50, count=9)
    assert numbers(50, count=9) != numbers(50, count=9, seed=1)


def test_examples_left_over_at_the_end_are_dropped():
    assert numbers(10, shuffle=False, num_epochs=1) == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("num_batches", [0, 1, 5])
def test_a_saved_state_goes_on_bit_for_bit(num_batches):
    def stream():
        source = dataset.Fresh(SETTINGS, seed=3, size=9)
        return pipeline.batches(source, batch_size=2, seed=7, shuffle=True)

    first = stream()
    for _ in range(num_batches):
        next(first)
    state = json.loads(json.dumps(first.get_state()))
    expected = [next(first) for _ in range(4)]
    second = stream()
    second.set_state(state)
    for batch in expected:
        check_equal(next(second), batch)


def test_a_worker_process_gives_the_same_batches_resumes_and_ends():
    def stream(num_workers):
        return pipeline.batches(
            dataset.Fresh(SETTINGS, seed=3),
            batch_size=2,
            seed=0,
            shuffle=False,
            num_workers=num_workers,
        )

    worker, thread = stream(1), stream(0)
    for _ in range(3):
        check_equal(next(worker), next(thread))
    state = json.loads(json.dumps(worker.get_state()))
    expected = [next(worker), next(worker)]
    worker.set_state(state)
    for batch in expected:
        check_equal(next(worker), batch)
    worker.close()
    assert not multiprocessing.active_children()


def test_cached_examples_are_the_same_and_read_once():
    source = Numbers(6)
    shapes = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in source[0].items()}
    cached = pipeline.Cached(source, shapes)
    source.reads[:] = 0
    for _ in range(3):
        for index in range(6):
            got = cached[index]
            assert got["skill"] == index and got["skill"].dtype == np.int32
            assert (got["patch_kind"] == index).all()
    assert source.reads.tolist() == [1] * 6


def test_arrays_hold_the_first_examples_in_order():
    arrays = pipeline.as_arrays(Numbers(6), limit=4)
    assert arrays["skill"].tolist() == [0, 1, 2, 3]
    assert arrays["patch_kind"].shape == (4, 8, 8)
    assert len(pipeline.as_arrays(Numbers(6))["skill"]) == 6
    with pytest.raises(ValueError, match="nothing to read"):
        pipeline.as_arrays(Numbers(6), limit=0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 13}, "batch_size is 13.*12 examples"),
        ({"num_epochs": 0}, "num_epochs is 0"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(arguments, told):
    with pytest.raises(ValueError, match=told):
        numbers(12, **arguments)


@pytest.mark.parametrize(("field", "value"), [("config", "huge"), ("seed", -1)])
def test_a_config_that_makes_no_sense_is_refused(field, value):
    config = dataset.Config(**{field: value})
    with pytest.raises(ValueError, match=f"data.{field} is {value!r}"):
        config.validate()


def test_the_smoke_set_is_made_and_read(tmp_path):
    config = dataset.Config(config="smoke", data_dir=str(tmp_path))
    train = config.source("train")
    assert len(train) == 512
    drawn = examples.encode(scenes.draw(SETTINGS, 0, "train", 11))
    check_equal({k: np.asarray(v) for k, v in train[11].items()}, drawn)
    with pytest.raises(ValueError, match="no split 'dev'.*'train'"):
        config.source("dev")


def test_a_curriculum_changes_skill_where_it_says_and_stays_in_the_last():
    first = scenes.SceneSettings(skills=("prior",))
    last = scenes.SceneSettings(skills=("pitch",))
    source = pipeline.Staged(
        [(3, dataset.Fresh(first, 1)), (0, dataset.Fresh(last, 1))]
    )
    names = [scenes.SKILLS[int(source[i]["skill"])] for i in range(6)]
    assert names == ["prior"] * 3 + ["pitch"] * 3
    check_equal(source[4], dataset.Fresh(last, 1)[4])
