"""The table of tasks: one row a task, with everything about it that differs from the others.

Tag layouts follow the released Qwen-Audio evaluation scripts where those fix one (asr,
speech_translation, word_timestamps, audio_captioning, audio_question_answering,
acoustic_scene_classification, note_analysis); the rest keep the same order of tags -- start,
audio language, task, text language, timestamps, sub-task -- and are this project's own.

Templates: `<|...|>` is one control token, `{field}` is a field of the annotation. A field inside
a tag picks the tag (`<|{language}|>`); anywhere else it is plain text, so whatever it holds can
never become a control token.
"""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any

Annotation = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """One row of the table.

    Attributes:
        group: "speech", "sound" or "music".
        fields: annotation fields that every record of the task must have.
        tags: Qwen-Audio's hierarchical tags, written after the audio.
        label: what the model learns to write after the tags, before `<|endoftext|>`; a template, or
            a function from the annotation to one (for labels that are lists).
        prompts: Qwen2-Audio's natural-language prompts in several wordings; evaluation uses the
            first.
        answer: what the model learns to write after a prompt; None means the same as `label`.
        metric: the key of `qwen_audio_jax.metrics.METRICS` that scores it.
        clips: how many clips a record has.
    """

    group: str
    fields: tuple[str, ...]
    tags: str
    label: str | Callable[[Annotation], str]
    prompts: tuple[str, ...]
    metric: str
    answer: str | Callable[[Annotation], str] | None = None
    clips: int = 1


def timed_words(annotation: Annotation) -> str:
    """`<|0.00|><|sil|><|0.54|>word<|0.86|>...`: shared boundaries, silence as a unit of its own.

    The opening `<|0.00|>` is part of the prompt, as in the original script, so it is not written
    here. Times are seconds, rounded to the vocabulary's grid of 0.01 s. Words and events go in as
    `{words[0][word]}` references, so their text stays plain text.
    """
    return _timeline(annotation["words"], "words", "word")


def timed_events(annotation: Annotation) -> str:
    """Sound events, each as onset, label, offset; they may overlap."""
    parts = []
    for i, event in enumerate(annotation["events"]):
        parts.append(f"<|{event['start']:.2f}|>{{events[{i}][event]}}<|{event['end']:.2f}|>")
    return "".join(parts)


def _timeline(units: list[Annotation], field: str, key: str) -> str:
    parts, clock = [], 0.0
    for i, unit in enumerate(units):
        start, end = round(unit["start"], 2), round(unit["end"], 2)
        if start > clock:
            parts.append(f"<|sil|><|{start:.2f}|>")
        parts.append(f"{{{field}[{i}][{key}]}}<|{end:.2f}|>")
        clock = end
    return "".join(parts)


NOTE_LABEL = (
    "<|pitch|><|midi_pitch_{pitch}|><|velocity|><|midi_velocity_{velocity}|>"
    "<|instrument|>{instrument}"
)

