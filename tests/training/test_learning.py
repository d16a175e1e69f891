"""The README's first command learns: most closed-set tasks beat guessing on unheard sound."""

import json
import subprocess
import sys

import pytest

from data_pipelines.build import build_corpus, synthetic_work

CLOSED_SET = (
    "acoustic_scene_classification",
    "audio_question_answering",
    "instrument_classification",
    "keyword_spotting",
    "language_identification",
    "note_analysis",
    "sound_event_classification",
    "speaker_gender",
    "speaker_verification",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    build_corpus(folder / "synthetic", synthetic_work())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("--config.data.conditioning=prompts",),
        ("--config.model.family=qwen_audio",),
    ],
)
def test_closed_set_tasks_beat_guessing_by_twenty_points(root, tmp_path, overrides):
    command = [sys.executable, "-m", "qwen_audio_jax.main", "--config=configs/pretrain.py"]
    options = [f"--workdir={tmp_path}", f"--config.data.root={root}", *overrides]
    subprocess.run([*command, *options], check=True)
    rows = json.loads((tmp_path / "evaluation.json").read_text())
    assert len({row["task"] for row in rows} - {"all"}) == 31
    better = {
        row["task"]
        for row in rows
        if row["metric"] == "accuracy" and row["value"] >= row["baseline"] + 0.2
    }
    assert len(better & set(CLOSED_SET)) >= 5, rows
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").open()]
    assert sum(losses[-20:]) < sum(losses[:20]) / 3
