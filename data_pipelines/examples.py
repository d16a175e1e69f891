"""Record -> Example -> rows of a Batch: rendering, features, and laying examples side by side."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.records import IndexRow, Record
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.lengths import audio_tokens, mel_frames, packed_frames
from qwen_audio_jax.audio.log_mel import log_mel
from qwen_audio_jax.audio.spec_augment import OFF, SpecAugment
from qwen_audio_jax.rendering import Tokens, render, tokenize, wording_of
from qwen_audio_jax.tokenizer import Tokenizer

FRAMES_PER_TOKEN = 4


@dataclasses.dataclass(frozen=True)
class Example:
    """A record ready for the model.

    Attributes:
        text: its tokens, with a placeholder for each audio token.
        clips: log-mel of each clip with its margin, float32 [packed frames, M].
        clip_frames: valid frames of each clip, margin not counted.
    """

    text: Tokens
    clips: tuple[np.ndarray, ...]
    clip_frames: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ExampleMaker:
    """How records become examples: one model family, one conditioning, one vocabulary.

    Attributes:
        tokenizer: the vocabulary.
        family: "qwen_audio" or "qwen2_audio".
        conditioning: "tags" or "prompts".
        mel_bins: M.
        frame_rounding: "floor" or "ceil", see `ModelConfig`.
    """

    tokenizer: Tokenizer
    family: str
    conditioning: str
    mel_bins: int
    frame_rounding: str

    def lengths(self, rows: Sequence[IndexRow]) -> np.ndarray:
        """int64 [n, 2]: tokens and packed frames of each record, from the index alone."""
        lengths = np.empty((len(rows), 2), np.int64)
        for i, row in enumerate(rows):
            frames = [mel_frames(n, self.frame_rounding) for n in row.samples]
            text = self._tokens(row.id, row.task, row.annotation, frames)
            lengths[i] = len(text.tokens), sum(packed_frames(n) for n in frames)
        return lengths

    def example(self, record: Record) -> Example:
        """Decodes and renders a record for training.

        Raises:
            AudioError: a clip cannot be used.
        """
        frames, clips = self._features(record)
        text = self._tokens(record.id, record.task, record.annotation, frames)
        return Example(text, clips, tuple(frames))

    def question(self, record: Record) -> tuple[Example, str]:
        """The record's prompt alone, in its first wording, and the reference answer's text.

        Where an answer begins with the language, that is given, as in the released evaluation.
        """
        frames, clips = self._features(record)
        prompt, label = render(record.task, record.annotation, self.conditioning)
        while label[0].language:
            prompt.append(dataclasses.replace(label.pop(0), loss=False))
        clip_tokens = [audio_tokens(n) for n in frames]
        text = tokenize(prompt, self.tokenizer, self.family, clip_tokens, end=False)
        return Example(text, clips, tuple(frames)), "".join(s.tag or s.text for s in label)

    def _features(self, record: Record) -> tuple[list[int], tuple[np.ndarray, ...]]:
        waves = [decode(data) for data in record.audio]
        frames = [mel_frames(len(wave), self.frame_rounding) for wave in waves]
        clips = tuple(
            log_mel(wave, self.mel_bins, packed_frames(n))
            for wave, n in zip(waves, frames, strict=True)
        )
        return frames, clips

    def _tokens(
        self, record_id: str, task: str, annotation: dict[str, Any], frames: Sequence[int]
    ) -> Tokens:
        wording = wording_of(record_id)
        prompt, label = render(task, annotation, self.conditioning, wording=wording)
        clip_tokens = [audio_tokens(n) for n in frames]
        return tokenize([*prompt, *label], self.tokenizer, self.family, clip_tokens)


def augmented(example: Example, augment: SpecAugment, random: np.random.Generator) -> Example:
    """The example with its clips warped and masked."""
    if augment == OFF:
        return example
    clips = (
        augment(mel, n, random) for mel, n in zip(example.clips, example.clip_frames, strict=True)
    )
    return dataclasses.replace(example, clips=tuple(clips))


def empty_batch(rows: int, tokens: int, frames: int, mel_bins: int) -> dict[str, np.ndarray]:
    """A Batch of padding; the fields and shapes of the contract (docs/design.md)."""
    return {
        "tokens": np.zeros((rows, tokens), np.int32),
        "targets": np.zeros((rows, tokens), np.int32),
        "loss_weights": np.zeros((rows, tokens), np.float32),
        "positions": np.zeros((rows, tokens), np.int32),
        "segments": np.zeros((rows, tokens), np.int32),
        "audio_index": np.full((rows, tokens), -1, np.int32),
        "mel": np.zeros((rows, frames, mel_bins), np.float32),
        "mel_positions": np.zeros((rows, frames), np.int32),
        "mel_segments": np.zeros((rows, frames), np.int32),
    }


def fill_row(batch: dict[str, np.ndarray], row: int, examples: Sequence[Example]) -> None:
    """Lays examples side by side in one row of a batch that `empty_batch` made."""
    first_token, first_frame, clip_number = 0, 0, 0
    for number, example in enumerate(examples, start=1):
        slots = []
        for mel, valid in zip(example.clips, example.clip_frames, strict=True):
            clip_number += 1
            place = slice(first_frame, first_frame + len(mel))
            frame = np.arange(len(mel), dtype=np.int32)
            batch["mel"][row, place] = mel
            batch["mel_positions"][row, place] = np.where(frame < valid, frame, -1)
            batch["mel_segments"][row, place] = clip_number
            slots.append(np.arange(audio_tokens(valid)) + first_frame // FRAMES_PER_TOKEN)
            first_frame += len(mel)
        text, n = example.text, len(example.text.tokens)
        place = slice(first_token, first_token + n)
        batch["tokens"][row, place] = text.tokens
        batch["targets"][row, first_token : first_token + n - 1] = text.tokens[1:]
        batch["loss_weights"][row, first_token : first_token + n - 1] = text.loss_weights[1:]
        batch["positions"][row, place] = np.arange(n)
        batch["segments"][row, place] = number
        slot = np.concatenate([*slots, [-1]])  # so that -1 (no audio) picks -1
        batch["audio_index"][row, place] = slot[text.audio]
        first_token += n
