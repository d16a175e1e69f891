"""The loss on held-out records: as of each alone, with its own clips and with another's."""

import dataclasses
import functools
import logging
import math
import pathlib
import tempfile

import jax
import numpy as np
import pytest
from conftest import flac, on_eight_devices, tiny_config
from flax import nnx

from data_pipelines.examples import Preprocessor, empty_batch, fill_row
from data_pipelines.packing import RowShape
from data_pipelines.records import Corpus, Record
from data_pipelines.shards import write_split
from qwen_audio_jax.evaluation.held_out_loss import HeldOutLoss, loss_rows
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.parallel.sharding import AXES, local_rows, make_mesh, shardings
from qwen_audio_jax.text.tokenizer import load_tokenizer, train_sentencepiece
from qwen_audio_jax.training.step import make_losses

SHAPES = (RowShape(8, 48, 96), RowShape(8, 128, 320))
PLACES = {shape: slice(0, shape.rows) for shape in SHAPES}
WORDS = ("one", "two", "three", "four", "five", "six", "seven")


def wave(number: int, samples: int) -> bytes:
    noise = np.random.default_rng(number).standard_normal(samples)
    return flac(0.1 * noise.clip(-3, 3))


def made(number, task, samples, **annotation):
    clips = [wave(100 * number + place, n) for place, n in enumerate(samples)]
    record = Record(f"{task}-{number}", task, tuple(clips), annotation | {"source": "test"})
    return record, tuple(samples)


def records():
    """Speech in two languages, pairs of clips, and text; two that cannot be measured."""
    for number in range(14):
        text = " ".join(WORDS[: 1 + number % 7])
        language = ("en", "de")[number % 3 == 0]
        yield made(number, "asr", [3000 + 700 * number], text=text, language=language)
    for number in range(3):
        samples = [4000 + 800 * number, 5000]
        yield made(
            20 + number, "speaker_verification", samples, text=("same", "different")[number % 2]
        )
    yield made(30, "text", [], text="one two three four five six")
    yield made(31, "asr", [16000 * 9], text="too long for a row", language="en")
    yield made(32, "asr", [4000], language="en")  # without a text


def corpus_in(folder, of=records) -> tuple[Corpus, Preprocessor]:
    folder.mkdir(exist_ok=True)
    write_split(folder, "validation", list(of()))
    train_sentencepiece([*WORDS, "same different"], ["en", "de"], folder / "tokenizer", pieces=20)
    tokenizer = load_tokenizer(folder / "tokenizer")
    return Corpus(folder), Preprocessor(tokenizer, "qwen_audio", "tags", 16, "floor")


def model_for(preprocessor: Preprocessor):
    decoder = dataclasses.asdict(tiny_config("qwen_audio").decoder)
    decoder["vocab_size"] = preprocessor.tokenizer.vocab_size
    config = dataclasses.replace(
        tiny_config("qwen_audio", **decoder),
        audio_begin=preprocessor.tokenizer.special("<audio>"),
        audio_end=preprocessor.tokenizer.special("</audio>"),
    )
    graph, state = nnx.split(QwenAudio(config, nnx.Rngs(0)))
    return graph, nnx.to_pure_dict(state)


def mesh_of(*sizes):
    return make_mesh(dict(zip(AXES, sizes, strict=True)), jax.devices()[: math.prod(sizes)])


def measure_of(
    corpus, preprocessor, graph, mesh=None, places=PLACES, limit=0, accumulate=1
) -> HeldOutLoss:
    mesh = mesh or mesh_of(1, 1, 1)
    losses = make_losses(graph, mesh, accumulate)
    return HeldOutLoss(corpus, "validation", preprocessor, places, losses, mesh, limit)


def rows_of(measure, found):
    return loss_rows((measure.row(number), loss) for number, loss in found.items())


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    corpus, preprocessor = corpus_in(tmp_path_factory.mktemp("corpora") / "held_out")
    return corpus, preprocessor, *model_for(preprocessor)


@pytest.fixture(scope="module")
def measured(setting):
    corpus, preprocessor, graph, parameters = setting
    measure = measure_of(corpus, preprocessor, graph)
    return measure, measure(parameters)


