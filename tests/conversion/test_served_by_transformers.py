"""A model trained here answers in transformers, in a process of its own, as it answers here."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import soundfile
from conftest import tone_record, write_corpus
from flax import nnx

from data_pipelines.examples import Example, empty_batch, fill_row
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.lengths import audio_tokens, mel_frames, packed_frames
from qwen_audio_jax.audio.log_mel import log_mel
from qwen_audio_jax.checkpoint import abstract, load_parameters
from qwen_audio_jax.convert import main as convert
from qwen_audio_jax.inference.generate import generate
from qwen_audio_jax.models.parts import read_parts
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.rendering import tokenize
from qwen_audio_jax.rendering.chat import render
from qwen_audio_jax.text.control_tokens import END_OF_TEXT, IM_END
from qwen_audio_jax.text.tokenizer import load_tokenizer

pytestmark = pytest.mark.parity
pytest.importorskip("transformers")

NEW = 32
QUESTIONS = ("What is that sound?", "Who speaks here, and what is said?", "Describe the music.")

THEIRS = """
import json, sys
import numpy as np, soundfile, torch
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

folder, clips, questions = sys.argv[1], *map(json.loads, sys.argv[2:])
processor = AutoProcessor.from_pretrained(folder)
model = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
for clip, question in zip(clips, questions, strict=True):
    content = [{"type": "audio", "audio_url": clip}, {"type": "text", "text": question}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    wave = soundfile.read(clip, dtype="float32")[0]
    inputs = processor(text=text, audio=[wave], sampling_rate=16000, return_tensors="pt")
    for stop in ({}, {"eos_token_id": model.config.text_config.vocab_size}):
        written = model.generate(**inputs, **stop, max_new_tokens=32, do_sample=False)
        print(json.dumps(written[0, inputs["input_ids"].shape[1]:].tolist()))
"""


def answer(run: pathlib.Path, wave: np.ndarray, question: str) -> list[int]:
    """What the checkpoint writes in answer to a clip and a question, its end passed over."""
    config, tokenizer = read_parts(run).model(), load_tokenizer(run / "tokenizer")
    frames = mel_frames(len(wave), config.frame_rounding)
    content = [{"type": "audio"}, {"type": "text", "text": question}]
    spans = render(
        [{"role": "user", "content": content}], config.family, add_generation_prompt=True
    )
    text = tokenize(spans, tokenizer, config.family, [audio_tokens(frames)], end=False)
    clip = log_mel(wave, config.encoder.mel_bins, packed_frames(frames))
    batch = empty_batch(1, len(text.tokens), len(clip), config.encoder.mel_bins)
    fill_row(batch, 0, [Example(text, (clip,), (frames,))])

    graph, shapes = nnx.split(nnx.eval_shape(lambda: QwenAudio(config, nnx.Rngs(0))))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    pure = nnx.to_pure_dict(shapes)
    wanted = abstract(pure, jax.tree.map(lambda _: device, pure))
    nnx.replace_by_pure_dict(shapes, load_parameters(run, wanted))
    stop = (tokenizer.vocab_size,)
    decoding = jax.jit(
        lambda parameters, batch: generate(graph, parameters, batch, stop=stop, max_new_tokens=NEW)
    )
    return np.asarray(decoding(shapes, batch))[0].tolist()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    write_corpus(folder / "data" / "tones", train=40)
    options = {
        "model.family": "qwen2_audio",
        "data.root": folder / "data",
        "data.mixture": '{"tones": 1.0}',
        "data.shapes": "((4, 64, 128),)",
        "train.steps": 6,
        "optimizer.warmup_steps": 1,
        "optimizer.learning_rate": 0.01,
    }
    flags = [f"--config.{key}={value}" for key, value in options.items()]
    main = [sys.executable, "-m", "qwen_audio_jax.main", "--config=configs/pretrain.py"]
    done = subprocess.run(
        [*main, f"--workdir={folder / 'run'}", *flags], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


def three_clips(folder: pathlib.Path) -> list[pathlib.Path]:
    """Recorded clips where the references are, else tones."""
    references = os.environ.get("QWEN_AUDIO_REFERENCES")
    if references:
        real = pathlib.Path(references) / "data" / "real"
        rows = [json.loads(line) for line in (real / "dev.jsonl").read_text().splitlines()]
        tasks = {row["task"]: row["audio"] for row in rows if isinstance(row["audio"], str)}
        waves = [decode((real / path).read_bytes()) for path in list(tasks.values())[:3]]
    else:
        waves = [decode(tone_record(number).audio[0]) for number in range(3)]
    paths = [folder / f"{number}.wav" for number in range(3)]
    for path, wave in zip(paths, waves, strict=True):
        soundfile.write(path, wave[: 16000 * 20], 16000, subtype="FLOAT")
    return paths


def test_transformers_answers_as_we_do(run, tmp_path):
    folder = tmp_path / "exported"
    assert convert(["export", f"--checkpoint={run}", f"--out={folder}"]) == 0
    clips = three_clips(tmp_path)
    arguments = [str(folder), json.dumps([*map(str, clips)]), json.dumps(QUESTIONS)]
    done = subprocess.run(
        [sys.executable, "-c", THEIRS, *arguments],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    ours = [
        answer(run, soundfile.read(clip, dtype="float32")[0], question)
        for clip, question in zip(clips, QUESTIONS, strict=True)
    ]
    assert [len(ids) for ids in ours] == [NEW] * 3
    assert ours == theirs[1::2]
    tokenizer = load_tokenizer(run / "tokenizer")
    stop = {tokenizer.special(IM_END), tokenizer.special(END_OF_TEXT)}
    for ids, stopped in zip(ours, theirs[::2], strict=True):
        ends = [place for place, token in enumerate(ids) if token in stop]
        assert stopped == ids[: ends[0] + 1 if ends else NEW]
