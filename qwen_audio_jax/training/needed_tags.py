"""Whether the vocabulary has the control tokens that the records of a run need.

Found from the index beside the shards, before the first step: a task needs what its example is
rendered to, and of numbered tokens, such as times, all of them.
"""

import collections
import functools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping

from data_pipelines.records import IndexRow
from qwen_audio_jax.rendering import render
from qwen_audio_jax.rendering.language_codes import UNKNOWN, tagged_languages
from qwen_audio_jax.rendering.spans import Span
from qwen_audio_jax.run_config import ConfigError
from qwen_audio_jax.tasks import KINDS
from qwen_audio_jax.text.control_tokens import LANGUAGE_CODES, control_tokens, is_language_tag
from qwen_audio_jax.text.tokenizer import SentencePieceTokenizer, Tokenizer
from qwen_audio_jax.training.corpus_digests import Split

_SHOWN = 3
"""Names of control tokens that a sentence lists of each task."""

_ALWAYS = (*LANGUAGE_CODES, "zh_tr")
_FIELDS = ("language", "target_language")


def check_tags(
    splits: Mapping[str, Split], conditioning: str, tokenizer: Tokenizer, *, imported: bool
) -> None:
    """Refuses a vocabulary in which a task cannot be written; warns of languages without a tag.

    Args:
        splits: what the run reads, by name.
        conditioning: how its records are rendered.
        tokenizer: its vocabulary.
        imported: whether that is a text model's to which an import has added tags.

    Raises:
        ConfigError: it lacks control tokens; the sentence names some of each task.
    """
    counts = [
        (split, task, frozenset(languages), n)
        for corpus, split in splits.values()
        for (task, *languages), n in _count(corpus.index(split), conditioning).items()
    ]
    check_tasks(sorted({task for _, task, _, _ in counts}), conditioning, tokenizer)
    unknown = tokenizer.control_ids.get(f"<|{UNKNOWN}|>")
    lacking = collections.defaultdict(collections.Counter)
    records = 0
    for split, _, languages, n in counts:
        untold = {
            code
            for code in languages - {UNKNOWN}
            if tokenizer.tag(f"<|{code}|>", language=True) == unknown
        }
        records += n if untold else 0
        for code in untold:
            lacking[code][split] += n
    if lacking:
        told = ", ".join(f"{code} ({_told(lacking[code])})" for code in sorted(lacking))
        logging.warning(
            "note: %s records are in languages that the vocabulary has no tag for, and <|unknown|> "
            "is written instead: %s. %s",
            f"{records:,}",
            told,
            _mend(tokenizer, lacking, imported),
        )


def _count(index: Iterable[IndexRow], conditioning: str) -> collections.Counter:
    """How many records have (task, the languages that are written as tags ...)."""
    counts: collections.Counter = collections.Counter()
    for row in index:
        fields = _written(row.task, conditioning)
        counts[row.task, *(str(row.annotation.get(field, UNKNOWN)) for field in fields)] += 1
    return counts


def _told(splits: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {n:,}" for split, n in splits.items())


def _mend(tokenizer: Tokenizer, lacking: Iterable[str], imported: bool) -> str:
    if imported:
        given = {*tagged_languages(tokenizer)}.difference(_ALWAYS)
        codes = given.union(code for code in lacking if is_language_tag(f"<|{code}|>"))
        return (
            "To give them one, import the language model again, with "
            f"--languages={','.join(sorted(codes))}, and start another run from that"
        )
    if isinstance(tokenizer, SentencePieceTokenizer):
        return (
            "The vocabulary is that of the first corpus of config.data.mixture; name one first "
            "that has these languages"
        )
    return "The vocabulary is that of a whole model, and stays as it is"


def check_tasks(tasks: Iterable[str], conditioning: str, tokenizer: Tokenizer) -> None:
    """Raises ConfigError if the vocabulary lacks control tokens that the tasks need."""
    told = []
    for task in tasks:
        lacking = [tag for tag in _needed(task, conditioning) if tag not in tokenizer.control_ids]
        if lacking:
            more = f" and {len(lacking) - _SHOWN:,} more" if len(lacking) > _SHOWN else ""
            told.append(f"{task} needs {', '.join(lacking[:_SHOWN])}{more}")
    if told:
        raise ConfigError(
            f"the vocabulary lacks control tokens: {'; '.join(told)}; start from a language model "
            "that was imported together with its tokenizer files, which adds them, or leave such "
            "tasks out of config.data.mixture"
        )


def _needed(task: str, conditioning: str) -> list[str]:
    """The control tokens that a task's records are written with, but those of their languages."""
    spans = _spans(task, conditioning, dict.fromkeys(_FIELDS, UNKNOWN))
    tags = dict.fromkeys(span.tag for span in spans if span.tag)
    forms = {_without_numbers(tag) for tag in tags if _without_numbers(tag) != tag}
    numbered = (tag for tag in control_tokens() if _without_numbers(tag) in forms)
    return [*(tags | dict.fromkeys(numbered))]


def _without_numbers(tag: str) -> str:
    return re.sub(r"\d+", "#", tag)


@functools.cache
def _written(task: str, conditioning: str) -> tuple[str, ...]:
    """Which of the fields that name a language are written as a tag."""
    names = {f"<|{field}|>": field for field in _FIELDS}
    spans = _spans(task, conditioning, {field: field for field in _FIELDS})
    return tuple(sorted({names[span.tag] for span in spans if span.tag in names}))


def _spans(task: str, conditioning: str, languages: Mapping[str, str]) -> Iterator[Span]:
    """What a task's example, in these languages, is rendered to in all wordings."""
    row = KINDS[task]
    for wording in range(len(row.prompts)):
        for part in render(task, row.example | languages, conditioning, wording=wording):
            yield from part
