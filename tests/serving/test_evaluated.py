"""An evaluation over the API gives what the same model gives without it."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile
import tiny_models
from api_server import CONFIG, TINY, asked, audio_part, running, state_of
from conftest import flac

from qwen_audio_jax.evaluation import options, stages
from qwen_audio_jax.evaluation.answer_files import read_answers
from qwen_audio_jax.evaluation.plan import read_plan
from qwen_audio_jax.inference.engine import Engine
from qwen_audio_jax.inference.loading import load
from qwen_audio_jax.serving import transcription_arguments
from qwen_audio_jax.serving.errors import ApiError
from qwen_audio_jax.serving.served import Models, Served

pytest_plugins = ("api_fixtures",)

OPTIONS = options.from_mapping(
    {
        "limit": 0,
        "control_limit": 0,
        "slots": 3,
        "context": 1024,
        "max_new_tokens": 0,
        "protocols": (),
        "examples": 0,
        "draws": 20,
        "confidence": 0.95,
        "seed": 0,
    }
)


@pytest.fixture
def benchmarks(tmp_path):
    """Transcripts, and questions with choices in AIR-Bench's form."""
    rows, questions = [], []
    (tmp_path / "Sound_AQA_test").mkdir()
    for n in range(4):
        clip = flac(0.3 * np.sin(np.arange(4000 + 900 * n) * (0.05 + 0.02 * n)))
        (tmp_path / f"{n}.flac").write_bytes(clip)
        (tmp_path / "Sound_AQA_test" / f"{n}.flac").write_bytes(clip)
        rows.append({"audio_filepath": f"{n}.flac", "text": f"number {n}", "lang": "en"})
        choices = {"choice_a": "a bell", "choice_b": "rain", "answer_gt": "rain"}
        told = {"path": f"{n}.flac", "task_name": "Sound_AQA", "dataset_name": "test"}
        questions.append(told | choices | {"question": "What?", "uniq_id": n})
    (tmp_path / "transcripts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "Foundation_meta.json").write_text(json.dumps(questions))
    return [
        ("transcripts", tmp_path / "transcripts.jsonl"),
        ("air", tmp_path / "Foundation_meta.json"),
    ]


def test_scores_are_those_of_the_checkpoint(api, benchmarks, tmp_path):
    folder = tiny_models.write_model(tmp_path / TINY, 0, 1.5)  # as the server has it
    for name, who in (
        ("here", stages.Who(checkpoint=str(folder))),
        ("there", stages.Who(endpoint=f"{api.address}/v1", model=TINY)),
    ):
        stages.answer(tmp_path / name, who, benchmarks, OPTIONS)
        stages.score(tmp_path / name, OPTIONS)
    here, there = (
        {
            item.id: read_answers(tmp_path / name)[item.key].text
            for item in read_plan(tmp_path / name).items
        }
        for name in ("here", "there")
    )
    assert here == there
    assert len(here) == 8
    assert len(set(here.values())) > 4
    tables = [(tmp_path / name / "evaluation.json").read_bytes() for name in ("here", "there")]
    assert tables[0] == tables[1]


def test_words_that_tags_part_are_scored_alike(benchmarks, tmp_path):
    folder = tiny_models.write_model(tmp_path / "tags", 0, 1.5, 1.0)
    loaded = load(folder)
    engine = Engine(loaded, CONFIG)
    try:
        with running(state_of(Models([Served("tags", loaded, engine)]))) as server:
            for name, who in (
                ("here", stages.Who(checkpoint=str(folder))),
                ("there", stages.Who(endpoint=f"{server.address}/v1", model="tags")),
            ):
                stages.answer(tmp_path / name, who, benchmarks[:1], OPTIONS)
                stages.score(tmp_path / name, OPTIONS)
    finally:
        engine.close()
    said = [one.text for one in read_answers(tmp_path / "here").values()]
    assert any("<|" in text.strip("<|>") for text in said)
    assert not any("<|" in one.text for one in read_answers(tmp_path / "there").values())
    tables = [(tmp_path / name / "evaluation.json").read_bytes() for name in ("here", "there")]
    assert tables[0] == tables[1]


def test_transcripts_have_the_evaluations_limit(api, benchmarks, tmp_path):
    folder = tiny_models.write_model(tmp_path / TINY, 0, 1.5)
    texts = {}
    for limit in (3, 9):
        chosen = dataclasses.replace(OPTIONS, max_new_tokens=limit)
        for name, who in (
            ("here", stages.Who(checkpoint=str(folder))),
            ("there", stages.Who(endpoint=f"{api.address}/v1", model=TINY)),
        ):
            into = tmp_path / f"{name}-{limit}"
            stages.answer(into, who, benchmarks[:1], chosen)
            answered = read_answers(into)
            texts[name, limit] = [answered[item.key].text for item in read_plan(into).items]
        assert texts["here", limit] == texts["there", limit]
    assert texts["there", 3] != texts["there", 9]


@pytest.mark.parametrize("limit", ["0", "-1", "1e3", "2.5", "many", "9" * 30])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ApiError, match="whole number from 1 to 64"):
        transcription_arguments.read({"max_completion_tokens": limit}, 64)


