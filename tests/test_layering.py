"""Who may import whom: the table of docs/architecture.md, read off the source."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "m3jax"

# A part may also import itself. None: everything but what stands in NEVER.
ALLOWED = {
    "": set(),  # m3jax/__init__.py
    "base": set(),
    "ops": {"base"},
    "channels": {"base", "ops"},
    "nn": {"base", "ops"},
    "data": {"base", "ops"},
    "train": {"base", "ops"},
    "envs": {"base", "ops", "channels"},
    "adapters": {"base", "nn"},
    "rl": {"base", "ops", "nn", "envs"},
    "evals": {"base", "ops", "channels", "train"},
    "systems": {"base", "ops", "channels", "nn", "envs", "rl"},
    "testing": {
        *("base", "ops", "channels", "nn", "data", "train", "envs", "adapters", "rl"),
        "evals",
    },
    # The composition roots, which launchers and notebooks call.
    **dict.fromkeys(("experiment", "evaluation", "sweeps", "audit"), None),
    **dict.fromkeys(("features", "reproductions", "specialists", "routing"), None),
}
NEVER = {"launch", "configs", "colabs", "benchmarks", "tests"}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: pathlib.Path) -> str:
    """The row of the table that a source file belongs to."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported_names(source: str) -> list[str]:
    """Dotted names that a source imports, at any depth of nesting."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            names += [f"{prefix}.{alias.name}" for alias in node.names]
    return names


def violations(part: str, source: str) -> list[str]:
    """Imports of a source in this part that the table forbids."""
    allowed = ALLOWED[part]
    bad = []
    for name in imported_names(source):
        top, *rest = name.split(".")
        if top in NEVER or top == "":
            bad.append(name)
        elif top == "m3jax":
            target = rest[0] if rest else ""
            if target == part or (allowed is None and target in ALLOWED):
                continue
            if target not in (allowed or set()):
                bad.append(name)
    return bad


def relative(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_follow_the_table(path):
    part = part_of(path)
    assert part in ALLOWED, f"put {part!r} into the table of layers first"
    assert not violations(part, path.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_package_imports_are_of_modules(path):
    if path.name == "__init__.py":
        return  # it may lift the public names of its own package
    for name in imported_names(path.read_text()):
        if name.split(".")[0] == "m3jax":
            target = ROOT.joinpath(*name.split("."))
            is_module = target.with_suffix(".py").exists()
            assert is_module or target.is_dir(), f"{name} is not a module"


# It marks absl's flags as parsed in a notebook, where grain's workers ask for theirs.
MARKS_FLAGS = PACKAGE / "data" / "pipeline.py"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_library_never_reads_flags(path):
    names = imported_names(path.read_text())
    if path == MARKS_FLAGS:
        names = [name for name in names if name != "absl.flags"]
        assert "FLAGS." not in path.read_text().replace(
            "FLAGS.is_parsed()", ""
        ).replace("FLAGS.mark_as_parsed()", "")
    assert not [n for n in names if n in ("absl.flags", "absl.app")]


def test_no_file_is_called_utils():
    assert not [p for p in SOURCES if p.stem in ("utils", "util", "helpers", "misc")]


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("nn", "from m3jax.channels import awgn"),
        ("train", "def f():\n    from m3jax.systems.tokcom import system"),
        ("systems", "import m3jax.experiments.running"),
        ("ops", "from m3jax import data"),
        ("experiment", "from launch import train"),
        ("data", "from . import words"),
    ],
)
def test_a_forbidden_import_is_seen(part, source):
    assert violations(part, source)


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("systems", "from m3jax.foundation.generalist import system"),
        ("experiment", "from m3jax.systems.tokcom import system"),
        ("channels", "import jax\nfrom m3jax import base\nfrom m3jax.ops import units"),
    ],
)
def test_an_allowed_import_passes(part, source):
    assert not violations(part, source)
