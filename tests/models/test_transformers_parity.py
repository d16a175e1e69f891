"""Random models of many shapes compute here what they compute in transformers, both ways.

Every comparison starts from files: transformers writes a folder and `convert import` reads it, or
`convert export` writes one and transformers opens it.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from conftest import flac
from flax import nnx
from random_originals import (
    NEVER,
    NEW_TOKENS,
    SHAPES,
    WINDOW,
    gradients_of,
    inputs,
    original_config,
    padded,
    randomised,
)

from data_pipelines.examples import Preprocessor
from data_pipelines.records import Record
from qwen_audio_jax import convert
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.log_mel import log_mel
from qwen_audio_jax.conversion import names
from qwen_audio_jax.conversion.importing import load_original, write_checkpoint
from qwen_audio_jax.models.audio_encoder import AudioEncoder
from qwen_audio_jax.models.parts import path_name, write_parts
from qwen_audio_jax.models.presets import Compute
from qwen_audio_jax.rendering import texts_of
from qwen_audio_jax.text.tokenizer import train_sentencepiece

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.parity

CASES = [
    ("grouped", ((37, 80), ())),
    ("grouped", ((), ())),
    ("narrow", ((3, 37, 51),)),
    ("wide_heads", ((4,), (79,), (3, 5))),
    ("llama", ((37, 80), ())),
    ("qwen3", ((5,), (79, 80))),
]
"""A shape, and the frames of the clips of each row. 3 to 6 frames are one audio token; transformers
is wrong about a batch that has no longer clip than that."""

SLOW = pytest.param(*CASES[5], marks=pytest.mark.slow)
"""The decoder alone is compared by default."""


@pytest.fixture(autouse=True)
def seeded():
    """Transformers draws the position table, which `randomised` leaves, from the global generator.

    Some table or other would put two tokens so close together that their order is rounding's.
    """
    torch.manual_seed(0)


def both_agree(theirs, ours, shape, clips):
    """Logits, loss, all gradients and greedy ids of transformers' model and of ours."""
    given, batch = inputs(shape, clips)
    theirs.zero_grad()
    expected = theirs(**given)
    expected.loss.backward()
    (loss, logits), gradients = parity.loss_and_gradients(*ours, batch)
    logits = np.asarray(logits)[batch["segments"] > 0]
    wanted = expected.logits[given["attention_mask"] == 1].detach()
    assert parity.deviation(logits, wanted) < parity.LOGITS
    assert parity.deviation(loss, expected.loss.item()) < parity.LOSS
    assert wanted.std() > 0.3, "logits so small would agree anyway"

    decoder = nnx.merge(*ours).config.decoder
    rows = names.distinct(names.qwen2_audio(decoder, in_memory=True))
    gradients = parity.tensors(rows, gradients)
    wanted = gradients_of(theirs)
    if decoder.tied:  # two arrays there, one here
        wanted["model.language_model.embed_tokens.weight"] += wanted.pop("lm_head.weight")
    assert parity.worst_gradient(gradients, wanted) < parity.GRADIENT
    # Nothing reaches the position table, nor the encoder where there is no clip.
    rest = gradients.keys() - wanted.keys()
    assert all("audio_tower" in name or "projector" in name for name in rest)
    assert len(rest) == 1 or not any(clips)
    assert not any(gradients[name].any() for name in rest)

    del given["labels"]
    answer = theirs.generate(
        **given,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    first, second = torch.stack(answer.logits).topk(2).values.unbind(-1)
    assert (first - second).min() > parity.LOGITS, "a tie: take another seed"
    ids = parity.greedy(*ours, batch, NEVER, NEW_TOKENS)[: len(clips)]
    np.testing.assert_array_equal(ids, answer.sequences[:, given["input_ids"].shape[1] :])


@pytest.mark.parametrize(("shape", "clips"), [*CASES[:5], SLOW])
def test_what_transformers_saves_computes_the_same_here(shape, clips, tmp_path):
    original = transformers.Qwen2AudioForConditionalGeneration._from_config(
        original_config(shape), attn_implementation="eager"
    )
    randomised(original).save_pretrained(tmp_path)
    parts, parameters = load_original(tmp_path)
    both_agree(original, parity.build(parts.model(), parameters), shape, clips)


@pytest.mark.parametrize(("shape", "clips"), [CASES[0], *CASES[2:5], SLOW])
def test_what_we_export_computes_the_same_in_transformers(shape, clips, tmp_path):
    parts, ours = random_model(shape, tmp_path / "like")
    tree = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(ours[1]))
    arrays = [(path_name(path), np.asarray(leaf)) for path, leaf in tree]
    checkpoint, out = tmp_path / "checkpoint", tmp_path / "out"
    write_checkpoint(checkpoint / "checkpoints/0", arrays, 1)
    write_parts(checkpoint, parts)
    assert convert.main(["export", f"--checkpoint={checkpoint}", f"--out={out}"]) == 0
    opened = transformers.Qwen2AudioForConditionalGeneration.from_pretrained(
        out, attn_implementation="eager", dtype=torch.float32, local_files_only=True
    )
    both_agree(opened.eval(), ours, shape, clips)
    again, parameters = load_original(out)
    assert again == parts
    assert jax.tree.all(jax.tree.map(np.array_equal, parameters, nnx.to_pure_dict(ours[1])))


