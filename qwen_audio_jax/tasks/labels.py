"""Labels that are lists: from an annotation to a template that names its fields.

Texts go in as references (`{words[0][word]}`), so they stay plain text. Times are seconds, rounded
to the vocabulary's grid of 0.01 s. It ends at 30 s; in a longer clip, a time is written as many
`<|30.00|>` as windows have gone by, and the time within its window: 65.2 s is
`<|30.00|><|30.00|><|5.20|>`.
"""

from collections.abc import Callable, Sequence

from qwen_audio_jax.tasks.task import Annotation


def timed_words(annotation: Annotation) -> str:
    """`<|sil|><|0.54|>word<|0.86|>...`: shared boundaries, silence as a unit of its own.

    The opening `<|0.00|>` is part of the prompt, as in the original script, so it is not written
    here.
    """
    time = _times(annotation["words"])
    parts, clock = [], 0.0
    for i, unit in enumerate(annotation["words"]):
        start, end = round(unit["start"], 2), round(unit["end"], 2)
        if start > clock:
            parts.append(f"<|sil|>{time(start)}")
        parts.append(f"{{words[{i}][word]}}{time(end)}")
        clock = end
    return "".join(parts)


def timed_events(annotation: Annotation) -> str:
    """`<|0.54|>siren<|1.20|><|0.80|>bell<|1.00|>`: onset, label, offset; they may overlap."""
    return _spans(annotation, "events", "event")


def timed_turns(annotation: Annotation) -> str:
    """`<|0.00|>A<|1.30|><|1.10|>B<|2.40|>`: who speaks when, by the order of speaking first."""
    return _spans(annotation, "turns", "speaker")


def _spans(annotation: Annotation, field: str, key: str) -> str:
    time = _times(annotation[field])
    return "".join(
        f"{time(unit['start'])}{{{field}[{i}][{key}]}}{time(unit['end'])}"
        for i, unit in enumerate(annotation[field])
    )


def segments(annotation: Annotation) -> str:
    """`<|0.54|><|1.20|><|delim|><|3.00|><|3.40|>`: when the phrase is heard."""
    time = _times(annotation["segments"])
    return "<|delim|>".join(
        f"{time(unit['start'])}{time(unit['end'])}" for unit in annotation["segments"]
    )


def _times(units: Sequence[Annotation]) -> Callable[[float], str]:
    """How the times of these units are written."""

    def time(seconds: float) -> str:
        return f"<|{seconds:.2f}|>"

    def long_time(seconds: float) -> str:
        windows, rest = divmod(round(100 * seconds), 3000)
        return time(30) * windows + time(rest / 100)

    # One way for all of them: 30.00 itself would otherwise be read as a window gone by.
    return time if all(unit["end"] < 30.005 for unit in units) else long_time


def utterances(annotation: Annotation) -> str:
    """`good morning<|delim|>how are you`, in the order in which they begin."""
    return "<|delim|>".join(f"{{texts[{i}]}}" for i in range(len(annotation["texts"])))


def quoted_utterances(annotation: Annotation) -> str:
    """`"good morning", "how are you"`."""
    return ", ".join(f"{{texts[{i}]!json}}" for i in range(len(annotation["texts"])))


def marked_entities(annotation: Annotation) -> str:
    """Type and value of each entity or slot, between Qwen-Audio's marks."""
    return "".join(
        f"<|startofentitytype|>{{entities[{i}][type]}}<|endofentitytype|>"
        f"<|startofentityvalue|>{{entities[{i}][value]}}<|endofentityvalue|>"
        for i in range(len(annotation["entities"]))
    )


def quoted_entities(annotation: Annotation) -> str:
    """`person "Anna", city "Berlin"`."""
    return ", ".join(
        f"{{entities[{i}][type]}} {{entities[{i}][value]!json}}"
        for i in range(len(annotation["entities"]))
    )


def note(annotation: Annotation) -> str:
    """Pitch, velocity, the qualities if there are any (`<|sonic|>bright, dark`), instrument."""
    qualities = _qualities(annotation)
    return (
        "<|pitch|><|midi_pitch_{pitch}|><|velocity|><|midi_velocity_{velocity}|>"
        + (f"<|sonic|>{qualities}" if qualities else "")
        + "<|instrument|>{instrument}"
    )


def quoted_note(annotation: Annotation) -> str:
    """`pitch 60, velocity 100, qualities "bright, dark", flute`."""
    qualities = _qualities(annotation)
    listed = f'qualities "{qualities}", ' if qualities else ""
    return "pitch {pitch}, velocity {velocity}, " + listed + "{instrument}"


def _qualities(annotation: Annotation) -> str:
    return ", ".join(f"{{qualities[{i}]}}" for i in range(len(annotation.get("qualities") or ())))
