"""Record -> Example -> rows of a Batch: rendering, features, and laying examples side by side."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.pairs import Pair, lay_out, pair_tokens, place_pair
from data_pipelines.records import IndexRow, Record
from data_pipelines.speed_perturbation import annotation_at, rate_for, samples_at
from qwen_audio_jax.audio.decode import AudioError, decode, resample
from qwen_audio_jax.audio.lengths import (
    FRAMES_PER_TOKEN,
    SAMPLE_RATE,
    audio_tokens,
    mel_frames,
    packed_frames,
    windows,
)
from qwen_audio_jax.audio.log_mel import log_mel
from qwen_audio_jax.audio.silence import seen_frames
from qwen_audio_jax.audio.spec_augment import OFF, SpecAugment
from qwen_audio_jax.audio.wave_augment import OFF as WAVE_OFF
from qwen_audio_jax.audio.wave_augment import WaveAugment
from qwen_audio_jax.rendering import (
    Tokens,
    chat,
    closes,
    count_tokens,
    render,
    tokenize,
    wording_of,
)
from qwen_audio_jax.rendering.prompts import Templates
from qwen_audio_jax.rendering.spans import Span, in_windows
from qwen_audio_jax.tasks import CHAT, KINDS, PAIR_FIELDS, PREFERENCE
from qwen_audio_jax.tasks.conversation import learned, places, up_to_answers
from qwen_audio_jax.text.control_tokens import IM_END
from qwen_audio_jax.text.tokenizer import Tokenizer

_NO_ROOM = 1 << 30


@dataclasses.dataclass(frozen=True)
class Example:
    """A record ready for the model.

    Attributes:
        text: its tokens, with a placeholder for each audio token.
        clips: log-mel of each clip, the silence that is seen behind it, and its margin, float32
            [packed frames, M]. One of over 30 s is several: its windows, one after another.
        clip_frames: valid frames of each of these, neither silence nor margin counted.
        silence: frames of silence that the encoder sees behind each, where its 30 s have room.
        pair: where the tokens stand if they are two answers to one prompt; None if they follow one
            another.
    """

    text: Tokens
    clips: tuple[np.ndarray, ...]
    clip_frames: tuple[int, ...]
    silence: int = 0
    pair: Pair | None = None


@dataclasses.dataclass(frozen=True)
class Preprocessor:
    """How records become examples: one model family, one conditioning, one vocabulary.

    Attributes:
        tokenizer: the vocabulary.
        family: "qwen_audio" or "qwen2_audio".
        conditioning: "tags", "prompts" or "none".
        mel_bins: M.
        frame_rounding: "floor" or "ceil", see `ModelConfig`.
        max_seconds: no clip may be longer.
        augment: speeds, noise and gain that training may draw.
        silence: frames of silence that the encoder sees behind a clip, see `audio/silence.py`.
        templates: of the prompts; the built-in ones if None.
        learn: what of a conversation is learned, see `chat.LEARN`.
        learn_newline: see `chat.Form`.
        room: tokens and frames of the rows that a conversation is shortened for, by its oldest
            turns; it stays whole if there are none.
        layout: how both answers of a preference record are laid out, one of `pairs.LAYOUTS`; "" has
            the chosen one alone, as the last message of a conversation.
    """

    tokenizer: Tokenizer
    family: str
    conditioning: str
    mel_bins: int
    frame_rounding: str
    max_seconds: float = 300.0
    augment: WaveAugment = WAVE_OFF
    silence: int = 0
    templates: Templates | None = None
    learn: str = chat.LEARN[0]
    learn_newline: bool = False
    room: tuple[tuple[int, int], ...] = ()
    layout: str = ""

    def lengths(self, rows: Sequence[IndexRow], variants: Sequence[int] = ()) -> np.ndarray:
        """Tokens and packed frames of each record, int64 [n, 2], from the index alone.

        One with a clip of more than `max_seconds` has more of both than any row has room for.

        Args:
            rows: the records.
            variants: at which of the speeds each is heard; none if as it is.
        """
        lengths = np.full((len(rows), 2), _NO_ROOM, np.int64)
        for i, row in enumerate(rows):
            if self.too_long(row):
                continue
            rate = self._rate(row.task, row.samples, variants[i]) if len(variants) else SAMPLE_RATE
            samples = [samples_at(n, rate) for n in row.samples]
            annotation, gone = self._shortened(row.task, row.annotation, samples)
            if not self._learns(row.task, annotation):
                continue
            samples = samples[gone:]
            parts = self._parts(row.id, row.task, annotation, samples, rate)
            lengths[i] = self._size(row.task, parts, samples)
        return lengths

    def _size(
        self, task: str, parts: Sequence[Sequence[Span]], samples: Sequence[int]
    ) -> tuple[int, int]:
        """Tokens and packed frames of a record in the parts that `_parts` gives."""
        frames = self._frames(samples)
        clip_tokens, (spans, *answers) = [audio_tokens(n) for n in frames], parts
        tokens = count_tokens(spans, self.tokenizer, clip_tokens, end=closes(task))
        if answers:
            each = [count_tokens(one, self.tokenizer, (), end=False) for one in answers]
            tokens = pair_tokens(tokens, each, self.layout)
        return tokens, sum(map(self._packed_frames, frames))

    def _learns(self, task: str, annotation: dict[str, Any]) -> bool:
        """Whether anything of a record is learned; of a conversation it may be nothing."""
        if task != CHAT:
            return True
        messages = annotation["messages"]
        return any(map(learned, messages if self.learn == "assistant" else messages[-1:]))

    def _shortened(
        self, task: str, annotation: dict[str, Any], samples: Sequence[int]
    ) -> tuple[dict[str, Any], int]:
        """A conversation without the oldest turns that no row has room for, if it may lose them.

        Returns:
            The annotation, and how many clips went. It is whole where nothing is gained: where its
            last turn alone is too large, or would have nothing to learn.
        """
        if task not in (CHAT, PREFERENCE) or not self.room:
            return annotation, 0
        messages = annotation["messages"]
        for number in range(len(chat.turns(messages))):
            kept, gone = chat.without_oldest(messages, number)
            shorter, heard = annotation | {"messages": kept}, samples[gone:]
            if not self._learns(task, shorter):
                break
            tokens, frames = self._size(task, self._parts("", task, shorter, heard), heard)
            if any(tokens <= most and frames <= frame_room for most, frame_room in self.room):
                return shorter, gone
        return annotation, 0

    def too_long(self, row: IndexRow) -> bool:
        """Whether a clip of it lasts more than `max_seconds`."""
        return max(row.samples, default=0) > self.max_seconds * SAMPLE_RATE

    def too_large(self, row: IndexRow) -> str:
        """Why a record is too long, or no row shape holds it, and the fix."""
        if self.too_long(row):
            seconds = max(row.samples) / SAMPLE_RATE
            return (
                f"a clip of it lasts {seconds:.1f} s, and config.data.max_seconds is "
                f"{self.max_seconds:g}"
            )
        if not self._learns(row.task, row.annotation):
            return (
                "config.data.learn is 'last', and its last message has 'loss': false, so that "
                "nothing of it is learned"
            )
        ((tokens, frames),) = self.lengths([row])
        return (
            f"it is larger than every row shape; config.data.shapes needs one of at least {tokens} "
            f"tokens and {frames} frames"
        )

    def example(
        self,
        record: Record,
        samples: Sequence[int] | None = None,
        variant: int | None = None,
        random: np.random.Generator | None = None,
    ) -> Example:
        """Decodes and renders a record for training.

        Args:
            record: the record.
            samples: of each clip, as the index has them, if they shall be compared.
            variant: at which of the speeds it is heard; as it is if None.
            random: draws noise and gain; as they are if None.

        Raises:
            AudioError: a clip cannot be used, or is not as long as the index says.
        """
        waves = [decode(data) for data in record.audio]
        lengths = tuple(map(len, waves))
        if samples is not None and lengths != tuple(samples):
            raise AudioError(f"its clips have {lengths} samples, and {samples} by the index")
        rate = SAMPLE_RATE if variant is None else self._rate(record.task, lengths, variant)
        waves = [resample(wave, rate) for wave in waves]
        if random is not None:
            waves = [self.augment(wave, KINDS[record.task].survives, random) for wave in waves]
        heard = list(map(len, waves))
        annotation, gone = self._shortened(record.task, record.annotation, heard)
        spans, *answers = self._parts(record.id, record.task, annotation, heard[gone:], rate)
        example = self.of_spans(spans, waves[gone:], end=closes(record.task))
        if not answers:
            return example
        each = [tokenize(one, self.tokenizer, self.family, (), end=False) for one in answers]
        text, pair = lay_out(example.text, each, self.layout)
        return dataclasses.replace(example, text=text, pair=pair)

    def question(
        self, task: str, annotation: dict[str, Any], waves: Sequence[np.ndarray]
    ) -> tuple[Example, str]:
        """What one of `asked` asks, in the first wording, and the reference answer's text.

        A language that the answer begins with is given, as in the released evaluation, if known.

        Args:
            task: of the record.
            annotation: one of those that `asked` gives.
            waves: of the record's clips; the first of them are heard, up to the answer.
        """
        if task == CHAT:
            waves = waves[: places(annotation["messages"])]
        prompt, reference = self.prompt(task, annotation)
        prompt = in_windows(prompt, list(map(len, waves)))
        return self.of_spans(prompt, waves, end=False), reference

    def prompt(self, task: str, annotation: dict[str, Any]) -> tuple[list[Span], str]:
        """What `question` asks, a place for each clip, and the reference answer's text."""
        prompt, label = self._rendered(task, annotation)
        while "language" in annotation and label and label[0].language:
            prompt.append(dataclasses.replace(label.pop(0), loss=False))
        reference = "".join(s.tag or s.text for s in label)
        if not closes(task):
            reference = reference.removesuffix(f"{IM_END}\n")
        return prompt, reference

    def prompt_tokens(self, spans: Sequence[Span], samples: Sequence[int]) -> int:
        """Tokens of a prompt with a place for each clip, whose clips have so many samples."""
        clip_tokens = [audio_tokens(n) for n in self._frames(samples)]
        return count_tokens(in_windows(spans, samples), self.tokenizer, clip_tokens, end=False)

    def of_spans(self, spans: Sequence[Span], waves: Sequence[np.ndarray], *, end: bool) -> Example:
        """The example of spans with a place for each window of each waveform."""
        frames = self._frames([len(wave) for wave in waves])
        text = tokenize(spans, self.tokenizer, self.family, [*map(audio_tokens, frames)], end=end)
        parts = [part for wave in waves for part in _cut(wave)]
        clips = tuple(
            log_mel(part, self.mel_bins, self._packed_frames(n))
            for part, n in zip(parts, frames, strict=True)
        )
        return Example(text, clips, tuple(frames), self.silence)

    def _frames(self, samples: Sequence[int]) -> list[int]:
        """Frames of each window of each clip."""
        return [mel_frames(n, self.frame_rounding) for clip in samples for n in windows(clip)]

    def _packed_frames(self, frames: int) -> int:
        """Frames that a window of so many valid ones takes in a row."""
        return packed_frames(seen_frames(frames, self.silence))

    def _rate(self, task: str, samples: Sequence[int], variant: int) -> int:
        return rate_for(task, samples, self.augment.rate(variant))

    def _rendered(
        self, task: str, annotation: dict[str, Any], wording: int = 0
    ) -> tuple[list[Span], list[Span]]:
        return render(
            task,
            annotation,
            self.conditioning,
            wording=wording,
            templates=self.templates,
            form=self.form,
        )

    @property
    def form(self) -> chat.Form:
        """How conversations are put to the model."""
        return chat.Form(self.family, self.learn, self.learn_newline)

    def _parts(
        self,
        record_id: str,
        task: str,
        annotation: dict[str, Any],
        samples: Sequence[int],
        rate: int = SAMPLE_RATE,
    ) -> list[list[Span]]:
        """What is read and learned of clips of these samples, which were taken to have a rate.

        It is one part, but of a pair the prompt and both answers.
        """
        annotation = annotation_at(annotation, rate, sum(samples) / SAMPLE_RATE)
        if task == PREFERENCE and self.layout:
            said = (annotation[name] for name in PAIR_FIELDS)
            prompt, *answers = chat.render_pair(*said, self.form)
            return [in_windows(prompt, samples), *answers]
        prompt, label = self._rendered(task, annotation, wording_of(record_id))
        return [in_windows([*prompt, *label], samples)]


