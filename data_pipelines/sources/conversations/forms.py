"""The table of forms, and how a file's is told by the keys of its rows."""

import dataclasses
from collections.abc import Callable, Collection, Iterable
from typing import Any

from data_pipelines.records import RejectedRecord
from data_pipelines.sources.conversations import field_forms, message_forms
from data_pipelines.sources.conversations.talk import Talk

AUTO = "auto"
_SHOWN = 12


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to write talks down.

    Attributes:
        keys: keys that a row of it has; a list's are told by those of its first entry, as
            `conversation[].role`.
        read: takes what it reads out of a row, and says what it understood.
    """

    keys: frozenset[str]
    read: Callable[[dict[str, Any]], Talk]


def _form(keys: str, read: Callable[[dict[str, Any]], Talk]) -> Form:
    return Form(frozenset(keys.split()), read)


FORMS: dict[str, Form] = {
    "messages": _form("messages", message_forms.messages),
    "ms_swift": _form("messages audios", message_forms.ms_swift),
    "query_response": _form("query response", field_forms.query_response),
    "human_assistant": _form("conversation[].human", message_forms.human_assistant),
    "sharegpt": _form("conversations", message_forms.sharegpt),
    "alpaca": _form("instruction output", field_forms.alpaca),
    "prompt_completion": _form("prompt completion", message_forms.prompt_completion),
    "audio_flamingo": _form("conversations sound", message_forms.audio_flamingo),
    "kimi_audio": _form(
        "conversation[].role conversation[].content conversation[].message_type",
        message_forms.kimi_audio,
    ),
    "salmonn": _form("path text task", field_forms.salmonn),
    "ltu": _form("instruction output audio_id", field_forms.ltu),
    "nemo": _form("audio_filepath", field_forms.nemo),
}
"""By the name that --form takes; docs/data.md has an example of each."""

_ALSO = {"messages": _form("conversation[].role conversation[].content", message_forms.messages)}
"""Other keys by which some are told."""


def told_by(fields: dict[str, Any]) -> list[str]:
    """The forms whose keys a row has, without those that another one's keys go beyond."""
    keys = _keys(fields)
    told = {
        name: form.keys
        for table in (_ALSO, FORMS)
        for name, form in table.items()
        if form.keys <= keys
    }
    return [name for name in told if not any(told[name] < other for other in told.values())]


def form_of(rows: Iterable[dict[str, Any]]) -> str | None:
    """The form of a file: that of its first row that tells one, or one that adds keys to it.

    So a file of ms-swift's is known by any row that has clips: those without have no `audios`.

    Args:
        rows: its rows.

    Returns:
        The form's name; None where no row tells one.
    """
    found = None
    for fields in rows:
        told = told_by(fields)
        if len(told) == 1 and (found is None or FORMS[found].keys < FORMS[told[0]].keys):
            found = told[0]
            if not any(FORMS[found].keys < form.keys for form in FORMS.values()):
                break
    return found


def check_told(fields: dict[str, Any], form: str | None) -> None:
    """Refuses a row of another form than its file's, or of none.

    Raises:
        RejectedRecord: the sentence has the row's keys and the forms that there are.
    """
    told = told_by(fields)
    if len(told) == 1 and form and FORMS[told[0]].keys <= FORMS[form].keys:
        return
    what = (
        f"is of form {told[0]}, and the file of form {form}; put it into a file of its own"
        if len(told) == 1
        else f"may be of forms {' and '.join(told)}; say which by --form"
        if told
        else f"is of no known form; the forms are {', '.join(FORMS)}: see docs/data.md"
    )
    raise RejectedRecord(f"the row has {_listed(fields)}: it {what}")


def _keys(fields: dict[str, Any]) -> set[str]:
    keys = {key for key, value in fields.items() if value is not None}
    for field in ("conversation",):
        first = fields.get(field)
        if isinstance(first, list) and first and isinstance(first[0], dict):
            keys |= {f"{field}[].{key}" for key in first[0]}
    return keys


def _listed(keys: Collection[str]) -> str:
    names = [repr(key) for key in keys]
    if not names:
        return "no key"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"the key{'s' * (len(names) > 1)} {', '.join(names[:_SHOWN])}{more}"
