"""The way back: from an answer's text, tags written out, to the annotation's fields.

Each function reads what `labels` and the templates of the table write, in either conditioning, and
passes over what does not fit: a model may write anything.
"""

import json
import re

from qwen_audio_jax.tasks.task import Annotation

SILENCE = "<|sil|>"
_TIME = re.compile(r"<\|([0-9]{1,2}\.[0-9]+)\|>")
_TAG = re.compile(r"<\|[^|<>]*\|>")
_OTHER_TAG = re.compile(r"<\|(?!sil\|>|[0-9]{1,2}\.[0-9]+\|>)[^<]*?\|>")
_OPENING = "<|0.00|>"
_LANGUAGE = re.compile(r"\s*<\|([a-z]{2,3}(?:_[a-z]+)?)\|>(.*)", re.DOTALL)
_STRING = r'"(?:[^"\\]|\\.)*"'
_QUOTED = re.compile(_STRING)
_QUOTED_ENTITY = re.compile(rf'([^",]+?)\s*({_STRING})')
_MARKED_ENTITY = re.compile(
    r"<\|startofentitytype\|>(.*?)<\|endofentitytype\|>"
    r"<\|startofentityvalue\|>(.*?)<\|endofentityvalue\|>",
    re.DOTALL,
)
_INTENT = re.compile(
    r"(?:<\|scenario\|>|\bscenario )(?P<scenario>[^<,]+)"
    r"(?:<\|action\|>|, action )(?P<action>[^<,]+)"
)
_NOTE_FIELDS = {
    "pitch": re.compile(r"<\|midi_pitch_([0-9]{1,3})\|>|\bpitch ([0-9]{1,3})\b"),
    "velocity": re.compile(r"<\|midi_velocity_([0-9]{1,3})\|>|\bvelocity ([0-9]{1,3})\b"),
    "instrument": re.compile(r"<\|instrument\|>([^<]*)|\bvelocity [0-9]{1,3}\s*,\s*([^<]*)"),
}


def text(answer: str) -> Annotation:
    """The text without tags."""
    return {"text": _TAG.sub("", answer).strip()}


def text_with_language(answer: str) -> Annotation:
    """`<|en|>good morning`; the language may be missing, as after tags that gave it."""
    tagged = _LANGUAGE.fullmatch(answer)
    if tagged and tagged[1] != "sil":
        return {"language": tagged[1], **text(tagged[2])}
    return text(answer)


def timed_words(answer: str) -> Annotation:
    """`word<|0.86|><|sil|><|1.20|>...`: "words" without the silences between them; none if broken.

    Broken is an answer with two times side by side, see `timed_units`.
    """
    units = timed_units(answer) or []
    words = [(unit, start, end) for unit, start, end in units if unit != SILENCE]
    return {"words": [{"word": unit, "start": start, "end": end} for unit, start, end in words]}


def timed_units(answer: str) -> list[tuple[str, float, float]] | None:
    """Words and silences with their boundaries, which neighbours share; None if broken.

    The opening `<|0.00|>` is part of the prompt and so is missing from the answer; it is put back
    here. The original script (AverageShiftCalculator) leaves it out and thereby loses the first
    unit of every answer.
    """
    answer = _OTHER_TAG.sub("", answer).strip()
    if not answer.startswith(_OPENING):
        answer = _OPENING + answer
    # Splitting at a captured group alternates text and time: before, time, unit, time, ..., after.
    pieces = _TIME.split(answer)
    times = [float(seconds) for seconds in pieces[1::2]]
    units = [piece.strip() for piece in pieces[2:-1:2]]
    if not units or not all(units):
        return None
    return list(zip(units, times[:-1], times[1:], strict=True))


def timed_events(answer: str) -> Annotation:
    """`<|0.54|>siren<|1.20|><|0.80|>bell<|1.00|>`."""
    return {"events": _spans(answer, "event")}


def timed_turns(answer: str) -> Annotation:
    """The same with speakers."""
    return {"turns": _spans(answer, "speaker")}


def _spans(answer: str, key: str) -> list[Annotation]:
    pieces = _TIME.split(answer)
    spans, i = [], 2
    while i < len(pieces) - 1:
        label = _TAG.sub("", pieces[i]).strip()
        if label:
            start, end = float(pieces[i - 1]), float(pieces[i + 1])
            spans.append({key: label, "start": start, "end": end})
        # After a span its end is used up; between two times without a label there is none yet.
        i += 4 if label else 2
    return spans


def segments(answer: str) -> Annotation:
    """`<|0.54|><|1.20|><|delim|><|3.00|><|3.40|>`; an odd time in a piece is passed over."""
    found = []
    for piece in answer.split("<|delim|>"):
        times = [float(seconds) for seconds in _TIME.findall(piece)]
        if len(times) >= 2:
            found.append({"start": times[0], "end": times[1]})
    return {"segments": found}


def utterances(answer: str) -> Annotation:
    """`good morning<|delim|>how are you` and `"good morning", "how are you"`."""
    quoted = _strings(_QUOTED.findall(answer))
    if quoted and "<|delim|>" not in answer and answer.lstrip().startswith('"'):
        return {"texts": quoted}
    pieces = (text(piece)["text"] for piece in answer.split("<|delim|>"))
    return {"texts": [piece for piece in pieces if piece]}


def entities(answer: str) -> Annotation:
    """Marked and quoted, see `labels`."""
    pairs = [(kind.strip(), value.strip()) for kind, value in _MARKED_ENTITY.findall(answer)]
    if not pairs:
        quoted = _QUOTED_ENTITY.findall(answer)
        pairs = [
            (kind.strip(), value)
            for kind, string in quoted
            for value in _strings([string])
            if kind.strip()
        ]
    return {"entities": [{"type": kind, "value": value} for kind, value in pairs]}


def _strings(quoted: list[str]) -> list[str]:
    found = []
    for string in quoted:
        try:
            found.append(json.loads(string, strict=False))
        except ValueError:
            continue
    return found


def intent(answer: str) -> Annotation:
    """`<|scenario|>alarm<|action|>set` and `scenario alarm, action set`."""
    found = _INTENT.search(answer)
    return {name: value.strip() for name, value in found.groupdict().items()} if found else {}


def note(answer: str) -> Annotation:
    """Both forms of a note, in any order of fields.

    The forms: `<|pitch|><|midi_pitch_60|><|velocity|><|midi_velocity_80|><|instrument|>flute` and
    `pitch 60, velocity 80, flute`.
    """
    fields: Annotation = {}
    for field, pattern in _NOTE_FIELDS.items():
        found = pattern.search(answer)
        value = next((group for group in found.groups() if group is not None), "") if found else ""
        if value.strip():
            fields[field] = value.strip() if field == "instrument" else int(value)
    return fields
