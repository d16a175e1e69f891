"""Tab: what it completes is read as the file that it shows."""

import os

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from qwen_audio_jax.terminal.path_completion import PathCompleter
from qwen_audio_jax.terminal.typed_lines import paths

COMPLETER = PathCompleter({"/audio": True, "/again": False, "/save": True})


def completed(line: str) -> list[str]:
    """The lines that Tab offers."""
    offered = COMPLETER.get_completions(Document(line), CompleteEvent())
    return [line[: len(line) + one.start_position] + one.text for one in offered]


def test_commands_are_completed():
    assert completed("/a") == ["/audio", "/again"]
    assert completed("what /a") == []
    assert completed("/again x") == []


@pytest.mark.parametrize(
    "name", ["plain.wav", "a b.wav", "it's.wav", 'x"y".wav', "$x`y`\\.wav", "~x", "file:", "ü音"]
)
@pytest.mark.parametrize("begin", ["", "'", '"'])
def test_a_completed_path_is_the_file(tmp_path, monkeypatch, name, begin):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    for typed in (begin, f"{begin}{tmp_path}/", f"other.wav {begin}"):
        (line,) = completed(f"/audio {typed}")
        *_, path = paths(line.removeprefix("/audio "))
        assert os.path.join(tmp_path, path) == f"{tmp_path}/{name}"


def test_what_was_typed_narrows_it_down(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a b.wav", "a c.wav", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "a folder").mkdir()
    assert completed("/audio ") == ["/audio a\\ b.wav", "/audio a\\ c.wav", "/audio a\\ folder/"]
    assert completed("/audio a\\ b") == ["/audio a\\ b.wav"]
    assert completed("/audio 'a f") == ["/audio 'a folder/"]
    assert completed("/audio .") == ["/audio .hidden"]
    assert completed("/audio nowhere/") == []


def test_home_stays_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a b.wav").touch()
    assert completed("/audio ~/") == ["/audio ~/a\\ b.wav"]
