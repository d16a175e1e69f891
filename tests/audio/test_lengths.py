"""Lengths against the tables that the original code gives."""

import json

import pytest

from qwen_audio_jax.audio.lengths import (
    audio_tokens,
    encoder_positions,
    mel_frames,
    packed_frames,
    windows,
)

# Samples, then (L, T, N) of Qwen-Audio and of Qwen2-Audio, run with the released code.
TABLE = [
    (0, (0, 0, 0), (0, 0, 0)),
    (160, (1, 1, 0), (1, 1, 0)),
    (320, (2, 1, 0), (2, 1, 0)),
    (321, (2, 1, 0), (3, 2, 1)),
    (480, (3, 2, 1), (3, 2, 1)),
    (961, (6, 3, 1), (7, 4, 2)),
    (8000, (50, 25, 12), (50, 25, 12)),
    (8001, (50, 25, 12), (51, 26, 13)),
    (16000, (100, 50, 25), (100, 50, 25)),
    (21999, (137, 69, 34), (138, 69, 34)),
    (51280, (320, 160, 80), (321, 161, 80)),
    (111111, (694, 347, 173), (695, 348, 174)),
    (479999, (2999, 1500, 750), (3000, 1500, 750)),
    (480000, (3000, 1500, 750), (3000, 1500, 750)),
]


@pytest.mark.parametrize(("samples", "floor", "ceil"), TABLE)
def test_table(samples, floor, ceil):
    for rounding, expected in (("floor", floor), ("ceil", ceil)):
        frames = mel_frames(samples, rounding)
        assert (frames, encoder_positions(frames), audio_tokens(frames)) == expected


def test_qwen_audio_table(references):
    table = json.loads((references / "golden/qwen_audio/mel/length_table.json").read_text())
    assert table
    for row in table:
        frames = mel_frames(min(row["num_samples"], 480000), "floor")
        assert frames == row["mel_len"]
        assert encoder_positions(frames) == row["after_cnn"]
        assert audio_tokens(frames) == row["audio_tokens"]


def test_packed_frames_hold_margin_and_whole_tokens():
    for frames in range(1, 3001):
        packed = packed_frames(frames)
        assert packed % 4 == 0
        assert frames + 2 <= packed < frames + 6
        assert packed // 4 >= audio_tokens(frames)


def test_tokens_are_pairs_of_positions():
    for frames in range(3001):
        assert audio_tokens(frames) == encoder_positions(frames) // 2


def test_unknown_rounding():
    with pytest.raises(ValueError, match="'floor' or 'ceil'"):
        mel_frames(1, "round")


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (480, [480]),
        (480_000, [480_000]),
        (480_480, [480_000, 480]),
        (480_001, [479_520, 481]),
        (480_479, [479_520, 959]),
        (960_000, [480_000, 480_000]),
        (960_160, [480_000, 479_520, 640]),
        (1_000_000, [480_000, 480_000, 40_000]),
    ],
)
def test_windows_of_a_long_clip(samples, expected):
    assert windows(samples) == expected
    assert sum(expected) == samples
    assert all(audio_tokens(mel_frames(n, "floor")) for n in expected)
