"""Instruction tuning: `--config=configs/sft.py[:PRESET[@TOPOLOGY]] --config.init_from=RUN`.

Tunes a model that `configs/pretrain.py` has trained, or one that `convert import` has read, on
conversations; all keys are those of configs/pretrain.py. The sizes are those of what it starts
from, so a preset says how that is computed and for how long. On slices that do not hold all weights
with their moments, `@TOPOLOGY` sets adapters of rank 16 (config.lora).

Neither paper publishes how its model was tuned. What is known: Qwen-Audio-Chat's encoder was
frozen. All other values are this project's own.
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
    # Some of the pre-training, so that it is not forgotten.
    config.data.mixture = {"talks": 0.66, "synthetic": 0.34}
    config.optimizer.frozen = ("auto",)
    config.evaluate.update(before=True, controls=True)
    if preset.endswith("_7b"):
        config.optimizer.update(learning_rate=1e-5, final_learning_rate=1e-6, warmup_steps=100)
        config.train.steps = 5000
        config.checkpoint.every = 500
        if topology:
            pretrain["set_up"](config, Place("sft", preset, topology))
        return config
    config.model.family = "auto"
    # Several conversations a row: with clips of up to 10 s, and of 30 s, in all.
    config.data.shapes = ((8, 576, 1024), (8, 1280, 3264))
    config.optimizer.update(learning_rate=1e-3, final_learning_rate=1e-5, warmup_steps=20)
    config.train.steps = 560
    config.evaluate.update(limit=480, loss_every=280)
    return config
