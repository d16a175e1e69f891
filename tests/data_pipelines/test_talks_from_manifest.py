"""Talks that are made of transcripts: true of their clips, the same each time, and built."""

import collections
import json
import os

import numpy as np
import pytest
import soundfile

from data_pipelines import build, talks_from_manifest
from data_pipelines.records import Corpus
from data_pipelines.sources import conversations
from qwen_audio_jax.audio.decode import decode

NAMES = {"en": "English", "fr": "French", "ro": "Romanian"}
WORDS = {
    f"{code}{n}.wav": f"Words {n} in {name}." for code, name in NAMES.items() for n in range(40)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transcripts")
    (folder / "clips").mkdir()
    lines = []
    for number, (name, words) in enumerate(WORDS.items()):
        samples = np.sin((0.1 + number / 200) * np.arange(960))
        soundfile.write(folder / "clips" / name, 0.1 * samples, 16000)
        row = {"audio": f"clips/{name}", "task": "asr", "text": words, "language": name[:2]}
        lines.append({**row, "source": "mine"})
    (folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def made_of(manifest, out) -> list[dict]:
    flags = [f"--manifest={manifest}", f"--out={out}"]
    assert talks_from_manifest.main(flags) == 0
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def names(talk):
    return [os.path.basename(path) for path in talk["audio"]]


def answers(talk):
    return [message["content"] for message in talk["messages"] if message["role"] == "assistant"]


def question(talk):
    return talk["messages"][0]["content"][-1]["text"]


def test_every_row_has_a_talk_that_is_true_of_its_clips(folder, tmp_path):
    made = made_of(folder / "m.jsonl", tmp_path / "talks.jsonl")
    assert len(made) == len(WORDS)
    seen = collections.Counter()
    for (own, words), talk in zip(WORDS.items(), made, strict=True):
        clips = names(talk)
        assert own in clips
        language = NAMES[own[:2]]
        spoken = [NAMES[name[:2]] for name in clips]
        first, *later = answers(talk)
        asked = question(talk)
        assert talk["source"] == "mine"
        assert talk.get("language") == (own[:2] if len(set(spoken)) == 1 else None)
        if talk["kind"] == "several_clips" and asked in talks_from_manifest._SAME:
            expected = f"No, the first is in {spoken[0]} and the second in {spoken[-1]}."
            if spoken[0] == spoken[1]:
                expected = f"Yes, both are in {language}."
            assert first == expected
            seen[first.split(",")[0]] += 1
        elif talk["kind"] == "several_clips":
            assert spoken.count(language) == 1
            assert language in asked
            assert first == ("The first.", "The second.")[clips.index(own)]
            assert later in ([], [words])
            seen[first] += 1
        else:
            possible = {words, f"{language}.", f"{language}: {words}"}
            assert {first, *later} <= possible
            assert (talk["kind"] == "several_turns") == bool(later)
            assert len({first, *later}) == len([first, *later])
            seen[talk["kind"]] += 1
    assert len(seen) == 6
    assert min(seen.values()) >= 5


def test_the_same_talks_again_and_they_stay_when_rows_are_added(folder, tmp_path):
    made = made_of(folder / "m.jsonl", tmp_path / "a.jsonl")
    assert made == made_of(folder / "m.jsonl", tmp_path / "b.jsonl")
    lines = (folder / "m.jsonl").read_text().splitlines(keepends=True)
    (folder / "more.jsonl").write_text("".join([*lines, lines[0]]))
    more = made_of(folder / "more.jsonl", tmp_path / "c.jsonl")
    kept = [talk for talk in made if talk["kind"] != "several_clips"]
    assert [talk for talk in more[: len(made)] if talk["kind"] != "several_clips"] == kept


def test_they_are_built_from_where_they_lie(folder, tmp_path):
    made = made_of(folder / "m.jsonl", tmp_path / "talks.jsonl")
    flags = [f"--manifest={tmp_path / 'talks.jsonl'}", f"--out={tmp_path / 'corpus'}"]
    assert build.main(["--source=conversations", "--workers=1", *flags]) == 0
    index = Corpus(tmp_path / "corpus").index("train")
    assert [row.annotation["messages"] for row in index] == [talk["messages"] for talk in made]
    assert [len(row.samples) for row in index] == [len(talk["audio"]) for talk in made]


def test_parts_of_recordings(tmp_path):
    wave = np.sin(np.arange(16000) / 5) * np.linspace(0, 0.5, 16000)
    soundfile.write(tmp_path / "long.wav", np.stack([wave, -wave], axis=1), 16000)
    base = {"audio": "long.wav", "task": "asr", "text": "Words."}
    parts = [
        {},
        {"offset": 0.25},
        {"start": 0.25, "end": 0.5, "channel": 1},
        {"channel": [0]},
    ]
    parts = [{**base, **part, "language": language} for part in parts for language in NAMES]
    lines = [*parts, {"task": "text", "text": "No clip."}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = made_of(tmp_path / "m.jsonl", tmp_path / "talks.jsonl")
    usable, rejected = conversations.jobs(tmp_path / "talks.jsonl")
    assert rejected == []
    heard = collections.Counter()
    for row, talk in zip(usable, made, strict=True):
        clips = list(map(decode, conversations.make(row).audio))
        assert len(clips) == len(talk["audio"])
        heard.update((len(clip), bool(np.abs(clip).max() < 1e-3)) for clip in clips)
    # Both channels together are silence; each of them alone is not.
    assert set(heard) == {(16000, True), (12000, True), (4000, False), (16000, False)}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([{"task": "text", "text": "No clip."}], "has no usable row of task asr"),
        (None, "no such file"),
    ],
)
def test_manifests_of_which_no_talk_is_made(tmp_path, capsys, lines, says):
    if lines:
        (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = [f"--manifest={tmp_path / 'm.jsonl'}", f"--out={tmp_path / 'talks.jsonl'}"]
    assert talks_from_manifest.main(flags) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "talks.jsonl").exists()


def test_the_manifest_is_not_written_over(folder, capsys):
    flags = [f"--manifest={folder / 'm.jsonl'}", f"--out={folder / 'm.jsonl'}"]
    assert talks_from_manifest.main(flags) == 1
    assert "is the manifest itself" in capsys.readouterr().err
