"""An encoder that sees the silence behind clips: Whisper's own outputs, packed or alone."""

import functools
import json
import math

import jax
import numpy as np
import parity
import pytest
from conftest import flac, questions_of
from flax import nnx

from data_pipelines.examples import Preprocessor, empty_batch, fill_row
from data_pipelines.records import IndexRow, Record
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.audio.lengths import encoder_positions, packed_frames, windows
from qwen_audio_jax.audio.silence import silence_frames
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.audio_encoder import AudioEncoder
from qwen_audio_jax.models.presets import Compute, EncoderConfig
from qwen_audio_jax.text.tokenizer import train_sentencepiece

WHISPER = 4e-4
"""Largest absolute difference of an output of Whisper's; the real one's are up to 24 large."""

SECONDS = (0.05, 1, 29.99, 30, 31, 65)
ANNOTATION = {"text": "the dog", "language": "en"}
EXPORTED = "qwen_audio_jax_window"


def sound(seconds: float) -> bytes:
    """Noise that swells and falls; the longer, the louder, so that each clip has its own floor."""
    random, n = np.random.default_rng(0), round(seconds * 16_000)
    swell = 0.05 * math.log(3 + seconds) * np.sin(np.arange(n) / 700) ** 2
    return flac(swell * random.standard_normal(n).clip(-3, 3))


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """(window, mel bins) -> Preprocessor."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = train_sentencepiece(["the dog"], ["en"], folder, pieces=16)

    def make(window, mel_bins=16, family="qwen2_audio"):
        rounding = "ceil" if family == "qwen2_audio" else "floor"
        return Preprocessor(
            tokenizer, family, "tags", mel_bins, rounding, silence=silence_frames(window)
        )

    return make


def batch_of(rows, mel_bins=16):
    frames = max(sum(len(clip) for one in row for clip in one.clips) for row in rows)
    tokens = max(sum(len(one.text.tokens) for one in row) for row in rows)
    batch = empty_batch(len(rows), tokens, frames, mel_bins)
    for number, examples in enumerate(rows):
        fill_row(batch, number, examples)
    return batch


def encoder_of(config, parameters):
    """(mel, positions, segments) -> outputs at 50 per second with the last norm, and pooled."""
    graph, state = parity.fill(lambda: AudioEncoder(config, Compute(), nnx.Rngs(0)), parameters)

    @functools.partial(jax.jit, compiler_options=parity.QUICK)
    def compiled(state, *inputs):
        encoder, kept = nnx.merge(graph, state), []
        before = encoder.before_pooling
        encoder.before_pooling = lambda *given: kept.append(before(*given)) or kept[0]
        pooled = encoder(*inputs)
        return encoder.norm(kept[0]), pooled

    def encode(batch):
        inputs = (batch[name] for name in ("mel", "mel_positions", "mel_segments"))
        return map(np.asarray, compiled(state, *inputs))

    return encode


def of_windows(batch, outputs, pooled):
    """Of each clip in the batch, in order: positions of its own, and its audio tokens."""
    found = []
    for row, segments in enumerate(batch["mel_segments"]):
        for clip in range(1, segments.max() + 1):
            own = (segments == clip) & (batch["mel_positions"][row] >= 0)
            (places,) = np.nonzero(own)
            first, frames = places[0], len(places)
            halves = outputs[row, first // 2 :][: encoder_positions(frames)]
            found.append((halves, pooled[row, first // 4 :][: (frames + 1) // 4]))
    return found


def random_encoder(window, max_positions=1500):
    config = EncoderConfig(16, layers=2, width=24, heads=3, max_positions=max_positions)
    encoder = AudioEncoder(config, Compute(), nnx.Rngs(3))
    parameters = nnx.to_pure_dict(nnx.split(encoder)[1])
    return encoder_of(EncoderConfig(16, 2, 24, 3, max_positions, window), parameters)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A small random Whisper of transformers, and the folder that it saved."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        num_mel_bins=16,
        d_model=24,
        encoder_layers=2,
        encoder_attention_heads=3,
        encoder_ffn_dim=96,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=8,
        vocab_size=8,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0),
        decoder_start_token_id=0,
    )
    model = transformers.WhisperModel._from_config(config)
    with torch.no_grad():
        for name, weight in model.encoder.named_parameters():
            if weight.ndim > 1 and "embed_positions" not in name:
                weight.normal_(0, weight[0].numel() ** -0.5)
    folder = tmp_path_factory.mktemp("whisper")
    model.eval().save_pretrained(folder)
    return model.encoder, folder


def outputs_of_transformers(encoder, waves, mel_bins):
    """Of each window of 30 s: Whisper's outputs [1500, D], and pooled before the norm [750, D]."""
    import torch
    from transformers import WhisperFeatureExtractor

    features, made, kept = WhisperFeatureExtractor(feature_size=mel_bins), [], []
    hook = encoder.layer_norm.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    for wave in waves:
        for part in np.split(wave, np.cumsum(windows(len(wave)))[:-1]):
            given = features(part, sampling_rate=16_000, return_tensors="pt").input_features
            with torch.no_grad():
                made.append(encoder(given).last_hidden_state[0].numpy())
    hook.remove()
    with torch.no_grad():
        pooled = [encoder.layer_norm(one.unflatten(1, (-1, 2)).mean(2))[0].numpy() for one in kept]
    return list(zip(made, pooled, strict=True))


