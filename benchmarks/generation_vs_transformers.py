"""Cached greedy decoding, beside transformers' Qwen2-Audio, float32 on the CPU.

    python benchmarks/generation_vs_transformers.py

A model of 30 million parameters with random weights, made by transformers and imported here; both
take the same prompts, by turns in one process and with the same threads, and must write the same
ids, up to where transformers' own two best logits are a tie. `decode` is tokens/s after the first
token (the time for all less the time for one), `whole` that from features to the last id. Medians
over the turns; compilation is not counted.
"""

import argparse
import functools
import os
import pathlib
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np
import torch
from flax import nnx
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

from data_pipelines.examples import Example, empty_batch, fill_row
from qwen_audio_jax.audio.lengths import audio_tokens, packed_frames
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.inference.generate import generate
from qwen_audio_jax.models.presets import ModelConfig
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.rendering import Tokens

AUDIO, PAD, NEVER = 7903, 7900, 7999
MEL_BINS, WINDOW = 128, 3000
FRAMES = {
    "1 clip of 4 s": [400],
    "1 clip of 30 s": [3000],
    "8 clips of 3 to 5 s": [300 + 25 * i for i in range(8)],
    "8 clips of 30 s": [3000] * 8,
}


SIZES = {
    "tiny": (
        dict(d_model=128, encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=512),
        dict(
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=256,
            vocab_size=8000,
        ),
    ),
    "small": (
        dict(d_model=320, encoder_layers=6, encoder_attention_heads=5, encoder_ffn_dim=1280),
        dict(
            hidden_size=320,
            num_hidden_layers=6,
            num_attention_heads=5,
            num_key_value_heads=5,
            intermediate_size=896,
            vocab_size=8000,
        ),
    ),
    "30m": (
        dict(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536),
        dict(
            hidden_size=512,
            num_hidden_layers=8,
            num_attention_heads=8,
            num_key_value_heads=8,
            intermediate_size=1408,
            vocab_size=8000,
        ),
    ),
    "base": (
        dict(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048),
        dict(
            hidden_size=576,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            intermediate_size=1536,
            vocab_size=49152,
        ),
    ),
    "0.5b": (
        dict(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048),
        dict(
            hidden_size=896,
            num_hidden_layers=24,
            num_attention_heads=14,
            num_key_value_heads=2,
            intermediate_size=4864,
            vocab_size=151936,
        ),
    ),
}
"""Encoder and decoder: the presets `tiny` and `small`; 30 million parameters, most of them the
decoder's; Whisper base with SmolLM2-135M, and with Qwen2-0.5B."""


def peer(size: str = "30m") -> Qwen2AudioForConditionalGeneration:
    """A model of a size, with weights so large that its answers do not repeat one token."""
    encoder, decoder = SIZES[size]
    config = Qwen2AudioConfig(
        audio_config=dict(num_mel_bins=MEL_BINS, **encoder),
        text_config=dict(model_type="qwen2", max_position_embeddings=2048, **decoder),
        audio_token_index=AUDIO,
    )
    torch.manual_seed(0)
    model = Qwen2AudioForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embed_positions" not in name:
                size = 1.0 if "embed_tokens" in name else parameter[0].numel() ** -0.5
                parameter.normal_(0, size)
    model.generation_config.eos_token_id = NEVER
    model.generation_config.pad_token_id = PAD
    return model


