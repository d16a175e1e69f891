"""A mixture takes the records of some tasks and languages, and is as if there were no others."""

import dataclasses
import itertools
import logging
import pickle

import numpy as np
import pytest
from conftest import changed, pretrain_values, tone_record, write_corpus

from data_pipelines.examples import Preprocessor
from data_pipelines.packing import RowShape
from data_pipelines.pipeline import PackedBatches, batches, make_plan, open_mixture
from data_pipelines.records import Corpus, CorpusError, NothingChosen, Record
from data_pipelines.selection import Selection
from data_pipelines.shards import write_split
from qwen_audio_jax.run_config import from_mapping
from qwen_audio_jax.text.tokenizer import load_tokenizer
from qwen_audio_jax.training.corpus_digests import digests_of
from qwen_audio_jax.training.start import find_validation_splits

KINDS = [("asr", "en"), ("asr", "fr"), ("keyword_spotting", "fr"), ("language_identification", "")]
SHAPE = RowShape(2, 64, 256)


def record(number, task, language, text="tone"):
    told = {"language": language} if language else {}
    annotation = {"text": text, "source": "test", "license": "CC0-1.0"} | told
    return Record(f"{task}-{language}-{number}", task, tone_record(number).audio, annotation)


def write(folder, train, validation):
    write_corpus(folder, train=0)
    for split, records in (("train", train), ("validation", validation)):
        samples = [(4000 + 160 * (int(one.id.split("-")[-1]) % 9),) for one in records]
        write_split(folder, split, zip(records, samples, strict=True))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    train = [record(i, *KINDS[i % 4]) for i in range(24)]
    write(folder / "mixed", train, [record(i, *KINDS[i % 2 * 3]) for i in range(30, 36)])
    return folder


def config_of(root, **data):
    values = changed(pretrain_values(), "data.mixture", {"mixed": 1.0})
    values["data"] |= {"root": str(root)} | data
    return from_mapping(values)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), KINDS),
        (Selection(tasks=("asr",)), KINDS[:2]),
        (Selection(languages=("fr",)), KINDS[1:3]),
        (Selection(languages=("en", "fr")), KINDS[:3]),
        (Selection(("asr", "language_identification"), ("fr",)), KINDS[1:2]),
    ],
)
def test_only_what_is_chosen_is_there(root, selection, expected):
    corpus = Corpus(root / "mixed", selection)
    for one in (corpus, pickle.loads(pickle.dumps(corpus))):
        index = one.index("train")
        assert len(index) == 6 * len(expected)
        assert {(row.task, row.annotation.get("language", "")) for row in index} == set(expected)
        assert [one.record("train", i).id for i in range(len(index))] == [row.id for row in index]
        assert [row.id for row in pickle.loads(pickle.dumps(index))] == [row.id for row in index]
    whole = Corpus(root / "mixed").index("train")
    known = {row.id: digest for row, digest in zip(whole, whole.digests(), strict=True)}
    assert corpus.index("train").digests().tolist() == [known[row.id] for row in index]


def test_batches_hold_what_is_chosen_alone(root):
    mixture, chosen = {"mixed": 1.0}, config_of(root, languages={"mixed": ("fr",)}).data.chosen
    corpora = open_mixture(root, mixture, chosen)
    tokenizer = load_tokenizer(root / "mixed" / "tokenizer")
    preprocessor = Preprocessor(tokenizer, "qwen_audio", "tags", 16, "floor")
    plan = make_plan(corpora, mixture, preprocessor, [SHAPE], seed=0)
    assert plan.records == 12
    made, count = [], plan.batches_of(1)[0]
    source = PackedBatches(corpora, preprocessor, plan, {SHAPE: slice(0, 2)})
    for batch in itertools.islice(batches(source, 0), count):
        assert batch["dropped"] == 0
        made.append(batch["tokens"])
    made = np.concatenate(made)
    assert (made == tokenizer.tag("<|fr|>", language=True)).any()
    assert not (made == tokenizer.tag("<|en|>", language=True)).any()
    rows = [row for slot in range(count) for row in plan.batch(slot).rows]
    assert sorted(number for row in rows for _, number in row) == list(range(12))


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(("asrr",)), r"config.data.tasks: .*mixed: no .*'asrr'; it has asr \(12\), key"),
        (
            Selection((), ("en", "de")),
            r"config.data.languages: .*'de'; it has fr \(12\), en",
        ),
        (Selection((), ("unknown",)), r"'unknown'; it has .*, none told \(6\)"),
    ],
)
def test_a_name_that_no_record_has_is_told_with_what_there_is(root, selection, message):
    with pytest.raises(CorpusError, match=message):
        Corpus(root / "mixed", selection).index("train")


