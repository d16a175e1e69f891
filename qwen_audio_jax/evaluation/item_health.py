"""Signs that answers are ill, of the items of an evaluation."""

from collections.abc import Iterable
from typing import Any

from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.health import Given, commonest_answer, health
from qwen_audio_jax.evaluation.item_counts import language_field
from qwen_audio_jax.evaluation.plan import Planned
from qwen_audio_jax.inference.answers import LENGTH


def language_of(item: Planned) -> str:
    """Of the reference; "" where it is not known."""
    return str(item.annotation.get(language_field(item.task)) or "")


def health_of(pairs: Iterable[tuple[Planned, Answered]]) -> dict[str, Any]:
    """The health numbers of answered items: counts, and the answer that most clips get."""
    told = [
        Given(
            one.text,
            item.reference,
            language_of(item),
            one.finish == LENGTH,
            item.audio or None,
        )
        for item, one in pairs
    ]
    numbers: dict[str, Any] = {
        name: {"count": share.count, "of": share.of} for name, share in health(told).items()
    }
    if commonest := commonest_answer(told):
        numbers["commonest_answer"] = {
            "text": commonest.text,
            "count": commonest.answers.count,
            "of": commonest.answers.of,
            "commonest_reference": commonest.references.count,
            "suspicious": commonest.is_suspicious,
        }
    return numbers
