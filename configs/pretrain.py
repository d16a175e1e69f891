"""Pre-training: `--config=configs/pretrain.py[:PRESET[@TOPOLOGY]]`.

The presets are in qwen_audio_jax/models/presets.py. `tiny` trains in minutes on two CPU cores. A
7-billion one has mesh, batch and remat for each slice of TPUs in
qwen_audio_jax/compilation/topology.py: `qwen2_audio_7b@v5p:4x4x4`. Any key can be overridden, as by
--config.train.steps=100; docs/configuration.md has them all.
"""

import dataclasses

from ml_collections import ConfigDict

from qwen_audio_jax.compilation.topology import FRAMES, TOKENS, Place, setup_of
from qwen_audio_jax.step_config import NO_PREFERENCE, LoraConfig


def get_config(name: str = "tiny") -> ConfigDict:
    """The configuration; docs/configuration.md describes each key."""
    preset, _, topology = name.partition("@")
    config = _base(preset)
    if preset.endswith("_7b"):
        _as_the_originals(config, preset.removesuffix("_7b"))
    if topology:
        set_up(config, Place("pretrain", preset, topology))
    return config


def set_up(config: ConfigDict, place: Place) -> None:
    """Mesh, batch, remat and adapters as they fit there."""
    setup = setup_of(place)
    config.mesh.update(replica=setup.replica, tensor=setup.tensor)
    config.data.shapes = ((setup.rows, TOKENS, FRAMES),)
    config.train.accumulate = setup.accumulate
    config.model.remat = setup.remat
    config.lora.rank = setup.lora_rank


def _as_the_originals(config: ConfigDict, family: str) -> None:
    """As far as their papers and authors say; Qwen2-Audio's say nothing of rates and steps."""
    config.model.family = family
    config.optimizer.update(learning_rate=5e-5, final_learning_rate=1e-5, warmup_steps=2000)
    config.train.steps = 500_000
    config.checkpoint.every = 1000
    config.evaluate.update(loss_every=5000, rows=64)
    if family == "qwen_audio":
        config.optimizer.update(frozen=("^decoder/",), encoder_layer_decay=0.95)


def _base(preset: str) -> ConfigDict:
    config = ConfigDict()
    config.model = ConfigDict(
        {
            "family": "qwen2_audio",
            "preset": preset,
            "dtype": "auto",
            "attention": "auto",
            "remat": "none" if preset == "tiny" else "full",
            "window": "auto",
        }
    )
    config.data = _data()
    config.optimizer = ConfigDict(
        {
            "learning_rate": 1e-3,
            "final_learning_rate": 2e-5,
            "warmup_steps": 50,
            "beta1": 0.9,
            "beta2": 0.98,
            "eps": 1e-6,
            "weight_decay": 0.05,
            "clip_norm": 1.0,
            "encoder_layer_decay": 1.0,
            "frozen": (),
            "train_new_tokens": True,
            "rates": {},
        }
    )
    config.train = ConfigDict(
        {"steps": 1200, "seed": 0, "accumulate": 1, "max_skipped": 3, "log_every": 1}
    )
    # A run may end by one of these instead of steps.
    config.train.update(hours=0.0, epochs=0.0)
    config.checkpoint = ConfigDict({"every": 400, "keep": 2})
    config.evaluate = ConfigDict(
        {
            "every": 0,
            "answers": True,
            "loss": True,
            "loss_every": 400,
            "data": "",
            "limit": 0,
            "rows": 16,
            "max_new_tokens": 64,
            "examples": 62,
            "controls": False,
            "before": False,
            "beside": (),
        }
    )
    config.mesh = ConfigDict({"replica": 1, "fsdp": -1, "tensor": 1})
    # Seconds that processes wait for one another: until all are there, and at a checkpoint, say.
    config.wait = ConfigDict({"start": 300.0, "meeting": 600.0})
    # After `start` steps, the next `steps` are profiled; 0 is none.
    config.profile = ConfigDict({"start": 0, "steps": 0})
    # A folder for compiled programs, "" for none; "auto" is one in the user's cache.
    config.compilation_cache = "auto"
    config.init_from = ""
    config.lora = ConfigDict(dataclasses.asdict(LoraConfig()))  # off
    config.preference = ConfigDict(dataclasses.asdict(NO_PREFERENCE))
    return config


def _data() -> ConfigDict:
    return ConfigDict(
        {
            "root": "data",
            "mixture": {"synthetic": 1.0},
            # 0: weights as they are. 1 multiplies them by each corpus's size, 3 by its cube root.
            "temperature": 0.0,
            # Of a corpus: {"my_corpus": ("asr",)}, {"my_corpus": ("en", "fr")}.
            "tasks": {},
            "languages": {},
            "conditioning": "tags",
            # Of one's own, by task: {"asr": ("Transcribe the speech.",)}.
            "prompts": {},
            "prompt_language": "all",
            # Of conversations.
            "learn": "assistant",
            "learn_newline": False,
            "overlong": "reject",
            "seed": 0,
            # (rows, tokens, frames): for clips of up to 3.5 s, 10 s and 30 s. One that no record
            # needs costs nothing.
            "shapes": ((16, 144, 352), (8, 448, 1024), (8, 1280, 3264)),
            "workers": 0,
            "max_seconds": 300.0,
            "max_bad_share": 0.01,
            # Off: one speed, no noise, no gain. Only tasks whose label stays true are changed.
            "wave_augment": {
                "speeds": (1.0,),
                "noise_share": 0.0,
                "snr_db": (10.0, 30.0),
                "gain_db": (0.0, 0.0),
            },
            # Off: a clip of the built-in corpus is too short to lose a second of it. The originals
            # trained with SpecAugment's LibriSpeech Basic policy: one mask of each kind and a warp
            # of 80.
            "spec_augment": {
                "frequency_masks": 0,
                "frequency_width": 27,
                "time_masks": 0,
                "time_width": 100,
                "time_share": 1.0,
                "time_warp": 0,
            },
        }
    )