def are_whispers(encode, preprocessor, encoder, clips):
    """Compares clips, each in a row of its own and all in one, with transformers' Whisper."""
    examples = [preprocessor.example(Record("a", "asr", (clip,), ANNOTATION)) for clip in clips]
    waves = [decode(clip) for clip in clips]
    expected = outputs_of_transformers(encoder, waves, preprocessor.mel_bins)
    for rows in ([[one] for one in examples], [examples]):
        batch = batch_of(rows, preprocessor.mel_bins)
        found = of_windows(batch, *encode(batch))
        assert len(found) == len(expected)
        for (halves, tokens), (all_halves, all_tokens) in zip(found, expected, strict=True):
            assert len(tokens)
            assert parity.deviation(halves, all_halves[: len(halves)]) < WHISPER
            assert parity.deviation(tokens, all_tokens[: len(tokens)]) < WHISPER


@pytest.mark.parity
@pytest.mark.parametrize(
    ("family", "seconds"),
    [
        ("qwen2_audio", (0.05, 29.99, 31)),
        ("qwen_audio", (0.05, 1.017)),
        pytest.param("qwen2_audio", SECONDS, marks=pytest.mark.slow),
    ],
)
def test_whispers_own_outputs(whisper, make, family, seconds):
    encoder, folder = whisper
    parts, parameters = load_original(folder)
    assert parts.encoder.window == "window"
    encode = encoder_of(parts.encoder, parameters["encoder"])
    clips = [sound(s) for s in seconds]
    are_whispers(encode, make("window", family=family), encoder, clips)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["weights/whisper_tiny_en_encoder", "real_start/whisper-base"])
@pytest.mark.slow
def test_real_whispers(make, references, name):
    """On short clips: PyTorch's float32 is itself up to 8e-4 off its float64 on those of 10 s."""
    folder = references / name
    if not folder.is_dir():
        pytest.skip(f"QWEN_AUDIO_REFERENCES has no {name}")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.WhisperModel.from_pretrained(folder, dtype=torch.float32).eval()
    parts, parameters = load_original(folder)
    parameters = jax.tree.map(lambda x: x.astype(np.float32), parameters["encoder"])
    encode = encoder_of(parts.encoder, parameters)
    are_whispers(encode, make("window", 80), model.encoder, [sound(s) for s in (0.05, 1, 4)])


@pytest.mark.parametrize("window", [pytest.param("clip+1s", marks=pytest.mark.slow), "window"])
def test_silence_is_as_if_the_recording_went_on(make, window):
    """The same clip with zeros behind it, and a window of its own length."""
    seconds = (0.05, 1, 2.333)
    silence = silence_frames(window) * 160
    seen = make(window)
    shown = [seen.example(Record("a", "asr", (sound(s),), ANNOTATION)) for s in seconds]
    encode, whole = random_encoder(window), random_encoder("clip")
    batch = batch_of([shown])
    found = of_windows(batch, *encode(batch))
    for (halves, tokens), s in zip(found, seconds, strict=True):
        wave = decode(sound(s))
        longer = np.pad(wave, (0, silence))[: 30 * 16_000]
        record = Record("a", "asr", (flac(longer),), ANNOTATION)
        one = batch_of([[make("clip").example(record)]])
        ((wanted, wanted_tokens),) = of_windows(one, *whole(one))
        assert len(wanted) > len(halves)
        assert parity.deviation(halves, wanted[: len(halves)]) < 1e-5
        assert parity.deviation(tokens, wanted_tokens[: len(tokens)]) < 1e-5


def test_silence_changes_what_is_made_of_the_clip(make):
    """Without it, the comparisons above would hold of an encoder that does not look at it."""
    record = Record("a", "asr", (sound(1),), ANNOTATION)
    (clip, _), (silent, _) = (
        of_windows(batch, *random_encoder(window)(batch))[0]
        for window in ("clip", "clip+1s")
        for batch in [batch_of([[make(window).example(record)]])]
    )
    assert parity.deviation(clip, silent) > 1e-2