@pytest.fixture(scope="module")
def alone(setting):
    """A function that gives the loss of one record, alone in its batch, by hand: float64."""
    corpus, preprocessor, graph, parameters = setting
    hidden_of = jax.jit(lambda parameters, batch: nnx.merge(graph, parameters)(batch))

    @functools.cache
    def loss(number, heard):
        record = corpus.record("validation", number)
        record = dataclasses.replace(record, audio=corpus.record("validation", heard).audio)
        example = preprocessor.example(record)
        batch = empty_batch(1, 128, 320, 16)
        fill_row(batch, 0, [example])
        hidden = np.asarray(hidden_of(parameters, batch), np.float64)[0]
        logits = hidden @ np.asarray(parameters["decoder"]["head"], np.float64)
        total = tokens = 0
        for place in range(1, len(example.text.tokens)):  # nothing foretells the first one
            if example.text.loss_weights[place]:
                row = logits[place - 1]
                total += np.logaddexp.reduce(row) - row[example.text.tokens[place]]
                tokens += 1
        return tokens, total

    return loss


def test_packed_it_is_the_loss_of_each_record_alone(setting, measured, alone):
    measure, found = measured
    assert list(found) == list(range(18))
    own, other = measure._passes
    heard = dict(other.records)
    assert len(own.planned) == 2  # a batch of each shape holds them all
    assert heard.keys() == set(range(17))
    for number, loss in found.items():
        tokens, total = alone(number, number)
        assert loss.tokens == tokens
        assert loss.loss == pytest.approx(total, rel=1e-5)
        if number in heard:
            assert loss.other == pytest.approx(alone(number, heard[number])[1], rel=1e-5)
            assert abs(loss.other - loss.loss) > 1e-5 * loss.loss


def test_another_clip_is_of_like_length_another_text_and_the_same_language(setting, measured):
    corpus, *_ = setting
    index = corpus.index("validation")
    for number, heard in measured[0]._passes[1].records:
        one, other = index[number], index[heard]
        assert number != heard
        assert len(one.samples) == len(other.samples)
        assert (one.task, one.annotation.get("language")) == (
            other.task,
            other.annotation.get("language"),
        )
        assert one.annotation["text"] != other.annotation["text"]
        if one.task == "asr":
            assert abs(one.samples[0] - other.samples[0]) <= 3 * 700


def test_rows_are_sums_divided_once(measured, alone):
    measure, found = measured
    heard = dict(measure._passes[1].records)
    rows = rows_of(measure, found)
    asr, text = range(14), {17}
    german = {n for n in asr if n % 3 == 0}
    groups = {
        ("asr", "loss"): asr,
        ("asr", "loss/de"): german,
        ("asr", "loss/en"): set(asr) - german,
        ("speaker_verification", "loss"): {14, 15, 16},
        ("text", "loss"): text,
        ("all", "loss"): range(18),
    }
    assert [(row["task"], row["metric"]) for row in rows] == list(groups)
    for row, members in zip(rows, groups.values(), strict=True):
        tokens, totals = np.transpose([alone(n, n) for n in members])
        others = [alone(n, heard.get(n, n))[1] for n in members]
        assert row["n"] == len(members)
        assert row["value"] == pytest.approx(totals.sum() / tokens.sum(), rel=1e-5)
        if members == text:
            assert row["baseline"] is None
        else:
            assert row["baseline"] == pytest.approx(sum(others) / tokens.sum(), rel=1e-5)


def test_what_cannot_be_measured_is_named(setting, caplog):
    corpus, preprocessor, graph, _ = setting
    assert len(measure_of(corpus, preprocessor, graph)._passes[0].records) == 18
    assert "record asr-31 has no held-out loss: it is larger than every row shape" in caplog.text
    assert "record asr-32 has no held-out loss: its annotation does not fit" in caplog.text


def test_a_limit_is_spread_over_the_split(setting, measured):
    corpus, preprocessor, graph, parameters = setting
    found = measure_of(corpus, preprocessor, graph, limit=3)(parameters)
    assert list(found) == [0, 8, 17]
    for number in found:
        assert found[number].loss == pytest.approx(measured[1][number].loss, rel=1e-5)


