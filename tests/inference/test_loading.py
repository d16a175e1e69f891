"""A model is the same from wherever it is loaded: a PyTorch folder, its import, with adapters."""

import dataclasses
import json
import pathlib
import shutil
import sys

import jax
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "conversion"))
import originals
from adapter_folders import decoder_pairs, write_adapter
from byte_vocabulary import byte_vocabulary
from converting import imported, run

from qwen_audio_jax.checkpoint import by_path, last_step, saved_shapes
from qwen_audio_jax.conversion.importing import write_checkpoint
from qwen_audio_jax.frozen_base import Base
from qwen_audio_jax.inference.conversation import Conversation
from qwen_audio_jax.inference.engine import Engine, EngineConfig
from qwen_audio_jax.inference.loading import load
from qwen_audio_jax.models.parts import read_parts, write_parts
from qwen_audio_jax.saved_parameters import SavedParameters

NAMES = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>")
NAMES = (*NAMES, "<|audio_eos|>")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = originals.qwen2_audio(
        tmp_path_factory.mktemp("originals") / "base", "float32", vocab_size=262
    )
    byte_vocabulary(folder / "tokenizer.json", NAMES)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"audio_token_index": 259}))
    return folder


@pytest.fixture(scope="module")
def start(base, tmp_path_factory):
    """The same, imported."""
    out = tmp_path_factory.mktemp("imports") / "start"
    imported(base, out)
    return out


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("adapters") / "peft")


def same(one, other):
    assert one.model == other.model
    assert one.tokenizer.control_ids == other.tokenizer.control_ids
    here, there = by_path(one.parameters), by_path(other.parameters)
    assert here.keys() == there.keys()
    for path, array in here.items():
        np.testing.assert_array_equal(array, there[path])


def lora_run(start, adapted, folder):
    """A run's folder that has the adapters of an import, and points to where the rest lies."""
    step, frozen = folder / "checkpoints" / "5", SavedParameters(last_step(start))
    whole = SavedParameters(last_step(adapted))
    arrays = [(p, whole.read(p, whole.stores[p])) for p in whole.stores if "/lora_" in p]
    write_checkpoint(step, arrays, sum(array.nbytes for _, array in arrays))
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {
        path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one)
        for path, leaf in saved_shapes(frozen.step).items()
    }
    prints = frozen.load(wanted, frozen=True)[1]
    (step / "frozen").mkdir()
    pointer = Base(frozen.step, prints, {}).to_json(step)
    (step / "frozen" / "data.json").write_text(json.dumps(pointer))
    write_parts(folder, read_parts(adapted))
    shutil.copytree(start / "tokenizer", folder / "tokenizer")
    return folder


def test_a_folder_of_pytorch_and_its_import(base, start):
    original, checkpoint = load(base), load(start)
    same(original, checkpoint)
    same(checkpoint, load(start / "checkpoints" / "0"))
    with pytest.raises(
        FileNotFoundError, match=r"; give the run, .*start, or one of its steps, .*0"
    ):
        load(start / "checkpoints")
    assert (original.name, checkpoint.name, original.family) == ("base", "start", "qwen2_audio")
    assert original.tuned
    assert original.preprocessor.conditioning == "prompts"
    engine = Engine(original, EngineConfig(lengths=(256,)))
    talk = Conversation(original, engine)
    reply = talk.say([np.ones(4000, np.float32), "你 hears?"], max_new_tokens=5)
    assert "".join(reply) == reply.text
    assert reply.usage.clips_encoded == 1
    engine.close()


def test_adapters_of_peft(base, start, adapter, tmp_path):
    assert run("import", f"--source={base}", f"--source={adapter}", f"--out={tmp_path / 'a'}") == 0
    together = load(tmp_path / "a")
    assert len(together.model.adapters) == 2
    for under in (base, start):
        upon = load(under, adapter=adapter)
        same(upon, together)
        assert upon.name == "peft"
    with pytest.raises(ValueError, match="has adapters already"):
        load(tmp_path / "a", adapter=adapter)
    with pytest.raises(ValueError, match="holds an adapter alone"):
        load(adapter)


def test_adapters_with_a_whole_head(base, start, tmp_path):
    head = np.random.default_rng(0).standard_normal((262, 16)).astype(np.float32)

    tensors = decoder_pairs() | {"base_model.model.lm_head.weight": head}
    whole = write_adapter(tmp_path / "whole", tensors, modules_to_save=["lm_head"])
    one, other = (load(under, adapter=whole) for under in (base, start))
    same(one, other)
    np.testing.assert_array_equal(one.parameters["decoder"]["head"], head)


@pytest.mark.slow
def test_a_run_that_trained_adapters(base, start, adapter, tmp_path):
    assert run("import", f"--source={base}", f"--source={adapter}", f"--out={tmp_path / 'a'}") == 0
    mine = lora_run(start, tmp_path / "a", tmp_path / "run")
    together = load(tmp_path / "a")
    same(load(mine), together)
    same(load(start, adapter=mine), together)
    shutil.copytree(start, tmp_path / "other")
    moved = load(tmp_path / "other", adapter=mine)
    same(moved, together)
    assert moved.name == "run"
    originals.qwen2_audio(tmp_path / "another", "float32", vocab_size=262, rms_norm_eps=1e-3)
    with pytest.raises(FileNotFoundError, match=r"imported or exported; did you mean .*/a\?"):
        load(tmp_path)
    with pytest.raises(ValueError, match="has no adapters; it is a model of its own"):
        load(tmp_path / "other", adapter=start)
    with pytest.raises(ValueError, match=r"was trained on .*start.* and not on .*base"):
        load(base, adapter=mine)


def test_a_run_says_how_it_was_trained(start, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(start, run)
    data = {"conditioning": "tags", "max_seconds": 20.0, "prompts": {"asr": ["Write it down:"]}}
    (run / "config.json").write_text(json.dumps({"data": data}))
    made = load(run).preprocessor
    assert (made.conditioning, made.max_seconds) == ("tags", 20.0)
    assert made.templates["asr"] == ("Write it down:",)
    for rows, tuned in (([{"task": "asr"}], False), ([{"task": "chat"}], True)):
        (run / "evaluation.json").write_text(json.dumps(rows))
        assert load(run).tuned is tuned
    (run / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json: is damaged"):
        load(run)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (shutil.rmtree, "is not a folder"),
        (
            lambda folder: (folder / "model.json").unlink(),
            r"broken/model\.json: is missing, and says",
        ),
        (lambda folder: shutil.rmtree(folder) or folder.mkdir(), "is neither a run folder nor"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "tokenizer: is missing; import"),
        (lambda folder: shutil.rmtree(folder / "checkpoints"), "holds no checkpoint"),
        (
            lambda folder: write_parts(
                folder, dataclasses.replace(read_parts(folder), encoder=None)
            ),
            "is a part of a model",
        ),
        (
            lambda folder: write_parts(
                folder,
                dataclasses.replace(
                    read_parts(folder),
                    decoder=dataclasses.replace(read_parts(folder).decoder, tied=True),
                ),
            ),
            "decoder/head is in one of them alone",
        ),
    ],
)
def test_what_cannot_be_loaded_is_told(start, tmp_path, break_it, said):
    folder = tmp_path / "broken"
    shutil.copytree(start, folder)
    break_it(folder)
    with pytest.raises((ValueError, OSError), match=said):
        load(folder)


def test_a_folder_without_a_vocabulary_is_told(base, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    (tmp_path / "base" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"neither tokenizer.json nor qwen.tiktoken"):
        load(tmp_path / "base")
