"""Preference tuning: `--config=configs/dpo.py[:PRESET[@TOPOLOGY]] --config.init_from=RUN`.

Tunes a model that has learned to converse (`configs/sft.py`, or what `convert import` has read) on
pairs of answers, by DPO; all keys are those of configs/pretrain.py. `--config.lora.rank=16
--config.optimizer.learning_rate=...` trains adapters alone. On slices that do not hold all weights
with their moments, `@TOPOLOGY` sets adapters of rank 16.

Qwen2-Audio was tuned so; its report gives no setting, so that all values are this project's own.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

from qwen_audio_jax.compilation.topology import Place

pretrain = runpy.run_path(str(pathlib.Path(__file__).with_name("pretrain.py")))


def get_config(name: str = "tiny") -> ConfigDict:
    """The configuration; docs/configuration.md describes each key."""
    preset, _, topology = name.partition("@")
    config = pretrain["get_config"](preset)
    config.data.mixture = {"pairs": 1.0}
    config.preference.loss = "sigmoid"
    config.optimizer.frozen = ("auto",)
    config.evaluate.before = True
    if preset.endswith("_7b"):
        config.optimizer.update(learning_rate=1e-6, final_learning_rate=1e-7, warmup_steps=100)
        config.train.steps = 2000
        config.checkpoint.every = 500
        if topology:
            pretrain["set_up"](config, Place("dpo", preset, topology))
            if config.lora.rank:
                config.optimizer.update(learning_rate=5e-6, final_learning_rate=5e-7)
        return config
    config.model.family = "auto"
    # Several pairs a row: with clips of up to 10 s, and of 30 s, in all.
    config.data.shapes = ((8, 576, 1024), (8, 1280, 3264))
    config.optimizer.update(learning_rate=3e-4, final_learning_rate=3e-5, warmup_steps=10)
    # To the model that is tuned here, which was never told that a sound is not there, all denials
    # are all but impossible, so that a false one gains on the reference as a true one does. And
    # without the SFT term it unlearns to answer at all (docs/training.md).
    config.preference.update(reference="none", sft_weight=1.0)
    config.train.steps = 200
    # What else the model can do is measured too, before and after.
    config.evaluate.update(beside=("talks", "synthetic"), loss=False, limit=480, rows=128)
    return config
