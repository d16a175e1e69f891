"""What a run is trained on, as a frozen dataclass: `config.data`, checked."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated

from data_pipelines.packing import RowShape
from data_pipelines.selection import Selection, selections
from qwen_audio_jax.audio.spec_augment import SpecAugment
from qwen_audio_jax.audio.wave_augment import WaveAugment
from qwen_audio_jax.config_fields import (
    ConfigError,
    Example,
    Folder,
    Items,
    Named,
    OneOf,
    Range,
    Text,
)
from qwen_audio_jax.rendering.chat import LEARN
from qwen_audio_jax.rendering.prompts import (
    PROMPT_LANGUAGES,
    Templates,
    Wordings,
    check_wordings,
    templates_of,
)
from qwen_audio_jax.step_config import MOST
from qwen_audio_jax.tasks import CONDITIONINGS

_Names = Annotated[tuple[Annotated[str, Text(100)], ...], Items(1, 1000)]


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Attributes:
    root: folder of the corpora.
    mixture: corpus name -> weight, its share of records relative to the others'; 0 leaves it out.
    temperature: 0 takes the weights as they are; above, each is multiplied by the corpus's number
        of records to the power of 1 / temperature.
    conditioning: what tells the model its task: "tags" as in Qwen-Audio, "prompts" in natural
        language as in Qwen2-Audio, "none" nothing.
    seed: random seed of the order of records and of what augmentation draws.
    shapes: one to three row shapes, (rows, tokens, frames) each: rows of a batch over all
        processes, a multiple of replica x fsdp x `config.train.accumulate`; tokens of a row; its
        log-mel frames of 10 ms, a multiple of 4. A record goes into the smallest that holds it.
    workers: processes, of each training process, that make batches; 0 uses threads instead.
    max_seconds: a record with a longer clip is dropped, by name. One of over 30 s is heard as
        several windows.
    max_bad_share: share of records that may be too long or damaged before the run stops.
    wave_augment: speed, noise and gain of a training clip, where the task's label stays true.
    spec_augment: SpecAugment (Park et al., 2019): masks and warping of a training clip's log-mel
        features.
    tasks: corpus name -> tasks whose records are taken, for training and evaluation; all of a
        corpus that is not in it.
    languages: corpus name -> languages of the audio whose records are taken, likewise; records
        that tell no language are then left out.
    prompts: task -> wordings of one's own in the place of the built-in ones, for the conditioning
        "prompts"; evaluation uses the first. A field of the record may stand in them:
        `{question}`, `{language_name}`.
    prompt_language: takes only the built-in wordings of this language.
    learn: what of a conversation is learned: all that the assistant says ("assistant"), or its last
        message alone ("last"). A message with `"loss": false` never is.
    learn_newline: whether the line break behind a learned `<|im_end|>` is learned too. Nobody
        generates it; ms-swift and LLaMA-Factory learn it.
    overlong: what becomes of a conversation that no row shape holds: "reject" drops it, by name;
        "drop_turns" leaves out its oldest turns until it fits, never the system message and never a
        part of a turn.
    """

    root: Annotated[str, Folder()]
    mixture: Annotated[
        Mapping[Annotated[str, Folder()], Annotated[float, Range(0, 1e12)]],
        Items(1, 1000),
        Example('{"my_corpus": 1.0}'),
    ]
    temperature: Annotated[float, Range(0.1, 1e6, also=0, meaning="weights as they are")]
    conditioning: Annotated[str, OneOf(CONDITIONINGS)]
    seed: Annotated[int, Range(0, 2**63 - 1)]
    shapes: Annotated[
        tuple[
            tuple[
                Annotated[int, Named("rows"), Range(1, 2**20)],
                Annotated[int, Named("tokens"), Range(1, 2**20)],
                Annotated[int, Named("frames"), Range(4, 2**20, multiple=4)],
            ],
            ...,
        ],
        Items(1, 3),
        Example("((16, 144, 352), (8, 448, 1024))"),
    ]
    workers: Annotated[int, Range(0, 512)]
    max_seconds: Annotated[float, Range(0.03, 1e6)]
    max_bad_share: Annotated[float, Range(0, 1)]
    wave_augment: WaveAugment
    spec_augment: SpecAugment
    tasks: Annotated[
        Mapping[Annotated[str, Folder()], _Names], Example('{"my_corpus": ("asr",)}')
    ] = dataclasses.field(default_factory=dict)
    languages: Annotated[
        Mapping[Annotated[str, Folder()], _Names], Example('{"my_corpus": ("en", "fr")}')
    ] = dataclasses.field(default_factory=dict)
    prompts: Wordings = dataclasses.field(default_factory=dict)
    prompt_language: Annotated[str, OneOf(("all", *PROMPT_LANGUAGES))] = "all"
    learn: Annotated[str, OneOf(LEARN)] = LEARN[0]
    learn_newline: bool = False
    overlong: Annotated[str, OneOf(("reject", "drop_turns"))] = "reject"

    def __post_init__(self):
        self._check_prompts()
        if not any(self.mixture.values()):
            raise ConfigError("config.data.mixture: all weights are 0; one must be above")
        for number, (rows, tokens, frames) in enumerate(self.shapes):
            if rows * max(tokens, frames) > MOST:
                raise ConfigError(
                    f"config.data.shapes[{number}]: a batch must have at most {MOST:,} tokens and "
                    f"frames, and {rows:,} rows of {tokens:,} and {frames:,} have more; take fewer "
                    "rows"
                )

    def _check_prompts(self) -> None:
        for key, none in (("prompts", {}), ("prompt_language", "all")):
            if getattr(self, key) != none and self.conditioning != "prompts":
                raise ConfigError(
                    f"config.data.{key}: has a meaning with config.data.conditioning=prompts "
                    f"alone, and that is {self.conditioning}"
                )
        check_wordings(self.prompts, "config.data.prompts")

    @property
    def chosen(self) -> dict[str, Selection]:
        """Which records of a corpus are taken; all of those that are not in it."""
        return selections(self.tasks, self.languages)

    @property
    def templates(self) -> Templates:
        """Of each task's prompts."""
        return templates_of(self.prompts, self.prompt_language)

    @property
    def room(self) -> tuple[tuple[int, int], ...]:
        """Tokens and frames of the rows that conversations are shortened for; none if not."""
        if self.overlong == "reject":
            return ()
        return tuple((shape.tokens, shape.frames) for shape in self.row_shapes)

    @property
    def row_shapes(self) -> tuple[RowShape, ...]:
        return tuple(RowShape(*shape) for shape in self.shapes)
