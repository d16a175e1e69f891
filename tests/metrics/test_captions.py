"""Tokens, CIDEr-D, BLEU and ROUGE-L of captions against the COCO tools' recorded values."""

import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.metrics.cider import cider_d
from qwen_audio_jax.metrics.coco_captions import NOT_AVAILABLE, caption_rows, coco_bleu, rouge_l
from qwen_audio_jax.metrics.ptb_tokens import PUNCTUATION, ptb_tokens

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "captions"
TOKENS = json.loads((GOLDEN / "tokens.json").read_text())
SETS = json.loads((GOLDEN / "cider.json").read_text())["sets"]


def test_tokens_are_the_originals():
    assert len(TOKENS["lines"]) >= 300
    ours = {line: " ".join(ptb_tokens(line)) for line, _ in TOKENS["lines"]}
    assert ours == dict(TOKENS["lines"])


def test_known_differences_are_as_they_are_told():
    for line, theirs, ours in TOKENS["known_differences"]:
        assert " ".join(ptb_tokens(line)) == ours != theirs


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A dog's bark can't stop.", "a dog 's bark ca n't stop"),
        ("(loud) [music] {x}", "-lrb- loud -rrb- -lsb- music -rsb- -lcb- x -rcb-"),
        ("the U.S. at 5:30 p.m., no.", "the u.s. at 5:30 p.m. no"),
        ("rock-n-roll and/or -- wait...", "rock-n-roll and/or wait"),
        ("what?! Stop!", "what ?! stop"),
        ("dog 😀 bark", "dog bark"),
        ("", ""),
    ],
)
def test_tokens_of_some_lines(text, tokens):
    assert ptb_tokens(text) == tokens.split()


@given(st.text())
def test_any_text_has_tokens(text):
    tokens = ptb_tokens(text)
    assert not PUNCTUATION & set(tokens)
    assert all(token and token.split() == [token] for token in tokens)


@pytest.mark.parametrize("piece", ["a", "a.", "a,", "a-", "'", "(", "@", "a@", "1/", "<a ", ". "])
def test_long_lines_take_no_time(piece):
    ptb_tokens(piece * 2_000)


words = st.sampled_from(["some", "dog", "barks", "in", "the", "rain", "cannot"])


@given(st.lists(words, max_size=8))
def test_words_stay_and_punctuation_between_them_goes(words):
    assert ptb_tokens(" , ".join(words) + ".") == ptb_tokens(" ".join(words))


@pytest.mark.parametrize("one", SETS)
def test_values_are_the_originals(one):
    value, by_clip = cider_d(one["clips"])
    assert value == pytest.approx(one["cider"], abs=1e-9)
    assert by_clip == pytest.approx(one["cider_by_clip"], abs=1e-9)
    assert coco_bleu(one["clips"]) == pytest.approx(one["bleu"], abs=1e-9)
    assert rouge_l(one["clips"]) == pytest.approx(one["rouge_l"], abs=1e-9)


def equal(*texts: str) -> list[tuple[list[str], str]]:
    return [([text], text) for text in texts]


def test_hand_values_of_cider():
    value, by_clip = cider_d(
        [(["a dog barks loudly"], "a dog barks"), *equal("rain falls on the roof")]
    )
    assert by_clip == pytest.approx([5.891672, 10], abs=5e-7)
    assert value == pytest.approx(7.945836, abs=5e-7)
    assert cider_d(equal("a dog barks loudly", "rain falls on the roof"))[0] == pytest.approx(10)
    assert cider_d(equal("one two three", "four five six"))[0] == pytest.approx(7.5)
    assert cider_d(equal("a dog barks loudly"))[0] == 0.0


def test_sets_without_clips_or_references():
    value, by_clip = cider_d([])
    assert value is None
    assert by_clip.shape == (0,)
    assert coco_bleu([]) is None
    assert rouge_l([]) is None
    with pytest.raises(ValueError, match="a reference for every clip"):
        cider_d([([], "a dog")])


captions = st.lists(words, max_size=7).map(" ".join)


@given(st.lists(st.tuples(st.lists(captions, min_size=1, max_size=3), captions), min_size=1))
def test_cider_is_bounded_and_takes_clips_in_any_order(pairs):
    value, by_clip = cider_d(pairs)
    assert np.all((by_clip >= 0) & (by_clip <= 10 + 1e-9))
    turned, turned_by_clip = cider_d(pairs[::-1])
    assert turned == pytest.approx(value)
    assert turned_by_clip[::-1] == pytest.approx(by_clip)


def test_rows_name_what_is_not_available():
    pairs = equal("a dog barks here", "rain falls on it")
    rows = {row["metric"]: row for row in caption_rows(pairs)}
    assert rows["cider"]["value"] == pytest.approx(10)
    assert rows["coco_bleu_4"]["value"] == pytest.approx(1)
    assert rows["rouge_l"]["value"] == pytest.approx(1)
    for metric, reason in NOT_AVAILABLE.items():
        assert rows[metric]["value"] is None
        assert rows[metric]["not_available"] == reason
    assert all(row["value"] is None for row in caption_rows([]))
