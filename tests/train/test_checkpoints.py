"""Checkpoints come back exactly, or say clearly why not."""

import errno
import gc
import json
import os
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xxhash

from m3jax import base
from m3jax.files import disk
from m3jax.train import cards, checkpoints

# What is broken off here leaves coroutines of Orbax's that nobody will await.
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited:RuntimeWarning"
)

SHAPE = (40, 30)


@pytest.fixture(autouse=True)
def remains_collected():
    """They are found here, and not by the garbage collector in a later test."""
    yield
    gc.collect()


def make_state(seed, shape=SHAPE):
    params = {"net": {"kernel": jax.random.normal(jax.random.key(seed), shape)}}
    moments = jax.tree.map(jnp.square, params)
    return base.TrainState(jnp.int32(seed), params, (moments, jnp.int32(seed)))


def abstract_state(shape=SHAPE):
    return jax.eval_shape(lambda: make_state(0, shape))


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


DAMAGE = {
    "everything gone": lambda step: [shutil.rmtree(step), step.mkdir()],
    "params gone": lambda step: shutil.rmtree(step / "params"),
    "optimizer gone": lambda step: shutil.rmtree(step / "state"),
    "card cut short": lambda step: truncate(step / "card" / "metadata"),
    "position cut short": lambda step: truncate(step / "position" / "metadata"),
    "index cut short": lambda step: truncate(step / "params" / "manifest.ocdbt"),
    "arrays cut short": lambda step: [
        truncate(path) for path in (step / "params" / "d").iterdir()
    ],
    "card is other JSON": lambda step: write(step / "card", '{"x": 1}'),
    "card is a list": lambda step: write(step / "card", "[]"),
    "a letter of the card": lambda step: swap(step / "card", "kernel", "kernal"),
    "a number of the card": lambda step: swap(step / "card", '"step": 2', '"step": 3'),
    "position is other JSON": lambda step: write(step / "position", '{"x": 1}'),
    "a number of the position": lambda step: swap(step / "position", "2", "3"),
}


def write(item, text):
    (item / "metadata").write_text(text)


def swap(item, old, new):
    text = (item / "metadata").read_text()
    assert old in text
    write(item, text.replace(old, new, 1))


@pytest.mark.parametrize("kind", DAMAGE)
def test_torn_checkpoint_is_skipped_named_and_written_anew(
    tmp_path, assert_identical, kind
):
    with checkpoints.Checkpointer(tmp_path, keep=2) as saves:
        for step in (1, 2):
            saves.save(step, make_state(step), {"at": step})
    DAMAGE[kind](tmp_path / "2")

    with checkpoints.Checkpointer(tmp_path, keep=2) as saves:
        restored = saves.restore(abstract_state())
        assert (restored.step, restored.position) == (1, {"at": 1})
        assert list(restored.skipped) == [2]
        assert_identical(restored.state, make_state(1))
        saves.save(2, make_state(2))
        saves.wait()
        assert_identical(saves.restore(abstract_state(), 2).state, make_state(2))
    assert len(list(tmp_path.glob("torn-2-*"))) == 1, "nothing is lost"


def test_torn_checkpoint_is_skipped_when_parameters_alone_are_read(tmp_path):
    with checkpoints.Checkpointer(tmp_path) as saves:
        for step in (1, 2):
            saves.save(step, make_state(step))
    DAMAGE["arrays cut short"](tmp_path / "2")
    kernel = checkpoints.restore_params(tmp_path)["net"]["kernel"]
    assert type(kernel) is np.ndarray
    np.testing.assert_array_equal(kernel, make_state(1).params["net"]["kernel"])


def test_no_whole_checkpoint_is_an_error_that_tells_why(tmp_path):
    with checkpoints.Checkpointer(tmp_path) as saves:
        saves.save(3, make_state(3))
        saves.wait()
        DAMAGE["params gone"](tmp_path / "3")
        with pytest.raises(FileNotFoundError, match="no whole checkpoint.*step 3"):
            saves.restore(abstract_state())


