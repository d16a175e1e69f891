"""Forms that keep a talk in fields of the row: a request, an answer, earlier turns beside them."""

from typing import Any

from data_pipelines.records import RejectedRecord
from data_pipelines.sources.conversations.contents import split
from data_pipelines.sources.conversations.message_forms import (
    AUDIO,
    Fields,
    listed_audio,
    system,
)
from data_pipelines.sources.conversations.talk import Named, Talk, Turn
from data_pipelines.sources.segments import segments_of
from qwen_audio_jax.tasks.fields import shown


def query_response(fields: Fields) -> Talk:
    """ms-swift's `query` and `response`, `history` of pairs, `system`, `audios`."""
    earlier = [*system(fields), *_history(fields)]
    query, response = _text(fields, "query"), _text(fields, "response")
    return Talk(
        (
            *earlier,
            Turn("field 'query'", "user", split(query, AUDIO)),
            Turn("field 'response'", "assistant", split(response, AUDIO)),
        ),
        listed_audio(fields),
        AUDIO,
    )


def alpaca(fields: Fields) -> Talk:
    """`instruction`, `input` and `output`, `history` of pairs, `system`, `audios`."""
    earlier = [*system(fields), *_history(fields)]
    request, answer = _request(fields), _text(fields, "output")
    return Talk(
        (
            *earlier,
            Turn("field 'instruction'", "user", split(request, AUDIO)),
            Turn("field 'output'", "assistant", split(answer, AUDIO)),
        ),
        listed_audio(fields),
        AUDIO,
    )


def ltu(fields: Fields) -> Talk:
    """LTU's `instruction`, `input` and `output` on the clip `audio_id`; texts are texts."""
    request = _request(fields)
    clip, answer = Named(_path(fields, "audio_id")), _text(fields, "output")
    return _asked(clip, request, "field 'instruction'", answer, "field 'output'")


def salmonn(fields: Fields) -> Talk:
    """SALMONN's `path`, further files in `expand_wav`, the request in `Q`, the answer in `text`."""
    path, further = _path(fields, "path"), fields.pop("expand_wav", None) or []
    if not isinstance(further, list) or not all(isinstance(f, str) and f.strip() for f in further):
        raise RejectedRecord(f"field 'expand_wav': must be a list of paths, not {shown(further)}")
    if not fields.get("Q"):
        raise RejectedRecord(
            "field 'Q': missing or empty; SALMONN draws the request of such a row from a list by "
            f"task, which the row does not hold: write what task {fields.get('task')!r} asks as 'Q'"
        )
    clip = Named(path, further=tuple(further))
    return _asked(clip, _text(fields, "Q"), "field 'Q'", _text(fields, "text"), "field 'text'")


def nemo(fields: Fields) -> Talk:
    """A manifest of NeMo's: `audio_filepath`, the request in `context`, the answer in `text`.

    Its speech language models call these `question` and `answer` too; `text` beside `answer` is
    what is spoken, a note. `offset` and `duration` cut the clip out of a recording.
    """
    path = _path(fields, "audio_filepath")
    asked = [key for key in ("context", "question") if fields.get(key)]
    if not asked:
        raise RejectedRecord(
            "field 'context': missing or empty; write the request there, or build a list of "
            "transcripts alone by --source=manifest"
        )
    if len(asked) > 1:
        raise RejectedRecord("fields 'context' and 'question': leave one of them")
    told = "answer" if fields.get("answer") else "text"
    (segment,) = segments_of(fields, 1) or (None,)
    request, answer = _text(fields, asked[0]), _text(fields, told)
    clip = Named(path, segment=segment)
    return _asked(clip, request, f"field {asked[0]!r}", answer, f"field {told!r}")


def _asked(clip: Named, request: str, request_at: str, answer: str, answer_at: str) -> Talk:
    """One clip, a request about it, and the answer."""
    return Talk(
        (
            Turn(request_at, "user", (clip, request)),
            Turn(answer_at, "assistant", (answer,)),
        )
    )


def _request(fields: Fields) -> str:
    """An instruction and its input, on a line each."""
    parts = (_text(fields, "instruction"), _text(fields, "input", needed=False))
    return "\n".join(part for part in parts if part)


def _history(fields: Fields) -> list[Turn]:
    """Earlier turns, pairs of a request and its answer."""
    turns = []
    history = fields.pop("history", None) or []
    if not isinstance(history, list):
        raise RejectedRecord(f"field 'history': must be a list of pairs, not {shown(history)}")
    for number, pair in enumerate(history, start=1):
        where = f"pair {number} of 'history'"
        if not (
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) for p in pair)
        ):
            raise RejectedRecord(f"{where}: must be a list of a request and its answer")
        turns += [
            Turn(where, role, split(text, AUDIO))
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
    return turns


def _text(fields: Fields, field: str, *, needed: bool = True) -> str:
    value: Any = fields.pop(field, None)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or (needed and not value.strip()):
        raise RejectedRecord(f"field {field!r}: must be a text with something in it")
    return value


def _path(fields: Fields, field: str) -> str:
    value = fields.pop(field, None)
    if not isinstance(value, str) or not value.strip():
        raise RejectedRecord(f"field {field!r}: must be the path of a clip, not {shown(value)}")
    return value
