"""Which answers begin by telling about the audio, and what is taken out of quotation marks."""

import pytest

from qwen_audio_jax.metrics.protocols import preamble, quoted


@pytest.mark.parametrize(
    "answer",
    [
        "The original content of this audio is: 'a b c d'",
        "the original content of this audio is a b c d",
        'The transcript of the audio clip reads, "a b c d".',
        "Here is the transcription: a b c d",
        "The person says: 'a b c d'",
        "Transcription: a b c d",
        "This recording says a b c d",
        "这段音频的原始内容是：'你好'",
        "语音内容：你好",
    ],
)
def test_preambles_are_told(answer):
    assert preamble(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "a b c d",
        "",
        "the content of the letter is unknown",
        "the man said that he would come",
        "here is the man",
        "the audio was good",
        "这段路很长",
    ],
)
def test_transcripts_have_none(answer):
    assert preamble(answer) == ""


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("The original content of this audio is: 'a b c d'", "a b c d"),
        ("The original content of this audio is:'it's the dog's'.", "it's the dog's"),
        ('The speaker says, "a b c d".', "a b c d"),
        ("The transcript of the audio is “a b c d”", "a b c d"),
        ("The content of the recording is ‘it’s a b’", "it’s a b"),
        ("这段音频的内容是：「你好」。", "你好"),
        ('"a b c d"', "a b c d"),
    ],
)
def test_the_quoted_text_is_taken_out(answer, text):
    assert quoted(answer) == (text, True)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "a b c d",
        "the original content of this audio is a b c d",
        'he said "hello" and left',
        'he said "hello"',
        "'tis the season",
        '"one" and "two"',
        "The audio says 'a b' and 'c d'",
        "''",
    ],
)
def test_other_answers_stay_as_they_are(answer):
    assert quoted(answer) == (answer, False)
