"""Questions as pre-training puts them: a task's tags or prompt behind a clip, and no conversation.

What is known of the clip (its languages, what is asked about it) is given; of what the model shall
find out, the table's example stands in, since none of it comes before the answer.
"""

import difflib
from collections.abc import Iterator, Sequence

import numpy as np

from data_pipelines.examples import Example
from qwen_audio_jax.inference.answers import Answer, Request, Usage
from qwen_audio_jax.inference.engine import Engine
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.inference.prompt import check_clip, stop_ids
from qwen_audio_jax.inference.sampling import Sampling
from qwen_audio_jax.inference.text_stream import TextStream
from qwen_audio_jax.rendering import render
from qwen_audio_jax.rendering.language_codes import language_code, tagged_languages
from qwen_audio_jax.tasks import TASKS
from qwen_audio_jax.text.tokenizer import Tokenizer

LANGUAGES = ("language", "target_language")
_WORDS = ("question", "phrase")
"""Fields that are asked in one's own words; no task has more than one of them."""


class Reply:
    """The answer to a question: iterate over it for pieces of text as they come.

    Attributes:
        answer: its ids.
        text: so far.
    """

    def __init__(self, answer: Answer, tokenizer: Tokenizer):
        self.answer, self._stream, self.text = answer, TextStream(tokenizer, tags=True), ""

    def __iter__(self) -> Iterator[str]:
        """Pieces of text. Raises RuntimeError, with a sentence, where the answer failed."""
        for token in self.answer:
            yield from self._piece(self._stream.push(token))
        yield from self._piece(self._stream.end())

    def cancel(self) -> None:
        """Ends the answer."""
        self.answer.cancel()

    @property
    def finish(self) -> str | None:
        """See `Answer`."""
        return self.answer.finish

    @property
    def usage(self) -> Usage:
        """See `Usage`."""
        return self.answer.usage

    def _piece(self, piece: str) -> list[str]:
        self.text += piece
        return [piece] if piece else []


class Questions:
    """One task's questions.

    Attributes:
        task: the task.
        clips: how many a question takes.
        words: the field that is typed, "question" or "phrase"; "" if nothing is.
    """

    def __init__(self, loaded: Loaded, engine: Engine, task: str, languages: dict[str, str]):
        """Args:
        loaded: the model.
        engine: that answers.
        task: the task.
        languages: by LANGUAGES, as they were typed; "" of one that was not.

        Raises:
            ValueError: there is no such task, or a language is missing, unknown, or not read.
        """
        if task not in TASKS:
            near = difflib.get_close_matches(task, TASKS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(TASKS))}"
            raise ValueError(f"--task: {task!r} is no task; {hint}")
        row = TASKS[task]
        self.task, self.clips = task, row.clips
        self.words = next((field for field in _WORDS if field in row.fields), "")
        self._loaded, self._engine = loaded, engine
        self._annotation = dict(row.example)
        for field in LANGUAGES:
            if typed := languages.get(field, ""):
                if field not in row.fields:
                    raise ValueError(f"--{field}: is not asked for by --task={task}; leave it out")
                self._annotation[field] = _code(field, typed)
            elif field in row.fields:
                raise ValueError(
                    f"--{field}: is missing, and --task={task} tells it to the model; add "
                    f"--{field}=CODE, as en, or unknown"
                )
        self._check_tags()

    def ask(
        self,
        waves: Sequence[np.ndarray],
        words: str,
        *,
        sampling: Sampling,
        seed: int,
        max_new_tokens: int,
    ) -> Reply:
        """Asks one question.

        Args:
            waves: its clips, float32 [samples] at 16 kHz.
            words: what was typed.
            sampling, seed, max_new_tokens: see `Request`.

        Raises:
            ValueError: see `example`; or a clip cannot be heard, or is too long for the engine.
        """
        example = self.example(waves, words)
        request = Request(example, stop_ids(self._loaded), max_new_tokens, sampling, seed)
        return Reply(self._engine.submit(request), self._loaded.tokenizer)

    def example(self, waves: Sequence[np.ndarray], words: str) -> Example:
        """The prompt of one question.

        Raises:
            ValueError: there are other than `clips` of them, or words where none are asked for.
        """
        if words and not self.words:
            raise ValueError(
                f"--task={self.task} asks nothing in words, so what was typed is not sent; add a "
                "clip with /audio FILE"
            )
        if len(waves) != self.clips:
            raise ValueError(
                f"{len(waves)} clip{'s' * (len(waves) != 1)} added, and a question of "
                f"--task={self.task} takes {self.clips}; add with /audio FILE or take one back "
                "with /undo"
            )
        if self.words and not words:
            raise ValueError(f"--task={self.task} asks in words; type the {self.words}")
        asked = self._annotation | ({self.words: words} if words else {})
        preprocessor = self._loaded.preprocessor
        waves = [check_clip(wave, preprocessor.max_seconds) for wave in waves]
        return preprocessor.question(self.task, asked, waves)[0]

    def _check_tags(self) -> None:
        """Refuses what the vocabulary has no tag for; such a language would become "unknown"."""
        tokenizer, how = self._loaded.tokenizer, self._loaded.preprocessor
        prompt, answer = render(
            self.task, self._annotation, how.conditioning, templates=how.templates
        )
        told = [
            span for span in [*prompt, *answer] if span.tag and (span.language or not span.loss)
        ]
        for span in told:
            if span.tag in tokenizer.control_ids:
                continue
            if span.language:
                known = ", ".join(tagged_languages(tokenizer))
                raise ValueError(
                    f"--language: this model's vocabulary has no tag for {span.tag[2:-2]!r}; it "
                    f"has {known}"
                )
            raise ValueError(
                f"--task: {self.task} takes the tag {span.tag}, which this model's vocabulary "
                "lacks; choose another task"
            )


def _code(field: str, typed: str) -> str:
    try:
        return language_code(typed.strip())
    except ValueError as error:
        raise ValueError(f"--{field}: {error}") from None
