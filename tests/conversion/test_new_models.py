"""What imported parts become: a text model that gets audio tokens, a model on a frozen encoder."""

import pathlib
import subprocess
import sys

import numpy as np
import originals
import pytest
from byte_vocabulary import byte_vocabulary
from conftest import write_corpus
from converting import read_tables

from qwen_audio_jax import convert
from qwen_audio_jax.checkpoint import by_path, last_step
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.parts import read_parts
from qwen_audio_jax.rendering.spans import AUDIO_TAGS
from qwen_audio_jax.saved_parameters import SavedParameters
from qwen_audio_jax.text.tokenizer import load_tokenizer

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "pretrain.py"


def test_a_text_model_gets_rows_for_the_tokens_it_lacks(tmp_path):
    decoder = originals.qwen2(tmp_path / "qwen2", vocab_size=257)
    byte_vocabulary(decoder / "tokenizer.json")
    whisper = originals.whisper(tmp_path / "whisper")
    out = tmp_path / "start"
    assert (
        convert.main(["import", f"--source={whisper}", f"--source={decoder}", f"--out={out}"]) == 0
    )
    tokenizer = load_tokenizer(out / "tokenizer")
    rows = read_parts(out).decoder.vocab_size
    assert rows % 128 == 0
    assert 257 < tokenizer.vocab_size <= rows < tokenizer.vocab_size + 128
    assert tokenizer.encode("ab") == load_tokenizer(decoder).encode("ab")
    for name in (*AUDIO_TAGS["qwen2_audio"], *AUDIO_TAGS["qwen_audio"], "<|transcribe|>"):
        assert 257 <= tokenizer.special(name) < tokenizer.vocab_size

    assert read_parts(out).decoder.first_new_token == 257
    loaded = read_tables(out)
    old = load_original(decoder)[1]["decoder"]
    np.testing.assert_array_equal(loaded["embedding"][:257], old["embedding"])
    np.testing.assert_array_equal(loaded["head"][:, :257], old["head"])


@pytest.mark.slow
def test_training_starts_from_an_encoder_and_leaves_it_frozen(tmp_path, monkeypatch):
    whisper = originals.whisper(tmp_path / "whisper", positions=1500)
    # As the README does: a relative path, and not to be taken for a run's checkpoints/STEP.
    monkeypatch.chdir(tmp_path)
    start = pathlib.Path("checkpoints/start")
    assert convert.main(["import", f"--source={whisper}", f"--out={start}"]) == 0
    write_corpus(tmp_path / "data" / "tones", train=16)
    options = {
        "init_from": start,
        "data.root": tmp_path / "data",
        "data.mixture": '{"tones": 1.0}',
        "data.shapes": "((4, 64, 128),)",
        "train.steps": 2,
        "optimizer.warmup_steps": 1,
        "optimizer.frozen": "('encoder',)",
    }
    flags = [f"--config.{key}={value}" for key, value in options.items()]
    main = [sys.executable, "-m", "qwen_audio_jax.main", f"--config={CONFIG}"]
    workdir = pathlib.Path("run")
    done = subprocess.run(
        [*main, f"--workdir={workdir}", *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(
        f"qwen2_audio, encoder (2 layers of 12) from {start}, decoder (2 "
    )
    saved = SavedParameters(last_step(workdir))
    original = by_path({"encoder": load_original(whisper)[1]["encoder"]})
    for path, old in original.items():
        trained = saved.read(path, saved.stores[path])
        np.testing.assert_array_equal(trained, np.asarray(old, np.float32))
    assert read_parts(workdir).encoder.mel_bins == 8
