"""Batches: any starting point, any number of workers, bad records, the Batch contract."""

import itertools

import numpy as np
import pytest
from absl import flags
from conftest import tone_record, write_corpus

from data_pipelines.examples import ExampleMaker
from data_pipelines.packing import RowShape
from data_pipelines.pipeline import (
    MAX_BAD_RECORDS,
    PackedBatches,
    batches,
    make_plan,
    open_mixture,
)
from data_pipelines.records import Corpus, Record, ShardWriter
from qwen_audio_jax.audio.spec_augment import OFF, SpecAugment
from qwen_audio_jax.tokenizer import load_tokenizer, train_sentencepiece

SHAPE = RowShape(4, 64, 128)
# On in all that follows, so that it too is the same from anywhere.
AUGMENT = SpecAugment(time_width=20, time_warp=8)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder / "one", train=30)
    write_corpus(folder / "two", train=20)
    return folder


def source_of(root, mixture, first_slot=0, local=slice(0, 4), augment=AUGMENT, seed=0):
    corpora = open_mixture(root, mixture)
    tokenizer = load_tokenizer(root / next(iter(mixture)) / "tokenizer")
    maker = ExampleMaker(tokenizer, "qwen_audio", "tags", 16, "floor")
    plan = make_plan(corpora, mixture, maker, [SHAPE], seed=0)
    return PackedBatches(corpora, maker, plan, {SHAPE: local}, first_slot, augment, seed)


MIXTURE = {"one": 1.0, "two": 1.0}


def take(source, count, workers=0):
    return list(itertools.islice(batches(source, workers), count))


@pytest.fixture(scope="module")
def whole(root):
    """The first batches: more than two windows of them."""
    source = source_of(root, MIXTURE)
    made = take(source, 12)
    assert made[-1]["slot"] > 2 * source._plan.slots_per_window
    return made


def assert_same(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_goes_on_from_any_batch(root, whole):
    for done in range(1, len(whole)):
        source = source_of(root, MIXTURE, int(whole[done - 1]["slot"]) + 1)
        assert_same(take(source, len(whole) - done), whole[done:])


@pytest.mark.parametrize("workers", [1, 3])
def test_worker_processes_make_the_same_batches(root, whole, workers):
    flags.FLAGS.mark_as_parsed()  # Grain's workers read them, and only `main` parses
    assert_same(take(source_of(root, MIXTURE), len(whole), workers), whole)


def test_hosts_make_parts_of_the_same_batch(root, whole):
    halves = [take(source_of(root, MIXTURE, local=slice(i, i + 2)), 5) for i in (0, 2)]
    for batch, first, second in zip(whole, *halves, strict=False):
        for name in batch.keys() - {"slot"}:
            np.testing.assert_array_equal(batch[name], np.concatenate([first[name], second[name]]))


def test_augmentation_changes_the_clips_alone_and_follows_the_seed(root, whole):
    plain = take(source_of(root, MIXTURE, augment=OFF), 5)
    other = take(source_of(root, MIXTURE, seed=1), 5)
    for batch, without, reseeded in zip(whole, plain, other, strict=False):
        assert (batch["mel"] != reseeded["mel"]).any()
        changed = (batch["mel"] != without["mel"]).any(axis=2)
        # Never the margin or padding.
        assert not changed[(without["mel_positions"] < 0) | (without["mel_segments"] == 0)].any()
        clips = np.unique(without["mel_segments"][0])
        for clip in clips[clips > 0]:
            assert changed[0, without["mel_segments"][0] == clip].any()
        for name in batch.keys() - {"mel"}:
            np.testing.assert_array_equal(batch[name], without[name])


def test_batch_contract(root, whole):
    tokenizer = load_tokenizer(root / "one" / "tokenizer")
    placeholder = tokenizer.special("[[[AUDIO:modality]]]")
    for batch in whole:
        here = batch["segments"] > 0
        np.testing.assert_array_equal((batch["tokens"] == placeholder), batch["audio_index"] >= 0)
        inner = here[:, :-1] & (batch["segments"][:, 1:] == batch["segments"][:, :-1])
        np.testing.assert_array_equal(
            batch["targets"][:, :-1][inner], batch["tokens"][:, 1:][inner]
        )
        assert not batch["loss_weights"][~here].any()
        assert not batch["loss_weights"][:, :-1][here[:, :-1] & ~inner].any()
        for row in range(4):
            used = batch["audio_index"][row][batch["audio_index"][row] >= 0]
            assert len(set(used)) == len(used)
            # The slot's first frame lies in a clip, and is no margin.
            assert (batch["mel_segments"][row][used * 4] > 0).all()
            assert (batch["mel_positions"][row][used * 4] >= 0).all()
        learned = batch["targets"][batch["loss_weights"] > 0]
        text = tokenizer.decode(learned)
        assert set(text.replace("<|endoftext|>", " ").split()) <= {"tone", "noise"}


def write_bad(folder, bad):
    """A corpus whose index tells the truth no longer: some records' bytes are not audio."""
    folder.mkdir()
    with ShardWriter(folder, "train") as writer:
        for number in range(30):
            record = tone_record(number)
            clips = (b"RIFF not audio",) if number < bad else record.audio
            samples = (4000 + 160 * (number % 9),)
            writer.add(Record(record.id, record.task, clips, record.annotation), samples)
    train_sentencepiece(["tone", "noise"], [], folder / "tokenizer", pieces=16)


def test_a_bad_record_is_named_and_left_out(tmp_path, caplog):
    write_bad(tmp_path / "bad", bad=1)
    source = source_of(tmp_path, {"bad": 1.0})
    made = take(source, source._plan._count(0))
    examples = sum(len(set(row) - {0}) for batch in made for row in batch["segments"])
    assert examples == 29
    assert "record tone-0 is left out" in caplog.text


def test_too_many_bad_records_stop_the_run(tmp_path):
    write_bad(tmp_path / "bad", bad=MAX_BAD_RECORDS + 1)
    source = source_of(tmp_path, {"bad": 1.0})
    with pytest.raises(RuntimeError, match=r"unreadable records, the last one .* build the corpus"):
        take(source, 3)


def test_unknown_corpus_and_split_say_what_to_do(tmp_path, root):
    with pytest.raises(FileNotFoundError, match="no corpus there; build one with"):
        open_mixture(tmp_path, {"nothing": 1.0})
    with pytest.raises(FileNotFoundError, match="has no validation split"):
        Corpus(root / "one").index("validation")
    with pytest.raises(ValueError, match=r"config\.data\.mixture: is empty"):
        open_mixture(tmp_path, {})
