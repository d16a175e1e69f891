"""PEFT folders written with numbers alone, and what is read of them."""

import json
import pathlib

import numpy as np
from converting import run
from safetensors.numpy import save_file

CONFIG = {
    "peft_type": "LORA",
    "base_model_name_or_path": "/home/somebody/base",
    "r": 2,
    "lora_alpha": 4,
    "lora_dropout": 0.05,
    "target_modules": ["gate_proj", "o_proj"],
    "megatron_core": "megatron.core",
    "use_dora": False,
    "a_key_of_tomorrow": None,
}
LAYER = "base_model.model.model.language_model.layers"


def pair(module: str, inputs: int, outputs: int, rank: int = 2) -> dict[str, np.ndarray]:
    """Tensors of an adapter, random by name."""
    random = np.random.default_rng(list(module.encode()))
    return {
        f"{module}.lora_A.weight": random.standard_normal((rank, inputs)).astype(np.float32),
        f"{module}.lora_B.weight": random.standard_normal((outputs, rank)).astype(np.float32),
    }


def decoder_pairs(layers=range(3)) -> dict[str, np.ndarray]:
    modules = {"mlp.gate_proj": (16, 20), "self_attn.o_proj": (16, 16)}
    return {
        name: tensor
        for layer in layers
        for module, sizes in modules.items()
        for name, tensor in pair(f"{LAYER}.{layer}.{module}", *sizes).items()
    }


def write_adapter(folder: pathlib.Path, tensors=None, **changes) -> pathlib.Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    tensors = decoder_pairs() if tensors is None else tensors
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def adapted(base, adapter, out) -> pathlib.Path:
    command = ("import", f"--source={base}", f"--source={adapter}", f"--out={out}")
    assert run(*command) == 0
    return out


def written(folder) -> dict:
    return json.loads((folder / "adapter_config.json").read_text())
