"""Whole runs on pairs: where they begin, what they are compared with, how they go on."""

import itertools
import json
import pathlib
import shutil

import numpy as np
import pytest
from conftest import changed, on_eight_devices, pretrain_values, tiny_config, write_corpus
from flax import nnx
from paired import write_pairs

from data_pipelines.records import Corpus
from qwen_audio_jax.checkpoint import by_path, last_step
from qwen_audio_jax.conversion.importing import write_checkpoint
from qwen_audio_jax.models.parts import parts_of, write_parts
from qwen_audio_jax.models.presets import model_config
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.run_config import ConfigError, from_mapping
from qwen_audio_jax.saved_parameters import SavedParameters
from qwen_audio_jax.text.tokenizer import load_tokenizer
from qwen_audio_jax.training import loop, references
from qwen_audio_jax.training.preference import METRICS
from qwen_audio_jax.training.stored_references import FACTS_FILE, VALUES_FILE
from qwen_audio_jax.training.tuning import check_pairs

RECORDS, STEPS = 20, 4
LORA = {"lora.rank": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the corpora data/pairs and data/tones, and models to start from."""
    folder = tmp_path_factory.mktemp("place")
    write_pairs(folder / "data" / "pairs", RECORDS)
    write_corpus(folder / "data" / "tones", train=3)
    tokenizer = load_tokenizer(folder / "data" / "pairs" / "tokenizer")
    sizes = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "head_dim": 8, "mlp_width": 48}
    tiny = tiny_config("qwen2_audio", vocab_size=tokenizer.vocab_size, **sizes)
    begin, end = map(tokenizer.special, ("<|audio_bos|>", "<|audio_eos|>"))
    model = model_config(
        "qwen2_audio", tiny.encoder, tiny.decoder, audio_begin=begin, audio_end=end
    )
    drawn = nnx.to_pure_dict(nnx.split(QwenAudio(model, nnx.Rngs(0)))[1])
    for name, factor in (("start", 1), ("another", np.float32(1.01))):
        arrays = {path: factor * np.asarray(leaf) for path, leaf in by_path(drawn).items()}
        write_checkpoint(folder / name / "checkpoints" / "0", iter(arrays.items()), 1)
        write_parts(folder / name, parts_of(model, tokenizer.special("<|AUDIO|>")))
        tokenizer.save(folder / name / "tokenizer")
    return folder


def config(place, **more):
    values = pretrain_values(file="dpo")
    options = {
        "model.family": "qwen2_audio",
        "data.root": str(place / "data"),
        "data.shapes": ((2, 128, 192),),
        "optimizer.frozen": (),
        "preference.reference": "stored",
        "preference.sft_weight": 0.0,
        "optimizer.warmup_steps": 0,
        "optimizer.learning_rate": 3e-3,
        "train.steps": STEPS,
        "checkpoint.every": 2,
        "checkpoint.keep": 3,
        "evaluate.answers": False,
        "evaluate.before": False,
        "evaluate.loss": False,
        "evaluate.beside": (),
        "init_from": str(place / "start"),
    }
    for key, value in (options | more).items():
        values = changed(values, key, value)
    return from_mapping(values)


@pytest.fixture(scope="module")
def run(place) -> pathlib.Path:
    loop.run(config(place), place / "run")
    return place / "run"


def parameters(folder):
    saved = SavedParameters(last_step(folder))
    return {path: saved.read(path, store) for path, store in saved.stores.items()}


def metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def learned(workdir):
    """What was logged of each step, but for times."""
    return [
        {name: row[name] for name in ("loss", "gradient_norm", *METRICS)}
        for row in metrics(workdir)
    ]


def assert_same_run(one, other):
    assert learned(one) == learned(other)
    ours, theirs = parameters(one), parameters(other)
    assert ours.keys() == theirs.keys()
    for path in ours:
        np.testing.assert_array_equal(ours[path], theirs[path])


@pytest.mark.slow
def test_it_begins_at_the_logarithm_of_two_and_learns(run):
    first, *_, last = learned(run)
    assert abs(first["loss"] - np.log(2)) < 1e-6
    for name in ("margin", "reward_chosen", "reward_rejected"):
        assert abs(first[name]) < 1e-5
    assert last["loss"] < 0.6
    assert last["accuracy"] > 0.5
    assert last["margin"] == pytest.approx(
        last["reward_chosen"] - last["reward_rejected"], abs=1e-5
    )
    assert first["tokens_chosen"] != first["tokens_rejected"]
    facts = json.loads((run / FACTS_FILE).read_text())
    assert list(facts) == ["weights", "vocabulary", "template", "records"]
    assert (run / VALUES_FILE).stat().st_size % 24 == 0


@pytest.mark.slow
def test_stored_references_are_those_of_every_step(place, run, tmp_path):
    """To the bit, as long as each record comes for the first time."""
    loop.run(config(place, **{"preference.reference": "online"}), tmp_path / "online")
    assert_same_run(run, tmp_path / "online")
    assert not (tmp_path / "online" / VALUES_FILE).exists()


def killed_after(batches, monkeypatch):
    """Ends the pass as a kill would, within the write of a batch."""
    add = references.StoredReferences.add

    done = itertools.count(1)

    def killed(self, found, *, write):
        add(self, found, write=write)
        if next(done) == batches:
            with self._path.open("r+b") as file:
                file.truncate(self._path.stat().st_size - 7)
            raise KeyboardInterrupt

    monkeypatch.setattr(references.StoredReferences, "add", killed)


@pytest.mark.slow
def test_a_pass_that_was_killed_goes_on_to_the_same(place, run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        killed_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            loop.run(config(place), tmp_path / "run")
    part = (tmp_path / "run" / VALUES_FILE).read_bytes()
    assert 0 < len(part) < (run / VALUES_FILE).stat().st_size
    loop.run(config(place), tmp_path / "run")
    whole = (run / VALUES_FILE).read_bytes()
    assert sorted(lines(tmp_path / "run")) == sorted(lines(run))
    assert whole.startswith(part[:-13])
    assert_same_run(tmp_path / "run", run)


def lines(workdir):
    data = (workdir / VALUES_FILE).read_bytes()
    return {data[i : i + 24] for i in range(0, len(data), 24)}


def interrupted(run, workdir):
    """A copy of a run that was stopped after its second step."""
    shutil.copytree(run, workdir)
    shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    return workdir


@pytest.mark.slow
def test_resumed_is_bit_identical(place, run, tmp_path):
    workdir = interrupted(run, tmp_path / "resumed")
    loop.run(config(place), workdir)
    assert_same_run(run, workdir)


@pytest.mark.slow
def test_resumed_with_online_references_is_bit_identical(place, tmp_path):
    """What is compared with is the start, and not what the run goes on from."""
    for name, more in (("all", {}), ("lora", LORA)):
        online = config(place, **{"preference.reference": "online"}, **more)
        loop.run(online, tmp_path / name)
        workdir = interrupted(tmp_path / name, tmp_path / f"{name} resumed")
        loop.run(online, workdir)
        assert_same_run(tmp_path / name, workdir)


@pytest.mark.slow
def test_adapters_are_compared_with_what_they_change(place, tmp_path):
    loop.run(config(place, **LORA), tmp_path / "run")
    first, *_, last = learned(tmp_path / "run")
    assert abs(first["loss"] - np.log(2)) < 1e-6
    assert last["loss"] < first["loss"]
    before, after = parameters(place / "start"), parameters(tmp_path / "run")
    for path, array in before.items():
        np.testing.assert_array_equal(after[path], array)


@pytest.mark.slow
def test_layouts_and_micro_batches_train_alike(place, run, tmp_path):
    for name, more in {
        "apart": {"preference.layout": "apart", "data.shapes": ((2, 256, 192),)},
        "parts": {"train.accumulate": 2},
        "none": {"preference.reference": "none"},
    }.items():
        loop.run(config(place, **more, **{"train.steps": 2}), tmp_path / name)
    parts, whole = learned(tmp_path / "parts"), learned(run)[:2]
    for rows in (parts, whole):
        del rows[0]["accuracy"]  # margins are rounding there
    for ours, wanted in zip(parts, whole, strict=True):
        assert ours == pytest.approx(wanted, abs=1e-4)
    assert learned(tmp_path / "apart")[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)
    without = learned(tmp_path / "none")[0]
    assert without["reward_chosen"] == pytest.approx(0.1 * without["log_probability_chosen"])


@pytest.mark.slow
@on_eight_devices
def test_on_a_mesh_it_is_the_same(place, tmp_path):
    shapes = {"data.shapes": ((8, 128, 192),), "train.steps": 2}
    for name, mesh in (("one", {"mesh.replica": 8, "mesh.fsdp": 1}), ("many", {"mesh.tensor": 2})):
        loop.run(config(place, **shapes, **mesh), tmp_path / name)
    both = [learned(tmp_path / name) for name in ("one", "many")]
    for rows in both:
        del rows[0]["accuracy"]  # margins are rounding there
    for one, many in zip(*both, strict=True):
        assert many == pytest.approx(one, abs=1e-4)


@pytest.mark.slow
def test_twenty_pairs_are_learned_wholly(place, tmp_path):
    more = {"train.steps": 40, "checkpoint.every": 40, "preference.sft_weight": 0.1}
    loop.run(config(place, **more), tmp_path / "run")
    first, *_, last = learned(tmp_path / "run")
    assert last["accuracy"] == 1.0
    # With the term of the chosen answer, that does not lose what the rejected one loses.
    assert last["log_probability_chosen"] > first["log_probability_chosen"]


@pytest.mark.slow
def test_stale_references_are_refused(place, run, tmp_path):
    begun = tmp_path / "begun"
    begun.mkdir()
    for name in (FACTS_FILE, VALUES_FILE):
        shutil.copy(run / name, begun / name)
    with pytest.raises(ConfigError, match="stale, for what the run starts from changed") as error:
        loop.run(config(place, init_from=str(place / "another")), begun)
    assert str(begun / FACTS_FILE) in str(error.value)
    resumed = interrupted(run, tmp_path / "resumed")
    (resumed / VALUES_FILE).unlink()
    with pytest.raises(ConfigError, match="is missing, and what the run started from"):
        loop.run(config(place), resumed)
    shutil.copy(run / VALUES_FILE, resumed / VALUES_FILE)
    with (resumed / VALUES_FILE).open("r+b") as file:
        file.truncate(40)
    with pytest.raises(ConfigError, match="lacks records that the run trains on"):
        loop.run(config(place), resumed)


@pytest.mark.slow
def test_held_out_pairs_are_compared_with_the_start(place, tmp_path):
    """Also when the run goes on in another process, and whether or not the start is evaluated."""
    write_pairs(place / "data" / "parted", 12, validation=6)
    more = {"data.mixture": {"parted": 1.0}, "evaluate.loss": True, "train.steps": 2}
    tables = []
    for before in (False, True):
        workdir = tmp_path / f"before {before}"
        loop.run(config(place, **more, **{"evaluate.before": before}), workdir)
        tables.append({row["metric"]: row for row in evaluated(workdir)})
        assert {"ranking_accuracy", "reward_accuracy"} <= tables[-1].keys()
    without, with_start = tables
    for metric in ("ranking_accuracy", "reward_accuracy"):
        assert with_start[metric]["value"] == without[metric]["value"]
        assert with_start[metric]["n"] == 6
    assert "before" not in without["ranking_accuracy"]
    assert with_start["ranking_accuracy"]["before"] is not None
    assert with_start["reward_accuracy"]["before"] is None
    (workdir / "evaluation.json").unlink()
    loop.run(config(place, **more, **{"evaluate.before": True}), workdir)
    assert {row["metric"]: row for row in evaluated(workdir)} == with_start


def evaluated(workdir):
    return json.loads((workdir / "evaluation.json").read_text())


def test_other_records_than_pairs_are_refused(tmp_path):
    write_corpus(tmp_path / "tones", train=3)
    with pytest.raises(ConfigError, match=r"of corpus 'tones' is .* learns pairs alone"):
        check_pairs({"tones": Corpus(tmp_path / "tones")})


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("lora.dropout", 0.1, "config.lora.dropout: must be 0"),
        ("data.spec_augment.time_masks", 1, "config.data.spec_augment: stored references"),
        ("preference.loss", "dpo", "config.preference.loss"),
        ("preference.beta", 0.0, "config.preference.beta"),
        ("evaluate.data", "talks", "config.evaluate.beside: has a meaning beside the mixture"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(key, value, sentence):
    stored = changed(pretrain_values(file="dpo"), "preference.reference", "stored")
    with pytest.raises(ConfigError, match=sentence):
        from_mapping(changed(stored, key, value))
