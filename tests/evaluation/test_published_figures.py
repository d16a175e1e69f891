"""Published figures stand beside scores of the same protocol, set and size, and nowhere else."""

import finished
import pytest

from qwen_audio_jax.evaluation.benchmarks.originals import SETS
from qwen_audio_jax.evaluation.published import figures, why_none, with_published
from qwen_audio_jax.evaluation.scoring import Group
from qwen_audio_jax.metrics.answer import table_row
from qwen_audio_jax.metrics.scales import SCALES

PATH = "/data/asr/librispeech_eval.jsonl"


def beside(metric, n=2620, prompted=False, slices=(), sources=("test_clean",), **changes):
    """The figures that stand beside a row of `n` items, and why none does."""
    items = [
        finished.item(k, "x", source=source, own_words=prompted) for k, source in enumerate(sources)
    ]
    model = {"name": "x", "conditioning": "tags"} | changes.pop("model", {})
    plan = finished.plan_of(items, "originals", PATH, model=model.items(), **changes)
    group = Group(plan.benchmarks[0], "asr", items, [], [], 0)
    row = table_row(metric, 0.05, 1.0, n) | ({"slices": list(slices)} if slices else {})
    why = why_none(plan, plan.benchmarks[0], items)
    return with_published(plan, group, row), why


def figure(row):
    return [(one["model"], one["value"]) for one in row.get("published", ())]


def test_qwen_audios_figure_stands_beside_its_own_protocol():
    row, why = beside("wer")
    assert (figure(row), why) == ([("Qwen-Audio", 0.02)], "")


def test_qwen2_audios_figures_stand_beside_its_prompts_and_normaliser():
    row, why = beside("wer/v2", prompted=True, model={"conditioning": "prompts"})
    assert figure(row) == [("Qwen2-Audio", 0.016), ("Qwen2-Audio (converted)", 0.017)]
    assert why == ""


@pytest.mark.parametrize(
    ("metric", "changes"),
    [
        ("wer", {"n": 2619}),
        ("wer", {"prompted": True}),
        ("wer/plain", {}),
        ("wer/v2", {}),
        ("cer", {}),
        ("wer", {"sources": ("test_other",)}),
        ("wer", {"sources": ("test_clean", "test_other")}),
        ("wer", {"passed_over": 1}),
        ("wer", {"model": {"conditioning": "prompts"}}),
    ],
)
def test_none_stands_beside_anything_else(metric, changes):
    assert "published" not in beside(metric, **changes)[0]


def test_slices_by_source_have_those_of_their_split():
    slices = [
        {"slice": "source=test_clean", "value": 0.05, "n": 2620},
        {"slice": "source=test_other", "value": 0.05, "n": 2939},
        {"slice": "gender=test_clean", "value": 0.05, "n": 2620},
    ]
    row, _ = beside("wer", 5559, slices=slices, sources=("test_clean", "test_other"))
    assert [figure(one) for one in row["slices"]] == [
        [("Qwen-Audio", 0.02)],
        [("Qwen-Audio", 0.042)],
        [],
    ]


def test_it_is_told_why_there_are_none():
    _, why = beside("wer", model={"conditioning": "prompts"})
    assert why == (
        "Qwen-Audio, Qwen2-Audio and Qwen2-Audio (converted) were asked with their makers' "
        "prompts, and this was asked with others"
    )
    _, why = beside("wer", passed_over=3)
    assert why.startswith("a part of it was asked")
    plan = finished.plan_of([finished.item(0, "x")], "air_chat")
    assert "retired in March 2026" in why_none(plan, plan.benchmarks[0], plan.items)
    plan = finished.plan_of([finished.item(0, "x")], "manifest")
    assert why_none(plan, plan.benchmarks[0], plan.items) == ""


def test_figures_are_of_known_sets_and_metrics_and_stand_once():
    known = figures()
    assert len(known) == 65
    keys = [(one.model, one.set, one.split, one.metric) for one in known]
    assert len(set(keys)) == len(keys)
    for one in known:
        assert one.set in SETS
        scale = SCALES[one.metric.partition("/")[0]]
        assert one.value < (1 if scale.unit == "%" else 50)
        assert one.table
