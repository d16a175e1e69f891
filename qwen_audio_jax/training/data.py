"""What a run trains on: the corpora, how their records become examples, the plan of all batches."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_pipelines.examples import Preprocessor
from data_pipelines.packing import PackPlan, RowShape
from data_pipelines.pipeline import PackedBatches
from data_pipelines.records import Corpus
from qwen_audio_jax.data_config import DataConfig


@dataclasses.dataclass(frozen=True)
class Data:
    """Attributes:
    corpora: by name.
    preprocessor: of what is trained on.
    plan: of all batches.
    local_rows: of each row shape, which rows of a batch this process makes.
    """

    corpora: dict[str, Corpus]
    preprocessor: Preprocessor
    plan: PackPlan
    local_rows: dict[RowShape, slice]

    def batches_from(
        self, slot: int, config: DataConfig, references: Sequence[np.ndarray] | None = None
    ) -> PackedBatches:
        """The batches from a slot on; see `PackedBatches` for the references."""
        return PackedBatches(
            self.corpora,
            self.preprocessor,
            self.plan,
            self.local_rows,
            slot,
            augment=config.spec_augment,
            seed=config.seed,
            max_bad_share=config.max_bad_share,
            references=references,
        )

    def batch_ids(self, slot: int) -> list[str]:
        """The records of a batch."""
        names = self.plan.components
        return [
            self.corpora[names[component]].index("train")[number].id
            for row in self.plan.batch(slot).rows
            for component, number in row
        ]
