"""What is at a path is told as what it is; a name in another Unicode form is found."""

import os
import pathlib
import socket
import unicodedata

import pytest

from data_pipelines.records import RejectedRecord
from data_pipelines.sources.paths import audio_file

NAME = "größe é 한글.wav"
FORMS = {form: unicodedata.normalize(form, NAME) for form in ("NFC", "NFD")}


def refused(folder, name) -> str:
    with pytest.raises(RejectedRecord) as refusal:
        audio_file(folder, name)
    said = str(refusal.value)
    assert said.startswith("field 'audio': ")
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    "name", ["https://a.org/b/c.wav", "s3://bucket/c.wav", "gs://b", "file:///a"]
)
def test_an_address_keeps_its_slashes(tmp_path, name):
    assert refused(tmp_path, name) == (
        f"field 'audio': {name} is an address; download it and give its path"
    )


def test_what_is_no_file(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "broken").symlink_to("gone.wav")
    (tmp_path / "round").symlink_to("round")
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert " is a socket; give the path" in refused(tmp_path, "socket")
    assert f"{tmp_path}/fifo is a pipe; give the path" in refused(tmp_path, "fifo")
    assert f"{tmp_path}/folder.wav is a folder; give" in refused(tmp_path, "folder.wav")
    assert refused(tmp_path, "broken").endswith("broken is a link to gone.wav, which is not there")
    assert refused(tmp_path, "round").endswith("round is a link that leads round in a circle")
    assert "/dev/null is a device; give the path" in refused(tmp_path, "/dev/null")
    assert refused(tmp_path, "gone.wav").endswith("gone.wav is not there")


def test_no_permission_is_told(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pathlib.Path, "stat", denied)
    assert refused(tmp_path, "a.wav").endswith("a.wav cannot be read (Permission denied)")


@pytest.mark.parametrize("there", FORMS.values())
@pytest.mark.parametrize("asked", FORMS.values())
def test_either_unicode_form_is_found(tmp_path, there, asked):
    (tmp_path / there).mkdir()
    (tmp_path / there / there).write_bytes(b"x")
    assert audio_file(tmp_path, f"{asked}/{asked}").read_bytes() == b"x"
    assert audio_file(pathlib.Path("/"), str(tmp_path / asked / asked)).read_bytes() == b"x"
    (tmp_path / asked).mkdir(exist_ok=True)
    (tmp_path / asked / asked).write_bytes(b"the one of that very name")
    assert audio_file(tmp_path, f"{asked}/{asked}").read_bytes().startswith(b"the one")
    assert refused(tmp_path, f"{asked}/é.wav").endswith("é.wav is not there")


@pytest.mark.parametrize("name", ["A.WAV", "a.wav ", "\ta.Wav"])
def test_a_name_in_other_letters_is_suggested(tmp_path, name):
    (tmp_path / "a.wav").write_bytes(b"x")
    assert refused(tmp_path, name).endswith(" is not there; did you mean 'a.wav'?")


def test_two_other_forms_are_no_find(tmp_path):
    for name in ("e\u0323\u0302.wav", "\u1eb9\u0302.wav"):
        (tmp_path / name).write_bytes(b"x")
    assert "is not there; did you mean" in refused(tmp_path, "\u1ec7.wav")
