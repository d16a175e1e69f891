"""Pairs as ms-swift and LLaMA-Factory have them are built and trained on as they are."""

import io
import json

import numpy as np
import pytest
import soundfile
import tiny_models
from commands import finished, metrics

from data_pipelines import build
from data_pipelines.records import Corpus
from qwen_audio_jax import convert
from qwen_audio_jax.training.stored_references import VALUES_FILE

STEPS = 8
CLIPS = {"1.wav": "WAV", "2.flac": "FLAC", "3.ogg": "OGG"}


def swift(number):
    """Lines of ms-swift's standard form, as its documentation has them."""
    system = {"role": "system", "content": "You are a useful and harmless assistant"}
    asked = {"role": "user", "content": f"<audio>What's that sound? ({number})"}
    said = {"role": "assistant", "content": "It is the sound of glass shattering."}
    told = {"role": "assistant", "content": "It is the sound of a car."}
    added = [
        {"role": "user", "content": f"What is {number} + 1?"},
        {"role": "assistant", "content": f"It equals {number + 1}"},
        {"role": "user", "content": "What about adding 1?"},
        {"role": "assistant", "content": f"It equals {number + 2}"},
    ]
    clips = {"audios": ["clips/1.wav"]}
    return [
        {"messages": [system, asked, said], "rejected_response": "I don't know", **clips},
        {"messages": [system, *added], "rejected_response": "I don't know"},
        {
            "messages": [asked, said],
            **clips,
            "rejected_messages": [asked, told],
            "rejected_audios": ["clips/1.wav"],
        },
    ]


def queries(number):
    """Of its form of queries and responses."""
    return [
        {
            "query": f"<audio>What can you hear? ({number})",
            "response": "A woman is coughing.",
            "rejected_response": "A dog is barking.",
            "audios": ["clips/2.flac"],
        },
        {
            "query": f"Who are you? ({number})",
            "response": "A listener.",
            "rejected_response": "I don't know",
        },
    ]


def ranking(number):
    """Of LLaMA-Factory's `formatting: sharegpt` with `ranking: true`, as of dpo_en_demo.json."""

    def gpt(value):
        return {"from": "gpt", "value": value}

    def human(value):
        return {"from": "human", "value": value}

    return [
        {
            "conversations": [human(f"<audio>What does the person say? ({number})")],
            "chosen": gpt("We are glad to welcome his gospel."),
            "rejected": gpt("The person says nothing."),
            "audios": ["clips/3.ogg"],
        },
        {
            "conversations": [
                {"from": "system", "value": "You are a teacher."},
                human("Who wrote the classic novel?"),
                gpt("Jane Austen"),
                human(f"<audio>Is this her voice? ({number})"),
            ],
            "chosen": gpt("Nobody recorded it."),
            "rejected": gpt("Yes 😊"),
            "audios": ["clips/2.flac"],
        },
        {
            "conversations": [human(f"How can I prepare for interview {number}?")],
            "chosen": gpt("Research the company:\n1. What it makes."),
            "rejected": gpt("Here are some tips."),
        },
    ]


def tagged(number):
    """The same with `role_tag: role`, keys in the order of mllm_audio_demo.json."""

    def message(content, role):
        return {"content": content, "role": role}

    return [
        {
            "messages": [message(f"<audio>What can you hear? ({number})", "user")],
            "chosen": message("A woman is coughing.", "assistant"),
            "rejected": message("A man is coughing.", "assistant"),
            "audios": ["clips/2.flac"],
        },
        {
            "messages": [message(f"Hello, {number}.", "user")],
            "chosen": message("Hi.", "assistant"),
            "rejected": message("No.", "assistant"),
            "audios": [],
        },
    ]


def alpaca(number):
    """Of its alpaca format with `ranking: true`, and what hh_rlhf_en adds."""
    return [
        {
            "instruction": "<audio>What is it?",
            "input": f"Take a word. ({number})",
            "chosen": "Glass.",
            "rejected": "I cannot hear anything, since I am a language model.",
            "audios": ["clips/1.wav"],
        },
        {
            "instruction": f"And {number} more?",
            "input": "",
            "chosen": "Nine.",
            "rejected": "Ten.",
            "history": [["How many are these?", "Eight."]],
            "system": "",
            "audios": None,
        },
    ]