def asked(task: str, annotation: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotations that a record is asked by, of an answer each.

    Of a conversation one for each answer that is learned, with the turns before it as they are in
    the record; of another record its own.
    """
    if task != CHAT:
        return [annotation]
    return [annotation | {"messages": m} for m in up_to_answers(annotation["messages"])]


def _cut(wave: np.ndarray) -> list[np.ndarray]:
    """The windows of a waveform."""
    return np.split(wave, np.cumsum(windows(len(wave)))[:-1])


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


def batch_bytes(rows: int, tokens: int, frames: int, mel_bins: int) -> int:
    """Memory that `empty_batch` takes."""
    return rows * (6 * 4 * tokens + (4 * mel_bins + 2 * 4) * frames)


def fill_row(batch: dict[str, np.ndarray], row: int, examples: Sequence[Example | None]) -> None:
    """Lays examples side by side in one row of a batch that `empty_batch` made.

    Pairs need its `pair_fields`; one that is None leaves its number among the pairs empty.
    """
    first_token, first_frame, clip_number, segment = 0, 0, 0, 1
    for number, example in enumerate(examples):
        if example is None:
            continue
        slots = []
        for mel, valid in zip(example.clips, example.clip_frames, strict=True):
            clip_number += 1
            place = slice(first_frame, first_frame + len(mel))
            frame = np.arange(len(mel), dtype=np.int32)
            batch["mel"][row, place] = mel
            behind = np.where(frame < seen_frames(valid, example.silence), -2 - frame, -1)
            batch["mel_positions"][row, place] = np.where(frame < valid, frame, behind)
            batch["mel_segments"][row, place] = clip_number
            slots.append(np.arange(audio_tokens(valid)) + first_frame // FRAMES_PER_TOKEN)
            first_frame += len(mel)
        text, n = example.text, len(example.text.tokens)
        place = slice(first_token, first_token + n)
        batch["tokens"][row, place] = text.tokens
        batch["targets"][row, first_token : first_token + n - 1] = text.tokens[1:]
        batch["loss_weights"][row, first_token : first_token + n - 1] = text.loss_weights[1:]
        slot = np.concatenate([*slots, [-1]])  # so that -1 (no audio) picks -1
        batch["audio_index"][row, place] = slot[text.audio]
        if example.pair is None:
            batch["positions"][row, place] = np.arange(n)
            batch["segments"][row, place] = segment
            segment += 1
        else:
            segment = place_pair(batch, row, place, example.pair, number, segment)
        first_token += n
