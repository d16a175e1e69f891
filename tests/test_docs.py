"""What the documents name is there: links, files, configuration keys, rooms, the two commands."""

import importlib.util
import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("benchmarks", "configs", "data_pipelines", "docs", "launch", "qwen_audio_jax", "tests")
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = [README, CONTRIBUTING, *sorted((ROOT / "docs").glob("*.md"))]
FILES = [
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*")))
]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def anchors(page: pathlib.Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def rooms() -> list[list[str]]:
    """The rooms of each floor, as paths from the root."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    floors = [layer.split(" | ") for layer in contracts["contracts"][0]["layers"]]
    paths = [[name.replace(".", "/") for name in floor] for floor in floors]
    return [[f"{p}/" if (ROOT / p).is_dir() else f"{p}.py" for p in floor] for floor in paths]


@every_page
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.is_file(), target
        assert not anchor or anchor in anchors(file), target


@every_page
def test_every_file_named_is_there(page):
    """A name without its whole path, such as `step.py`, is the end of some path."""
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`([\w./*-]+\.(?:py|sh|md))(?: [^`]*)?`", text)
    named += re.findall(r"(?:benchmarks|configs|launch)/\w+\.(?:py|sh)", text)
    named += [
        f"{module.replace('.', '/')}.py"
        for module in re.findall(r"python -m ((?:qwen_audio_jax|data_pipelines)[\w.]*)", text)
    ]
    for name in named:
        pattern = re.compile(rf"(^|/){re.escape(name).replace(re.escape('*'), '[^/]*')}$")
        assert name == "benchmarks/NAME.py" or any(map(pattern.search, FILES)), name


@every_page
def test_every_key_named_is_one_of_the_configuration(page):
    file = "evaluate" if page.stem == "evaluation" else "pretrain"
    spec = importlib.util.spec_from_file_location(file, ROOT / "configs" / f"{file}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = page.read_text(encoding="utf-8")
    keys = r"config\.(?!json|py\b)([a-z]\w*(?:\.[a-z]\w*)*)"
    for key in re.findall(rf"--{keys}|`{keys}", text):
        values = module.get_config()
        for part in "".join(key).split("."):
            assert part in values, key
            values = values[part]


def test_the_readme_is_short():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 140


def test_the_readmes_second_command_is_what_ci_runs():
    text = README.read_text(encoding="utf-8")
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    assert commands[:2] == [
        "pip install -e '.[synthetic]' && "
        "python -m qwen_audio_jax.main --config=configs/pretrain.py",
        "pip install -e '.[test,parity]' && pytest",
    ]
    assert all(command.startswith("python -m qwen_audio_jax.") for command in commands[2:])
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    said = [line.replace(" --quiet", "") for line in run]
    assert all(part in said for part in commands[1].split(" && "))


def test_rooms_are_told_in_their_order():
    first = re.compile(r"^\| `([\w./]+)`.*\|$", re.MULTILINE)
    text = CONTRIBUTING.read_text(encoding="utf-8")
    told = first.findall(text[text.index("| room |") :])
    assert told[1:] == [room for floor in rooms() for room in floor]
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    floors = re.findall(r"^\| \d+ \| (.*?) \|", text, re.MULTILINE)
    assert [re.findall(r"`(.*?)`", floor) for floor in floors] == [
        [room.removeprefix("qwen_audio_jax/") for room in floor] for floor in rooms()
    ]
