"""Random models of transformers' Qwen2-Audio in many shapes, and what is put into them."""

import numpy as np
import parity
import pytest

from qwen_audio_jax.audio.lengths import audio_tokens

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCABULARY, BEGIN, PLACEHOLDER, END = 96, 90, 91, 92
WINDOW = 80
"""Frames that transformers wants of every clip."""

NEW_TOKENS, NEVER = 8, -1

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
"""Of the four frequencies of a head of 8, one stays, one is slowed in part and two are wholly."""

SHAPES = {
    "grouped": dict(mel=16, encoder=(24, 3, 2), decoder=(32, 4, 2, 2, 8)),
    "narrow": dict(mel=20, encoder=(48, 4, 1), decoder=(24, 3, 1, 3, 8)),
    "wide_heads": dict(mel=8, encoder=(32, 2, 3), decoder=(32, 4, 4, 1, 16)),
    "llama": dict(mel=8, encoder=(24, 2, 1), decoder=(32, 4, 2, 2, 8), rope_parameters=LLAMA3),
    "qwen3": dict(mel=8, encoder=(24, 2, 1), decoder=(28, 5, 5, 2, 6), tied=True),
}
"""Mel bins; encoder width, heads, layers; decoder width, heads, key heads, layers, head size. Their
names are the decoder's type, Qwen2 where there is none; tied is what is made here alone, since
transformers' Qwen2-Audio has a head of its own whatever its configuration says."""


def original_config(shape: str, vocabulary: int = VOCABULARY, placeholder: int = PLACEHOLDER):
    width, heads, layers = SHAPES[shape]["encoder"]
    D, H, G, decoder_layers, K = SHAPES[shape]["decoder"]
    return transformers.Qwen2AudioConfig(
        audio_config=dict(
            num_mel_bins=SHAPES[shape]["mel"],
            d_model=width,
            encoder_attention_heads=heads,
            encoder_layers=layers,
            encoder_ffn_dim=4 * width,
            max_source_positions=WINDOW // 2,
        ),
        text_config=dict(
            model_type=shape if shape in ("llama", "qwen3") else "qwen2",
            vocab_size=vocabulary,
            hidden_size=D,
            num_attention_heads=H,
            num_key_value_heads=G,
            num_hidden_layers=decoder_layers,
            head_dim=K,
            intermediate_size=40,
            rms_norm_eps=1e-5,
            rope_parameters=SHAPES[shape].get(
                "rope_parameters", {"rope_type": "default", "rope_theta": 10000.0}
            ),
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        ),
        audio_token_index=placeholder,
        tie_word_embeddings=False,
    )


def randomised(model):
    """The model with weights large enough for every part to matter in the logits."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_positions" in name:
                continue
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim > 1:
                weight.copy_(noise if "embed" in name else noise / weight[0].numel() ** 0.5)
            elif "norm" in name and name.endswith("weight"):
                weight.copy_(1 + 0.1 * noise)
            else:
                weight.copy_(0.1 * noise)
    return model.eval()


def inputs(shape: str, clips: tuple[tuple[int, ...], ...]):
    """(what transformers is given, rows padded on the left; the same as our Batch)."""
    random = np.random.default_rng(1)
    bins = SHAPES[shape]["mel"]
    rows, mels, frames = [], [], []
    for row in clips:
        tokens, examples_mels = [*random.integers(1, 80, 3)], []
        for n in row:
            tokens += [BEGIN, *[PLACEHOLDER] * audio_tokens(n), END, *random.integers(1, 80, 2)]
            mel = np.full((bins, WINDOW), -0.7, np.float32)  # silence is not zero
            mel[:, :n] = random.standard_normal((bins, n))
            examples_mels.append(mel)
        tokens = np.array([*tokens, *random.integers(1, 80, 9)])
        learned = np.arange(len(tokens)) >= len(tokens) - 7
        packed = [parity.clip(mel, n) for mel, n in zip(examples_mels, row, strict=True)]
        rows.append(parity.example(tokens, learned, PLACEHOLDER, packed, row))
        mels += examples_mels
        frames += row
    theirs = padded(rows, mels, frames)
    rows = [[row] for row in rows] + [[]] * (3 - len(rows))
    return theirs, parity.batch_of(rows, 80, 200, bins)


def padded(rows, mels, frames) -> dict[str, torch.Tensor]:
    """What transformers is given: padded on the left, labels where something is learned.

    Args:
        rows: the examples.
        mels: of all their clips, [M, WINDOW] each.
        frames: valid ones of each.
    """
    longest = max(len(row.text.tokens) for row in rows)
    theirs = {"input_ids": [], "attention_mask": [], "labels": []}
    for row in rows:
        padding = (longest - len(row.text.tokens), 0)
        labels = np.where(row.text.loss_weights > 0, row.text.tokens, -100)
        theirs["input_ids"].append(np.pad(row.text.tokens, padding))
        theirs["attention_mask"].append(np.pad(np.ones_like(row.text.tokens), padding))
        theirs["labels"].append(np.pad(labels, padding, constant_values=-100))
    theirs = {key: torch.tensor(np.array(value)).long() for key, value in theirs.items()}
    if mels:
        theirs["input_features"] = torch.tensor(np.array(mels))
        mask = np.arange(WINDOW) < np.array(frames)[:, None]
        theirs["feature_attention_mask"] = torch.tensor(mask).long()
    return theirs


def gradients_of(model) -> dict[str, np.ndarray]:
    """Those that are not 0; but of the position table, which a loaded model would train."""
    return {
        name: weight.grad.numpy()
        for name, weight in model.named_parameters()
        if "embed_positions" not in name and weight.grad is not None and weight.grad.any()
    }
