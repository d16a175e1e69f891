"""configs/sft.py: a run that tunes a model on conversations, and what it may start from."""

import json
import random
import runpy
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from commands import finished, losses, started, wait_for
from conftest import changed, pretrain_values, tone_record, write_corpus
from flax import nnx

from data_pipelines.records import Record
from data_pipelines.shards import write_split
from qwen_audio_jax.checkpoint import by_path, last_step
from qwen_audio_jax.conversion.importing import write_checkpoint
from qwen_audio_jax.evaluation import options, stages
from qwen_audio_jax.evaluation.answer_files import read_answers
from qwen_audio_jax.evaluation.plan import read_plan
from qwen_audio_jax.models.parts import Parts, parts_of, write_parts
from qwen_audio_jax.models.presets import FAMILIES, DecoderConfig, EncoderConfig, model_config
from qwen_audio_jax.models.qwen_audio import QwenAudio
from qwen_audio_jax.rendering.spans import AUDIO_TAGS
from qwen_audio_jax.run_config import ConfigError, from_mapping, to_json
from qwen_audio_jax.saved_parameters import SavedParameters
from qwen_audio_jax.text.control_tokens import control_tokens
from qwen_audio_jax.text.tokenizer import SentencePieceTokenizer, load_tokenizer
from qwen_audio_jax.training import loop
from qwen_audio_jax.training.tuning import check_tuned, follow_start

ENCODER = EncoderConfig(mel_bins=16, layers=2, width=24, heads=3, max_positions=64)


