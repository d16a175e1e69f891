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

from data_pipelines.examples import Preprocessor
from data_pipelines.records import Record
from qwen_audio_jax import convert
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.lengths import audio_tokens
from qwen_audio_jax.audio.log_mel import log_mel
from qwen_audio_jax.conversion import names
from qwen_audio_jax.conversion.importing import load_original, write_checkpoint
from qwen_audio_jax.models.audio_encoder import AudioEncoder
from qwen_audio_jax.models.language_model import LanguageModel, head_of, rope
from qwen_audio_jax.models.parts import path_name, write_parts
from qwen_audio_jax.models.presets import Compute
from qwen_audio_jax.models.segments import Segments
from qwen_audio_jax.rendering import texts_of
from qwen_audio_jax.text.tokenizer import load_tokenizer, train_sentencepiece
from qwen_audio_jax.training.next_token import next_token_loss

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.parity

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


def text_loss(graph, state, tokens):
    """(mean loss, logits) of whole rows of text."""
    model = nnx.merge(graph, state)
    rows = jnp.ones_like(tokens)
    rotate = rope(model.config, jnp.cumsum(rows, axis=1) - 1)
    hidden = model(model.embed(tokens), Segments.of(rows), rotate)
    weights = rows.at[:, -1].set(0).astype(jnp.float32)
    targets = jnp.roll(tokens, -1, axis=1)
    head, axes = head_of(vars(model))
    loss, weight = next_token_loss(hidden, head[...], targets, weights, axes=axes)
    return loss / weight, model.logits(hidden)


text_loss_and_gradients = jax.jit(
    jax.value_and_grad(text_loss, argnums=1, has_aux=True),
    static_argnums=0,
    compiler_options=parity.QUICK,
)


DECODERS = {
    "qwen2": ("Qwen2", dict(tie_word_embeddings=False)),
    "qwen2 tied": ("Qwen2", dict(tie_word_embeddings=True)),
    "qwen3": ("Qwen3", dict(head_dim=12, tie_word_embeddings=True)),
    "qwen3 untied": ("Qwen3", dict(hidden_size=36, num_attention_heads=8, head_dim=6)),
    "llama": ("Llama", dict(tie_word_embeddings=False)),
    "llama 3": ("Llama", dict(rope_parameters=LLAMA3, tie_word_embeddings=True)),
}
"""The class in transformers, and what the configuration has beside the usual."""


def text_original(kind: str):
    name, own = DECODERS[kind]
    usual = dict(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        intermediate_size=40,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        bos_token_id=None,
        eos_token_id=None,
    )
    config = getattr(transformers, f"{name}Config")(**usual | own)
    made = getattr(transformers, f"{name}ForCausalLM")
    return randomised(made._from_config(config, attn_implementation="eager"))


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_computes_the_same(kind, tmp_path):
    original = text_original(kind)
    original.save_pretrained(tmp_path)
    parts, parameters = load_original(tmp_path)
    tied = parts.decoder.tied
    assert tied == original.config.tie_word_embeddings != ("head" in parameters["decoder"])
    graph, state = parity.fill(
        lambda: LanguageModel(parts.decoder, Compute(), nnx.Rngs(0)), parameters["decoder"]
    )
    tokens = np.random.default_rng(4).integers(0, VOCABULARY, (2, 33))
    (loss, logits), gradients = text_loss_and_gradients(graph, state, tokens.astype(np.int32))
    expected = original(torch.tensor(tokens), labels=torch.tensor(tokens))
    expected.loss.backward()
    assert parity.deviation(logits, expected.logits.detach()) < parity.LOGITS
    assert parity.deviation(loss, expected.loss.item()) < parity.LOSS
    rows = names.distinct(names.transformers_decoder(parts.decoder))
    ours = parity.tensors(rows, {"decoder": gradients})
    wanted = gradients_of(original)
    assert ours.keys() == wanted.keys()
    assert parity.worst_gradient(ours, wanted) < parity.GRADIENT


def test_the_real_smollm2_computes_the_same(references):
    """Published as Llama; in the references as Qwen2 with biases of 0. Its head is tied."""
    folder = references / "real_start" / "smollm2-135m"
    if not folder.is_dir():
        pytest.skip(f"put SmolLM2-135M-Instruct at {folder} to run this")
    parts, parameters = load_original(folder)
    assert parts.decoder.tied
    graph, state = parity.fill(
        lambda: LanguageModel(parts.decoder, Compute(), nnx.Rngs(0)), parameters["decoder"]
    )
    tokens = load_tokenizer(folder).encode("The capital of France is Paris.\n\nIt has 1234 狗 😀.")
    tokens = np.array([tokens], np.int32)

    @jax.jit
    def ours(state):
        model = nnx.merge(graph, state)
        rows = jnp.ones_like(tokens)
        rotate = rope(model.config, jnp.cumsum(rows, axis=1) - 1)
        return model.logits(model(model.embed(tokens), Segments.of(rows), rotate))

    original = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    with torch.no_grad():
        expected = original.eval()(torch.tensor(tokens).long()).logits.numpy()
    logits = np.asarray(ours(state))
    # They are up to 36, ten times those of the random models.
    assert parity.deviation(logits, expected) < 1e-5 * np.abs(expected).max()
    np.testing.assert_array_equal(logits.argmax(-1), expected.argmax(-1))
