"""Evaluation: `python -m qwen_audio_jax.evaluate --checkpoint=RUN --benchmark=NAME=PATH`."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The configuration; `qwen_audio_jax/evaluation/options.py` describes each key."""
    config = ConfigDict()
    config.limit = 0
    # Of each benchmark, with --controls.
    config.control_limit = 0
    config.slots = 8
    config.context = 4096
    config.max_new_tokens = 0
    # Word error rates beside Qwen-Audio's, which "wer" is; "v2" is Qwen2-Audio's.
    config.protocols = ("plain",)
    config.examples = 100
    config.draws = 1000
    config.confidence = 0.95
    config.seed = 0
    return config
