"""What slots hold, and which of it a prompt finds there."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from data_pipelines.examples import Example
from qwen_audio_jax.audio.lengths import audio_tokens
from qwen_audio_jax.inference.answers import Answer


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A prompt as it is compared with what slots hold.

    Attributes:
        tokens: int32 [n].
        audio: int32 [n]; of a placeholder, its number among the prompt's audio tokens, else -1.
        content: int64 [n]; of a placeholder, its clip's digest, which is negative, else the token.
            Two prompts that begin with the same content have the same sound there.
        clips: log-mel, valid frames and silence of each, see `Example`.
        digests: of the clips.
        first_audio: int64 [clips + 1], number of each one's first audio token, and of all.
    """

    tokens: np.ndarray
    audio: np.ndarray
    content: np.ndarray
    clips: tuple[tuple[np.ndarray, int, int], ...]
    digests: tuple[int, ...]
    first_audio: np.ndarray

    @classmethod
    def of(cls, example: Example) -> "Prompt":
        """That of an example."""
        text = example.text
        clips = tuple(
            (mel, valid, example.silence)
            for mel, valid in zip(example.clips, example.clip_frames, strict=True)
        )
        digests = tuple(map(_digest, clips))
        first_audio = np.cumsum([0, *(audio_tokens(valid) for _, valid, _ in clips)])
        content = text.tokens.astype(np.int64)
        heard = text.audio >= 0
        clip = np.searchsorted(first_audio, text.audio[heard], side="right") - 1
        content[heard] = np.array([*digests, 0])[clip]
        return cls(text.tokens, text.audio, content, clips, digests, first_audio)

    def clips_of(self, start: int, end: int) -> list[int]:
        """Numbers of the clips that have audio tokens among these positions."""
        audio = self.audio[start:end]
        clips = np.searchsorted(self.first_audio, audio[audio >= 0], side="right") - 1
        return sorted(set(clips.tolist()))


def _digest(clip: tuple[np.ndarray, int, int]) -> int:
    mel, valid, silence = clip
    # Processors have instructions for this one: 30 s take 0.9 ms, by BLAKE2 1.8.
    made = hashlib.sha256(np.ascontiguousarray(mel))
    made.update(f"{mel.shape} {valid} {silence}".encode())
    return int.from_bytes(made.digest()[:8]) // 2 - (1 << 63)


@dataclasses.dataclass
class Slot:
    """A row of the caches.

    Attributes:
        row: which.
        talk: whose history it holds; "" if nobody's.
        content: of the tokens that it holds, as in `Prompt`.
        last: the token that was written last, which it does not hold yet.
        rotation: what else their keys depend on, see `Engine`.
        heard: audio tokens of its clips by digest, [N, D].
        answer: the one that is being written, or whose prompt is being read.
        prompt: of that.
        used_at: when an answer ended in it last, counted.
    """

    row: int
    talk: str = ""
    content: list[int] = dataclasses.field(default_factory=list)
    last: int = -1
    rotation: float = 1.0
    heard: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    answer: Answer | None = None
    prompt: Prompt | None = None
    used_at: int = 0

    def reusable(self, prompt: Prompt, rotation: float) -> int:
        """How many tokens of a prompt it holds; never the last, from which the answer follows."""
        if rotation != self.rotation:
            return 0
        n = min(len(self.content), len(prompt.content) - 1)
        differing = np.flatnonzero(np.array(self.content[:n], np.int64) != prompt.content[:n])
        return int(differing[0]) if len(differing) else n

    def forget(self) -> None:
        """Empties it."""
        self.talk, self.content, self.heard = "", [], {}

    @property
    def reading(self) -> bool:
        """Whether a prompt is being read."""
        return self.answer is not None and len(self.content) < len(self.prompt.tokens)


def choose_slot(slots: Sequence[Slot], talk: str) -> Slot | None:
    """A free slot for a request: the one with its talk, else an empty one, else the oldest."""
    free = [slot for slot in slots if slot.answer is None]
    own = [slot for slot in free if talk and slot.talk == talk]
    return min(own or free, key=lambda slot: (bool(slot.talk), slot.used_at), default=None)