def talks(tokenizer_folder):
    """(a vocabulary, conversations of none to three clips, some of their answers not learned)."""
    heard, random = {"type": "audio"}, np.random.default_rng(4)

    def said(role, text, clips=0, **more):
        return {"role": role, "content": [*[heard] * clips, {"type": "text", "text": text}], **more}

    asked = [
        [said("user", "What is it?", 1), said("assistant", "A bell.")],
        [
            said("system", "Be brief."),
            said("user", "And these?", 2),
            said("assistant", "Two dogs.", loss=False),
            said("user", "Is this one of them?", 1),
            said("assistant", "Yes, the first."),
        ],
        [
            said("user", "Hello"),
            said("assistant", "Hi."),
            said("user", "Louder?", 1),
            said("assistant", "No."),
        ],
    ]
    texts = [text for one in asked for text in texts_of("chat", {"messages": one})]
    records = []
    for number, messages in enumerate(asked):
        lengths = random.integers(1200, 12000, sum(m["content"].count(heard) for m in messages))
        clips = (flac(0.1 * random.standard_normal(n).clip(-3, 3)) for n in lengths)
        records.append(Record(f"talk-{number}", "chat", tuple(clips), {"messages": messages}))
    return train_sentencepiece(texts, [], tokenizer_folder, pieces=32), records


def test_conversations_are_learned_as_by_transformers_with_the_same_labels(tmp_path):
    """Packed into one row, and each in a row of its own."""
    tokenizer, records = talks(tmp_path / "tokenizer")
    bins = SHAPES["grouped"]["mel"]
    preprocessor = Preprocessor(tokenizer, "qwen2_audio", "tags", bins, "ceil")
    rows = list(map(preprocessor.example, records))
    waves = [decode(clip) for record in records for clip in record.audio]
    mels = [log_mel(wave, bins, WINDOW).T for wave in waves]
    given = padded(rows, mels, [n for row in rows for n in row.clip_frames])

    config = original_config("grouped", tokenizer.vocab_size, tokenizer.special("<|AUDIO|>"))
    theirs = transformers.Qwen2AudioForConditionalGeneration._from_config(
        config, attn_implementation="eager"
    )
    randomised(theirs).save_pretrained(tmp_path)
    parts, parameters = load_original(tmp_path)
    ours = parity.build(parts.model(), parameters)
    expected = theirs(**given)
    expected.loss.backward()
    wanted = gradients_of(theirs)
    named = names.distinct(names.qwen2_audio(parts.decoder, in_memory=True))
    for packed in ([rows, [], []], [[row] for row in rows]):
        batch = parity.batch_of(packed, 320, 400, bins)
        (loss, _), gradients = parity.loss_and_gradients(*ours, batch)
        assert parity.deviation(loss, expected.loss.item()) < parity.LOSS
        assert parity.worst_gradient(parity.tensors(named, gradients), wanted) < parity.GRADIENT


def random_model(shape: str, folder: pathlib.Path):
    """(its parts, our own model of a shape drawn here)."""
    blank = transformers.Qwen2AudioForConditionalGeneration(original_config(shape))
    blank.save_pretrained(folder)
    parts, parameters = load_original(folder)
    if SHAPES[shape].get("tied"):
        parts = dataclasses.replace(parts, decoder=dataclasses.replace(parts.decoder, tied=True))
        del parameters["decoder"]["head"]
    random = np.random.default_rng(2)

    def draw(path, array):
        noise = random.standard_normal(array.shape).astype(np.float32)
        if path_name(path) == "encoder/positions":
            return array
        if path_name(path).endswith("scale"):
            return 1 + 0.1 * noise
        if path_name(path).endswith(("kernel", "head")):
            return noise / np.sqrt(array.shape[-2])
        return noise if path_name(path).endswith("embedding") else 0.1 * noise

    parameters = jax.tree_util.tree_map_with_path(draw, parameters)
    return parts, parity.build(parts.model(), parameters)


def test_whisper_encoder_computes_the_same(tmp_path):
    """With pooling before its last norm, as both Qwen-Audio models changed it."""
    config = transformers.WhisperConfig(
        num_mel_bins=16,
        d_model=24,
        encoder_layers=3,
        encoder_attention_heads=2,
        encoder_ffn_dim=96,
        max_source_positions=WINDOW // 2,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=8,
        vocab_size=8,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
    )
    original = transformers.WhisperModel._from_config(config, attn_implementation="eager")
    randomised(original).save_pretrained(tmp_path)
    parts, parameters = load_original(tmp_path)
    graph, state = parity.fill(
        lambda: AudioEncoder(parts.encoder, Compute(), nnx.Rngs(0)), parameters["encoder"]
    )
    random = np.random.default_rng(3)
    mel = random.standard_normal((2, WINDOW, 16)).astype(np.float32)
    direction = random.standard_normal((2, WINDOW // 4, 24)).astype(np.float32)
    frame = np.tile(np.arange(WINDOW, dtype=np.int32), (2, 1))

    def run(state):
        encoded = nnx.merge(graph, state)(mel, frame, jnp.ones_like(frame))
        return jnp.sum(encoded * direction), encoded

    both = jax.jit(jax.grad(run, has_aux=True), compiler_options=parity.QUICK)
    gradients, encoded = both(state)
    original.encoder.layer_norm.register_forward_pre_hook(
        lambda _, given: (given[0].unflatten(1, (-1, 2)).mean(2),)
    )
    expected = original.encoder(torch.tensor(mel).mT).last_hidden_state
    (expected * torch.tensor(direction)).sum().backward()
    assert parity.deviation(encoded, expected.detach()) < parity.ENCODER
    ours = parity.tensors(names.transformers_encoder(""), {"encoder": gradients})
    assert parity.worst_gradient(ours, gradients_of(original.encoder)) < parity.GRADIENT