def test_missing_checkpoint_is_named(tmp_path):
    with checkpoints.Checkpointer(tmp_path / "none", read_only=True) as saves:
        with pytest.raises(FileNotFoundError, match="no checkpoint in .*none"):
            saves.restore(abstract_state())
    assert not (tmp_path / "none").exists()
    with checkpoints.Checkpointer(tmp_path / "some") as saves:
        saves.save(3, make_state(3))
        with pytest.raises(FileNotFoundError, match=r"step 4.*\[3\]"):
            saves.restore(abstract_state(), step=4)


@pytest.mark.parametrize(
    ("mode", "scores", "kept"),
    [
        ("max", [0.1, 0.9, 0.3, 0.2], [2, 4]),
        ("min", [0.4, 0.2, 0.1, 0.3], [3, 4]),
        ("max", [0.1, 0.9, float("nan"), None], [2, 4]),
        ("max", [None, None, None, None], [4]),
    ],
)
def test_newest_and_best_stay(tmp_path, mode, scores, kept):
    saves = checkpoints.Checkpointer(
        tmp_path, keep=1, best_metric="score", best_mode=mode
    )
    with saves:
        for step, score in enumerate(scores, start=1):
            metrics = {} if score is None else {"score": score}
            saves.save(step, make_state(step, (2,)), metrics=metrics)
        saves.wait()
        assert saves.steps() == kept
        assert saves.best_step() == (kept[0] if len(kept) > 1 else None)


def test_buffers_may_be_donated_while_they_are_written(tmp_path):
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    with checkpoints.Checkpointer(tmp_path, keep=9) as saves:
        for step in range(1, 9):
            state = make_state(step, (300, 300))
            expected = np.array(state.params["net"]["kernel"])
            saves.save(step, state)
            jax.block_until_ready(overwrite(state.params["net"]["kernel"]))
            saves.wait()
            kernel = checkpoints.restore_params(tmp_path, step)["net"]["kernel"]
            np.testing.assert_array_equal(kernel, expected)


@pytest.mark.parametrize("position", [None, {"epoch": 2, "at": [1, 2]}, b"\x00\xff"])
def test_position_of_the_data_comes_back(tmp_path, position):
    with checkpoints.Checkpointer(tmp_path) as saves:
        saves.save(1, make_state(1, (2,)), position)
        assert saves.restore(abstract_state((2,))).position == position


def test_random_keys_and_extra_state_come_back(tmp_path, key, assert_identical):
    state = make_state(1, (2,))._replace(extra={"key": key, "steps": jnp.uint8(3)})
    with checkpoints.Checkpointer(tmp_path) as saves:
        saves.save(1, state)
        restored = saves.restore(jax.eval_shape(lambda: state)).state
    before, after = (s.extra["key"] for s in (state, restored))
    assert jax.random.uniform(before) == jax.random.uniform(after)


def test_other_tree_is_named_by_its_first_paths(tmp_path):
    with checkpoints.Checkpointer(tmp_path) as saves:
        saves.save(1, make_state(1))
        with pytest.raises(ValueError, match=r"params/net/kernel: saved.*40.*want"):
            saves.restore(abstract_state((7, 7)))
        fewer = abstract_state()._replace(opt_state=())
        with pytest.raises(ValueError, match="opt_state/0/net/kernel.*wanted nothing"):
            saves.restore(fewer)


def test_full_disk_is_seen_before_anything_is_written(tmp_path, monkeypatch):
    with checkpoints.Checkpointer(tmp_path, keep=1) as saves:
        saves.save(1, make_state(1))
        saves.wait()
        usage = types.SimpleNamespace(free=100)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(disk.DiskFullError, match="step 1 is safe") as caught:
            saves.save(2, make_state(2))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path)
    assert cards.list_steps(tmp_path) == [1]


def test_disk_that_fills_while_writing_leaves_the_checkpoint_before(
    tmp_path, monkeypatch, assert_identical
):
    really_open = open

    def full_for_cards(path, mode="r", *rest, **options):
        if "w" in mode and "card" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return really_open(path, mode, *rest, **options)

    with checkpoints.Checkpointer(tmp_path, keep=1) as saves:
        saves.save(1, make_state(1))
        saves.wait()
        with monkeypatch.context() as patched:
            patched.setattr("builtins.open", full_for_cards)
            with pytest.raises(disk.DiskFullError, match="step 1 is safe"):
                saves.save(2, make_state(2))
                saves.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["1"], "no remains"
    with checkpoints.Checkpointer(tmp_path) as saves:
        assert_identical(saves.restore(abstract_state()).state, make_state(1))


