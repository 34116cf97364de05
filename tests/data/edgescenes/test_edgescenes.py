import pathlib
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from m3jax.data import prepare
from m3jax.data.edgescenes import builder as edgescenes
from m3jax.data.edgescenes import examples, scenes, words

TINY = edgescenes.EdgeScenesConfig(
    name="tiny", num_train=39, num_validation=3, num_test=14, seed=5
)
CLIPS = edgescenes.EdgeScenesConfig(
    name="tiny-clips",
    settings=scenes.SceneSettings(skills=scenes.SKILLS, video=True),
    num_train=14,
    num_validation=1,
    num_test=1,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The data_dir and builder of TINY; tests that damage it copy it first."""
    root = tmp_path_factory.mktemp("sets")
    return root, prepare.prepare(TINY, root)


@pytest.fixture
def copied(written, tmp_path):
    """A data_dir that may be damaged, and the folder of TINY in it."""
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    return tmp_path, tmp_path / "edge_scenes" / "tiny" / "1.0.0"


def check_same(stored, config, split, index):
    scene = scenes.draw(config.settings, config.seed, split, index)
    assert stored["question_text"].decode() == scene["question"]
    assert stored["answer_text"].decode() == scene["answer"]
    assert words.decode(stored["question"]) == scene["question"]
    assert words.decode(stored["answer"]) == scene["answer"]
    assert scenes.SKILLS[stored["skill"]] == scene["skill"]
    drawn = set(examples.FEATURES) & set(scene) - {"question", "answer", "skill"}
    for name in drawn:
        np.testing.assert_array_equal(stored[name], scene[name], err_msg=name)
        if np.ndim(stored[name]):  # TFDS gives scalars as Python numbers
            assert stored[name].dtype == examples.FEATURES[name][1], name


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_what_is_read_is_what_was_drawn_in_the_order_of_the_index(written, split):
    source = written[1].as_data_source(split)
    assert len(source) == TINY.sizes[split]
    for index in range(len(source)):
        check_same(source[index], TINY, split, index)


def test_clips_are_read_back(tmp_path):
    source = prepare.prepare(CLIPS, tmp_path).as_data_source("train")
    for index in range(len(source)):
        check_same(source[index], CLIPS, "train", index)
    assert {int(example["skill"]) for example in source} == set(range(14))


def test_encode_ends_answers_and_pads_both_texts():
    scene = scenes.draw(scenes.SceneSettings(), 0, "test", 5)
    encoded = examples.encode(scene | {"question": "read the sign", "answer": "two"})
    question, answer = encoded["question"], encoded["answer"]
    assert question.tolist() == words.encode("read the sign") + [words.PAD] * (
        scenes.QUESTION_LENGTH - 3
    )
    assert answer[:2].tolist() == [*words.encode("two"), words.EOS]
    assert not answer[2:].any()
    for name, array in encoded.items():
        shape, dtype = examples.FEATURES[name]
        assert (array.shape, array.dtype) == (shape, dtype), name


def test_a_text_that_is_too_long_is_refused():
    scene = scenes.draw(scenes.SceneSettings(), 0, "test", 5)
    with pytest.raises(ValueError, match="longer than"):
        examples.encode(scene | {"answer": "red " * scenes.ANSWER_LENGTH})


def test_records_do_not_depend_on_the_number_of_processes():
    places = [("train", i) for i in range(9)] + [("test", i) for i in range(4)]
    alone = examples.records(TINY.settings, 0, places, num_processes=0)
    together = examples.records(TINY.settings, 0, places, num_processes=2)
    for one, two in zip(alone, together, strict=True):
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_what_a_lost_process_leaves_undrawn_is_drawn_here(monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    places = [("train", i) for i in range(3)]
    expected = list(examples.records(TINY.settings, 0, places, num_processes=0))
    records = list(examples.records(TINY.settings, 0, places, num_processes=2))
    assert [r["answer_text"] for r in records] == [r["answer_text"] for r in expected]
    assert [r["image"] for r in records] == [r["image"] for r in expected]


def test_a_set_that_is_there_is_used_as_it_is(copied, monkeypatch):
    root, folder = copied
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(scenes, "draw", None)  # nothing may be drawn
    prepare.prepare(TINY, root)
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_an_unknown_config_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="'huge'.*'smoke', 'laptop', 'video'"):
        prepare.prepare("huge", tmp_path)
    assert not list(tmp_path.iterdir())


def cut_in_half(folder):
    shard = next(folder.glob("*-train.*"))
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    return f"{shard.name} is cut short"


def empty_a_shard(folder):
    shard = next(folder.glob("*-test.*"))
    shard.write_bytes(b"")
    return f"{shard.name} is cut short"


def remove_a_shard(folder):
    shard = next(folder.glob("*-validation.*"))
    shard.unlink()
    return f"{shard.name} is missing"


def swap_two_shards(folder):
    train, test = next(folder.glob("*-train.*")), next(folder.glob("*-test.*"))
    shutil.copy(test, train)
    return f"{train.name} is cut short"


def remove_the_description(folder):
    (folder / "dataset_info.json").unlink()
    return "damaged"


def tear_the_description(folder):
    path = folder / "dataset_info.json"
    path.write_text(path.read_text()[:50])
    return "damaged"


def remove_the_recipe(folder):
    (folder / "metadata.json").unlink()
    return "damaged"


def remove_all(folder):
    for path in folder.iterdir():
        path.unlink()
    return "damaged"


@pytest.mark.parametrize(
    "damage",
    [
        cut_in_half,
        empty_a_shard,
        remove_a_shard,
        swap_two_shards,
        remove_the_description,
        tear_the_description,
        remove_the_recipe,
        remove_all,
    ],
)
def test_a_damaged_folder_is_named_with_the_mend_and_left_alone(copied, damage):
    root, folder = copied
    told = damage(folder)
    before = sorted(folder.iterdir())
    with pytest.raises(ValueError) as error:
        prepare.prepare(TINY, root)
    for part in (str(folder), told, "delete this folder"):
        assert part in str(error.value)
    assert sorted(folder.iterdir()) == before


def test_the_mend_mends(copied):
    root, folder = copied
    cut_in_half(folder)
    shutil.rmtree(folder)
    check_same(prepare.prepare(TINY, root).as_data_source("train")[7], TINY, "train", 7)


def test_a_set_of_another_recipe_is_refused(copied):
    other = edgescenes.EdgeScenesConfig(
        name="tiny", num_train=39, num_validation=3, num_test=14, seed=6
    )
    with pytest.raises(ValueError, match="another recipe.*delete this folder"):
        prepare.prepare(other, copied[0])


def test_a_run_that_fails_half_way_leaves_nothing_to_read(tmp_path, monkeypatch):
    draw = scenes.draw

    def break_down(settings, seed, split, index):
        if (split, index) == ("train", 20):
            raise KeyboardInterrupt
        return draw(settings, seed, split, index)

    monkeypatch.setattr(scenes, "draw", break_down)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(TINY, tmp_path)
    folder = tmp_path / "edge_scenes" / "tiny"
    assert not list(folder.glob("*1.0.0"))
    monkeypatch.undo()
    assert len(prepare.prepare(TINY, tmp_path).as_data_source("train")) == 39


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    remains = tmp_path / "edge_scenes" / "tiny" / "incomplete.ABC123_1.0.0"
    remains.mkdir(parents=True)
    (remains / "edge_scenes-train.array_record-00000-of-00001").write_bytes(b"half")
    assert len(prepare.prepare(TINY, tmp_path).as_data_source("train")) == 39
    assert not remains.exists()


def test_of_two_that_need_a_set_one_writes_it(tmp_path, monkeypatch):
    write, written = prepare._write, []

    def count(*args):
        written.append(args)
        write(*args)

    monkeypatch.setattr(prepare, "_write", count)
    threads = [
        threading.Thread(target=prepare.prepare, args=(TINY, tmp_path)) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert len(prepare.prepare(TINY, tmp_path).as_data_source("test")) == 14


def test_a_disk_that_is_too_full_is_told_before_anything_is_drawn(
    tmp_path, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(scenes, "draw", None)
    with pytest.raises(OSError, match="make room, pass another data_dir"):
        prepare.prepare(TINY, tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(OSError, match="file/edge_scenes.*pass another data_dir"):
        prepare.prepare(TINY, blocked)


def test_the_data_dir_comes_from_the_environment(monkeypatch, tmp_path):
    for name in ("M3JAX_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepare.default_data_dir() == tmp_path / ".cache" / "m3jax" / "data"
    assert prepare.root("/of/config") == pathlib.Path("/of/config")
    monkeypatch.setenv("M3JAX_DATA_DIR", "/elsewhere")
    assert prepare.default_data_dir() == pathlib.Path("/elsewhere")
    # A run whose data have moved can be measured where they are.
    assert prepare.root("/of/config") == pathlib.Path("/elsewhere")


def test_reading_brings_in_neither_tensorflow_nor_beam(written):
    code = f"""
import sys
from m3jax.data import pipeline, prepare
from m3jax.data.edgescenes import builder
config = builder.EdgeScenesConfig(
    name="tiny", num_train=39, num_validation=3, num_test=14, seed=5)
source = prepare.prepare(config, {str(written[0])!r}).as_data_source("train")
stream = pipeline.batches(
    source, batch_size=2, seed=0, shuffle=True, features=["image"])
next(stream)
print([m for m in ("tensorflow", "apache_beam") if m in sys.modules])
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
