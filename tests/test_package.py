"""The package says what it needs: every import is declared, with a lower and an upper bound."""

import ast
import importlib.metadata
import pathlib
import re
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parents[1]
OWN = {"qwen_audio_jax", "data_pipelines"}
# Files that those beside them import.
OWN |= {path.stem for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")}


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", Requirement(requirement).name).lower()


def declared() -> dict[str, set[str]]:
    """Requirement names by extra, "" being the base, as the installed package states them."""
    found: dict[str, set[str]] = {"": set()}
    for line in importlib.metadata.requires("qwen-audio-jax"):
        marker = re.search(r'extra == "(\w+)"', line)
        found.setdefault(marker[1] if marker else "", set()).add(name_of(line))
    return found


def imported(folder: str) -> set[str]:
    """Top-level modules that the files below a folder import."""
    modules = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module.partition(".")[0])
    return modules - OWN - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("qwen_audio_jax", ("chat", "microphone", "serve")),
        ("data_pipelines", ("synthetic", "beam")),
        ("configs", ()),
        ("benchmarks", ("parity",)),
        ("tests", ("test", "parity")),
    ],
)
def test_every_import_is_declared(folder, extras):
    by_extra = declared()
    known = by_extra[""].union(*(by_extra[extra] for extra in extras))
    distributions = importlib.metadata.packages_distributions()
    for module in imported(folder):
        names = {re.sub(r"[-_.]+", "-", name).lower() for name in distributions[module]}
        # A namespace package such as `google` belongs to several.
        assert names & known, f"{folder} imports {module}: {sorted(names)}"


def test_every_requirement_has_both_bounds():
    for line in importlib.metadata.requires("qwen-audio-jax"):
        operators = {part.operator for part in Requirement(line).specifier}
        assert operators == {">=", "<"}, line


def test_files_and_functions_stay_short():
    for folder in ("qwen_audio_jax", "data_pipelines", "configs", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert text.count("\n") <= 400, path
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 70, f"{path}: {node.name}"


def test_what_is_not_python_is_in_wheels_too():
    setup = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (globs,) = (
        ast.literal_eval(node.value)
        for node in ast.walk(setup)
        if isinstance(node, ast.keyword) and node.arg == "package_data"
    )
    packed = {
        path
        for package, patterns in globs.items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    lying = {
        path
        for folder in ("qwen_audio_jax", "data_pipelines")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__"
    }
    assert packed == lying


def test_every_room_has_its_floor():
    """A room that no contract names would be free to import whatever it likes."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = "|".join(contracts["contracts"][0]["layers"])
    named = {name.strip() for name in layers.split("|")}
    rooms = {
        f"qwen_audio_jax.{path.stem}"
        for path in (ROOT / "qwen_audio_jax").iterdir()
        if not path.stem.startswith("__")
    }
    assert named == rooms | {"configs", "data_pipelines"}