@pytest.mark.parametrize("window", ["clip", "clip+1.5s", "window"])
@pytest.mark.parametrize("family", ["qwen_audio", "qwen2_audio"])
def test_frames_are_planned_as_made_and_audio_tokens_stay_as_many(make, window, family):
    preprocessor, plain = make(window, family=family), make("clip", family=family)
    for seconds in SECONDS:
        record = Record("a", "asr", (sound(seconds),), ANNOTATION)
        example, before = preprocessor.example(record), plain.example(record)
        row = IndexRow("a", "asr", (round(seconds * 16_000),), ANNOTATION)
        ((tokens, frames),) = preprocessor.lengths([row])
        assert tokens == len(example.text.tokens)
        assert frames == sum(map(len, example.clips))
        if window == "window":
            assert {len(clip) for clip in example.clips} == {packed_frames(3000)}
        np.testing.assert_array_equal(example.text.tokens, before.text.tokens)
        assert example.clip_frames == before.clip_frames
        ((question, _),) = questions_of(preprocessor, record)
        assert list(map(len, question.clips)) == list(map(len, example.clips))
        assert f"tokens and {frames} frames" in preprocessor.too_large(row)


def test_a_row_too_short_for_a_window_holds_text_alone():
    encode = random_encoder("window")
    outputs, pooled = encode(empty_batch(2, 8, 352, 16))
    assert pooled.shape == (2, 88, 24)
    assert np.isfinite(outputs).all()


@pytest.mark.parity
@pytest.mark.parametrize("window", ["window", "clip+1s"])
def test_an_export_computes_the_same_if_it_is_called_as_documented(make, tmp_path, capsys, window):
    """docs/conversion.md says how."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from qwen_audio_jax import convert
    from qwen_audio_jax.conversion.importing import write_checkpoint
    from qwen_audio_jax.models.parts import Parts, path_name, write_parts
    from qwen_audio_jax.models.presets import DecoderConfig
    from qwen_audio_jax.models.qwen_audio import QwenAudio

    encoder = EncoderConfig(16, 2, 24, 3, window=window)
    preprocessor = make(window)
    decoder = DecoderConfig(preprocessor.tokenizer.vocab_size, 2, 32, 4, 2, 8, 40)
    placeholder = preprocessor.tokenizer.special("<|AUDIO|>")
    parts = Parts("qwen2_audio", encoder, decoder, 1, 2, placeholder)
    graph, state = nnx.split(QwenAudio(parts.model(), nnx.Rngs(1)))
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(state))
    arrays = [(path_name(path), np.asarray(leaf)) for path, leaf in leaves]
    run, out = tmp_path / "run", tmp_path / "out"
    write_checkpoint(run / "checkpoints/0", arrays, 1)
    write_parts(run, parts)
    assert convert.main(["export", f"--checkpoint={run}", f"--out={out}"]) == 0
    assert f"note: its encoder sees silence behind clips ({window!r})" in capsys.readouterr().out
    assert json.loads((out / "config.json").read_text())["audio_config"][EXPORTED] == window
    assert load_original(out)[0].encoder == encoder

    record = Record("a", "asr", (sound(1.5),), ANNOTATION)
    example = preprocessor.example(record)
    batch = batch_of([[example]])
    ours = np.asarray(parity.forward(graph, state, batch)["logits"])[0]

    model = transformers.Qwen2AudioForConditionalGeneration.from_pretrained(
        out, dtype=torch.float32, local_files_only=True
    ).eval()
    ids = torch.tensor(batch["tokens"]).long()
    extractor = transformers.WhisperFeatureExtractor(feature_size=16)
    inputs = extractor(
        decode(record.audio[0]),
        sampling_rate=16_000,
        return_tensors="pt",
        return_attention_mask=True,
    )
    features, mask = inputs["input_features"], inputs["attention_mask"]
    with torch.no_grad():
        usual = model(input_ids=ids, input_features=features, feature_attention_mask=mask).logits
        inner = model.model
        seen = (mask.sum(-1) + silence_frames(window)).clamp(max=3000)
        shown = torch.arange(1500) < ((seen + 1) // 2)[:, None]
        heard = inner.audio_tower(features, shown[:, None, None]).last_hidden_state
        heard = inner.multi_modal_projector(heard)
        _, tokens = inner.audio_tower._get_feat_extract_output_lengths(mask.sum(-1))
        embedded = model.get_input_embeddings()(ids)
        embedded[ids == model.config.audio_token_id] = torch.cat(
            [clip[:n] for clip, n in zip(heard, tokens, strict=True)]
        )
        theirs = model(inputs_embeds=embedded).logits
        attended = torch.ones_like(ids)
        written = model.generate(
            inputs_embeds=embedded, attention_mask=attended, max_new_tokens=1, do_sample=False
        )
    assert parity.deviation(ours, theirs[0]) < parity.LOGITS
    assert written.tolist() == [[ours[-1].argmax()]]
    assert parity.deviation(ours, usual[0]) > 10 * parity.LOGITS
