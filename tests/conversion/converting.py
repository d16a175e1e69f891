"""What the tests of conversion share: the command, tensors of a folder, changes to one."""

import json
import pathlib

import jax
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from qwen_audio_jax import convert
from qwen_audio_jax.checkpoint import last_step, load_partly, saved_shapes


def read_tensors(folder: pathlib.Path) -> dict[str, np.ndarray]:
    tensors = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "numpy") as opened:
            tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return tensors


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


def run(*arguments) -> int:
    return convert.main([str(argument) for argument in arguments])


def imported(source, out):
    assert run("import", f"--source={source}", f"--out={out}") == 0
    return out


def exported(checkpoint, out, *options):
    assert run("export", f"--checkpoint={checkpoint}", f"--out={out}", *options) == 0
    return out


def without(folder, name):
    """Takes a tensor out of a folder."""
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "numpy") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if tensors.pop(name, None) is not None:
            save_file(tensors, file, {"format": "pt"})


def config_value(key, value):
    def change(folder):
        path = folder / "config.json"
        config = json.loads(path.read_text())
        *groups, last = key.split("/")
        node = config
        for group in groups:
            node = node[group]
        node[last] = value
        path.write_text(json.dumps(config))

    return change


def read_tables(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Embedding and head of what was imported, as they lie there."""
    step = last_step(folder)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {
        path.removeprefix("decoder/"): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
        for path, leaf in saved_shapes(step).items()
        if path in ("decoder/embedding", "decoder/head")
    }
    loaded = load_partly(step, {"decoder": wanted})["decoder"]
    return {name: np.asarray(array) for name, array in loaded.items()}