TASKS: dict[str, Task] = {
    "asr": Task(
        group="speech",
        fields=("text", "language"),
        tags="<|startoftranscript|><|{language}|><|transcribe|><|{language}|>"
        "<|notimestamps|><|wo_itn|>",
        label="{text}",
        prompts=(
            "Detect the language and recognize the speech: ",
            "Recognize the speech in its own language: ",
            "Write down what is said: ",
        ),
        answer="<|{language}|>{text}",
        metric="wer",
    ),
    "speech_translation": Task(
        group="speech",
        fields=("text", "language", "target_language"),
        tags="<|startoftranscript|><|{language}|><|translate|><|{target_language}|>"
        "<|notimestamps|><|itn|>",
        label="{text}",
        prompts=(
            "Translate the {language_name} speech into {target_language_name}:",
            "Say in {target_language_name} what is said in {language_name}:",
        ),
        metric="bleu",
    ),
    "word_timestamps": Task(
        group="speech",
        fields=("words", "language"),
        tags="<|startoftranscript|><|{language}|><|transcribe|><|{language}|>"
        "<|timestamps|><|0.00|>",
        label=timed_words,
        prompts=(
            "Recognize the speech with word timestamps: <|{language}|><|0.00|>",
            "Write each word with the time at which it ends: <|{language}|><|0.00|>",
        ),
        metric="timestamps",
    ),
    "language_identification": Task(
        group="speech",
        fields=("text",),
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|>",
        label="{text}",
        prompts=("Identify the language of the speech:", "Which language is spoken?"),
        metric="accuracy",
    ),
    "speaker_gender": Task(
        group="speech",
        fields=("text",),
        tags="<|startofanalysis|><|{language}|><|keyword|><|en|><|notimestamps|><|speaker_meta|>",
        label="{text}",
        prompts=("Recognize the gender of the speaker:", "Is the speaker female or male?"),
        metric="accuracy",
    ),
    "speaker_verification": Task(
        group="speech",
        fields=("text",),
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|>"
        "<|speaker_meta|><|choice|>",
        label="{text}",
        prompts=(
            "Is the speaker of the two recordings the same or different?",
            "Compare the two speakers, same or different:",
        ),
        metric="accuracy",
        clips=2,
    ),
    "keyword_spotting": Task(
        group="speech",
        fields=("text", "language"),
        tags="<|startofanalysis|><|{language}|><|keyword|><|{language}|><|notimestamps|>",
        label="{text}",
        prompts=("Spot the keyword in the speech:", "Which keyword is spoken?"),
        metric="accuracy",
    ),
    "audio_captioning": Task(
        group="sound",
        fields=("text",),
        tags="<|startofanalysis|><|unknown|><|caption|><|en|><|notimestamps|><|caption_plain|>",
        label="{text}",
        prompts=("Generate the caption in English:", "Describe the sounds in English:"),
        metric="caption",
    ),
    "sound_event_classification": Task(
        group="sound",
        fields=("text",),
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|event|>",
        label="{text}",
        prompts=("Classify the sound event:", "Which sound is this?"),
        metric="accuracy",
    ),
    "sound_event_detection": Task(
        group="sound",
        fields=("events",),
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|timestamps|><|event|>",
        label=timed_events,
        prompts=(
            "Detect the sound events with their start and end times:",
            "Which sounds are heard, from when until when?",
        ),
        metric="events",
    ),
    "acoustic_scene_classification": Task(
        group="sound",
        fields=("text",),
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|scene|>",
        label="{text}",
        prompts=("Classify the acoustic scene:", "Where was this recorded?"),
        metric="accuracy",
    ),
    "audio_question_answering": Task(
        group="sound",
        fields=("question", "text"),
        tags="<|startofanalysis|><|en|><|question|>{question}<|answer|>",
        label="{text}",
        prompts=("{question}",),
        metric="accuracy",
    ),
    "instrument_classification": Task(
        group="music",
        fields=("text",),
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|instrument|>",
        label="{text}",
        prompts=("Recognize the instrument:", "Which instrument is playing?"),
        metric="accuracy",
    ),
    "note_analysis": Task(
        group="music",
        fields=("pitch", "velocity", "instrument"),
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|note_analysis|>",
        label=NOTE_LABEL,
        prompts=(
            "Give the pitch, the velocity and the instrument of the note:",
            "Analyse the note, pitch, velocity and instrument:",
        ),
        answer="pitch {pitch}, velocity {velocity}, {instrument}",
        metric="note",
    ),
    "genre_classification": Task(
        group="music",
        fields=("text",),
        tags="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|song_meta|>",
        label="{text}",
        prompts=("Recognize the genre of the music:", "Which genre is this music?"),
        metric="accuracy",
    ),
}


class AnnotationError(ValueError):
    """A record whose annotation does not fit its task. The message names field and mend."""


def check_annotation(task: str, annotation: Annotation, clips: int) -> None:
    """Raises AnnotationError unless the annotation has what `task` needs, in usable form."""
    if task not in TASKS:
        near = difflib.get_close_matches(str(task), TASKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known tasks: {', '.join(sorted(TASKS))}"
        raise AnnotationError(f"field 'task': unknown task {task!r}; {hint}")
    row = TASKS[task]
    for field in row.fields:
        if annotation.get(field) in (None, "", []):
            raise AnnotationError(f"field {field!r}: missing or empty; task {task!r} needs it")
    if clips != row.clips:
        raise AnnotationError(
            f"field 'audio': {clips} clips given; task {task!r} takes {row.clips}"
        )
    for field in ("pitch", "velocity"):
        if field in row.fields and not (
            isinstance(annotation[field], int) and 0 <= annotation[field] <= 127
        ):
            raise AnnotationError(f"field {field!r}: must be a MIDI number from 0 to 127")
    for field, key in (("words", "word"), ("events", "event")):
        if field in row.fields:
            _check_times(field, key, annotation[field])


def _check_times(field: str, key: str, units: Any) -> None:
    need = f"field {field!r}: must be a list of {{{key!r}: text, 'start': s, 'end': s}}"
    if not isinstance(units, list):
        raise AnnotationError(need)
    clock = 0.0
    for unit in units:
        if not isinstance(unit, dict) or not {key, "start", "end"} <= unit.keys():
            raise AnnotationError(need)
        if not all(type(unit[edge]) in (int, float) for edge in ("start", "end")):
            raise AnnotationError(
                f"field {field!r}: start and end of {unit[key]!r} must be numbers, in seconds"
            )
        if not 0 <= unit["start"] <= unit["end"] <= 30:
            raise AnnotationError(
                f"field {field!r}: times of {unit[key]!r} must rise within 0..30 s"
            )
        if unit["start"] < clock - 0.005:
            raise AnnotationError(f"field {field!r}: {unit[key]!r} begins before its predecessor")
        clock = unit["end"] if field == "words" else unit["start"]
