"""A vocabulary without a task's control tokens is refused, and one without a language's is told."""

import json
import logging
import types

import pytest

from data_pipelines.records import IndexRow
from qwen_audio_jax.rendering import render
from qwen_audio_jax.rendering.language_codes import language_code
from qwen_audio_jax.run_config import ConfigError
from qwen_audio_jax.tasks import CONDITIONINGS, KINDS
from qwen_audio_jax.text.control_tokens import control_tokens
from qwen_audio_jax.text.tokenizer import train_sentencepiece
from qwen_audio_jax.text.tokenizer_qwen import JsonTokenizer
from qwen_audio_jax.training.needed_tags import _needed, check_tags


def vocabulary(names):
    added = [{"content": name, "id": 1 + i} for i, name in enumerate(dict.fromkeys(names))]
    model = {"type": "BPE", "vocab": {"a": 0}, "merges": []}
    return JsonTokenizer(json.dumps({"model": model, "added_tokens": added}).encode())


def split(task, *languages, name="train", **annotation):
    """A corpus with one record of each language, as what a run reads."""
    rows = [
        IndexRow(str(i), task, (16000,), KINDS[task].example | annotation | {"language": language})
        for i, language in enumerate(languages)
    ]
    return types.SimpleNamespace(index=lambda _: rows), name


def warned(caplog, splits, conditioning, tokenizer, imported=True):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        check_tags(splits, conditioning, tokenizer, imported=imported)
    return caplog.text


def test_languages_without_a_tag_are_told_with_their_counts(caplog):
    tokenizer = vocabulary(control_tokens(["nl"]))
    splits = {
        "one": split("asr", "cs", "cs", "nl", "en", "unknown"),
        "two": split("speech_translation", "ro", "cs", target_language="be"),
        "validation split": split("asr", "cs", "en", name="validation"),
    }
    told = warned(caplog, splits, "tags", tokenizer)
    assert "note: 5 records are in languages that the vocabulary has no tag for" in told
    assert (
        "<|unknown|> is written instead: be (train 2), cs (train 3, validation 1), ro (train 1). "
    ) in told
    # All of them, those too that the vocabulary has: so it can be pasted.
    assert "import the language model again, with --languages=be,cs,nl,ro, and start" in told
    for code in ("be", "cs", "nl", "ro"):
        assert language_code(code) == code
    assert (
        warned(caplog, splits, "tags", vocabulary(control_tokens(["be", "cs", "nl", "ro"]))) == ""
    )


def test_where_no_tag_is_written_none_is_missed(caplog):
    tokenizer = vocabulary(control_tokens())
    translation = {"one": split("speech_translation", "cs", target_language="nl")}
    assert "cs (train 1)" in warned(caplog, translation, "tags", tokenizer)
    assert warned(caplog, translation, "prompts", tokenizer) == ""
    recognition = {"one": split("asr", "cs")}
    # An answer begins with the language.
    assert "cs (train 1)" in warned(caplog, recognition, "prompts", tokenizer)
    assert warned(caplog, recognition, "none", tokenizer) == ""
    asked = {"one": split("language_identification", "cs")}
    assert warned(caplog, asked, "tags", tokenizer) == ""


def test_how_to_get_a_tag_depends_on_whose_the_vocabulary_is(caplog, tmp_path):
    splits = {"one": split("asr", "cs")}
    told = warned(caplog, splits, "tags", vocabulary(control_tokens()), imported=False)
    assert "--languages" not in told
    assert "is that of a whole model, and stays as it is" in told
    own = train_sentencepiece(["good morning"], ["nl"], tmp_path, pieces=8)
    told = warned(caplog, splits, "tags", own, imported=False)
    assert "is that of the first corpus of config.data.mixture; name one first that has" in told


def test_a_vocabulary_that_lacks_what_tasks_need_is_refused(caplog):
    lacking = ("<|wo_itn|>", "<|12.34|>", "<|29.99|>", "<|itn|>", "<|transcribe|>", "<|delim|>")
    tokenizer = vocabulary(name for name in control_tokens() if name not in lacking)
    splits = {"one": split("asr", "en"), "two": split("word_timestamps", "en", name="validation")}
    with pytest.raises(ConfigError) as refused:
        check_tags(splits, "tags", tokenizer, imported=False)
    assert str(refused.value).startswith(
        "the vocabulary lacks control tokens: asr needs <|transcribe|>, <|wo_itn|>; "
        "word_timestamps needs <|transcribe|>, <|12.34|>, <|29.99|>; start from "
    )
    with pytest.raises(ConfigError, match=r"tokens: word_timestamps needs <\|12\.34\|>, <\|29"):
        check_tags(splits, "prompts", tokenizer, imported=False)
    only_text = vocabulary(["<|endoftext|>"])
    with pytest.raises(ConfigError, match=r"<\|sil\|>, <\|0\.54\|>, <\|0\.80\|> and 2,999 more"):
        check_tags({"two": splits["two"]}, "none", only_text, imported=False)
    assert warned(caplog, {"one": split("asr", "cs")}, "none", only_text) == ""


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("task", KINDS)
def test_what_a_task_is_written_with_is_what_it_needs(task, conditioning):
    needed = _needed(task, conditioning)
    assert set(needed) <= {*control_tokens()}
    for wording in range(len(KINDS[task].prompts)):
        for part in render(task, KINDS[task].example, conditioning, wording=wording):
            written = {span.tag for span in part if span.tag and not span.language}
            assert written <= {*needed}
