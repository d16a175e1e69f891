"""A tuning step on conversations beside transformers' Qwen2-Audio, float32 on the CPU.

    python benchmarks/sft_vs_transformers.py --size=small

As `train_step_vs_transformers.py`, with a model of a size of `generation_vs_transformers.py`: 16
conversations of 2 turns with 1 to 3 clips of 3 to 5 s. transformers gets what its processor makes
of them, clips padded to 30 s and texts to the longest, and labels on the same tokens; ours, rows
that the pack plan fills. Losses must agree within 1e-5 and gradient norms within 1e-4 first. Tuned
are all weights, then adapters of rank 16 on the decoder's linears alone, theirs by PEFT. The more
of a model is its encoder, the more of its time the padding takes.
"""

import argparse
import dataclasses
import io
import os
import statistics
import tempfile

import numpy as np
import peft
import soundfile
import torch
from generation_vs_transformers import AUDIO, MEL_BINS, PAD, SIZES, WINDOW, peer
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
from train_step_vs_transformers import Ours, Theirs, compare

from data_pipelines.examples import Example, Preprocessor
from data_pipelines.packing import RowShape
from data_pipelines.records import Record
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.lengths import SAMPLE_RATE
from qwen_audio_jax.audio.log_mel import log_mel
from qwen_audio_jax.rendering import texts_of
from qwen_audio_jax.step_config import LoraConfig
from qwen_audio_jax.tasks import CHAT
from qwen_audio_jax.text.tokenizer import train_sentencepiece
from qwen_audio_jax.training.lora import with_adapters

TALKS = 16
SHAPE = RowShape(3, 1536, 4224)
RANK = 16
LINEARS = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
"""Those of the decoder, which have adapters of this rank, and what transformers calls them."""
WORDS = ("the", "a", "bell", "dog", "car", "rain", "light", "is", "was", "heard", "before", "loud")


def talks() -> list[Record]:
    """Of 2 turns, their words drawn; the clips are noise."""
    random = np.random.default_rng(0)

    def text(words: int) -> str:
        return " ".join(random.choice(WORDS, words))

    made = []
    for number in range(TALKS):
        clips, messages = [], []
        for heard in ((1, 0), (1, 1), (2, 1))[number % 3]:
            for _ in range(heard):
                samples = int(SAMPLE_RATE * random.uniform(3, 5))
                file = io.BytesIO()
                wave = 0.1 * random.standard_normal(samples).clip(-3, 3)
                soundfile.write(file, wave, SAMPLE_RATE, format="FLAC")
                clips.append(file.getvalue())
            asked = [*[{"type": "audio"}] * heard, {"type": "text", "text": text(8) + "?"}]
            messages.append({"role": "user", "content": asked})
            messages.append({"role": "assistant", "content": text(random.integers(4, 16)) + "."})
        made.append(Record(f"talk-{number}", CHAT, tuple(clips), {"messages": messages}))
    return made


def examples() -> list[Example]:
    """The conversations as transformers' processor makes them: the clips with silence up to 30 s.

    Its model is told another placeholder than the vocabulary has.
    """
    records = talks()
    texts = (text for record in records for text in texts_of(record.task, record.annotation))
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_sentencepiece(texts, [], folder)
    if tokenizer.vocab_size > PAD:
        raise SystemExit(f"a vocabulary of {tokenizer.vocab_size}, and the model knows {PAD} words")
    preprocessor = Preprocessor(tokenizer, "qwen2_audio", "tags", MEL_BINS, "ceil")
    made = []
    for record in records:
        example = preprocessor.example(record)
        text = example.text
        tokens = np.where(text.audio >= 0, AUDIO, text.tokens).astype(np.int32)
        clips = tuple(log_mel(decode(clip), MEL_BINS, WINDOW) for clip in record.audio)
        text = dataclasses.replace(text, tokens=tokens)
        made.append(dataclasses.replace(example, text=text, clips=clips))
    return made


def first_a(name: str, layers: int, features: int) -> np.ndarray:
    """`lora_a` of a linear's adapters, [layers, in, rank], alike on both sides."""
    random = np.random.default_rng(list(LINEARS).index(name))
    return random.uniform(-1, 1, (layers, features, RANK)).astype(np.float32) / features**0.5


class AdaptersHere(Ours):
    """The project's step on adapters alone."""

    def prepared(self, model, parameters, optimizer):
        model = with_adapters(LoraConfig(rank=RANK, alpha=RANK), model)
        blocks = dict(parameters["decoder"]["blocks"])
        for name in LINEARS:
            layers, features, out = blocks[name]["kernel"].shape
            a, b = first_a(name, layers, features), np.zeros((layers, RANK, out), np.float32)
            blocks[name] = {**blocks[name], "lora_a": a, "lora_b": b}
        parameters = {**parameters, "decoder": {**parameters["decoder"], "blocks": blocks}}
        return model, parameters, dataclasses.replace(optimizer, frozen=("^(?!.*/lora_[ab]$)",))


class AdaptersThere(Theirs):
    """PEFT's, on transformers' model."""

    def prepared(self, model):
        names = "|".join(LINEARS.values()).replace(".", r"\.")
        targets = rf".*language_model\.layers\.\d+\.({names})"
        config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets)
        adapted = peft.get_peft_model(model, config)
        layers = adapted.base_model.model.model.language_model.layers
        with torch.no_grad():
            for name, module in LINEARS.items():
                for number, layer in enumerate(layers):
                    linear = layer.get_submodule(module)
                    drawn = first_a(name, len(layers), linear.in_features)[number]
                    linear.lora_A["default"].weight.copy_(torch.from_numpy(drawn.T))
        return adapted


ARMS = {"all weights": (Ours, Theirs), "LoRA": (AdaptersHere, AdaptersThere)}
"""What is tuned, and both sides' step of it."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=7, help="default: 7")
    parser.add_argument("--size", choices=SIZES, default="30m", help="default: 30m")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    made = examples()
    table = Table("tuned", "", "ours", "transformers", "ratio", title="seconds per step")
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=len(ARMS) * options.turns, disable=None) as bar,
    ):
        peer(options.size).save_pretrained(folder)
        for name, sides in ARMS.items():
            times, _ = compare(folder, made, SHAPE, options.turns, bar, sides)
            for what, of in (("best", min), ("median", statistics.median)):
                ours, theirs = (of(side.tolist()) for side in times.T)
                table.add_row(name, what, f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.2f}")
    Console().print(table)
    clips = [n for example in made for n in example.clip_frames]
    tokens = sum(len(example.text.tokens) for example in made)
    learned = sum(int(example.text.loss_weights.sum()) for example in made)
    print(
        f"{len(made)} conversations, {len(clips)} clips of {sum(clips) / 100:.0f} s in all, "
        f"{tokens:,} tokens, {learned:,} of them learned"
    )


if __name__ == "__main__":
    main()