def test_names_of_which_nothing_is_left_are_told(root):
    nothing = Selection(("language_identification",), ("fr",))
    told = r"of task language_identification and language fr .*; it has asr in en \(6\), .* in no l"
    with pytest.raises(NothingChosen, match=told):
        Corpus(root / "mixed", nothing).index("train")


def test_the_validation_split_is_chosen_from_likewise(root, caplog):
    def found(**data):
        config = config_of(root, **data)
        return find_validation_splits(config, open_mixture(root, {"mixed": 1}, config.data.chosen))

    ((corpus, split),) = found(tasks={"mixed": ("asr", "keyword_spotting")}).values()
    assert [row.task for row in corpus.index(split)] == ["asr"] * 3  # it has none of the other
    with caplog.at_level(logging.WARNING):
        assert found(languages={"mixed": ("fr",)}) == {}
    assert "no record of the validation split is of language fr" in caplog.text
    assert "so it is not evaluated on" in caplog.text


def test_the_corpus_that_is_named_for_evaluation_is_chosen_from(root):
    values = changed(pretrain_values(), "evaluate.data", "mixed")
    values["data"] |= {"root": str(root), "languages": {"mixed": ("en",)}}
    corpus, split = find_validation_splits(from_mapping(values), {})["mixed"]
    assert len(corpus.index(split)) == 3
    values["data"]["languages"] = {"mixed": ("fr",)}
    with pytest.raises(NothingChosen):
        find_validation_splits(from_mapping(values), {})["mixed"][0].index("validation")


def test_corpora_beside_the_mixture_are_evaluated_on(root, tmp_path):
    write(tmp_path / "other", [record(0, *KINDS[0])], [record(1, *KINDS[0])])
    values = config_of(root)
    mixture = open_mixture(root, {"mixed": 1})
    evaluate = dataclasses.replace(values.evaluate, beside=(str(tmp_path / "other"),))
    found = find_validation_splits(dataclasses.replace(values, evaluate=evaluate), mixture)
    assert list(found) == ["mixed", str(tmp_path / "other")]
    corpus, split = found[str(tmp_path / "other")]
    assert [row.id for row in corpus.index(split)] == ["asr-en-1"]
    missing = dataclasses.replace(values.evaluate, beside=("nowhere",))
    with pytest.raises(FileNotFoundError, match="nowhere: no corpus there"):
        find_validation_splits(dataclasses.replace(values, evaluate=missing), mixture)


def test_a_run_does_not_see_what_becomes_of_other_records(root, tmp_path):
    train = [record(i, *KINDS[i % 4], text="noise" if i % 4 == 0 else "tone") for i in range(28)]
    write(tmp_path / "mixed", [*train[:24], train[24]], [])

    def digests(folder, language):
        corpus = Corpus(folder / "mixed", Selection(languages=(language,)))
        return digests_of({"mixed": (corpus, "train")})

    for language, same in (("fr", True), ("en", False)):
        before, now = digests(root, language), digests(tmp_path, language)
        assert all(np.array_equal(before[name], now[name]) for name in before) == same
