"""Damaged corpora: refused in a sentence before training, or counted, named and dropped in it."""

import itertools
import json

import numpy as np
import pytest
from conftest import flac, tone_record, write_corpus

from data_pipelines.examples import Preprocessor
from data_pipelines.packing import RowShape
from data_pipelines.pipeline import DroppedRecords, PackedBatches, batches, make_plan, open_mixture
from data_pipelines.records import Corpus, CorpusError, Record
from data_pipelines.shards import write_split
from qwen_audio_jax.text.tokenizer import load_tokenizer, train_sentencepiece

SHAPE = RowShape(4, 64, 128)


def source_of(folder, max_bad_share=0.01, max_seconds=300.0):
    corpora = open_mixture(folder.parent, {folder.name: 1.0})
    tokenizer = load_tokenizer(folder / "tokenizer")
    preprocessor = Preprocessor(tokenizer, "qwen_audio", "tags", 16, "floor", max_seconds)
    mixture = {folder.name: 1.0}
    plan = make_plan(corpora, mixture, preprocessor, [SHAPE], 0, max_bad_share=max_bad_share)
    rows = {SHAPE: slice(0, 4)}
    return PackedBatches(corpora, preprocessor, plan, rows, max_bad_share=max_bad_share)


def first_epoch(source):
    made = list(itertools.islice(batches(source, 0), len(source._plan.window(0).batches)))
    records = sum(len(set(row) - {0}) for batch in made for row in batch["segments"])
    return records, sum(int(batch["dropped"]) for batch in made)


def write(folder, records):
    """A corpus of (record, samples in the index)."""
    folder.mkdir()
    write_split(folder, "train", records)
    train_sentencepiece(["tone", "noise"], [], folder / "tokenizer", pieces=16)


def tones(count):
    return [(tone_record(i), (4000 + 160 * (i % 9),)) for i in range(count)]


def not_audio(number):
    record, samples = tones(number + 1)[number]
    return Record(record.id, record.task, (b"RIFF not audio",), record.annotation), samples


def tone_of(seconds):
    wave = 0.1 * np.sin(np.arange(int(16000 * seconds)))
    annotation = {"text": "tone", "source": "test"}
    return Record(f"s{seconds}", "instrument_classification", (flac(wave),), annotation), (
        len(wave),
    )


def test_a_bad_record_is_named_counted_and_left_out(tmp_path, caplog):
    write(tmp_path / "bad", [not_audio(0), *tones(30)[1:]])
    assert first_epoch(source_of(tmp_path / "bad")) == (29, 1)
    assert "record tone-0 is dropped: it cannot be read as WAV" in caplog.text


def test_a_record_of_another_length_than_its_index_says_is_left_out(tmp_path, caplog):
    records = tones(30)
    records[4] = records[4][0], (9000,)
    write(tmp_path / "bad", records)
    assert first_epoch(source_of(tmp_path / "bad")) == (29, 1)
    assert "record tone-4 is dropped: its clips have (4640,) samples, and (9000,)" in caplog.text


def test_too_many_bad_records_stop_the_run(tmp_path):
    write(tmp_path / "bad", [*map(not_audio, range(11)), *tones(30)[11:]])
    with pytest.raises(CorpusError, match=r"11 records could not be used, more than config\.data"):
        first_epoch(source_of(tmp_path / "bad"))
    assert first_epoch(source_of(tmp_path / "bad", max_bad_share=1.0)) == (19, 11)
    write(tmp_path / "one", [not_audio(0), *tones(30)[1:]])
    with pytest.raises(CorpusError, match="1 records could not be used"):
        first_epoch(source_of(tmp_path / "one", max_bad_share=0.0))


def test_threads_that_read_on_tell_of_the_record_that_stopped_the_run(corpus):
    dropped = DroppedRecords(max_share=0.01)
    for number in range(10):
        dropped.drop(Corpus(corpus), f"tone-{number}", "no sound")
    for number in (10, 11, 12):
        with pytest.raises(CorpusError, match=r"11 records could .* the last one, tone-10: no sou"):
            dropped.drop(Corpus(corpus), f"tone-{number}", "no sound")


