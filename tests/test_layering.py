"""Who may import whom: the table of docs/architecture.md, read off the source."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "m3jax"

# A part may also import itself. A system has a row of its own.
GROUND = {"base", "ops"}
FLOORS = GROUND | {"files"} | {"channels", "nn", "data", "train", "envs", "rl", "evals"}
ALLOWED = {
    "": set(),  # m3jax/__init__.py
    "base": set(),
    "ops": {"base"},
    "channels": GROUND,
    "costs": GROUND | {"channels"},
    "nn": GROUND,
    "files": set(),
    "train": GROUND | {"files"},
    "data": GROUND | {"files"},
    "envs": GROUND | {"channels", "costs"},
    "rl": GROUND | {"nn", "envs"},
    "evals": GROUND | {"files", "channels", "train"},
    "foundation": GROUND | {"nn", "data", "train"},
    "serving": {"base"},
    "experiments": GROUND | {"files", "data", "train", "evals"},
    "studies": GROUND | {"files", "train", "evals"},
    "testing": FLOORS | {"foundation", "experiments"},
    **dict.fromkeys(
        (
            *("systems/tokcom", "systems/m3llm", "systems/moe2", "systems/wdmoe"),
            "systems/msao",
        ),
        FLOORS | {"costs", "foundation", "serving", "experiments", "studies"},
    ),
    "systems": set(),  # m3jax/systems/__init__.py
}
# What of a system may see data, training, evaluation and the engines above them.
OUTER = {"data", "train", "evals", "experiments", "studies"}
OUTER_FILES = {
    "systems/tokcom": {"study", "allocation"},
    "systems/m3llm": {"router", "world", "evaluation", "experts", "answers", "study"},
    "systems/moe2": {"clusters", "tables", "evaluation", "study"},
    "systems/wdmoe": {"evaluation", "study"},
    "systems/msao": {"evaluation", "study"},
}
NEVER = {"launch", "configs", "colabs", "benchmarks", "tests"}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: pathlib.Path) -> str:
    """The row of the table that a source file belongs to."""
    parts = [part.removesuffix(".py") for part in path.relative_to(PACKAGE).parts]
    if parts[0] == "systems" and len(parts) > 2:
        return f"systems/{parts[1]}"
    return "" if parts[0] == "__init__" else parts[0]


def target_of(name: str) -> str:
    """The row of the table that a dotted name belongs to."""
    top, *rest = name.split(".")
    if not rest:
        return ""
    return "/".join(rest[:2]) if rest[0] == "systems" and rest[1:] else rest[0]


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
    bad = []
    for name in imported_names(source):
        top = name.split(".")[0]
        if top in NEVER or top == "":
            bad.append(name)
        elif top == "m3jax" and target_of(name) not in ALLOWED[part] | {part}:
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
def test_the_core_of_a_system_sees_neither_data_nor_training(path):
    part = part_of(path)
    if not part.startswith("systems/"):
        return
    inner = path.relative_to(PACKAGE).parts[2].removesuffix(".py")
    if inner in OUTER_FILES[part]:
        return
    seen = {target_of(n) for n in imported_names(path.read_text()) if "m3jax" in n}
    assert not seen & OUTER


CONFIG_NAMES = {"config", "made", "first", "configs"}


def asked_types(source: str) -> list[str]:
    """Calls of isinstance and hasattr on something called like a config."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("isinstance", "hasattr")
        and CONFIG_NAMES & set(ast.unparse(node.args[0]).replace("(", ".").split("."))
    ]


@pytest.mark.parametrize(
    "path",
    [*sorted((PACKAGE / "experiments").glob("*.py")), *(ROOT / "launch").glob("*.py")],
    ids=relative,
)
def test_commands_do_not_guess_what_a_config_is(path):
    """But for the one check at the door."""
    found = asked_types(path.read_text())
    assert not found or path.name == "contract.py"


def test_a_guess_is_seen():
    assert asked_types("if isinstance(config.system, tokcom.Config): pass")


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
        ("systems/tokcom", "from m3jax.systems.m3llm import system"),
        ("experiments", "from m3jax.systems import tokcom"),
        ("ops", "from m3jax import data"),
        ("experiments", "from launch import train"),
        ("data", "from . import words"),
    ],
)
def test_a_forbidden_import_is_seen(part, source):
    assert violations(part, source)


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("systems/tokcom", "from m3jax.systems.tokcom import system"),
        ("systems/m3llm", "from m3jax.experiments import running"),
        ("channels", "import jax\nfrom m3jax import base\nfrom m3jax.ops import units"),
    ],
)
def test_an_allowed_import_passes(part, source):
    assert not violations(part, source)
