"""The page of tasks: `python -m qwen_audio_jax.rendering.tasks_page > docs/tasks.md`."""

from qwen_audio_jax.rendering import render
from qwen_audio_jax.rendering.spans import Span
from qwen_audio_jax.tasks import KINDS, Task

HEAD = """# Tasks

What each task asks of the model, word for word: the fields of its records, its tags, prompts and
metric. Written by `python -m qwen_audio_jax.rendering.tasks_page > docs/tasks.md` from
`qwen_audio_jax/tasks/`, where a task is one row.

A record of a task has one or more clips and an annotation with the fields listed. It is put to the
model in one of two ways: by hierarchical tags, as in Qwen-Audio, or by a prompt in natural
language, as in Qwen2-Audio. Each training record gets one of the wordings, by its id; evaluation
uses the first. Below, `♪` stands for a clip, and the answer begins at `▸`: what follows it bears
the loss, and so does the `<|endoftext|>` that closes it.

The tags always come in the same order: start, language of the audio, task, language of the text,
timestamps or not, sub-task. Layouts marked *original* are those of the released Qwen-Audio
evaluation scripts, token for token; the others are this project's own and keep that order. Where
one tag covers several fields, as `<|speaker_meta|>` does, `<|question|>gender<|answer|>` says which
one is asked for.
"""


def page() -> str:
    """The page in Markdown."""
    parts = [HEAD]
    for group in ("speech", "sound", "music", "text"):
        rows = {name: row for name, row in KINDS.items() if row.group == group}
        parts.append(f"\n## {group.capitalize()}\n")
        parts += [_section(name, row) for name, row in rows.items()]
    return "".join(parts)


def _section(name: str, row: Task) -> str:
    kind = "original" if row.original else "own layout"
    fields = ", ".join(f"`{field}`" for field in row.fields)
    if row.optional:
        fields += "; optional " + ", ".join(f"`{field}`" for field in row.optional)
    clips = "" if row.clips == 1 else f"; {row.clips or 'no'} clips"
    metric = f"metric `{row.metric}`" if row.metric else "not evaluated"
    lines = [f"\n### {name}\n", f"Fields {fields}{clips}; {metric}; {kind}.\n"]
    lines.append("```")
    lines.append("tags    " + _written(*render(name, row.example, "tags")))
    for wording in range(len(row.prompts)):
        label = "prompt  " if wording == 0 else "        "
        lines.append(label + _written(*render(name, row.example, "prompts", wording=wording)))
    return "\n".join([*lines, "```\n"])


def _written(prompt: list[Span], answer: list[Span]) -> str:
    return _text(prompt) + "▸" + _text(answer)


def _text(spans: list[Span]) -> str:
    return "".join("♪" if span.clip >= 0 else span.tag or span.text for span in spans)


if __name__ == "__main__":
    print(page(), end="")
