"""Reduces the large golden references to what the tests beside this file run on everywhere.

    QWEN_AUDIO_REFERENCES=... python tests/golden/make_golden.py

Writes `qwen_audio/` and `qwen2_audio/` beside itself; README.md says what they hold. Values are
copied, never rounded: of large arrays every n-th entry is taken.
"""

import json
import os
import pathlib
import shutil

import numpy as np
from safetensors.numpy import load_file, save_file

CHANNELS, VOCABULARY, GRADIENT = 4, 50, 8
"""Every how many-th entry is kept: of an activation's last axis, of logits, of a gradient."""

QWEN_AUDIO_VOCABULARY = 32
"""The same for Qwen-Audio's logits; both divide their vocabulary."""

QWEN_AUDIO_FRAMES = 320
"""Frames of the longest golden clip; no case looks further."""

_V1_ENCODER = ("blocks_input", "block0_out", "block1_out", "ln_post_out", "proj_out")

_V2_WHOLE = {
    "input_ids",
    "attention_mask",
    "labels",
    "input_features",
    "feature_attention_mask",
    "loss",
    "greedy_new_ids",
    "adamw_losses",
}


def thinned(array: np.ndarray, step: int) -> np.ndarray:
    """Every `step`-th entry of the last axis."""
    assert array.shape[-1] % step == 0
    return np.ascontiguousarray(array[..., ::step])


def gradients(source: pathlib.Path) -> dict[str, np.ndarray]:
    """Every tensor's gradient flat and thinned."""
    return {name: thinned(array.ravel(), GRADIENT) for name, array in np.load(source).items()}


def save(folder: pathlib.Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{name}.npz", **arrays)


def qwen_audio(source: pathlib.Path, out: pathlib.Path) -> None:
    """The model with the position table cut to the frames used, and each file's arrays thinned."""
    out.mkdir(parents=True, exist_ok=True)
    positions = QWEN_AUDIO_FRAMES // 2
    config = json.loads((source / "config.json").read_text())
    config["audio"]["n_ctx"] = positions
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = load_file(source / "model.safetensors")
    table = "transformer.audio.positional_embedding"
    weights[table] = weights[table][:positions].copy()
    save_file(weights, out / "model.safetensors", {"format": "pt"})

    encoder = np.load(source / "a_encoder.npz")
    kept = {f"batchAB_{stage}": encoder[f"batchAB_{stage}"] for stage in _V1_ENCODER}
    kept |= {key: encoder[key] for key in encoder if "span" in key and encoder[key].ndim == 2}
    save(out, "a_encoder", {key: thinned(array, CHANNELS) for key, array in kept.items()})

    forward = {
        key: thinned(array, QWEN_AUDIO_VOCABULARY) if key.endswith("logits") else array
        for key, array in np.load(source / "b_forward.npz").items()
        if "hidden" not in key
    }
    forward["input_audios"] = forward["input_audios"][..., :QWEN_AUDIO_FRAMES]
    save(out, "b_forward", forward)
    save(out, "b_grads_right", gradients(source / "b_grads_right.npz"))
    for name in ("c_generate", "d_long"):
        arrays = {
            key: thinned(array, QWEN_AUDIO_VOCABULARY)
            if "logits" in key or key.endswith("scores")
            else array
            for key, array in np.load(source / f"{name}.npz").items()
            if key != "both_train_logits200"  # the same as none_logits200
        }
        save(out, name, arrays)


def qwen2_audio(source: pathlib.Path, out: pathlib.Path) -> None:
    """The model of the two-second window whole, and each case's arrays thinned."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(source / name, out / name)
    steps = {
        "logits": VOCABULARY,
        "greedy_first_logits": VOCABULARY,
        "encoder_last_hidden_state": CHANNELS,
        "inputs_embeds_merged": CHANNELS,
    }
    for case in ("right", "left", "multi", "single_full"):
        arrays = np.load(source / f"golden_{case}.npz")
        kept = {
            key: thinned(array, steps[key]) if key in steps else array
            for key, array in arrays.items()
            if key in _V2_WHOLE or key in steps or key.startswith("pgradnorm.")
        }
        if case == "left":
            del kept["input_features"]  # those of the same batch padded right
        save(out, f"golden_{case}", kept)
    save(out, "grads_right", gradients(source / "grads_right.npz"))


def main(out: pathlib.Path) -> None:
    source = pathlib.Path(os.environ["QWEN_AUDIO_REFERENCES"]) / "golden"
    qwen_audio(source / "qwen_audio/tiny", out / "qwen_audio")
    qwen2_audio(source / "qwen2_audio/tiny_short", out / "qwen2_audio")


if __name__ == "__main__":
    main(pathlib.Path(__file__).parent)