def test_a_lists_own_words_are_what_any_other_client_would_ask(api, benchmarks, tmp_path):
    words = "Please write down what you hear:"
    prompt = f"<|audio_bos|><|AUDIO|><|audio_eos|>{words}"
    rows = [{"audio": f"{n}.flac", "gt": f"number {n}", "prompt": prompt} for n in range(3)]
    # Control tokens cannot be asked for in words, so this is a transcript as any other.
    rows.append({"audio": "0.flac", "gt": "number 0", "prompt": f"{prompt}<|en|>"})
    path = tmp_path / "librispeech.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    who = stages.Who(endpoint=f"{api.address}/v1", model=TINY)
    stages.answer(tmp_path / "there", who, [("librispeech", path), benchmarks[0]], OPTIONS)
    given = read_answers(tmp_path / "there")
    texts = [given[item.key].text for item in read_plan(tmp_path / "there").items]
    for n, text in enumerate(texts[:3]):
        clip = audio_part((tmp_path / f"{n}.flac").read_bytes(), "flac")
        done = api.client().chat.completions.create(
            model=TINY, messages=asked(clip, words), temperature=0, max_tokens=256
        )
        assert text == done.choices[0].message.content
    assert len(set(texts[:3])) == 3
    assert texts[3] == texts[4]


@pytest.mark.parametrize(
    ("who", "told"),
    [
        (stages.Who(endpoint="{api}/v1", model="none"), "--model: 'none' is not served there"),
        (stages.Who(endpoint="{api}/v2"), "does not list its models"),
        (stages.Who(endpoint="http://127.0.0.1:9/v1"), "does not list its models"),
        (stages.Who(endpoint="no address"), "does not list its models"),
    ],
)
def test_a_wrong_address_is_told(api, benchmarks, tmp_path, who, told):
    who = stages.Who(endpoint=who.endpoint.format(api=api.address), model=who.model)
    with pytest.raises(ValueError, match=told):
        stages.answer(tmp_path / "x", who, benchmarks, OPTIONS)


def test_a_long_recording_is_sent_in_windows(api, tmp_path):
    """The server hears 35 s at most in a request, and this is of 40."""
    (tmp_path / "long.flac").write_bytes(flac(0.3 * np.sin(np.arange(16_000 * 40) / 9)))
    row = {"audio_filepath": "long.flac", "text": "a b", "lang": "en"}
    (tmp_path / "list.jsonl").write_text(json.dumps(row))
    who = stages.Who(endpoint=f"{api.address}/v1", model=TINY)
    stages.answer(tmp_path / "there", who, [("long", tmp_path / "list.jsonl")], OPTIONS)
    stages.score(tmp_path / "there", OPTIONS)
    told = json.loads((tmp_path / "there" / "summary.json").read_text())["benchmarks"][0]
    assert (told["answered"], told["windows"]["windows"], told["windows"]["failed"]) == (1, 2, 0)


def test_what_the_server_refuses_is_a_failure_with_its_reason(api, benchmarks, tmp_path):
    wave = 0.3 * np.sin(np.arange(16_000 * 20) / 9)  # of 32 bits: a body of over 1 MiB
    soundfile.write(tmp_path / "0.flac", wave, 16_000, format="WAV", subtype="FLOAT")
    who = stages.Who(endpoint=f"{api.address}/v1", model=TINY)
    stages.answer(tmp_path / "there", who, benchmarks[:1], OPTIONS)
    stages.score(tmp_path / "there", OPTIONS)
    told = json.loads((tmp_path / "there" / "summary.json").read_text())["benchmarks"][0]
    assert (told["asked"], told["failed"]) == (4, 1)
    assert next(iter(told["reasons"])).startswith("status 4")
