"""Items that bring their own words: the whole prompt, and choices of which one is the answer."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_pipelines.records import RejectedRecord
from qwen_audio_jax.evaluation.benchmarks.files import Fields, text
from qwen_audio_jax.evaluation.benchmarks.item import ELSEWHERE, LONGEST, Item
from qwen_audio_jax.rendering.chat import Message
from qwen_audio_jax.rendering.spans import Span

Clips = Callable[[], tuple[bytes, ...]]

_LETTERED = ("choice_a", "choice_b", "choice_c", "choice_d")


def item(
    name: str,
    clips: Clips,
    prompt: str,
    annotation: dict[str, Any],
    *,
    choices: Sequence[str] = (),
    reordered: Callable[[Sequence[int]], str] | None = None,
    rule: str = ELSEWHERE,
    limit: int = LONGEST,
) -> Item:
    """A question about one clip.

    It is an `audio_question_answering`, whose own metric (the same text) is no measure of a free
    answer: so such a one has a rule too.

    Args:
        name: the item's id.
        clips: see Item.
        prompt: what is written behind the clip; "" where the clip itself asks.
        annotation: "question", "text" and what slices are made of.
        choices, reordered, rule, limit: see Item.
    """
    return Item(
        name,
        "audio_question_answering",
        annotation,
        clips,
        *_put(prompt),
        tuple(choices),
        reordered,
        rule,
        limit,
    )


def _put(prompt: str) -> tuple[tuple[Span, ...], tuple[Message, ...]]:
    """A question's words behind its clip, for a model that goes on and for one that talks."""
    written = [{"type": "text", "text": prompt}] if prompt else []
    spans = (Span(clip=0), *([Span(text=prompt)] if prompt else []))
    return spans, ({"role": "user", "content": [{"type": "audio"}, *written]},)


def turned(one: Item, places: int) -> Item:
    """The question with its choices moved up by so many places, the first ones behind the last.

    Args:
        one: has choices, and `reordered`.
        places: from 1 to one less than there are choices.
    """
    numbers = range(len(one.choices))
    order = [*numbers[places:], *numbers[:places]]
    prompt = one.reordered(order)
    spans, messages = _put(prompt)
    return dataclasses.replace(
        one,
        annotation=one.annotation | {"question": prompt},
        spans=spans,
        messages=messages,
        choices=tuple(one.choices[number] for number in order),
    )


def about(fields: Fields, names: Mapping[str, str]) -> dict[str, str]:
    """What slices are made of: by the annotation's name the text of the field that names it."""
    said = {key: fields.get(name) for key, name in names.items()}
    return {key: value for key, value in said.items() if isinstance(value, str) and value.strip()}


def lettered_choices(fields: Fields) -> tuple[str, ...]:
    """`choice_a` to `choice_d`, of which the last may be absent, null or empty.

    Raises:
        RejectedRecord: one is no text, or is there without the one before it.
    """
    given = [field for field in _LETTERED if fields.get(field) not in (None, "")]
    wanted = _LETTERED[: max(2, len(given))]
    if empty := next((field for field in wanted if fields.get(field) == ""), ""):
        raise RejectedRecord(f"field {empty!r}: must be a text, not an empty one")
    return tuple(text(fields, field) for field in wanted)


def lettered_lines(choices: Sequence[str]) -> str:
    """Lines A. to D. as AIR-Bench's and MMSU's scripts write them: an absent choice is `None`."""
    four = [*choices, *["None"] * (len(_LETTERED) - len(choices))]
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip("ABCD", four, strict=True))


def lettered_item(
    name: str,
    clips: Clips,
    fields: Fields,
    layout: Callable[[str, str], str],
    annotation: dict[str, Any],
    rule: str,
) -> Item:
    """A question with two to four choices of which one is named by its letter.

    Args:
        name, clips, rule: see `item`.
        fields: "question", "choice_a" to "choice_d", and "answer_gt", the right one's text.
        layout: of the question and `lettered_lines` the whole prompt.
        annotation: what slices are made of.

    Raises:
        RejectedRecord: a field is absent, or the right one is no choice.
    """
    choices = lettered_choices(fields)
    question = text(fields, "question")

    def reordered(order: Sequence[int]) -> str:
        return layout(question, lettered_lines([choices[number] for number in order]))

    prompt = reordered(range(len(choices)))
    right = right_choice(fields, "answer_gt", choices)
    annotation = {"question": prompt, "text": right, **annotation}
    return item(name, clips, prompt, annotation, choices=choices, reordered=reordered, rule=rule)


def right_choice(fields: Fields, field: str, choices: Sequence[str]) -> str:
    """The choice that a field says, but for blanks at its ends. Raises RejectedRecord: none."""
    answer = text(fields, field).strip()
    same = [choice for choice in choices if choice.strip() == answer]
    if not same:
        told = ", ".join(map(repr, choices))
        raise RejectedRecord(f"field {field!r}: {answer!r} is not among the choices {told}")
    return same[0]


def own_id(field: str, number: int, fields: Fields) -> str:
    """The id that a row gives itself in a field, a text or a whole number; its number does not
    matter. Raises RejectedRecord: it has none.
    """
    del number
    given = fields.get(field)
    if type(given) not in (str, int) or not str(given).strip():
        raise RejectedRecord(f"field {field!r}: must be the row's id, a text or a whole number")
    return str(given)