def test_a_record_too_large_for_any_row_is_left_out_by_name(tmp_path, caplog):
    write(tmp_path / "long", [*tones(150), tone_of(2.0)])
    assert first_epoch(source_of(tmp_path / "long")) == (150, 1)
    assert "record s2.0 is dropped: it is larger than every row shape" in caplog.text
    assert "config.data.shapes needs one of at least 60 tokens and 204 frames" in caplog.text
    with pytest.raises(ValueError, match="1 of the first 151 records cannot be packed"):
        source_of(tmp_path / "long", max_bad_share=0.0)


def test_a_clip_over_the_limit_is_left_out_by_name(tmp_path, caplog):
    write(tmp_path / "long", [*tones(150), tone_of(1.0)])
    assert first_epoch(source_of(tmp_path / "long", max_seconds=0.9)) == (150, 1)
    assert "s1.0 is dropped: a clip of it lasts 1.0 s, and config.data.max_seconds" in caplog.text


def test_a_corpus_of_which_nothing_fits_is_refused(tmp_path):
    write(tmp_path / "long", [tone_of(2.0 + i / 10) for i in range(5)])
    with pytest.raises(ValueError, match="5 of the first 5 records cannot be packed"):
        source_of(tmp_path / "long")
    with pytest.raises(ValueError, match="no record fits any row shape"):
        next(batches(source_of(tmp_path / "long", max_bad_share=1.0), 0))


@pytest.fixture
def corpus(tmp_path):
    write_corpus(tmp_path / "corpus", train=30)
    return tmp_path / "corpus"


def test_a_truncated_shard(corpus):
    (shard,) = corpus.glob("*.array_record-*")
    shard.write_bytes(shard.read_bytes()[:-2000])
    with pytest.raises(CorpusError, match=r"shard 0 of the train split is damaged .* --overwrite"):
        Corpus(corpus).index("train")


def test_a_missing_shard(corpus):
    next(corpus.glob("*.array_record-*")).unlink()
    with pytest.raises(CorpusError, match=r"train split is incomplete \(0 of 1 shards"):
        Corpus(corpus).index("train")


def test_a_missing_index(corpus):
    (corpus / "train.index.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"train\.index\.jsonl is missing, .* --overwrite"):
        Corpus(corpus).index("train")
    with pytest.raises(FileNotFoundError, match=r"has no validation split .* --split=validation"):
        Corpus(corpus).index("validation")


@pytest.mark.parametrize("cut", [1, 40])
def test_an_index_that_was_broken_off(corpus, cut):
    index = corpus / "train.index.jsonl"
    index.write_bytes(index.read_bytes()[:-cut])
    with pytest.raises(CorpusError, match="29 records in the index, 30 in the shards"):
        Corpus(corpus).index("train")


def test_a_damaged_line_of_the_index(corpus):
    index = corpus / "train.index.jsonl"
    lines = index.read_text().splitlines()
    lines[6] = lines[6][:20]
    index.write_text("\n".join(lines) + "\n")
    rows = Corpus(corpus).index("train")
    assert rows[5].id == "noise-5"
    with pytest.raises(CorpusError, match=r"train\.index\.jsonl, line 7: is damaged"):
        rows[6]


def test_an_index_of_other_records(corpus, caplog):
    index = corpus / "train.index.jsonl"
    lines = index.read_text().splitlines()
    lines[3], lines[4] = lines[4], lines[3]
    index.write_text("\n".join(lines) + "\n")
    with pytest.raises(CorpusError, match="record 3 of the train split is noise-3, and tone-4 by"):
        Corpus(corpus).record("train", 3)
    assert first_epoch(source_of(corpus)) == (28, 2)
    assert json.loads(lines[3])["id"] in caplog.text
