"""`chat` in a real terminal, which tmux is: typed, looked at, interrupted."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import uuid

import pytest
from talking_model import write_model, write_tone

from qwen_audio_jax.inference.loading import load
from qwen_audio_jax.inference.weights import weights_of
from qwen_audio_jax.terminal import talk_files

ROOT = pathlib.Path(__file__).parents[2]
PATIENCE = 90
MOST = 7000  # seconds of writing, in which it is stopped


class Terminal:
    """A terminal of 100 columns in which a command runs, and then a shell's `echo`."""

    def __init__(self, command: str):
        self._name = f"test-{uuid.uuid4().hex[:8]}"
        self._tmux("new-session", "-d", "-x", "100", "-y", "60", "sh")
        self._command = command
        self.run()

    def run(self) -> None:
        """Runs the command."""
        self.type(f"{self._command}; echo status $?", "Enter")

    def type(self, *keys: str) -> None:
        """Types text, and keys by their names."""
        for key in keys:
            named = key in ("Enter", "Tab", "C-c", "C-d", "C-z", "Up")
            self._tmux("send-keys", *(() if named else ("-l",)), "--", key)

    def paste(self, text: str) -> None:
        """As a file that is dragged into the terminal."""
        self._tmux("set-buffer", "--", text)
        self._tmux("paste-buffer", "-p")

    @property
    def screen(self) -> str:
        return self._tmux("capture-pane", "-p", "-J", "-S", "-500")

    def until(self, text: str, behind: str = "") -> str:
        """The screen, as soon as a text stands there behind another."""
        end = time.monotonic() + PATIENCE
        while not re.search(f"{re.escape(behind)}.*{re.escape(text)}", screen := self.screen, re.S):
            assert time.monotonic() < end, f"{text!r} does not come:\n{screen[-3000:]}"
            time.sleep(0.1)
        return screen

    def close(self) -> None:
        self._tmux("kill-server")

    def _tmux(self, *words: str) -> str:
        # Its own server, which knows this process's environment.
        command = ["tmux", "-L", self._name, "-f", os.devnull, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def terminal(tmp_path, monkeypatch):
    if not shutil.which("tmux"):
        pytest.skip("tmux is not installed, and nothing else here is a terminal")
    checkpoint = write_model(tmp_path / "mine")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.chdir(tmp_path)
    made = Terminal(
        f"'{sys.executable}' -m qwen_audio_jax.chat --checkpoint='{checkpoint}' "
        f"--max_new_tokens={MOST}"
    )
    yield made
    made.close()


def test_a_talk_in_a_real_terminal(terminal, tmp_path):
    write_tone(tmp_path / "a tone.flac")
    terminal.until("starting")
    terminal.until("›")

    # A file is completed by Tab, another dragged; then all is sent by Enter alone.
    terminal.type("/audio a", "Tab")
    terminal.until("/audio a\\ tone.flac")
    terminal.type("Enter")
    terminal.until("added a tone.flac (0.4 s)")
    terminal.paste(f"'{tmp_path}/a tone.flac' ")
    terminal.type("Enter")
    terminal.until("[2 clips] ›")
    terminal.type("/undo", "Enter")
    terminal.until("a tone.flac taken back")
    terminal.type("Enter")

    # What is typed meanwhile is not lost in the answer, and Ctrl-C ends that.
    terminal.until("<|")
    terminal.type("What is")
    terminal.type("C-c")
    screen = terminal.until("stopped")
    assert screen.count("first token after") == 1
    terminal.until("› What is")
    terminal.type(" it?", "Enter")
    terminal.until("<|", behind="› What is it?")
    terminal.type("C-c")
    terminal.until("stopped", behind="› What is it?")

    # Ctrl-C at the prompt ends nothing but the line.
    terminal.type("thrown away", "C-c")
    terminal.until("Ctrl-D or /quit ends")
    # A colour that is pasted as it is does no harm, and the hint goes with the line.
    terminal.type("/dance \033[31m", "Enter")
    screen = terminal.until("error: '/dance' is no command")
    terminal.until("›", behind="blank before it")
    assert "Ctrl-D or /quit ends" not in terminal.screen
    assert "Press ENTER" not in screen
    terminal.type("/save my talk.zip", "Enter")
    terminal.until("saved as my talk.zip")
    terminal.type("C-d")
    screen = terminal.until("status 0")
    assert "Traceback" not in screen

    # Two turns, each up to where it was stopped.
    loaded = load(tmp_path / "mine")
    model = talk_files.Model("mine", weights_of(loaded))
    state, clips = talk_files.load(str(tmp_path / "my talk.zip"), model)
    first, second = state["turns"]
    assert first["content"] == [{"type": "audio"}]
    assert second["content"] == [{"type": "text", "text": "What is it?"}]
    assert [len(clip) for clip in clips] == [6400]
    for turn in (first, second):
        assert 0 < len(turn["ids"]) < MOST
        assert turn["text"][:20] in screen.replace("\n", "")


def test_leaving_while_it_starts_and_for_a_while(terminal):
    terminal.until("starting")
    terminal.type("C-c")
    terminal.until("status 130")
    assert "Traceback" not in terminal.screen

    terminal.type("PS1='shell> '", "Enter")
    terminal.run()
    terminal.until("›")
    terminal.type("C-z")
    terminal.until("status 148")  # 128 and the number of SIGTSTP
    terminal.type("fg", "Enter")
    terminal.until("›", behind="fg")
    terminal.type("/reset", "Enter")
    terminal.until("a new talk", behind="/reset")
    terminal.type("C-d")
    terminal.until("shell>", behind="a new talk")
    assert "Traceback" not in terminal.screen