def large_file(folder):
    """The file that holds the numbers."""
    return max((f for f in folder.rglob("*") if f.is_file()), key=os.path.getsize)


def test_no_flipped_bit_gives_other_numbers_without_a_word(tmp_path, assert_identical):
    """Wherever it falls: the step is whole, or it is skipped and named."""
    with checkpoints.Checkpointer(tmp_path) as saves:
        for step in (1, 2):
            saves.save(step, make_state(step), {"at": step})
    files = [large_file(tmp_path / "2" / item) for item in ("params", "state")]
    rng, skipped = np.random.default_rng(0), 0
    for number in range(24):
        file = files[number % 2]
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        file.write_bytes(bytes(flipped))
        with checkpoints.Checkpointer(tmp_path, read_only=True) as saves:
            restored = saves.restore(abstract_state())
        assert_identical(restored.state, make_state(restored.step))
        assert (restored.step == 1) == (list(restored.skipped) == [2])
        if file == files[0]:
            params = checkpoints.restore_params(tmp_path)
            assert_identical(params, make_state(restored.step).params)
        skipped += restored.step == 1
        file.write_bytes(whole)
    assert skipped > 20


def test_checkpoints_from_before_checksums_load_with_a_warning(
    tmp_path, assert_identical, caplog
):
    with checkpoints.Checkpointer(tmp_path) as saves:
        saves.save(1, make_state(1), {"at": 1})
    path = tmp_path / "1" / "card" / "metadata"
    card = json.loads(path.read_text())
    tree = [{k: v for k, v in leaf.items() if k != "xxh3"} for leaf in card["tree"]]
    old = {k: card[k] for k in ("step", "metrics", "config", "versions")}
    path.write_text(json.dumps(old | {"tree": tree}))
    with checkpoints.Checkpointer(tmp_path) as saves:
        restored = saves.restore(abstract_state())
    assert_identical(restored.state, make_state(1))
    assert restored.position == {"at": 1}
    assert "without checksums" in caplog.text


def test_card_describes_the_checkpoint_without_model_code(tmp_path):
    config = {"type": "m3jax.train.config:TrainConfig", "steps": 5}
    with checkpoints.Checkpointer(tmp_path / "checkpoints", config=config) as saves:
        saves.save(7, make_state(7), metrics={"loss": 0.5, "odd": float("nan")})
    told = cards.describe(tmp_path)
    assert told["step"] == 7
    assert told["steps"] == [7]
    assert told["config"] == config
    assert told["metrics"] == {"loss": 0.5, "odd": "nan"}
    assert told["num_params"] == 40 * 30
    assert told["num_bytes"] == 4 * 40 * 30
    assert told["versions"]["jax"] == jax.__version__
    leaf = {"path": "params/net/kernel", "shape": [40, 30], "dtype": "float32"}
    crcs = {told_leaf["path"]: told_leaf.pop("xxh3") for told_leaf in told["tree"]}
    assert leaf in told["tree"]
    kernel = np.asarray(make_state(7).params["net"]["kernel"])
    assert crcs[leaf["path"]] == xxhash.xxh3_64_hexdigest(kernel)
    text = (tmp_path / "checkpoints" / "7" / "card" / "metadata").read_text()
    json.loads(text, parse_constant=pytest.fail)


def test_describe_names_a_directory_without_checkpoints(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        cards.describe(tmp_path)
    with pytest.raises(FileNotFoundError, match="no directory .*nowhere"):
        cards.describe(tmp_path / "nowhere")


def test_parameters_saved_alone_come_back_and_are_replaced(tmp_path):
    for value in (1.0, 2.0):
        params = {"a": {"b": np.full((3, 2), value, np.float32)}}
        checkpoints.save_params(tmp_path / "p", params, {"command": f"make {value}"})
    restored = checkpoints.restore_params(tmp_path / "p")
    np.testing.assert_array_equal(restored["a"]["b"], np.full((3, 2), 2.0))
    assert cards.describe(tmp_path / "p")["command"] == "make 2.0"


@pytest.mark.parametrize("options", [{"keep": 0}, {"best_mode": "most"}])
def test_senseless_options_are_named(tmp_path, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        checkpoints.Checkpointer(tmp_path, **options)
