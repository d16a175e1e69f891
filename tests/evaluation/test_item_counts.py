"""What answers add to sums: the score of the sums is the score of the set, for every metric."""

import numpy as np
import pytest
from annotations import ANNOTATION

from qwen_audio_jax.evaluation.item_counts import caption_counts, counts_of
from qwen_audio_jax.evaluation.summed_scores import value_of
from qwen_audio_jax.metrics import Answer, score
from qwen_audio_jax.metrics.bleu import bleu_pairs
from qwen_audio_jax.metrics.coco_captions import caption_rows
from qwen_audio_jax.rendering import render
from qwen_audio_jax.tasks import CHAT, TASKS


def labels(task):
    """The right answer in both forms, and what one may say instead."""
    if task == CHAT:
        return ["Yes.", "yes", "yes it is", ""]
    right = [
        "".join(span.tag or span.text for span in render(task, ANNOTATION, form)[1])
        for form in ("tags", "prompts")
    ]
    halves = [text[: len(text) * 2 // 3] for text in right]
    late = "<|0.30|>yes<|0.50|>it<|0.90|>"
    return [*right, *halves, "", "yes yes", late, "bell 0.30"]


@pytest.mark.parametrize("task", [*TASKS, CHAT])
def test_sums_of_counts_have_the_score_of_the_set(task):
    answers = [Answer(ANNOTATION, text) for text in labels(task)]
    rows = score(task, answers)
    assert rows
    for row in rows:
        counts = np.array(counts_of(task, [row["metric"]], answers)[row["metric"]])
        assert len(counts) == len(answers)
        (value,) = value_of(row["metric"])(counts.sum(0, keepdims=True))
        assert value == pytest.approx(row["value"], abs=1e-9)


def test_captions_have_the_mean_of_their_clips():
    clips = [(["a dog barks loudly"], "a dog barks"), (["rain on the roof", "rain"], "rain falls")]
    answers = [Answer({"text": texts}, said) for texts, said in clips]
    rows = {row["metric"]: row for row in caption_rows(clips)}
    counts = caption_counts(answers)
    assert counts.keys() == {"cider", "rouge_l"}
    for metric, columns in counts.items():
        (value,) = value_of(metric)(np.sum(columns, axis=0, keepdims=True))
        assert value == pytest.approx(rows[metric]["value"])
    assert bleu_pairs(answers, "")[0][:2] == clips[0]


def test_a_label_that_cannot_be_read_leaves_no_counts():
    answers = [Answer(ANNOTATION, "x"), Answer(ANNOTATION | {"turns": [{"speaker": "A"}]}, "x")]
    assert counts_of("speaker_diarization", ["der"], answers) == {}
    assert counts_of("asr", ["der", "wer"], answers[:1]).keys() == {"wer"}
