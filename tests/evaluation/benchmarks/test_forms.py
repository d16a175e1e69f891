"""Which form a benchmark is of, and what no form is."""

import json

import published_lists
import pytest
from conftest import write_corpus

from data_pipelines.records import RejectedRecord
from qwen_audio_jax.evaluation import benchmarks
from qwen_audio_jax.evaluation.benchmarks import (
    ELSEWHERE,
    FORMS,
    JUDGED,
    REFUSALS,
    digest_of,
    form_of,
    open_benchmark,
)
from qwen_audio_jax.metrics.choices import RULES
from qwen_audio_jax.rendering import chat


@pytest.mark.parametrize("form", published_lists.LISTS)
def test_the_first_row_tells_one_form_alone(tmp_path, form):
    path = published_lists.LISTS[form](tmp_path)
    assert form_of(path) == form
    row = benchmarks.first_row(path)
    assert [name for name, tells in benchmarks._TELLING if tells(row)] == [form]


@pytest.mark.parametrize("name", published_lists.VOICE_BENCH)
def test_every_set_of_voice_bench_is_told(tmp_path, name):
    assert form_of(published_lists.voice_bench(tmp_path, name)) == "voice_bench"


def test_every_form_has_its_miniature():
    assert published_lists.LISTS.keys() | {"corpus"} == FORMS.keys()


@pytest.mark.parametrize("form", published_lists.LISTS)
def test_every_row_is_an_item_or_left_out(tmp_path, form):
    path = published_lists.LISTS[form](tmp_path)
    found = open_benchmark("bench", path)
    assert (found.name, found.form, found.path) == ("bench", form, path)
    text = path.read_text(encoding="utf-8-sig")
    rows = json.loads(text) if path.suffix == ".json" else text.splitlines()
    assert len(found.items) + len(found.left_out) == len(rows)
    assert len({item.id for item in found.items}) == len(found.items)
    for item in found.items:
        assert all(item.clips())


@pytest.mark.parametrize("family", ["qwen_audio", "qwen2_audio"])
@pytest.mark.parametrize("form", published_lists.LISTS)
def test_messages_render_with_one_clip(tmp_path, form, family):
    for item in open_benchmark("bench", published_lists.LISTS[form](tmp_path)).items:
        if item.messages:
            spans = chat.render(item.messages, family, add_generation_prompt=True)
            assert [span.clip for span in spans if span.clip >= 0] == [0]
            written = [span.text for span in item.spans if span.text]
            assert all(any(text in span.text for span in spans) for text in written)


@pytest.mark.parametrize("form", published_lists.LISTS)
def test_choices_have_a_rule_and_free_answers_one_that_is_known(tmp_path, form):
    for item in open_benchmark("bench", published_lists.LISTS[form](tmp_path)).items:
        if item.choices:
            assert item.rule in RULES
            assert item.annotation["text"] in item.choices
        else:
            assert item.rule in ("", REFUSALS, JUDGED, ELSEWHERE)
        json.dumps(item.annotation, allow_nan=False)


def test_a_corpus_is_a_folder_of_shards(tmp_path):
    write_corpus(tmp_path / "corpus", train=3, validation=2)
    found = open_benchmark("mine", tmp_path / "corpus")
    assert (found.form, len(found.items), found.left_out) == ("corpus", 2, [])
    assert found.items[0].task == "instrument_classification"
    assert found.items[0].annotation["source"] == "test"
    assert found.items[0].clips()[0][:4] == b"fLaC"


def test_a_corpus_of_one_split_is_evaluated_on_that(tmp_path):
    write_corpus(tmp_path / "corpus", train=3)
    assert len(open_benchmark("mine", tmp_path / "corpus").items) == 3


def test_unknown_form_is_a_sentence_with_the_fields(tmp_path):
    path = published_lists.write(tmp_path / "odd.jsonl", [{"wav": "a.wav", "label": "dog"}])
    with pytest.raises(RejectedRecord, match="the fields 'wav', 'label'"):
        open_benchmark("odd", path)
    with pytest.raises(RejectedRecord, match="is empty, or its first row is no JSON object"):
        open_benchmark("empty", published_lists.write(tmp_path / "empty.json", []))


def test_what_is_no_list_is_named(tmp_path):
    with pytest.raises(RejectedRecord, match="is a folder and no corpus; give"):
        open_benchmark("folder", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gone\.jsonl: no such file"):
        open_benchmark("gone", tmp_path / "gone.jsonl")
    (tmp_path / "bad.json").write_text("[{]")
    with pytest.raises(RejectedRecord, match=r"bad\.json: is not valid JSON"):
        open_benchmark("bad", tmp_path / "bad.json")


def test_a_list_of_which_nothing_can_be_asked_says_why(tmp_path):
    path = published_lists.write(tmp_path / "mmau.json", published_lists.MMAU[3:])
    with pytest.raises(
        RejectedRecord, match=r"nothing that can be asked.*3fe6-3\.wav is not there"
    ):
        open_benchmark("mmau", path)


def test_the_digest_is_of_every_byte(tmp_path):
    path = published_lists.mmau(tmp_path)
    before = digest_of(path)
    assert digest_of(path) == before == open_benchmark("mmau", path).digest
    path.write_bytes(path.read_bytes().replace(b"medium", b"easy  ", 1))
    assert digest_of(path) != before
