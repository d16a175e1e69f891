"""How likely a model finds the answers of held-out pairs: as each alone, and beside the start."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import tiny_config, tone_record
from flax import nnx
from paired import pair_record, write_pairs

from data_pipelines.examples import Preprocessor, empty_batch, fill_row
from data_pipelines.packing import RowShape
from data_pipelines.records import Corpus
from data_pipelines.shards import write_split
from qwen_audio_jax.audio.decode import decode
from qwen_audio_jax.evaluation.held_out_pairs import (
    HeldOutPairs,
    PreferenceAccuracy,
    accuracy_rows,
)
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.parallel.sharding import AXES, make_mesh
from qwen_audio_jax.text.tokenizer import load_tokenizer
from qwen_audio_jax.training.step import make_answers

SHAPE = RowShape(2, 160, 192)
PLACES = {SHAPE: slice(0, SHAPE.rows)}
PAIRS, OTHER, DAMAGED = 6, 6, 7


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    """Pairs of two kinds, a record of another task, and a pair whose clip cannot be read."""
    folder = tmp_path_factory.mktemp("corpora") / "pairs"
    write_pairs(folder, train=1)
    records = [pair_record(number) for number in range(PAIRS)]
    for record in records:
        record.annotation["kind"] = "noise" if "noise" in record.annotation["chosen"] else "tone"
    damaged = pair_record(DAMAGED)
    measured = [
        (record, tuple(len(decode(clip)) for clip in record.audio))
        for record in (*records, tone_record(OTHER), damaged)
    ]
    measured[-1] = dataclasses.replace(damaged, audio=(b"RIFF",)), measured[-1][1]
    write_split(folder, "validation", measured)
    return Corpus(folder)


@pytest.fixture(scope="module")
def setting(corpus):
    tokenizer = load_tokenizer(corpus.path / "tokenizer")
    begin, end = map(tokenizer.special, ("<|audio_bos|>", "<|audio_eos|>"))
    config = tiny_config("qwen2_audio")
    decoder = dataclasses.replace(config.decoder, vocab_size=tokenizer.vocab_size)
    config = dataclasses.replace(config, decoder=decoder, audio_begin=begin, audio_end=end)
    graph, state = nnx.split(QwenAudio(config, nnx.Rngs(0)))
    preprocessor = Preprocessor(tokenizer, "qwen2_audio", "tags", 16, "ceil", layout="branches")
    return preprocessor, graph, nnx.to_pure_dict(state)


@pytest.fixture(scope="module")
def measure(corpus, setting) -> HeldOutPairs:
    preprocessor, graph, _ = setting
    mesh = make_mesh(dict.fromkeys(AXES, 1), jax.devices()[:1])
    answers = make_answers(graph, mesh)
    return HeldOutPairs(corpus, "validation", preprocessor, PLACES, answers, mesh)


@pytest.fixture(scope="module")
def found(measure, setting):
    return measure(setting[2])


def alone(corpus, setting):
    """(record, answer) -> its log-probabilities token by token, float64, in a row of its own."""
    preprocessor, graph, parameters = setting
    plain = dataclasses.replace(preprocessor, layout="")
    hidden_of = jax.jit(lambda parameters, batch: nnx.merge(graph, parameters)(batch))

    def tokens(number, answer):
        record = corpus.record("validation", number)
        talk = record.annotation | {"chosen": record.annotation[answer]}
        example = plain.example(dataclasses.replace(record, annotation=talk))
        batch = empty_batch(1, SHAPE.tokens, SHAPE.frames, 16)
        fill_row(batch, 0, [example])
        hidden = np.asarray(hidden_of(parameters, batch), np.float64)[0]
        logits = hidden @ np.asarray(parameters["decoder"]["head"], np.float64)
        learned = np.flatnonzero(example.text.loss_weights)
        rows = logits[learned - 1]
        of_tokens = rows[np.arange(len(rows)), example.text.tokens[learned]]
        return of_tokens - np.logaddexp.reduce(rows, axis=1)

    return tokens


def test_packed_they_are_the_sums_of_each_answer_alone(corpus, setting, measure, found):
    assert list(found) == list(range(PAIRS))
    assert any(len(row) > 1 for batch in measure._pass.planned for row in batch.rows)
    tokens = alone(corpus, setting)
    for number, values in found.items():
        sums = [tokens(number, answer).sum() for answer in ("chosen", "rejected")]
        np.testing.assert_allclose(values, sums, rtol=1e-5)
    means = dataclasses.replace(measure, per_token=True)(setting[2])
    np.testing.assert_allclose(
        means[1], [tokens(1, a).mean() for a in ("chosen", "rejected")], 1e-5
    )


def rows_of(rows):
    assert {row["task"] for row in rows} <= {"preference"}
    return {row["metric"]: (row["value"], row["n"]) for row in rows}


def test_rows_by_kind(measure):
    ranked = [(-1.0, -2.0), (-2.0, -1.0), (-1.0, -2.0), (-3.0, -1.0), (-1.0, -1.0), (-2.0, -1.0)]
    found = [("x", measure.row(n), np.float32(values)) for n, values in enumerate(ranked)]
    # All gain but the second, of which nothing is known, and the last, which stays as it was.
    references = {("x", row.id): values - np.float32([1, 0]) for _, row, values in found}
    del references["x", found[1][1].id]
    references["x", found[5][1].id] = found[5][2]
    rows = rows_of(accuracy_rows(found, references))
    assert rows == {
        "ranking_accuracy": (2 / 6, 6),
        "ranking_accuracy/noise": (0.0, 3),
        "ranking_accuracy/tone": (2 / 3, 3),
        "reward_accuracy": (4 / 5, 5),
        "reward_accuracy/noise": (1 / 2, 2),
        "reward_accuracy/tone": (1.0, 3),
    }
    assert accuracy_rows([], {}) == []


def test_the_start_is_kept_and_compared_with(measure, setting, found, tmp_path):
    parameters = setting[2]
    pairs = PreferenceAccuracy({"pairs": measure}, tmp_path)
    assert not any("reward" in metric for metric in rows_of(pairs(parameters)))
    before = rows_of(pairs(parameters, start=True))
    assert not any("reward" in metric for metric in before)
    # Nothing has been gained yet, to the bit.
    assert rows_of(pairs(parameters))["reward_accuracy"] == (0.0, PAIRS)
    changed = jax.tree.map(lambda x: 1.05 * x, parameters)
    gains = [measure(changed)[number] - values for number, values in found.items()]
    right = sum(bool(chosen > rejected) for chosen, rejected in gains)
    assert 0 < right < PAIRS
    assert rows_of(pairs(changed))["reward_accuracy"] == (right / PAIRS, PAIRS)


def test_a_limit_spreads_over_the_split(measure):
    records = dataclasses.replace(measure, limit=2)._pass.records
    assert records == [(0, 0), (DAMAGED, DAMAGED)]
