"""The way back: from an answer's text, tags written out, to the annotation's fields.

Each function reads what `labels` and the templates of the table write, in either conditioning, and
passes over what does not fit: a model may write anything.
"""

import json
import re

from qwen_audio_jax.tasks.task import Annotation

SILENCE = "<|sil|>"
_TIME = re.compile(r"<\|([0-9]{1,2}\.[0-9]+)\|>")
_TIMES = re.compile(r"((?:<\|[0-9]{1,2}\.[0-9]+\|>\s*)+)")
_TAG = re.compile(r"<\|[^|<>]*\|>")
_OTHER_TAG = re.compile(r"<\|(?!sil\|>|[0-9]{1,2}\.[0-9]+\|>)[^<]*?\|>")
_OPENING = "<|0.00|>"
_LANGUAGE = re.compile(r"\s*<\|([a-z]{2,3}(?:_[a-z]+)?)\|>(.*)", re.DOTALL)
_STRING = r'"(?:[^"\\]|\\.)*"'
_QUOTED = re.compile(_STRING)
# A type begins after a quote or comma: tried at every letter, a long answer would take long.
_QUOTED_ENTITY = re.compile(rf'(?<![^",])([^",]++)({_STRING})')
_INSIDE = r"((?:(?!<\|startofentitytype\|>).)*?)"
_MARKED_ENTITY = re.compile(
    rf"<\|startofentitytype\|>{_INSIDE}<\|endofentitytype\|>"
    rf"<\|startofentityvalue\|>{_INSIDE}<\|endofentityvalue\|>",
    re.DOTALL,
)
_INTENT = re.compile(
    r"(?:<\|scenario\|>|\bscenario )(?P<scenario>[^<,]+)"
    r"(?:<\|action\|>|, action )(?P<action>[^<,]+)"
)
_NOTE_FIELDS = {
    "pitch": re.compile(r"<\|midi_pitch_([0-9]{1,3})\|>|\bpitch ([0-9]{1,3})\b"),
    "velocity": re.compile(r"<\|midi_velocity_([0-9]{1,3})\|>|\bvelocity ([0-9]{1,3})\b"),
    "qualities": re.compile(r'<\|sonic\|>([^<]*)|\bqualities "([^"]*)"'),
    "instrument": re.compile(
        r"<\|instrument\|>((?:(?!<\|).)*)"
        r'|\bvelocity [0-9]{1,3}\s*,\s*(?:qualities "[^"]*"\s*,\s*)?((?:(?!<\|).)*)',
        re.DOTALL,
    ),
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
    texts, runs = _texts_and_times(answer, 1)
    if any(len(run) != 1 for run in runs):
        return None
    times = [run[0] for run in runs]
    units = [text.strip() for text in texts[1:-1]]
    if not units or not all(units):
        return None
    return list(zip(units, times[:-1], times[1:], strict=True))


def _texts_and_times(answer: str, between: int) -> tuple[list[str], list[list[float]]]:
    """Texts, one more than runs of times, and the times of each run between two texts.

    Args:
        answer: with `<|30.00|>` in front of a time for each window gone by, see `labels`.
        between: how many times stand between two units; one at either end.
    """
    pieces = _TIMES.split(answer)
    texts, found = pieces[0::2], pieces[1::2]
    runs = []
    for number, run in enumerate(found):
        times = [float(seconds) for seconds in _TIME.findall(run)]
        # At the ends of the answer there is one time only, where nothing stands outside it.
        outer = not (texts[number].strip() and texts[number + 1].strip())
        if len(times) != (1 if outer else between):
            times = _through_windows(times)
        runs.append(times)
    return texts, runs


def _through_windows(times: list[float]) -> list[float]:
    """Adds each 30.00 to the time that it stands in front of."""
    found, gone = [], 0.0
    for seconds in times:
        if seconds == 30:
            gone += 30
        else:
            found.append(round(gone + seconds, 2))
            gone = 0.0
    return found if not gone else [*found, gone]


def timed_events(answer: str) -> Annotation:
    """`<|0.54|>siren<|1.20|><|0.80|>bell<|1.00|>`."""
    return {"events": _spans(answer, "event")}


def timed_turns(answer: str) -> Annotation:
    """The same with speakers."""
    return {"turns": _spans(answer, "speaker")}


def _spans(answer: str, key: str) -> list[Annotation]:
    texts, runs = _texts_and_times(answer, 2)
    labels = [_TAG.sub("", text).strip() for text in texts[1:-1]]
    spans, used = [], False
    for label, before, after in zip(labels, runs[:-1], runs[1:], strict=True):
        # A time that ended the unit before does not begin this one too.
        used = bool(label) and not (used and len(before) == 1)
        if used:
            spans.append({key: label, "start": before[-1], "end": after[0]})
    return spans


def segments(answer: str) -> Annotation:
    """`<|0.54|><|1.20|><|delim|><|3.00|><|3.40|>`; an odd time in a piece is passed over."""
    found = []
    for piece in answer.split("<|delim|>"):
        times = [float(seconds) for seconds in _TIME.findall(piece)]
        times = times if len(times) == 2 else _through_windows(times)
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
    `pitch 60, velocity 80, flute`; `<|sonic|>bright, dark` and `qualities "bright, dark"` if told.
    """
    fields: Annotation = {}
    for field, pattern in _NOTE_FIELDS.items():
        found = pattern.search(answer)
        value = next((group for group in found.groups() if group is not None), "") if found else ""
        if not value.strip():
            continue
        if field == "qualities":
            fields[field] = [part.strip() for part in value.split(",") if part.strip()]
        else:
            fields[field] = value.strip() if field == "instrument" else int(value)
    return fields
