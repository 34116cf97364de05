"""Writes a data set to disk and says what it cost.

python launch/prepare_data.py --config=laptop --data_dir=data
python launch/prepare_data.py --dataset=edge_text --config=smoke
"""

import pathlib
import time

import cli
from absl import flags

from m3jax.data import prepare
from m3jax.data.edgescenes import builder as edgescenes
from m3jax.data.edgetext import builder as edgetext
from m3jax.files import places

_SETS = {made.name: made for made in (edgescenes.EdgeScenes, edgetext.EdgeText)}
_DATASET = flags.DEFINE_enum("dataset", "edge_scenes", list(_SETS), "the set")
_CONFIG = flags.DEFINE_string(
    "config", "laptop", "smoke or laptop; of edge_scenes also video"
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "where sets live; $M3JAX_DATA_DIR or ~/.cache/m3jax/data if unset"
)


def main() -> None:
    """Prepares the set that the flags name."""
    if _DATA_DIR.value is not None:
        places.writable(_DATA_DIR.value, "--data_dir")
    start = time.time()
    builder = prepare.prepare(_CONFIG.value, _DATA_DIR.value, _SETS[_DATASET.value])
    seconds = time.time() - start
    size = sum(split.num_examples for split in builder.info.splits.values())
    # Not the builder's own kind of path, whose stat asks for the owner's name.
    folder = pathlib.Path(builder.data_dir)
    files = [path for path in folder.iterdir() if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    made = f"made in {seconds:.1f} s, {size / seconds:.0f} examples/s"
    if folder.stat().st_mtime < start:
        made = f"already there, checked in {seconds:.1f} s"
    print(f"{builder.data_dir}: {size} examples, {megabytes:.1f} MB, {made}")


if __name__ == "__main__":
    cli.run(main)
