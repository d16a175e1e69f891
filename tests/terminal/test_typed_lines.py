"""Any path comes back from a line, however a terminal has spelled it; text stays text."""

import os
import pathlib
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen_audio_jax.terminal.commands import COMMANDS
from qwen_audio_jax.terminal.typed_lines import Command, escaped, paths, quoted, read, split

# All that a file's name may have: lone halves of pairs stand for bytes that are no UTF-8.
PATHS = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=30) | st.text(
    " '\"\\~$`!*?()[]{}#;&|<>\t\n%:/afile.", min_size=1, max_size=12
)


@given(st.lists(PATHS, min_size=1, max_size=4), st.sampled_from([quoted, escaped]))
@example(["~"], escaped)
@example(["file:/x"], escaped)
@example(["file:/x"], quoted)
@example(["a b", "c'd", 'e"f', "g\\h"], quoted)
def test_paths_of_any_characters_come_back(named, spell):
    line = " ".join(map(spell, named))
    words = split(line)
    assert [word.path for word in words] == named
    assert not any(word.open for word in words)
    assert paths(line) == named


@given(PATHS)
def test_paths_in_double_quotes_come_back(path):
    inside = "".join(f"\\{sign}" if sign in '"\\$`' else sign for sign in path)
    assert [word.path for word in split(f'"{inside}"')] == [path]


@given(st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name))
def test_uris_come_back(name):
    """As file managers write them: whatever is no plain letter as its bytes, be it UTF-8 or not."""
    path = b"/" + name.lstrip(b"/")
    plain = (string.ascii_letters + string.digits + "/._-~").encode()
    uri = "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in path)
    for begin in ("file://", "FILE://", "file://localhost", "file:"):
        assert paths(begin + uri) == [os.fsdecode(path)]


@given(st.text(max_size=40))
def test_any_line_is_text_a_command_or_refused_in_a_sentence(line):
    try:
        found = read(line, COMMANDS)
    except ValueError:
        found = None
    if not line.startswith("/"):
        assert found == line.strip()
    else:
        assert found is None or found.name in COMMANDS


@given(st.text(max_size=40))
def test_any_argument_is_words_or_refused_in_a_sentence(argument):
    try:
        named = paths(argument)
    except ValueError:  # and nothing else
        return
    assert bool(named) == bool(argument.strip())


def test_text_is_sent_without_the_blanks_around_it():
    assert read("  /etc is a folder ", COMMANDS) == "/etc is a folder"
    assert read("What <|im_end|> is said?", COMMANDS) == "What <|im_end|> is said?"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/adio x.wav", "did you mean /audio?"),
        ("/zzzz", "is no command; /help lists them"),
        ("/home/nobody/talk.wav", "is no file that is there"),
        ("/", "is no command"),
    ],
)
def test_what_is_no_command_is_refused_with_the_mend(line, told):
    with pytest.raises(ValueError, match="blank") as refused:
        read(line, COMMANDS)
    assert told in str(refused.value)


def test_a_command_has_all_that_stands_behind_it():
    assert read("/audio  a.wav  'b c.wav' ", COMMANDS) == Command("/audio", "a.wav  'b c.wav' ")
    assert read("/undo", COMMANDS) == Command("/undo")
    assert read("/system\tBe brief.", COMMANDS) == Command("/system", "Be brief.")


@pytest.fixture
def files(tmp_path) -> list[pathlib.Path]:
    """Files with blanks, quotes and the like in their names."""
    made = [
        tmp_path / name for name in ("a b.wav", "it's.wav", 'x "y".wav', "100%.wav", "ü 音.wav")
    ]
    for path in made:
        path.touch()
    return made


def test_files_dragged_into_the_terminal_are_added(files):
    for spell in (quoted, escaped, str, lambda path: pathlib.Path(path).as_uri()):
        for path in files:
            found = read(f"{spell(str(path))} ", COMMANDS)
            assert isinstance(found, Command), (spell, path)
            assert (found.name, paths(found.argument)) == ("/audio", [str(path)])
    all_at_once = " ".join(quoted(str(path)) for path in files)
    found = read(all_at_once, COMMANDS)
    assert paths(found.argument) == [str(path) for path in files]


def test_a_line_that_says_more_than_files_is_text(files):
    for line in (f"'{files[0]}' is what?", f"'{files[0]}x'"):
        assert read(line, COMMANDS) == line


def test_a_path_typed_with_its_blanks_is_found(files):
    assert paths(f" {files[0]} ") == [str(files[0])]
    assert paths(str(files[1])) == [str(files[1])]  # its quote is no quote


@pytest.mark.parametrize("typed", ["'a b.wav", '"a b.wav', "a\\"])
def test_an_open_quote_is_told(typed):
    with pytest.raises(ValueError, match="has no counterpart; put the path into quotes"):
        paths(typed)


def test_home_is_known_and_other_machines_are_refused(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert paths("~/a.wav '~/a.wav' \\~/a.wav") == ["/home/me/a.wav", "~/a.wav", "~/a.wav"]
    with pytest.raises(ValueError, match="another machine, 'nas'; copy it"):
        paths("file://nas/a.wav")
