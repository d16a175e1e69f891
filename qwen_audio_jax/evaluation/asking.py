"""What a model is asked: from a benchmark's items to prompts, and the key of each answer."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from data_pipelines.examples import Example
from data_pipelines.records import told
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.evaluation.benchmarks import Item
from qwen_audio_jax.evaluation.recordings import with_limit
from qwen_audio_jax.evaluation.selection import UNFIT
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.inference.prompt import check_clip, stop_ids
from qwen_audio_jax.inference.weights import weights_of
from qwen_audio_jax.rendering import chat
from qwen_audio_jax.rendering.spans import Span, in_windows
from qwen_audio_jax.tasks import CONVERSATIONS


@dataclasses.dataclass(frozen=True)
class Question:
    """An item as one model is asked it. Its clips are read when they are needed.

    Attributes:
        key: of its answer: of clips, prompt, limit, decoding and weights; what changes any of them
            changes it.
        spans: the prompt, with a place for each clip.
        clips: reads the encoded clips.
        audio: digests of those that are heard.
        reference: the right answer as the model would write it; "" where the item has its own form.
        limit: tokens of the answer.
        tokens: of the prompt, where that is known before its clips are decoded, else 0.
        language: of speech that is to be written down, where it is told; see `endpoint`.
    """

    key: str
    spans: tuple[Span, ...]
    clips: Callable[[], tuple[bytes, ...]]
    audio: tuple[str, ...]
    reference: str
    limit: int
    tokens: int = 0
    language: str | None = None

    @property
    def prompt(self) -> str:
        """For people: without the places of clips; of a transcription the server asks itself."""
        if self.language is not None:
            of = f", language {self.language}" if self.language else ""
            return f"/audio/transcriptions{of}"
        return "".join(span.tag or span.text for span in self.spans)


@dataclasses.dataclass(frozen=True)
class Asking:
    """How a model is asked.

    Attributes:
        loaded: the model.
        weights: which it has.
        most: tokens of an answer at most, whatever a benchmark says; 0 is no limit.
    """

    loaded: Loaded
    weights: str
    most: int = 0

    @classmethod
    def of(cls, loaded: Loaded, most: int = 0) -> "Asking":
        """Reads all weights once, for their fingerprint."""
        return cls(loaded, weights_of(loaded), most)

    def question(self, item: Item) -> Question:
        """The question of an item; reads its clips, and decodes none.

        Raises:
            ValueError: a clip cannot be read, or the item does not fit the model.
        """
        try:
            spans, reference = self._prompt(item)
        except UNFIT as error:
            raise ValueError(told(error)) from error
        heard = 1 + max((span.clip for span in spans), default=-1)
        clips = item.clips()
        if len(clips) < heard:
            raise ValueError(f"has {len(clips)} clips for {heard} places of its prompt")
        audio = tuple(map(digest, clips[:heard]))
        limit = with_limit(item).limit
        limit = min(limit, self.most or limit)
        key = self._key(spans, audio, limit)
        tokens = 0
        if item.samples is not None:
            tokens = self.loaded.preprocessor.prompt_tokens(spans, item.samples[:heard])
        return Question(key, tuple(spans), item.clips, audio, reference, limit, tokens)

    def example(self, question: Question) -> Example:
        """The prompt's tokens and the log-mel of its clips.

        Raises:
            ValueError: a clip cannot be decoded or heard, or is another one than it was.
        """
        preprocessor = self.loaded.preprocessor
        clips = question.clips()[: len(question.audio)]
        if tuple(map(digest, clips)) != question.audio:
            raise ValueError("a clip has changed since the evaluation began; begin again")
        waves = [check_clip(decode(clip), preprocessor.max_seconds) for clip in clips]
        spans = in_windows(question.spans, list(map(len, waves)))
        return preprocessor.of_spans(spans, waves, end=False)

    def is_message(self, item: Item) -> bool:
        """Whether an item is asked as a conversation."""
        return item.task in CONVERSATIONS or bool(item.messages and self.loaded.tuned)

    @property
    def told(self) -> dict[str, Any]:
        """What is told of the model."""
        loaded = self.loaded
        return {
            "name": loaded.name,
            "weights": self.weights,
            "family": loaded.family,
            "conditioning": loaded.preprocessor.conditioning,
            "tuned": loaded.tuned,
            "compute": str(loaded.model.compute.dtype),
        }

    @property
    def stop(self) -> tuple[int, ...]:
        """Ids that end an answer."""
        return stop_ids(self.loaded)

    def _prompt(self, item: Item) -> tuple[Sequence[Span], str]:
        """A talk for a model that was tuned on talks, else the benchmark's own words where it has
        some, else those of the task.
        """
        if item.messages and self.loaded.tuned:
            return chat.render(item.messages, self.loaded.family, add_generation_prompt=True), ""
        if item.spans:
            known = self.loaded.tokenizer.control_ids
            if strange := [span.tag for span in item.spans if span.tag and span.tag not in known]:
                raise ValueError(
                    f"field 'prompt': has {strange[0]}, which is no control token of this model; "
                    "take it out, or all of 'prompt', to be asked in the task's own way"
                )
            return item.spans, ""
        return self.loaded.preprocessor.prompt(item.task, item.annotation)

    def _key(self, spans: Sequence[Span], audio: Sequence[str], limit: int) -> str:
        preprocessor = self.loaded.preprocessor
        of: list[Any] = [
            self.weights,
            [[span.tag, span.text, span.clip, span.language] for span in spans],
            audio,
            ["greedy", limit, self.stop],
            [preprocessor.mel_bins, preprocessor.silence, preprocessor.max_seconds],
        ]
        return digest(json.dumps(of).encode())


def digest(data: bytes) -> str:
    """Of a clip, or of what a question is."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
