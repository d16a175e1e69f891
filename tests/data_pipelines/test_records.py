"""Shards, index and staging: what is written is read back, and nothing half-built is taken."""

import concurrent.futures
import json
import os
import pickle
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

from data_pipelines import staging
from data_pipelines.records import Corpus, CorpusError, Record
from data_pipelines.shards import write_split


def record(number: int) -> Record:
    annotation = {"text": f"größe {number} 大きい", "words": [{"word": "a", "start": 0.5}]}
    return Record(f"r{number}", "asr", (bytes([0, 255, number % 256]), b""), annotation)


def write(folder, split: str, count: int) -> None:
    made = ((record(number), (number, 480)) for number in range(count))
    write_split(folder, split, made, per_shard=10)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "corpus"
    with staging.staged(folder, ["train"]) as place:
        write(place, "train", 25)
    return folder


def add_validation(folder, count: int = 7) -> None:
    with staging.staged(folder, ["validation"]) as place:
        write(place, "validation", count)


def test_round_trip(folder):
    corpus = Corpus(folder)
    assert corpus.splits == ("train",)
    index = corpus.index("train")
    assert [row.id for row in index] == [f"r{i}" for i in range(25)]
    assert index[3].samples == (3, 480)
    for number in (0, 9, 10, 24):
        assert corpus.record("train", number) == record(number)
        assert index[number].annotation == record(number).annotation


def test_shards_have_the_standard_names(folder):
    names = sorted(path.name for path in folder.glob("corpus-*"))
    assert names == [f"corpus-train.array_record-{i:05d}-of-00003" for i in range(3)]


def test_tfds_reads_it_without_tensorflow(folder):
    add_validation(folder)
    script = (
        "import sys, tensorflow_datasets as tfds\n"
        f"builder = tfds.builder_from_directory({str(folder)!r})\n"
        "for split, count in (('train', 25), ('validation', 7)):\n"
        "    source = builder.as_data_source(split)\n"
        "    assert len(source) == count\n"
        "    assert source[6]['id'] == b'r6' and source[6]['audio'][0] == bytes([0, 255, 6])\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)


def test_a_further_split_keeps_the_first(folder):
    before = (folder / "train.index.jsonl").read_bytes()
    add_validation(folder)
    corpus = Corpus(folder)
    assert corpus.splits == ("train", "validation")
    assert (folder / "train.index.jsonl").read_bytes() == before
    assert corpus.record("train", 24) == record(24)
    assert corpus.record("validation", 6) == record(6)
    info = tfds.builder_from_directory(str(folder)).info
    assert info.splits["train"].num_examples == 25


def test_a_split_is_replaced(folder):
    add_validation(folder)
    with staging.staged(folder, ["train"]) as place:
        write(place, "train", 4)
    corpus = Corpus(folder)
    assert len(corpus.index("train")) == 4
    assert corpus.record("train", 3) == record(3)
    assert corpus.record("validation", 6) == record(6)
    assert len(list(folder.glob("corpus-train*"))) == 1


def test_threads_and_pickles(folder):
    corpus = pickle.loads(pickle.dumps(Corpus(folder)))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        numbers = list(range(25)) * 8
        read = pool.map(lambda number: corpus.record("train", number), numbers)
        assert list(read) == [record(number) for number in numbers]


def test_missing_corpus_and_split(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no corpus there; build one with"):
        Corpus(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no validation split"):
        Corpus(folder).index("validation")


def test_missing_shard_is_noticed(folder):
    (folder / "corpus-train.array_record-00001-of-00003").unlink()
    with pytest.raises(CorpusError, match=r"incomplete \(2 of 3 shards"):
        Corpus(folder).index("train")


def test_short_index_is_noticed(folder):
    index = folder / "train.index.jsonl"
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(CorpusError, match="24 records in the index, 25 in the shards"):
        Corpus(folder).index("train")


def test_broken_off_build_leaves_nothing(tmp_path):
    def build(out):
        with staging.staged(out, ["train"]) as place:
            write(place, "train", 3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


def test_killed_build_leaves_no_corpus(tmp_path, folder):
    script = (
        "import os, pathlib, sys\n"
        "from data_pipelines import records, shards, staging\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "with staging.staged(out, ['validation']) as place:\n"
        "    record = records.Record('a', 'asr', (b'x',), {})\n"
        "    shards.write_split(place, 'validation', [(record, (480,))])\n"
        "    os._exit(9)\n"
    )
    for out in (tmp_path / "new", folder):
        assert subprocess.run([sys.executable, "-c", script, str(out)], check=False).returncode == 9
        assert len(staging.unfinished(out)) == 1
    assert not (tmp_path / "new").exists()
    assert Corpus(folder).splits == ("train",)


def test_build_broken_off_while_moving_in_can_be_repeated(folder, monkeypatch):
    """A stop at the worst moment, shards moved and index not: the split is not there."""
    with monkeypatch.context() as patch:
        replace = type(folder).replace

        def stop(path, target):
            if path.name == "validation.index.jsonl":
                raise KeyboardInterrupt
            return replace(path, target)

        patch.setattr(type(folder), "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            add_validation(folder)
    assert Corpus(folder).splits == ("train",)
    assert Corpus(folder).record("train", 24) == record(24)
    staging.check_target(folder, ["validation"], overwrite=False)
    add_validation(folder, 3)
    assert len(Corpus(folder).index("validation")) == 3


def test_targets_that_are_refused(folder, tmp_path):
    with pytest.raises(CorpusError, match="has a train split already; choose another --out or"):
        staging.check_target(folder, ["train", "validation"], overwrite=False)
    staging.check_target(folder, ["train"], overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match="is a file"):
        staging.check_target(tmp_path / "file", ["train"], overwrite=True)
    with pytest.raises(CorpusError, match="not a corpus"):
        staging.check_target(tmp_path, ["train"], overwrite=True)


def test_index_is_plain_json(folder):
    row = json.loads((folder / "train.index.jsonl").read_text(encoding="utf-8").splitlines()[1])
    assert row == {
        "id": "r1",
        "task": "asr",
        "samples": [1, 480],
        "annotation": record(1).annotation,
    }
