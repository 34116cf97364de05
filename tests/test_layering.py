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


def offenders(rule, paths=SOURCES) -> dict[str, object]:
    """File -> what a rule finds wrong in it, of all files at once: they are many."""
    found = {relative(path): rule(path, path.read_text()) for path in paths}
    return {path: wrong for path, wrong in found.items() if wrong}


def test_every_part_is_in_the_table():
    assert {part_of(path) for path in SOURCES} <= set(ALLOWED)


def test_imports_follow_the_table():
    assert not offenders(lambda path, source: violations(part_of(path), source))


def inner_imports(path: pathlib.Path, source: str) -> set[str]:
    """What a file of a system's core sees of data, training and evaluation."""
    part = part_of(path)
    if not part.startswith("systems/"):
        return set()
    inner = path.relative_to(PACKAGE).parts[2].removesuffix(".py")
    if inner in OUTER_FILES[part]:
        return set()
    return {target_of(n) for n in imported_names(source) if "m3jax" in n} & OUTER


def test_the_core_of_a_system_sees_neither_data_nor_training():
    assert not offenders(inner_imports)


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


def test_commands_do_not_guess_what_a_config_is():
    """But for the one check at the door."""
    paths = *(PACKAGE / "experiments").glob("*.py"), *(ROOT / "launch").glob("*.py")
    found = offenders(lambda path, source: asked_types(source), paths)
    assert set(found) <= {"m3jax/experiments/contract.py"}


def test_a_guess_is_seen():
    assert asked_types("if isinstance(config.system, tokcom.Config): pass")


def imports_of_no_module(path: pathlib.Path, source: str) -> list[str]:
    """Imports from the package of something that is no module of it."""
    if path.name == "__init__.py":
        return []  # it may lift the public names of its own package
    ours = [n for n in imported_names(source) if n.split(".")[0] == "m3jax"]
    places = {name: ROOT.joinpath(*name.split(".")) for name in ours}
    return [
        name
        for name, place in places.items()
        if not (place.with_suffix(".py").exists() or place.is_dir())
    ]


def test_package_imports_are_of_modules():
    assert not offenders(imports_of_no_module)


# It marks absl's flags as parsed in a notebook, where grain's workers ask for theirs.
MARKS_FLAGS = PACKAGE / "data" / "pipeline.py"


def uses_of_flags(path: pathlib.Path, source: str) -> list[str]:
    """Imports of flags, or of their values."""
    names = [n for n in imported_names(source) if n in ("absl.flags", "absl.app")]
    if path != MARKS_FLAGS:
        return names
    for harmless in ("FLAGS.is_parsed()", "FLAGS.mark_as_parsed()"):
        source = source.replace(harmless, "")
    return ["FLAGS."] if "FLAGS." in source else []


def test_library_never_reads_flags():
    assert not offenders(uses_of_flags)


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
