"""Of the files of a folder, those are read that transformers would read."""

import json
import shutil

import numpy as np
import originals
import pytest
from safetensors.numpy import load_file, save_file

from qwen_audio_jax.conversion.errors import ConversionError
from qwen_audio_jax.conversion.importing import load_original


@pytest.fixture
def folder(tmp_path):
    """A Qwen2 decoder in one file, `model-0.safetensors`."""
    return originals.qwen2(tmp_path / "qwen2")


def write(folder, name, value):
    """The folder's tensors under another name, the last norm's weights made recognisable."""
    tensors = load_file(folder / "model-0.safetensors")
    tensors["model.norm.weight"] = np.full_like(tensors["model.norm.weight"], value)
    save_file(tensors, folder / name, {"format": "pt"})
    return tensors


def index(folder, file, name="model.safetensors.index.json"):
    tensors = load_file(folder / "model-0.safetensors")
    (folder / name).write_text(json.dumps({"weight_map": dict.fromkeys(tensors, file)}))


def read(folder) -> float:
    """Which file was read."""
    return float(load_original(folder)[1]["decoder"]["norm"]["scale"][0])


def refusal(folder) -> str:
    with pytest.raises(ConversionError) as raised:
        load_original(folder)
    return str(raised.value)


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_order(folder):
    write(folder, "model.safetensors", 1)
    write(folder, "shard.safetensors", 2)
    write(folder, "named.safetensors", 3)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "model.safetensors.index.json").write_text("whatever it says")
    (folder / "model-0.safetensors").write_bytes(b"left over, and broken")
    assert read(folder) == 1
    configure(folder, transformers_weights="named.safetensors")
    assert read(folder) == 3


def test_an_index_and_its_files_alone(folder):
    write(folder, "shard.safetensors", 2)
    write(folder, "other.safetensors", 3)
    index(folder, "shard.safetensors")
    assert read(folder) == 2
    index(folder, "other.safetensors", "mine.safetensors.index.json")
    configure(folder, transformers_weights="mine.safetensors.index.json")
    assert read(folder) == 3


def test_in_a_folder_below(folder):
    (folder / "shards").mkdir()
    index(folder, "shards/a.safetensors")
    shutil.move(folder / "model-0.safetensors", folder / "shards" / "a.safetensors")
    load_original(folder)


def test_pickles_go_before_files_of_other_names(folder):
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    assert "its weights are pickled (pytorch_model.bin)" in refusal(folder)


def test_one_tensor_in_two_files(folder):
    write(folder, "model.fp16.safetensors", 2)
    assert "model.fp16.safetensors: has " in refusal(folder)
    assert "delete the file that is not of this model" in refusal(folder)


def test_an_adapter_is_not_overlooked(folder):
    (folder / "adapter_config.json").write_text("{}")
    assert "holds a PEFT adapter" in refusal(folder)


@pytest.mark.parametrize("name", ["gone.safetensors", "model.bin", 1, ["model.safetensors"], ""])
def test_a_wrong_name_in_the_configuration(folder, name):
    configure(folder, transformers_weights=name)
    assert "config.json: 'transformers_weights' must name a safetensors file" in refusal(folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"weight_map": []}', "'weight_map' must be an object of tensors' files, not []"),
        ('{"weight_map": {}}', "'weight_map' must be an object"),
        ("{}", "'weight_map' must be an object of tensors' files, not None"),
        ('{"weight_map": {"a": 1}}', "'weight_map' must name a file of the folder for 'a', not 1"),
        (
            '{"weight_map": {"a": "/etc/passwd"}}',
            "'weight_map' must name a file of the folder for",
        ),
        ('{"weight_map": {"a": "../b"}}', "'weight_map' must name a file of the folder for"),
        (
            '{"weight_map": {"a": "x\\u0000"}}',
            "'weight_map' must name a file of the folder for",
        ),
        ('{"weight_map": {"a": "sub/gone"}}', "names gone, which the folder lacks"),
        ('{"weight_map": {"a": "b", "a": "c"}}', "has the key 'a' twice"),
        ("[]", "must hold a JSON object"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_a_broken_index(folder, content, says):
    (folder / "model.safetensors.index.json").write_text(content)
    assert says in refusal(folder)
    assert "index.json: " in refusal(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 100,
        (1 << 62).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (90).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9000000000000000000]}}'.ljust(90),
    ],
)
def test_a_broken_file(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    assert "model.safetensors: is not a whole safetensors file" in refusal(folder)
