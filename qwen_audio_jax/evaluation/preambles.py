"""Answers that announce what is heard before they say it."""

import re

from qwen_audio_jax.metrics.text import without_tags

# What tells a quotation from a sentence that goes on: a colon, a comma or a quotation mark.
_QUOTED = r"(?:\s*[:：,，]|\s*[\"'“‘「『])"
_SOUND = r"(?:this|the) (?:audio|recording|speech|clip|sound)(?: (?:clip|file|recording))?"
_WRITTEN = r"(?:transcription|transcript|translation)"
_CHINESE_SOUND = r"(?:这|该|此)(?:段|个|条)?(?:音频|录音|语音)"

_OPENINGS = (
    rf"(?:the )?original content of {_SOUND} (?:is|was)(?![a-z])",
    rf"(?:the )?(?:content|{_WRITTEN}) of {_SOUND} is(?![a-z])",
    rf"{_SOUND} says(?![a-z])",
    rf"in {_SOUND},? (?:\w+ ){{1,3}}says?{_QUOTED}",
    rf"(?:the|this) (?:speaker|person|man|woman|voice) (?:says|said|is saying){_QUOTED}",
    rf"(?:(?:sure|certainly|of course)[,!.]? )?here(?: is|['’]s) the {_WRITTEN}(?![a-z])",
    rf"(?:the )?{_WRITTEN}(?: is)?\s*[:：]",
    rf"{_CHINESE_SOUND}(?:的|中的|里的)?(?:原始|原本)?(?:内容|原文)(?:是|为)",
    rf"{_CHINESE_SOUND}(?:中|里|里面)?(?:说的是|说道|说的内容是)",
    rf"{_CHINESE_SOUND}(?:中|里|里面)?说{_QUOTED}",
    rf"(?:音频|录音|语音)(?:的|中的|里的)?(?:原始)?内容(?:是|为){_QUOTED}",
)
_PREAMBLE = re.compile(rf"[\s\"'“”‘’*「『]*(?:{'|'.join(_OPENINGS)})", re.IGNORECASE)


def has_preamble(text: str, reference: str = "") -> bool:
    """Whether an answer announces what is heard before it says it, in English or Chinese.

    "The original content of this audio is ...", "This audio says ...", "这段音频的原始内容是", and
    the like, at the very beginning; what a person may go on to say ("the man said that he ...")
    counts only before a quotation. Where the reference begins so itself, it is none.
    """
    return _begins_so(text) and not _begins_so(reference)


def _begins_so(text: str) -> bool:
    return bool(_PREAMBLE.match(without_tags(text)))