FILES = {
    "swift.jsonl": swift,
    "queries.jsonl": queries,
    "ranking.json": ranking,
    "tagged.json": tagged,
    "alpaca.json": alpaca,
}
"""A file's name, and the rows that it has again and again."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The files with their clips, and a corpus of each in data/, both splits."""
    root = tmp_path_factory.mktemp("files")
    (root / "clips").mkdir()
    for number, (name, form) in enumerate(CLIPS.items()):
        wave, file = np.sin(np.arange(4000) * (0.1 + 0.1 * number)), io.BytesIO()
        soundfile.write(file, 0.1 * wave, 16000, format=form)
        (root / "clips" / name).write_bytes(file.getvalue())
    for name, rows in FILES.items():
        written = [row for number in range(4) for row in rows(number)]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written)
        text = lines if name.endswith(".jsonl") else json.dumps(written, indent=2)
        (root / name).write_text(text, encoding="utf-8")
        out = root / "data" / name.partition(".")[0]
        flags = ["--source=conversations", f"--manifest={root / name}", f"--out={out}"]
        for split in ("train", "validation"):
            assert build.main([*flags, f"--split={split}", "--workers=1"]) == 0
    return root


def test_every_row_is_a_pair_with_its_clip(root):
    for name, rows in FILES.items():
        corpus, written = root / "data" / name.partition(".")[0], rows(0)
        index = list(Corpus(corpus).index("train"))
        assert len(index) == 4 * len(written)
        assert (corpus / "rejected.jsonl").read_text() == ""
        for made, row in zip(index, written, strict=False):
            assert made.task == "preference"
            assert len(made.samples) == len(row.get("audios") or ())
            assert made.annotation["messages"][-1]["role"] == "user"
            assert made.annotation["chosen"] != made.annotation["rejected"]
    first, *_ = Corpus(root / "data" / "alpaca").index("train")
    assert first.annotation["messages"][0]["content"] == [
        {"type": "audio"},
        {"type": "text", "text": "What is it?\nTake a word. (0)"},
    ]


@pytest.mark.slow
def test_all_are_trained_on_and_evaluated_before_and_after(root, tmp_path):
    """From the command line, from a model that `convert import` has read."""
    original, start = tiny_models.write_model(tmp_path / "original"), tmp_path / "start"
    assert convert.main(["import", f"--source={original}", f"--out={start}"]) == 0
    names = [name.partition(".")[0] for name in FILES]
    done = finished(
        root / "data",
        tmp_path / "run",
        file="dpo",
        **{
            "init_from": start,
            "data.mixture": json.dumps(dict.fromkeys(names, 1.0)),
            "data.shapes": "((4, 768, 128),)",
            "train.steps": STEPS,
            "preference.reference": "stored",
            "evaluate.beside": "()",
            "evaluate.max_new_tokens": 8,
        },
    )
    rows = metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert (rows[-1]["accuracy"], rows[-1]["margin"] > 0) == (1.0, True)
    # Each record has been read, and was compared with the start.
    compared = np.fromfile(tmp_path / "run" / VALUES_FILE, "<i4,<i8,<2f4,<u4")
    assert len(compared) == sum(4 * len(rows(0)) for rows in FILES.values())
    assert np.all(np.isfinite(compared["f2"]) & (compared["f2"] < 0))
    table = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    whole = [row for row in table if row["metric"] == "accuracy"]
    assert [(row["task"], row["n"]) for row in whole] == [("preference", len(compared))]
    assert all("before" in row for row in table)
    assert {f"accuracy/{name}" for name in names} < {row["metric"] for row in table}
    assert "before" in done.stdout
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<dt>Rejected</dt>" in report
    assert "margin of rewards" in report
