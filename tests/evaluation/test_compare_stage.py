"""Two folders compared: every metric whose score is of sums, a list and a page; no model."""

import json

import finished
import numpy as np
import pytest
from conftest import flac

from qwen_audio_jax.evaluation import compare_stage
from qwen_audio_jax.metrics.cider import cider_d

CAPTIONS = ["a dog barks loudly", "rain falls on the roof", "two people talk", "a car drives by"]
EVENTS = [{"event": "bell", "start": 0.1, "end": 0.5}, {"event": "dog", "start": 1.0, "end": 2.0}]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Transcripts, captions and events; B is better, and failed at one transcript."""
    root = tmp_path_factory.mktemp("compared")
    rows = []
    for n in range(4):
        clip = flac(0.3 * np.sin(np.arange(2000) * (0.05 + 0.01 * n)))
        (root / f"{n}.flac").write_bytes(clip)
        rows.append({"audio": f"{n}.flac", "task": "asr", "text": f"one two {n}", "language": "en"})
    path = root / "list.jsonl"
    path.write_text(
        "".join(json.dumps(row | {"id": f"{n:04}"}) + "\n" for n, row in enumerate(rows))
    )
    items = [finished.item(n, f"one two {n}") for n in range(4)]
    items += [finished.item(n, text, "audio_captioning") for n, text in enumerate(CAPTIONS, 4)]
    items += [finished.item(n, "", "sound_event_detection", events=EVENTS) for n in range(8, 10)]
    plan = finished.plan_of(items, path=str(path))
    bell = "<|0.10|>bell<|0.50|>"
    of_a = ["one two 0", "one two", "", "one two 3", *(["a dog"] * 4), bell, ""]
    of_b = ["one two 0", "one two 1", "one two 2", None, *CAPTIONS, bell, bell]
    for name, texts in (("a", of_a), ("b", of_b)):
        finished.write(root / name, plan, finished.answers_of(items, texts))
    table = compare_stage.comparison(root / "a", root / "b", root / "made", finished.OPTIONS)
    return root, table, finished.read(root / "made", "comparison.json")


def test_every_metric_that_is_of_sums_is_compared(compared):
    _, table, found = compared
    differences = {(one["task"], one["metric"]): one for one in found["differences"]}
    assert set(differences) == {
        ("mine: asr", "wer"),
        ("mine: asr", "cer"),
        ("mine: asr", "wer/plain"),
        ("mine: audio_captioning", "bleu"),
        ("mine: audio_captioning", "cider"),
        ("mine: audio_captioning", "rouge_l"),
        ("mine: sound_event_detection", "event_f1_onset"),
        ("mine: sound_event_detection", "event_f1_onset_offset"),
    }
    wer = differences["mine: asr", "wer"]
    # The one that B failed at counts in neither score.
    assert (wer["a"], wer["b"], wer["n"]) == (4 / 9, 0, 3)
    assert wer["only_a"] == ["mine/0003"]
    cider = differences["mine: audio_captioning", "cider"]
    assert cider["b"] == pytest.approx(cider_d([([text], text) for text in CAPTIONS])[0])
    f1 = differences["mine: sound_event_detection", "event_f1_onset"]
    assert (f1["a"], f1["b"]) == (pytest.approx(2 / 5), pytest.approx(4 / 6))
    assert "Not compared" in str(table.caption)
    assert ["mine: audio_captioning", "coco_bleu_1"] in found["uncompared"]


def test_the_page_has_what_changed_most_with_players(compared):
    root, _, found = compared
    page = (root / "made" / "comparison.html").read_text()
    changed = sum(len(one["changed"]) for one in found["differences"])
    assert page.count("<article>") == changed > 0
    heard = [one for one in page.split("<article>")[1:] if "<audio" in one]
    assert heard
    assert all("mine/000" in one for one in heard)
    first = page.split("<article>")[1]
    assert first.index("mine/0002") > first.index('<span class="right">WER -33.3 %</span>')
    assert "<del>one two 2</del>" in first


def test_an_interval_that_is_not_there_is_nothing(compared):
    root, *_ = compared
    table = compare_stage.comparison(root / "a", root / "a", root / "same", finished.OPTIONS)
    cells = {str(cell) for column in table.columns for cell in column.cells}
    assert not any("- to -" in cell for cell in cells)
    (of_p,) = [column for column in table.columns if column.header == "p"]
    assert set(of_p.cells) == {"1.000"}
