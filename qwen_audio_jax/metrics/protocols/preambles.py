"""What chat models say before the words that they heard, and the words that they quote behind it.

Instruct answers "The original content of this audio is: 'a b c d'" (QwenLM/Qwen2-Audio#108). No
protocol cuts that away: the words are in the answer, so they are errors.
"""

import re

_AUDIO = r"(?:audio|recording|clip|speech|sound|voice|file)(?:\s+(?:clip|file|recording))?"
_TEXT = r"(?:contents?|text|transcript|transcription|speech|words|sentence)"
_SAYS = r"(?:is|are|was|reads?|says?|said|goes|contains?|is saying|is as follows|are as follows)"
_PREAMBLES = (
    rf"(?:the|an?)\s+(?:\w+\s+)?{_TEXT}\s+(?:of|in|from)\s+(?:the|this|that)\s+(?:\w+\s+)?{_AUDIO}"
    rf"\s*(?:{_SAYS}\b|[:：])",
    rf"(?:the|this)\s+(?:\w+\s+)?{_AUDIO}\s+(?:says|said|reads|is saying|transcribes to)\b",
    r"(?:the|a)\s+(?:person|speaker|man|woman)\s+(?:in\s+(?:the|this)\s+"
    rf"{_AUDIO}\s+)?(?:says|said|is saying)(?=\s*[,，:：]?\s*[\"'“‘])",
    rf"here(?:\s+is|['’]s)\s+(?:the|a)\s+(?:\w+\s+)?{_TEXT}(?:\s+(?:of|in|from)\s+(?:the|this|that)"
    rf"\s+(?:\w+\s+)?{_AUDIO})?\s*(?=[:：])",
    r"(?:the\s+)?(?:transcript|transcription)\s*(?:is\b|(?=[:：]))",
    r"(?:这段|该|这个|这条)?(?:音频|语音|录音)(?:中|里)?的?(?:原始|原本|文字|文本|说话|转写)?"
    r"(?:内容|文本|文字)(?:是|为|(?=[:：]))",
)
_PREAMBLE = re.compile(rf"\s*(?:{'|'.join(_PREAMBLES)})\s*[:：,，]?\s*", re.IGNORECASE)

# A single quotation mark within a word is an apostrophe.
_QUOTED = re.compile(
    r"""(?:"([^"]+)"|“([^“”]+)”|「([^「」]+)」|『([^『』]+)』|«([^«»]+)»"""
    r"""|'((?:[^']|(?<=\w)'(?=\w))+)'|‘((?:[^‘’]|(?<=\w)’(?=\w))+)’)\s*[.。!！]?\s*"""
)


def preamble(answer: str) -> str:
    """How an answer begins that tells about the audio first, as it stands; "" if it does not.

    Told by English and Chinese wordings. A transcript may begin so too: it is a count to look at.
    """
    found = _PREAMBLE.match(answer)
    return found[0] if found else ""


def quoted(answer: str) -> tuple[str, bool]:
    """The text that an answer quotes, and whether it does: else the answer as it is.

    It does if it is one quotation, behind a preamble or alone. A quotation within a transcript is
    left there.
    """
    found = _QUOTED.fullmatch(answer[len(preamble(answer)) :].strip())
    if not found:
        return answer, False
    return next(text for text in found.groups() if text is not None).strip(), True