def test_a_second_measurement_is_the_first_to_the_bit(setting, measured):
    measure, found = measured
    assert measure(setting[-1]) == found


def test_in_micro_batches_it_is_the_same(setting, measured):
    corpus, preprocessor, graph, parameters = setting
    places = {SHAPES[1]: PLACES[SHAPES[1]]}
    found = measure_of(corpus, preprocessor, graph, places=places, accumulate=4)(parameters)
    assert found.keys() == measured[1].keys()
    for number, loss in found.items():
        assert loss.loss == pytest.approx(measured[1][number].loss, rel=1e-5)


def equally_long():
    for number, word in enumerate(WORDS):
        yield made(number, "asr", [6400], text=word, language="en")


def test_a_model_that_does_not_listen_has_no_gap(tmp_path):
    """Clips of equal length, whose audio tokens come out alike: not a bit of difference."""
    corpus, preprocessor = corpus_in(tmp_path, equally_long)
    graph, parameters = model_for(preprocessor)
    measure = measure_of(corpus, preprocessor, graph)
    listening = rows_of(measure, measure(parameters))[-1]
    assert abs(listening["value"] - listening["baseline"]) > 1e-4
    deaf = parameters | {"projector": jax.tree.map(np.zeros_like, parameters["projector"])}
    found = measure(deaf)
    for loss in found.values():
        assert loss.other == pytest.approx(loss.loss, rel=1e-6)
    row = rows_of(measure, found)[-1]
    assert row["value"] == pytest.approx(row["baseline"], rel=1e-6)


def with_a_copy():
    one = made(0, "asr", [6400], text="one", language="en")
    yield one
    yield (
        dataclasses.replace(one[0], id="copy", annotation={"text": "two", "language": "en"}),
        one[1],
    )


def test_the_same_sound_is_not_another_clip(tmp_path, caplog):
    corpus, preprocessor = corpus_in(tmp_path, with_a_copy)
    graph, parameters = model_for(preprocessor)
    measure = measure_of(corpus, preprocessor, graph)
    found = measure(parameters)
    assert [loss.other for loss in found.values()] == [None, None]
    assert [row["baseline"] for row in rows_of(measure, found)] == [None, None]
    assert "2 records have no others' clips of another sound" in caplog.text


def with_broken_audio():
    for record, samples in equally_long():
        if record.id == "asr-3":
            record = dataclasses.replace(record, audio=(b"no sound",))
        yield record, samples


def test_a_clip_that_cannot_be_read_leaves_the_others_as_they_are(tmp_path, caplog):
    whole, preprocessor = corpus_in(tmp_path / "whole", equally_long)
    broken, _ = corpus_in(tmp_path / "broken", with_broken_audio)
    graph, parameters = model_for(preprocessor)
    wanted = measure_of(whole, preprocessor, graph)(parameters)
    with caplog.at_level(logging.WARNING):
        found = measure_of(broken, preprocessor, graph)(parameters)
    assert set(wanted) - set(found) == {3}
    for number, loss in found.items():
        assert loss.loss == pytest.approx(wanted[number].loss, rel=1e-6)
    assert sum(loss.other is None for loss in found.values()) == 1  # who was to hear that one
    assert "record asr-3 has no loss: clips of asr-3: " in caplog.text


@pytest.mark.slow
@on_eight_devices
def test_on_a_mesh_it_is_the_same():
    places = {SHAPES[1]: PLACES[SHAPES[1]]}
    with tempfile.TemporaryDirectory() as folder:
        corpus, preprocessor = corpus_in(pathlib.Path(folder))
        graph, parameters = model_for(preprocessor)
        wanted = measure_of(corpus, preprocessor, graph, places=places)(parameters)
        mesh = mesh_of(2, 2, 2)
        assert local_rows(8, mesh) == slice(0, 8)
        sharded = jax.device_put(parameters, shardings(parameters, mesh))
        with jax.set_mesh(mesh):
            found = measure_of(corpus, preprocessor, graph, mesh, places)(sharded)
    assert found.keys() == wanted.keys()
    for number, loss in found.items():
        assert loss.loss == pytest.approx(wanted[number].loss, rel=1e-5)
        if loss.other is not None:
            assert loss.other == pytest.approx(wanted[number].other, rel=1e-5)
