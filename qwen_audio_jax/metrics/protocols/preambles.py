"""What chat models say before the words that they heard, and the words that they quote behind it.

Instruct answers "The original content of this audio is: 'a b c d'" (QwenLM/Qwen2-Audio#108). No
protocol cuts that away: the words are in the answer, so they are errors.
"""

import re

# What tells a quotation from a sentence that goes on: a colon, a comma or a quotation mark.
_QUOTING = r"(?:\s*[:：,，]|(?=\s*[\"'“‘「『]))"
_SOUND = r"(?:this|the) (?:audio|recording|speech|clip|sound)(?: (?:clip|file|recording))?"
_WRITTEN = r"(?:transcription|transcript|translation)"
_CHINESE_SOUND = r"(?:这|该|此)(?:段|个|条)?(?:音频|录音|语音)"

_OPENINGS = (
    rf"(?:the )?original content of {_SOUND} (?:is|was)(?![a-z])",
    rf"(?:the )?(?:content|{_WRITTEN}) of {_SOUND} (?:is|reads)(?![a-z])",
    rf"{_SOUND} says(?![a-z])",
    rf"in {_SOUND},? (?:\w+ ){{1,3}}says?{_QUOTING}",
    rf"(?:the|this) (?:speaker|person|man|woman|voice) (?:says|said|is saying){_QUOTING}",
    rf"(?:(?:sure|certainly|of course)[,!.]? )?here(?: is|['’]s) the {_WRITTEN}(?![a-z])",
    rf"(?:the )?{_WRITTEN}(?: is)?\s*[:：]",
    rf"{_CHINESE_SOUND}(?:的|中的|里的)?(?:原始|原本)?(?:内容|原文)(?:是|为)",
    rf"{_CHINESE_SOUND}(?:中|里|里面)?(?:说的是|说道|说的内容是)",
    rf"{_CHINESE_SOUND}(?:中|里|里面)?说{_QUOTING}",
    rf"(?:音频|录音|语音)(?:的|中的|里的)?(?:原始)?内容(?:是|为)?{_QUOTING}",
)
_PREAMBLE = re.compile(rf"[\s\"'“”‘’*「『]*(?:{'|'.join(_OPENINGS)})\s*[:：,，]?\s*", re.IGNORECASE)

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