def prompts(frames: list[int]) -> tuple[dict[str, torch.Tensor], dict[str, jax.Array]]:
    """The same prompts for transformers (left-padded, 30-second windows) and for us."""
    random = np.random.default_rng(0)
    rows, mels = [], []
    for number, length in enumerate(frames):
        text = random.integers(3, PAD, 32 - 2 * number)
        rows.append([*text[:4], *[AUDIO] * audio_tokens(length), *text[4:]])
        # As silence looks behind the clip's end.
        mel = np.full((MEL_BINS, WINDOW), -0.6, np.float32)
        mel[:, :length] = 0.4 * random.standard_normal((MEL_BINS, length))
        mels.append(mel)
    longest = max(map(len, rows))
    ids = np.array([[PAD] * (longest - len(row)) + row for row in rows])
    theirs = dict(
        input_ids=torch.from_numpy(ids),
        attention_mask=torch.from_numpy((ids != PAD).astype(np.int64)),
        input_features=torch.from_numpy(np.stack(mels)),
        feature_attention_mask=torch.from_numpy(
            (np.arange(WINDOW) < np.array(frames)[:, None]).astype(np.int64)
        ),
    )
    batch = empty_batch(len(rows), longest, packed_frames(max(frames)), MEL_BINS)
    for i, (row, mel, length) in enumerate(zip(rows, mels, frames, strict=True)):
        tokens = np.array(row, np.int32)
        audio = np.where(tokens == AUDIO, np.cumsum(tokens == AUDIO) - 1, -1).astype(np.int32)
        P = packed_frames(length)
        clip = np.pad(mel[:, : min(P, WINDOW)].T, ((0, max(0, P - WINDOW)), (0, 0)))
        text = Tokens(tokens, np.zeros(len(tokens), np.float32), audio)
        fill_row(batch, i, [Example(text, (clip,), (length,))])
    return theirs, jax.tree.map(jax.device_put, batch)


def ours_of(original: Qwen2AudioForConditionalGeneration) -> tuple[nnx.GraphDef, nnx.State]:
    """The same model here, split."""
    with tempfile.TemporaryDirectory() as folder:
        original.save_pretrained(folder)
        parts, parameters = load_original(pathlib.Path(folder))
    config: ModelConfig = parts.model()
    graph, state = nnx.split(nnx.eval_shape(lambda: QwenAudio(config, nnx.Rngs(0))))
    nnx.replace_by_pure_dict(state, jax.tree.map(jax.device_put, parameters))
    return graph, state


def untied(scores: tuple[torch.Tensor, ...]) -> np.ndarray:
    """Where no step so far had its two best logits, [B, V] each, within 1e-5: bool [B, L]."""
    best = torch.stack(scores, dim=1).topk(2).values
    return np.logical_and.accumulate((best[..., 0] - best[..., 1] > 1e-5).numpy(), axis=1)


def seconds(work: Callable[[int], object], new: int) -> float:
    start = time.perf_counter()
    work(new)
    return time.perf_counter() - start


def compare(original, graph, parameters, frames: list[int], new: int, turns: int, bar: tqdm):
    """tokens/s of (ours, transformers): after the first token, and in all."""
    given, batch = prompts(frames)

    @functools.partial(jax.jit, static_argnames="new")
    def decode(parameters, batch, new):
        return generate(graph, parameters, batch, stop=(NEVER,), max_new_tokens=new)

    def ours(new: int) -> np.ndarray:
        return np.asarray(decode(parameters, batch, new))

    def theirs(new: int, **more):
        return original.generate(**given, max_new_tokens=new, do_sample=False, **more)

    run = theirs(new, output_scores=True, return_dict_in_generate=True)
    their_ids = run.sequences[:, given["input_ids"].shape[1] :].numpy()
    if ((ours(new) != their_ids) & untied(run.scores)).any():
        raise SystemExit("the two write different ids")
    ours(1)
    times = []
    for _ in range(turns):
        times.append([seconds(write, n) for write in (ours, theirs) for n in (1, new)])
        bar.update()
    first, whole = np.median(times, axis=0).reshape(2, 2).T
    rows = len(frames)
    return rows * (new - 1) / (whole - first), rows * new / whole


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--new", type=int, default=128, help="tokens to write (default: 128)")
    parser.add_argument("--turns", type=int, default=5, help="default: 5")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    original = peer()
    graph, parameters = ours_of(original)
    table = Table("", "", "ours", "transformers", "ratio", title="tokens/s")
    with torch.inference_mode(), tqdm(total=len(FRAMES) * options.turns, disable=None) as bar:
        for name, frames in FRAMES.items():
            found = compare(original, graph, parameters, frames, options.new, options.turns, bar)
            for what, (ours, theirs) in zip(("decode", "whole"), found, strict=True):
                ratio = f"{ours / theirs:.2f}"
                table.add_row(name, what, f"{ours:,.1f}", f"{theirs:,.1f}", ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
