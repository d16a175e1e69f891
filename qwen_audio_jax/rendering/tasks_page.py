"""The page of tasks: `python -m qwen_audio_jax.rendering.tasks_page > docs/tasks.md`."""

from collections.abc import Mapping

from qwen_audio_jax.rendering import chat, render
from qwen_audio_jax.rendering.spans import AUDIO_TAGS, Span
from qwen_audio_jax.tasks import KINDS, PAIR_FIELDS, PREFERENCE, Task
from qwen_audio_jax.tasks.check import LATE
from qwen_audio_jax.tasks.fields import Field

HEAD = """# Tasks

What each task asks of the model, word for word: the fields of its records, its tags, prompts and
metric. Written by `python -m qwen_audio_jax.rendering.tasks_page > docs/tasks.md` from
`qwen_audio_jax/tasks/`, where a task is one row.

A record of a task has one or more clips and an annotation with the fields listed. It is put to the
model in one of two ways: by hierarchical tags, as in Qwen-Audio, or by a prompt in natural
language, as in Qwen2-Audio. Each training record gets one of the wordings, by its id; evaluation
uses the first. `config.data.prompts` puts others in their place
([training.md](training.md#prompts-of-your-own)). Below, `♪` stands for a clip, and the answer
begins at `▸`: what follows it bears the loss, and so does the `<|endoftext|>` that closes it.
Conversations are written in ChatML instead, in both ways alike: the loss lies on all that the
assistant says and on each `<|im_end|>` behind it.

The tags always come in the same order: start, language of the audio, task, language of the text,
timestamps or not, sub-task. Layouts marked *original* are those of the released Qwen-Audio
evaluation scripts, token for token; the others are this project's own and keep that order. Where
one tag covers several fields, as `<|speaker_meta|>` does, `<|question|>gender<|answer|>` says which
one is asked for.

## Fields

Each field is of one of these kinds, which is checked when a corpus is built. A text must have
something in it that can be seen; blanks and zero-width spaces at its ends are left out, which the
build counts. Numbers are not taken for text: how they were written (`007`, `1.50`) is lost in JSON.
Times are in seconds and lie within the clip, but for {late:g} s of rounding. `language` and
`target_language` are of their kind in every record that has them; other fields that no task names
are kept as they are, where JSON's numbers hold them.

| kind | is |
| --- | --- |
{kinds}
"""


def page() -> str:
    """The page in Markdown."""
    kinds = {
        kind.name: kind.says
        for row in KINDS.values()
        for kind in (*row.fields.values(), *row.optional.values())
    }
    table = "\n".join(f"| {name} | {says} |" for name, says in sorted(kinds.items()))
    parts = [HEAD.format(late=LATE, kinds=table)]
    for group in ("speech", "sound", "music", "text", "conversation"):
        rows = {name: row for name, row in KINDS.items() if row.group == group}
        parts.append(f"\n## {group.capitalize()}\n")
        parts += [_section(name, row) for name, row in rows.items()]
    return "".join(parts)


def _section(name: str, row: Task) -> str:
    kind = "original" if row.original else "own layout"
    fields = _named(row.fields)
    if row.optional:
        fields += "; optional " + _named(row.optional)
    clips = {None: "; any number of clips", 0: "; no clips", 1: ""}.get(
        row.clips, f"; {row.clips} clips"
    )
    metric = f"metric `{row.metric}`" if row.metric else "not evaluated"
    lines = [f"\n### {name}\n", f"Fields {fields}{clips}; {metric}; {kind}.\n"]
    lines.append("```")
    if row.clips is None:
        return "\n".join([*lines, *_conversation(name, row), "```\n"])
    lines.append("tags    " + _written(*render(name, row.example, "tags")))
    for wording in range(len(row.prompts)):
        label = "prompt  " if wording == 0 else "        "
        lines.append(label + _written(*render(name, row.example, "prompts", wording=wording)))
    return "\n".join([*lines, "```\n"])


def _conversation(name: str, row: Task) -> list[str]:
    """The example in both families; it is the same whatever the conditioning."""
    lines = []
    for family in AUDIO_TAGS:
        form = chat.Form(family)
        lines.append(_written(*render(name, row.example, "tags", form=form)))
        if name == PREFERENCE:
            fields = (row.example[field] for field in PAIR_FIELDS)
            prompt, _, rejected = chat.render_pair(*fields, form)
            lines.append(_written(prompt, rejected))
    return lines


def _named(fields: Mapping[str, Field]) -> str:
    return ", ".join(
        f"`{name}`" if name == kind.name else f"`{name}` ({kind.name})"
        for name, kind in fields.items()
    )


def _written(prompt: list[Span], answer: list[Span]) -> str:
    return _text(prompt) + "▸" + _text(answer)


def _text(spans: list[Span]) -> str:
    return "".join("♪" if span.clip >= 0 else span.tag or span.text for span in spans)


if __name__ == "__main__":
    print(page(), end="")
