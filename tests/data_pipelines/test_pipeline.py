"""Batches: any starting point, any number of workers, bad records, the Batch contract."""

import itertools
import json

import numpy as np
import pytest
from conftest import write_corpus

from data_pipelines import build
from data_pipelines.examples import Preprocessor, batch_bytes, empty_batch
from data_pipelines.packing import RowShape
from data_pipelines.pipeline import (
    PackedBatches,
    batches,
    check_memory,
    make_plan,
    open_mixture,
)
from data_pipelines.records import Corpus
from qwen_audio_jax.audio.spec_augment import OFF, SpecAugment
from qwen_audio_jax.text.tokenizer import load_tokenizer

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
    preprocessor = Preprocessor(tokenizer, "qwen_audio", "tags", 16, "floor")
    plan = make_plan(corpora, mixture, preprocessor, [SHAPE], seed=0)
    return PackedBatches(
        corpora, preprocessor, plan, {SHAPE: local}, first_slot, augment=augment, seed=seed
    )


PLACE = {"slot", "epochs", "dropped"}
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


def test_unknown_corpus_and_split_say_what_to_do(tmp_path, root):
    with pytest.raises(FileNotFoundError, match="no corpus there; build one with"):
        open_mixture(tmp_path, {"nothing": 1.0})
    with pytest.raises(FileNotFoundError, match=r"no corpus there; .* beside it: one, two$"):
        open_mixture(root, {"won": 1.0})
    with pytest.raises(FileNotFoundError, match="has no validation split"):
        Corpus(root / "one").index("validation")
    with pytest.raises(ValueError, match=r"config\.data\.mixture: is empty"):
        open_mixture(tmp_path, {})
    with pytest.raises(ValueError, match=r"config\.data\.mixture: all weights are 0"):
        open_mixture(root, {"one": 0.0, "two": 0})
    for weight in (-1.0, float("nan"), float("inf"), "much", True):
        with pytest.raises(ValueError, match=r"weight of 'one' must be a number, 0 or more"):
            open_mixture(root, {"one": weight})


def test_temperature_weighs_corpora_by_their_size(root):
    def shares(temperature):
        corpora = open_mixture(root, {"one": 1.0, "two": 1.0, "gone": 0.0})
        tokenizer = load_tokenizer(root / "one" / "tokenizer")
        preprocessor = Preprocessor(tokenizer, "qwen_audio", "tags", 16, "floor")
        plan = make_plan(corpora, MIXTURE, preprocessor, [SHAPE], 0, temperature=temperature)
        return plan.epochs(100 * plan.slots_per_window) * [30, 20]

    assert shares(0)[0] == shares(0)[1]
    assert shares(1)[0] / shares(1)[1] == pytest.approx(30 / 20)
    assert shares(2)[0] / shares(2)[1] == pytest.approx((30 / 20) ** 0.5)


def test_a_batch_says_where_it_stands(root, whole):
    plan = source_of(root, MIXTURE)._plan
    for batch, after in itertools.pairwise(whole):
        assert (after["epochs"] > batch["epochs"]).all()
        assert batch["dropped"] == 0
    window = int(whole[-1]["slot"]) // plan.slots_per_window
    drawn = plan.size * window / 2
    assert (whole[-1]["epochs"] >= [drawn / 30, drawn / 20]).all()


def test_text_is_mixed_in_and_learned_whole(root, tmp_path):
    lines = [{"task": "text", "text": f"number {i} is only text"} for i in range(12)]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "words"
    assert build.main(["--source=manifest", f"--manifest={manifest}", f"--out={out}"]) == 0
    corpora = open_mixture(root, {"one": 1.0, str(out): 1.0})
    tokenizer = load_tokenizer(out / "tokenizer")
    preprocessor = Preprocessor(tokenizer, "qwen_audio", "tags", 16, "floor")
    plan = make_plan(corpora, {"one": 1.0, str(out): 1.0}, preprocessor, [SHAPE], seed=0)
    made = take(PackedBatches(corpora, preprocessor, plan, {SHAPE: slice(0, 4)}), 8)
    heard = np.concatenate([batch["audio_index"].ravel() for batch in made])
    assert (heard >= 0).any()
    learned = [
        batch["tokens"][row][batch["segments"][row] == number]
        for batch in made
        for row in range(4)
        for number in range(1, batch["segments"][row].max() + 1)
    ]
    texts = [tokenizer.decode(tokens) for tokens in learned]
    assert {f"number {i} is only text<|endoftext|>" for i in range(12)} <= set(texts)
    weighted = sum(batch["loss_weights"].sum() for batch in made)
    whole_texts = sum(len(t) - 1 for t, text in zip(learned, texts, strict=True) if "only" in text)
    assert weighted > whole_texts > 0


def test_a_batch_that_the_machine_cannot_hold_is_refused():
    made = empty_batch(3, 5, 8, 16)
    assert batch_bytes(3, 5, 8, 16) == sum(array.nbytes for array in made.values())
    large = RowShape(2**20, 2**11 - 1, 1000)
    check_memory({SHAPE: slice(0, 4), large: slice(0, 1)}, 128)
    with pytest.raises(ValueError, match=r"config\.data\.shapes: 1,048,576 rows of 2,047 to"):
        check_memory({SHAPE: slice(0, 4), large: slice(0, 2**20)}, 128)
