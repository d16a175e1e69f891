"""Our Qwen-Audio is the original's: goldens made by running QwenLM/Qwen-Audio (tests/golden).

Rows are compared unpadded, on whichever side the original padded them, and packed together.
"""

import dataclasses
import functools

import jax
import numpy as np
import parity
import pytest
from flax import nnx

from qwen_audio_jax.audio.lengths import audio_tokens, mel_frames
from qwen_audio_jax.conversion import names
from qwen_audio_jax.conversion.importing import load_original
from qwen_audio_jax.models.language_model import ntk_alpha

PLACEHOLDER, NEVER = 490, 511
"""Ids of the golden vocabulary: of audio, and one that no golden answer holds."""

FRAMES = tuple(mel_frames(samples, "floor") for samples in (21999, 51280, 9700))
A, B, C = range(3)
"""The three clips; A has an odd number of encoder positions."""

CLIPS_OF = {
    "right": ((A, B), (C,)),
    "left": ((A, B), (C,)),
    "solo0": ((A, B),),
    "solo1": ((C,),),
    "text": ((),),
    "mixed": ((C,), ()),
}
"""Which clips the rows of each golden case hold."""


@dataclasses.dataclass(frozen=True, eq=False)
class Golden:
    """The imported model and the reference arrays beside it."""

    folder: object
    config: object
    parameters: dict

    @functools.cached_property
    def model(self):
        return parity.build(self.config, self.parameters)

    def long(self, **decoder):
        """The model with the trained length of the long-context cases."""
        decoder = dataclasses.replace(self.config.decoder, trained_length=64, **decoder)
        return parity.build(dataclasses.replace(self.config, decoder=decoder), self.parameters)

    def read(self, name):
        return dict(np.load(self.folder / f"{name}.npz"))

    def batch(self, rows, clips, labels=None, *, packed=False):
        """Unpadded rows of tokens as a Batch; the clips' features are cut where theirs are."""
        mels = self.read("b_forward")["input_audios"]
        numbers = [number for row in clips for number in row]
        # The original cuts all features behind the longest clip of the batch.
        cut = 2 * max(((FRAMES[number] + 1) // 2 for number in numbers), default=0)
        examples = [
            parity.example(
                tokens,
                np.zeros(len(tokens)) if labels is None else labels[i] != -100,
                PLACEHOLDER,
                [parity.clip(mels[number], FRAMES[number], cut) for number in clips[i]],
                [FRAMES[number] for number in clips[i]],
            )
            for i, tokens in enumerate(rows)
        ]
        placed = [examples] if packed else [[one] for one in examples]
        # Always two rows of one shape, so that everything is compiled once.
        return parity.batch_of(placed + [[]] * (2 - len(placed)), 200, 528, 80)


@pytest.fixture(scope="module", params=["small", pytest.param("whole", marks=pytest.mark.slow)])
def golden(request):
    if request.param == "small":
        folder = request.path.parents[1] / "golden/qwen_audio"
    else:
        folder = request.getfixturevalue("references") / "golden/qwen_audio/tiny"
    parts, parameters = load_original(folder)
    return Golden(folder, parts.model(), parameters)


def unpadded(array, mask):
    return [row[kept == 1] for row, kept in zip(array, mask, strict=True)]


def case(golden, name, *, packed=False):
    """(batch, expected logits of its tokens in order, expected loss)."""
    arrays = golden.read("b_forward")
    ids = arrays[f"{name}_input_ids"]
    mask = arrays.get(f"{name}_attention_mask", np.ones_like(ids))
    labels = unpadded(arrays.get(f"{name}_labels", ids), mask)
    batch = golden.batch(unpadded(ids, mask), CLIPS_OF[name], labels, packed=packed)
    # Of the mixed rows the original also learns a first token, from the padding before it.
    loss = None if name == "mixed" else arrays[f"{name}_loss"]
    return batch, np.concatenate(unpadded(arrays[f"{name}_logits"], mask)), loss


def used(logits, batch):
    return logits[batch["segments"] > 0]


@functools.partial(jax.jit, static_argnums=(0, 3))
def pooled_after(graph, parameters, batch, layers):
    """The encoder's pooled values after that many blocks, before the last norm."""
    model = nnx.merge(graph, parameters)
    blocks, weights = nnx.split(model.encoder.blocks)
    model.encoder.blocks = nnx.merge(blocks, jax.tree.map(lambda w: w[:layers], weights))
    model.encoder.norm = lambda x: x
    return model.encoder(batch["mel"], batch["mel_positions"], batch["mel_segments"])


@pytest.mark.parametrize(
    ("stage", "layers"), [("blocks_input", 0), ("block0_out", 1), ("block1_out", 2)]
)
def test_encoder_stages_agree(golden, stage, layers):
    expected = golden.read("a_encoder")[f"batchAB_{stage}"]
    spans = [np.full(audio_tokens(FRAMES[number]), PLACEHOLDER) for number in (A, B)]
    batch = golden.batch(spans, ((A,), (B,)))
    ours = np.asarray(pooled_after(*golden.model, batch, layers))
    for row, span in enumerate(spans):
        N = len(span)
        pooled = expected[row, : 2 * N].reshape(N, 2, -1).mean(axis=1)
        assert parity.deviation(ours[row, :N], pooled) < parity.ENCODER


def test_audio_spans_agree_alone_and_in_a_batch(golden):
    """Begin vector, audio, end vector, as they enter the decoder; and the encoder's last two."""
    expected = golden.read("a_encoder")
    begin = golden.config.audio_begin

    def spans(*numbers):
        rows = [
            np.array([begin, *[PLACEHOLDER] * audio_tokens(FRAMES[number]), begin + 1])
            for number in numbers
        ]
        batch = golden.batch(rows, [(number,) for number in numbers])
        return batch, parity.forward(*golden.model, batch)

    batch, ours = spans(A, B)
    for row, stage in enumerate(("batchAB_span0", "batchAB_span1")):
        span = ours["embedded"][row][batch["segments"][row] > 0]
        assert parity.deviation(span, expected[stage]) < parity.ENCODER
        N = len(span) - 2
        for key, name in (("encoded", "ln_post_out"), ("projected", "proj_out")):
            wanted = expected[f"batchAB_{name}"][row, :N]
            assert parity.deviation(ours[key][row, :N], wanted) < parity.ENCODER
    for number, name in ((A, "soloA"), (B, "soloB"), (C, "soloC")):
        batch, ours = spans(number)
        span = ours["embedded"][0][batch["segments"][0] > 0]
        assert parity.deviation(span, expected[f"{name}_span0"]) < parity.ENCODER
    # Its neighbours in the batch matter to the original, and so to this comparison.
    assert parity.deviation(expected["soloA_span0"], expected["batchAB_span0"]) > 0.01


@pytest.mark.parametrize("name", CLIPS_OF)
def test_logits_and_loss_agree(golden, name):
    batch, logits, loss = case(golden, name)
    ours = parity.forward(*golden.model, batch)
    assert parity.deviation(used(ours["logits"], batch), logits) < parity.LOGITS
    assert loss is None or parity.deviation(ours["loss"], loss) < parity.LOSS


@pytest.mark.parametrize("name", ["right", "mixed"])
def test_rows_packed_into_one_agree(golden, name):
    batch, logits, loss = case(golden, name, packed=True)
    ours = parity.forward(*golden.model, batch)
    assert parity.deviation(used(ours["logits"], batch), logits) < parity.LOGITS
    assert loss is None or parity.deviation(ours["loss"], loss) < parity.LOSS


def test_gradients_agree(golden):
    batch, _, expected_loss = case(golden, "right")
    (loss, _), gradients = parity.loss_and_gradients(*golden.model, batch)
    assert parity.deviation(loss, expected_loss) < parity.LOSS
    ours = parity.tensors(names.qwen_audio(golden.config.decoder), gradients)
    expected = golden.read("b_grads_right")
    assert ours.keys() - expected.keys() == {"transformer.audio.positional_embedding"}
    assert parity.worst_gradient(ours, expected) < parity.GRADIENT
    begin = golden.config.audio_begin
    assert not np.any(ours["transformer.wte.weight"][[PLACEHOLDER, begin, begin + 1]])


def answers_agree(golden, model, prompts, clips, ids, scores):
    """The ids are the golden ones, and so are the logits each was chosen from."""
    batch = golden.batch(prompts, clips)
    ours = np.asarray(parity.greedy(*model, batch, NEVER, ids.shape[1]))
    np.testing.assert_array_equal(ours[: len(ids)], ids)
    whole = [np.concatenate(pair) for pair in zip(prompts, ids[:, :-1], strict=True)]
    lengths = np.array([len(prompt) for prompt in prompts] + [0] * (2 - len(prompts)), np.int32)
    logits = parity.forward(*model, golden.batch(whole, clips), lengths)["logits"]
    for row, prompt in enumerate(prompts):
        chosen_from = logits[row, len(prompt) - 1 : len(whole[row])]
        assert parity.deviation(chosen_from, scores[row]) < parity.LOGITS


@pytest.mark.parametrize(
    ("name", "clips"),
    [
        ("row0", ((A, B),)),
        ("row1", ((C,),)),
        ("text", ((),)),
        ("batch_left", ((A, B), (C,))),
    ],
)
def test_greedy_ids_agree(golden, name, clips):
    arrays = golden.read("c_generate")
    prompts = unpadded(arrays[f"{name}_input_ids"], arrays[f"{name}_attention_mask"])
    expected = arrays[f"{name}_new_ids"], arrays[f"{name}_scores"]
    answers_agree(golden, golden.model, prompts, clips, *expected)


def test_decoding_stops_where_the_original_does(golden):
    """The original puts its end-of-document id behind the stop word; ours fills up with it."""
    arrays = golden.read("c_generate")
    stop, expected = int(arrays["stop1_words"][0]), arrays["stop1_new_ids"][0]
    batch = golden.batch(arrays["row0_input_ids"], ((A, B),))
    ours = np.asarray(parity.greedy(*golden.model, batch, stop, 24))[0]
    assert expected[-2] == stop
    np.testing.assert_array_equal(ours[: len(expected) - 1], expected[:-1])
    assert np.all(ours[len(expected) - 1 :] == stop)


@pytest.mark.parametrize(
    ("name", "log_n", "dynamic_ntk", "training"),
    [
        ("both", True, True, False),
        ("logn_only", True, False, False),
        ("ntk_only", False, True, False),
        ("none", True, True, True),  # in training nothing scales, whatever the configuration
    ],
)
def test_long_rows_agree(golden, name, log_n, dynamic_ntk, training):
    """200 tokens after training on 64."""
    arrays = golden.read("d_long")
    batch = golden.batch(arrays["ids200"], ((),), arrays["ids200"])
    model = golden.long(log_n=log_n, dynamic_ntk=dynamic_ntk)
    ours = parity.forward(*model, batch, None if training else np.array([200, 0], np.int32))
    logits = used(ours["logits"], batch)
    assert parity.deviation(logits, arrays[f"{name}_logits200"][0]) < parity.LOGITS
    assert parity.deviation(ours["loss"], arrays[f"{name}_loss200"]) < parity.LOSS
    if training:
        assert arrays["both_train_loss200"] == arrays["none_loss200"]


@pytest.mark.parametrize("lengths", [(64, 65), (128, 129)])
def test_scaling_sets_in_at_the_same_length(golden, lengths):
    arrays = golden.read("d_long")
    batch = golden.batch([arrays["ids200"][0, :n] for n in lengths], ((), ()))
    logits = parity.forward(*golden.long(), batch, np.array(lengths, np.int32))["logits"]
    for row, n in enumerate(lengths):
        expected = arrays[f"both_logits{n}_last4"][0]
        assert parity.deviation(logits[row, n - 4 : n], expected) < parity.LOGITS


def test_ntk_factors_agree(golden):
    table = golden.read("d_long")["alpha_table"]
    np.testing.assert_array_equal(ntk_alpha(table[:, 0], 64), table[:, 1])


def test_long_rows_of_different_lengths_agree(golden):
    """Right-padded, and as each alone; then left-padded, which shifts the original's log-n."""
    arrays = golden.read("d_long")
    rows = [arrays["ids200"][0], arrays["long2_ids"][0]]
    lengths = np.array([200, 110], np.int32)
    batch = golden.batch(rows, ((), ()))
    logits = used(parity.forward(*golden.long(), batch, lengths)["logits"], batch)
    for side in ("r", "l"):
        mask = arrays[f"batch{side}_attention_mask"]
        if side == "l":
            first = np.argmax(mask, axis=1)[:, None]
            batch = batch | {"positions": batch["positions"] + first.astype(np.int32)}
            logits = used(parity.forward(*golden.long(), batch, lengths)["logits"], batch)
        expected = np.concatenate(unpadded(arrays[f"batch{side}_logits"], mask))
        assert parity.deviation(logits, expected) < parity.LOGITS


def test_long_row_with_audio_agrees(golden):
    arrays = golden.read("d_long")
    labels = golden.read("b_forward")["solo0_labels"]
    batch = golden.batch(arrays["row0_ids"], ((A, B),), labels)
    lengths = np.array([arrays["row0_ids"].size, 0], np.int32)
    ours = parity.forward(*golden.long(), batch, lengths)
    logits = used(ours["logits"], batch)
    assert parity.deviation(logits, arrays["row0_logits"][0]) < parity.LOGITS
    assert parity.deviation(ours["loss"], arrays["row0_loss"]) < parity.LOSS


@pytest.mark.parametrize("name", ["gen_cross", "gen_above"])
def test_greedy_ids_past_the_trained_length_agree(golden, name):
    """The prefill's NTK factor holds for the whole answer, while log-n goes on growing."""
    arrays = golden.read("d_long")
    prompts, ids = arrays[f"{name}_input_ids"], arrays[f"{name}_new_ids"]
    answers_agree(golden, golden.long(), prompts, ((),), ids, arrays[f"{name}_scores"])


def test_full_thirty_seconds_agree(references):
    """A clip of 31 s, cut to 30; alone and beside a short one."""
    folder = references / "golden/qwen_audio"
    parts, parameters = load_original(folder / "tiny")
    model = parity.build(parts.model(), parameters)
    expected = np.load(folder / "tiny/a_encoder_full30s.npz")
    long, short = (
        np.load(folder / f"mel/{name}.npz")["log_mel_padded30s"]
        for name in ("w4_noise_chirp_31s", "w0_speechlike_0.5s")
    )
    examples = []
    for mel, frames in ((long, 3000), (short, 50)):
        begin = parts.audio_begin
        span = np.array([begin, *[PLACEHOLDER] * audio_tokens(frames), begin + 1])
        mel = parity.clip(mel, frames, 3000)
        examples.append(parity.example(span, np.zeros(len(span)), PLACEHOLDER, [mel], [frames]))
    batch = parity.batch_of([examples], 768, 3056, 80)
    ours = parity.forward(*model, batch)["embedded"]
    ours = [ours[batch["segments"] == number] for number in (1, 2)]
    for name in ("solo_w4_span", "batch_w4_w0_span_w4"):
        assert parity.deviation(ours[0], expected[name]) < parity.ENCODER
    assert parity.deviation(ours[1], expected["batch_w4_w0_span_w0"]) < parity.ENCODER
