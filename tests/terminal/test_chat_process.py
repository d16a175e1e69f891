"""`chat` as a process where nobody types: lines in, answers out."""

import argparse
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import types

import pytest
from talking_model import write_model, write_tone

from qwen_audio_jax import chat
from qwen_audio_jax.terminal.start import check_talks

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> pathlib.Path:
    return write_model(tmp_path_factory.mktemp("model") / "mine", tuned=False)


def start(checkpoint, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "qwen_audio_jax.chat", f"--checkpoint={checkpoint}", *flags]
    pipe = subprocess.PIPE
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT, env=environment
    )


def answers(checkpoint, lines: bytes, *flags: str) -> tuple[int, str, str]:
    """(exit status, standard output, standard error)."""
    process = start(checkpoint, *flags)
    out, err = process.communicate(lines, timeout=300)
    assert b"Traceback" not in err, err.decode()
    return process.returncode, out.decode(), err.decode()


def test_lines_are_answered_on_standard_output_and_nothing_else_is_there(checkpoint, tmp_path):
    clip = write_tone(tmp_path / "a b.flac")
    lines = f"Hello\r\n\n/audio '{clip}'\nWhat is it?\n/undo\n/audio '{clip}'\n"
    status, out, err = answers(checkpoint, lines.encode(), "--max_new_tokens=4")
    assert status == 0, err
    assert len(out.splitlines()) == 3  # the last clip is sent at the end, alone
    assert err.count("first token after") == 3
    assert "the last turn is taken back" in err
    assert "pre-trained and not tuned on conversations" in err  # it was not, and is told so
    assert "--task=asr --language=en" in err


@pytest.mark.slow
def test_what_cannot_be_done_is_told_by_its_line_and_what_depends_on_it_is_not_asked(
    checkpoint, tmp_path
):
    clip = write_tone(tmp_path / "clip.flac")
    lines = (
        f"/audio {clip} none.wav\nWhat is it?\nHello\n/undo it\n\xff\xfe\n/audio \xff\n".encode(
            "latin-1"
        )
        + b"Not asked either\n\0\x1b[31m\n/adio x.wav\nnor this\n"
        + f"/audio none.wav\n/audio {clip}\n\n/quit\nnor is this\n".encode()
    )
    status, out, err = answers(checkpoint, lines, "--max_new_tokens=3")
    assert status == 1
    assert len(out.splitlines()) == 2  # Hello, and the control characters, which are text
    for told in (
        "error: line 1: none.wav: there is no such file",
        "error: line 2: is not sent",
        "error: line 4: /undo takes nothing behind it",
        "error: line 5: is no UTF-8 text",
        "error: line 6: \ufffd: there is no such file",
        "error: line 7: is not sent",
        "error: line 9: '/adio' is no command; did you mean /audio?",
        "error: line 10: is not sent",
        "error: line 11: none.wav: there is no such file",
        "error: line 13: is not sent",
    ):
        assert told in err
    assert err.count("error: ") == 10


@pytest.mark.slow
def test_a_task_asks_each_clip(checkpoint, tmp_path):
    clips = " ".join(str(write_tone(tmp_path / f"{n}.flac", 200 + 90 * n)) for n in range(2))
    flags = ("--task=asr", "--language=en", "--max_new_tokens=3")
    status, out, err = answers(checkpoint, f"/audio {clips}\n".encode(), *flags)
    assert (status, len(out.splitlines())) == (0, 2), err
    assert "not tuned" not in err


def test_answers_come_before_the_next_line_is_read_and_ctrl_c_ends_it(checkpoint):
    process = start(checkpoint, "--max_new_tokens=4000")
    process.stdin.write(b"/audio none.wav\n \nHello\n")
    process.stdin.flush()
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert err.endswith(b"interrupted\n")


@pytest.mark.slow
def test_who_stops_reading_gets_no_traceback(checkpoint):
    process = start(checkpoint, "--max_new_tokens=2")
    process.stdout.close()
    process.stdin.write(b"Hello\nHello\n")
    process.stdin.close()
    assert process.wait(300) == 1
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--temperature=-1",), "--temperature: -1.0 is not a finite number from 0 up"),
        (("--temperature=nan",), "--temperature: nan"),
        (("--top_p=2",), "--top_p: 2.0 is not between 0 and 1"),
        (("--top_k=-3",), "--top_k: -3"),
        (("--repetition_penalty=0",), "--repetition_penalty: 0.0"),
        (("--seed=-1",), "--seed: -1 is not a whole number"),
        (("--max_new_tokens=0",), "--max_new_tokens: 0 is not"),
        (("--max_new_tokens=8192",), "--max_new_tokens: 8,192 leaves no room"),
        (("--language=en",), "--language: is told to a --task"),
        (("--task=aser",), "did you mean asr?"),
        (("--checkpoint=/nowhere",), "/nowhere: "),
        (("--adapter=/nowhere",), "/nowhere: "),
    ],
)
def test_a_flag_that_cannot_be_is_one_sentence(checkpoint, capsys, flags, told):
    assert chat.main([f"--checkpoint={checkpoint}", *flags]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_a_closed_stream_is_told(monkeypatch, capsys, name):
    monkeypatch.setattr(sys, name, None)
    assert chat.main(["--checkpoint=x"]) == 1
    assert "takes an open standard input and output" in capsys.readouterr().err


def test_a_missing_package_is_told_to_who_types(monkeypatch, capsys):
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert chat.main(["--checkpoint=x"]) == 1
    told = capsys.readouterr().err
    assert told == "error: chat takes one more package: pip install -e '.[chat]'\n"


def test_a_vocabulary_without_tokens_for_conversations_can_only_be_asked_a_task():
    loaded = types.SimpleNamespace(tokenizer=types.SimpleNamespace(control_ids={"<|en|>": 1}))
    check_talks(loaded, argparse.Namespace(checkpoint="mine", task="asr"))
    with pytest.raises(ValueError, match="mine: its vocabulary has no tokens for conversations"):
        check_talks(loaded, argparse.Namespace(checkpoint="mine", task=""))
