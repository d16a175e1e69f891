"""What a validation split asks: its records, and conversations with other sound."""

import dataclasses
import functools
import io
from collections.abc import Iterable, Sequence

import numpy as np
import soundfile

from data_pipelines.examples import Preprocessor
from data_pipelines.records import Corpus
from qwen_audio_jax.audio.lengths import SAMPLE_RATE
from qwen_audio_jax.evaluation.benchmarks import Benchmark, Item, LeftOut, digest_of
from qwen_audio_jax.evaluation.benchmarks.corpus import clips_of, is_asked, items_of, record_of
from qwen_audio_jax.evaluation.other_clips import others_of
from qwen_audio_jax.evaluation.selection import UNFIT, reason, spread
from qwen_audio_jax.run_config import EvaluateConfig
from qwen_audio_jax.tasks import CHAT

SILENCE, ANOTHER_CLIP = "silence", "another_clip"
CONTROLS = (SILENCE, ANOTHER_CLIP)
"""What conversations are heard with to see what their clips are worth: as much silence as each clip
lasts, and the clips of another conversation."""


@dataclasses.dataclass(frozen=True)
class SplitQuestions:
    """What is asked of a split.

    Attributes:
        name: of the corpus in the mixture.
        corpus: where the records lie.
        split: which of its splits.
        preprocessor: how records become prompts.
        options: how many records, and tokens of an answer.
    """

    name: str
    corpus: Corpus
    split: str
    preprocessor: Preprocessor
    options: EvaluateConfig

    def benchmarks(self, controls: bool) -> list[Benchmark]:
        """The split as a benchmark; behind it, if asked for, one for each of CONTROLS.

        Their names have the control behind a stroke, and their items have the split's ids.
        """
        return [self.own, *self._with_other_sound] if controls else [self.own]

    @functools.cached_property
    def own(self) -> Benchmark:
        """The split."""
        index = self.corpus.index(self.split)
        known, left_out = [], []
        for number, row in enumerate(index):
            if is_asked(row) and not self.preprocessor.too_long(row):
                known.append(number)
            elif is_asked(row):
                left_out.append(LeftOut(row.id, self.preprocessor.too_large(row)))
        items = []
        for number in spread(known, self.options.limit):
            try:
                items += self._items(number)
            except UNFIT as error:
                left_out.append(LeftOut(index[number].id, reason(index[number], error)))
        return self._benchmark(self.name, items, left_out)

    def _benchmark(
        self, name: str, items: Sequence[Item], left_out: Iterable[LeftOut] = ()
    ) -> Benchmark:
        return Benchmark(name, "corpus", self.corpus.path, self._digest, items, list(left_out))

    def _items(self, number: int) -> list[Item]:
        clips = functools.partial(clips_of, self.corpus, self.split, number)
        row = self.corpus.index(self.split)[number]
        return items_of(row, clips, self.options.max_new_tokens)

    @functools.cached_property
    def _digest(self) -> str:
        return digest_of(self.corpus.path)

    @functools.cached_property
    def _with_other_sound(self) -> list[Benchmark]:
        """The conversations with clips, by CONTROLS."""
        index = self.corpus.index(self.split)
        talks = {row.id: n for n, row in enumerate(index) if row.task == CHAT and row.samples}
        named = ((record_of(item.id, item.task), item) for item in self.own.items)
        asked = [(talks[record], item) for record, item in named if record in talks]
        numbers = sorted({number for number, _ in asked})
        others = others_of(self.corpus, self.split, numbers, self.preprocessor.conditioning)
        heard = [(number, item) for number, item in asked if item.samples]
        exchanged = [self._exchanged(item, others[n]) for n, item in heard if n in others]
        return [
            self._benchmark(f"{self.name}/{SILENCE}", [_silent(item) for _, item in heard]),
            self._benchmark(f"{self.name}/{ANOTHER_CLIP}", exchanged),
        ]

    def _exchanged(self, item: Item, other: int) -> Item:
        """The item with as many clips of another record."""
        clips = functools.partial(clips_of, self.corpus, self.split, other)
        samples = self.corpus.index(self.split)[other].samples[: len(item.samples)]
        return dataclasses.replace(item, clips=clips, samples=samples)


def _silent(item: Item) -> Item:
    return dataclasses.replace(item, clips=functools.partial(_silence, item.samples))


def _silence(samples: Sequence[int]) -> tuple[bytes, ...]:
    """Encoded clips of so many samples of silence."""
    return tuple(map(_silent_clip, samples))


def _silent_clip(samples: int) -> bytes:
    file = io.BytesIO()
    wave = np.zeros(samples, np.int16)
    soundfile.write(file, wave, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()