def talk(number):
    """Two clips, of one of two kinds, and an answer each."""
    clips = [tone_record(number + place).audio[0] for place in range(2)]
    samples = [4000 + 160 * ((number + place) % 9) for place in range(2)]
    said = [("tone", "noise")[(number + place) % 2] for place in range(2)]
    asked = [{"type": "audio"}, {"type": "text", "text": "What?"}]
    messages = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": said[0]},
        {"role": "user", "content": asked},
        {"role": "assistant", "content": said[1]},
    ]
    kind = ("audio_analysis", "several_turns")[number // 2 % 2]
    record = Record(f"talk-{number}", "chat", tuple(clips), {"messages": messages, "kind": kind})
    return record, tuple(samples)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Corpora data/tones and data/talks, and a model of each family to start from."""
    folder = tmp_path_factory.mktemp("place")
    write_corpus(folder / "data" / "tones", train=24, validation=6)
    talks = folder / "data" / "talks"
    talks.mkdir()
    for split, numbers in (("train", range(16)), ("validation", range(16, 24))):
        write_split(talks, split, map(talk, numbers))
    tokenizer = load_tokenizer(folder / "data" / "tones" / "tokenizer")
    for family in FAMILIES:
        write_start(folder / family, family, tokenizer)
    return folder


def write_start(folder, family, tokenizer):
    decoder = DecoderConfig(tokenizer.vocab_size, 2, 32, 4, 2, 8, 48)
    begin, placeholder, end = map(tokenizer.special, AUDIO_TAGS[family])
    model = model_config(family, ENCODER, decoder, audio_begin=begin, audio_end=end)
    whole = nnx.to_pure_dict(nnx.split(QwenAudio(model, nnx.Rngs(3)))[1])
    leaves = {path: np.asarray(leaf) for path, leaf in by_path(whole).items()}
    write_checkpoint(folder / "checkpoints" / "0", iter(leaves.items()), 1)
    write_parts(folder, parts_of(model, placeholder))
    tokenizer.save(folder / "tokenizer")


def config(place, family, **more):
    values = pretrain_values(file="sft")
    for key, value in (
        {
            "data.root": str(place / "data"),
            "data.mixture": {"talks": 0.75, "tones": 0.25},
            "data.shapes": ((2, 192, 256),),
            "train.steps": 3,
            "evaluate.limit": 4,
            "evaluate.max_new_tokens": 4,
            "evaluate.loss_every": 0,
            "init_from": str(place / family) if family else "",
        }
        | more
    ).items():
        values = changed(values, key, value)
    return from_mapping(values)


@pytest.mark.parametrize(
    "family", ["qwen_audio", pytest.param("qwen2_audio", marks=pytest.mark.slow)]
)
def test_a_model_is_tuned_and_the_table_has_both_corpora_before_and_after(
    place, tmp_path, family, capsys
):
    followed = follow_start(config(place, family))
    assert (followed.model.family, followed.init_from) == (family, str(place / family))
    rows = loop.run(followed, tmp_path / "run")
    assert f"{family}, encoder" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text()) == rows
    before = json.loads((tmp_path / "run" / "evaluation_before.json").read_text())
    value = {(row["task"], row["metric"]): row["before"] for row in rows}
    told = {(row["task"], row["metric"]): row["value"] for row in before}
    controls = {key for key in value if key[1].endswith(("/silence", "/another_clip"))}
    assert value.keys() - controls == told.keys()
    assert all(value[key] == told.get(key) for key in value)
    for kind in ("", "/audio_analysis", "/several_turns"):
        assert ("chat", f"accuracy{kind}") in told
        assert ("chat", f"accuracy{kind}/silence") in controls
        assert ("chat", f"loss{kind}") in told
    assert ("instrument_classification", "accuracy") in told
    loss = {row["task"]: row["value"] for row in rows if row["metric"] == "loss"}
    assert loss["chat"] < told["chat", "loss"]
    n = {row["task"]: row["n"] for row in rows if row["metric"] == "accuracy"}
    assert n == {"chat": 8, "instrument_classification": 4}  # 4 records of each, 2 answers a talk

    # The command asks the same questions of the last checkpoint, and is answered the same.
    run, folder = tmp_path / "run", tmp_path / "command"
    corpora = [(name, place / "data" / name) for name in ("talks", "tones")]
    command = runpy.run_path("configs/evaluate.py")["get_config"]().to_dict()
    same = {"max_new_tokens": 4, "slots": 4, "context": 512}
    asks = options.from_mapping(command | same)
    stages.answer(folder, stages.Who(str(run)), corpora, asks)
    texts, own = ({key: one.text for key, one in read_answers(of).items()}
                  for of in (folder, run / "evaluation"))  # fmt: skip
    asked = [one.key for one in read_plan(run / "evaluation").items if "/" not in one.benchmark]
    assert len(asked) == 12
    assert {key: texts[key] for key in asked} == {key: own[key] for key in asked}
    assert len(set(texts.values())) > 1

    # What is frozen follows the family.
    started, tuned = (
        SavedParameters(folder / "checkpoints" / step)
        for folder, step in ((place / family, "0"), (tmp_path / "run", "3"))
    )
    frozen = family == "qwen_audio"
    for path, kept in (("encoder/blocks/query/kernel", frozen), ("decoder/head", False)):
        assert np.array_equal(read(started, path), read(tuned, path)) == kept, path

    # Started again it is over; its table is the same, that of the start with it.
    assert loop.run(followed, tmp_path / "run") == rows
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<dt>assistant</dt>") >= 4
    assert ">Before</th>" in page


def read(saved, path):
    return saved.read(path, saved.stores[path])


@pytest.mark.slow
@pytest.mark.parametrize("lora", [{}, {"lora.rank": 4, "lora.dropout": 0.1}], ids=["all", "lora"])
def test_killed_and_resumed_is_bit_identical(place, tmp_path, lora):
    """Within an epoch of both corpora; and on another mesh, to rounding."""
    options = lora | {
        "data.mixture": json.dumps({"talks": 0.75, "tones": 0.25}),
        "data.shapes": "((8, 192, 256),)",
        "evaluate.answers": False,
        "evaluate.before": False,
        "evaluate.loss_every": 0,
        "init_from": place / "qwen2_audio",
    }
    environment = {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)}
    where = {"file": "sft", "environment": environment}
    finished(place / "data", tmp_path / "whole", **where, **options)

    killed, kill_after = tmp_path / "killed", random.randint(3, 8)
    process = started(place / "data", killed, **where, **options)
    wait_for(process, killed, kill_after)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"was over before it could be killed: {errors}"
    shutil.copytree(killed, tmp_path / "moved")

    finished(place / "data", killed, **where, **options)
    assert losses(killed) == losses(tmp_path / "whole")
    whole, one = (SavedParameters(last_step(tmp_path / name)) for name in ("whole", "killed"))
    assert whole.stores.keys() == one.stores.keys()
    for path in whole.stores:
        np.testing.assert_array_equal(read(one, path), read(whole, path), err_msg=path)

    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    mesh = {f"mesh.{axis}": 2 for axis in ("replica", "fsdp", "tensor")}
    finished(place / "data", tmp_path / "moved", **where, **options, **mesh)
    np.testing.assert_allclose(
        losses(tmp_path / "moved"), losses(tmp_path / "whole"), rtol=0, atol=1e-5
    )


def test_the_family_is_that_of_the_start_or_of_the_run(place, tmp_path):
    assert follow_start(config(place, "qwen_audio")).optimizer.frozen == ("^encoder/",)
    assert follow_start(config(place, "qwen2_audio")).optimizer.frozen == ()
    typed = config(place, "qwen2_audio", **{"optimizer.frozen": ("^decoder/",)})
    assert follow_start(typed).optimizer.frozen == ("^decoder/",)
    # A run that goes on has its own, wherever its start may be now.
    (tmp_path / "metrics.jsonl").touch()
    write_parts(tmp_path, Parts("qwen_audio", ENCODER, None))
    gone = config(place, "", init_from=str(tmp_path / "gone"))
    assert follow_start(gone, tmp_path).model.family == "qwen_audio"


def test_a_configuration_of_fixed_family_is_left_as_it_is():
    config = from_mapping(pretrain_values())
    assert follow_start(config) is config
    tuned = follow_start(from_mapping(pretrain_values("qwen_audio_7b", "sft")))
    assert (tuned.model.family, tuned.optimizer.frozen) == ("qwen_audio", ("^encoder/",))


def test_a_start_that_is_none_is_told(place, tmp_path):
    for fixed in ({}, {"model.family": "qwen2_audio"}):
        nothing = config(place, "", **fixed)
        with pytest.raises(
            ConfigError, match=r"^config.init_from: is empty, .*init_from=RUN, the "
        ):
            check_tuned(follow_start(nothing), talks=True)
    write_parts(tmp_path, Parts(encoder=ENCODER))
    part = config(place, "", init_from=str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"is no whole model, .* --config.model.family=qwen_audio"
    ):
        follow_start(part)
    with pytest.raises(ConfigError, match=r"config.init_from: .*nowhere/model.json: is missing"):
        follow_start(config(place, "", init_from=str(tmp_path / "nowhere")))
    other = follow_start(config(place, "qwen_audio", **{"model.family": "qwen2_audio"}))
    with pytest.raises(ConfigError, match=r"is of family qwen_audio; add --config.model.family=q"):
        loop.run(other, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_vocabulary_without_the_tokens_of_a_conversation_is_refused(place, tmp_path, monkeypatch):
    write_start(tmp_path, "qwen2_audio", load_tokenizer(place / "data" / "tones" / "tokenizer"))
    tuned = follow_start(config(place, "", init_from=str(tmp_path)))
    check_tuned(tuned, talks=True)
    names = {name: i for i, name in enumerate(control_tokens()) if not name.startswith("<|im_")}
    load = SentencePieceTokenizer.load

    def without(folder):
        tokenizer = load(folder)
        tokenizer.control_ids = names
        return tokenizer

    monkeypatch.setattr(SentencePieceTokenizer, "load", without)
    told = (
        r"^config.init_from: .*: the vocabulary lacks control tokens: chat needs <\|im_start\|>, "
    )
    with pytest.raises(ConfigError, match=told):
        check_tuned(tuned, talks=True)
    check_tuned(tuned, talks=False)


def test_the_command_without_a_start_ends_in_a_sentence_before_any_work(tmp_path):
    command = [sys.executable, "-m", "qwen_audio_jax.main", "--config=configs/sft.py"]
    options = [f"--config.data.root={tmp_path}/data", f"--workdir={tmp_path}/run"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: config.init_from: is empty, and config.model.family is 'auto'")
    assert list(tmp_path.iterdir()) == []


def test_every_preset_is_a_configuration():
    for name in ("tiny", "small", "qwen_audio_7b", "qwen2_audio_7b", "qwen2_audio_7b@v5p:4x4x4"):
        made = from_mapping(pretrain_values(name, "sft"))
        assert made.data.mixture.keys() == {"talks", "synthetic"}
        assert (made.evaluate.before, made.evaluate.controls) == (True, True)
        assert to_json(made)["optimizer"]["frozen"] == ["auto"]
