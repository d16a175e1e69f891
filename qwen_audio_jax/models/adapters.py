"""Low-rank adapters of linear layers (LoRA, arXiv 2106.09685): attached, drawn and merged.

`layers.Linear` computes with them. Names and first values are those of PEFT: `lora_a` uniform
within 1 / sqrt(in) (its Kaiming draw), `lora_b` zero, so that at first nothing changes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from qwen_audio_jax.models.layers import DropoutKey, Linear
from qwen_audio_jax.models.presets import Adapter

_KEY = "lora_key"


def is_adapter(path: str) -> bool:
    """Whether a parameter's path is that of an adapter's matrix."""
    return path.endswith(("/lora_a", "/lora_b"))


def linears(model: nnx.Module) -> dict[str, tuple[int, ...]]:
    """Shape of the kernel of every linear layer by its path, such as "decoder/blocks/query"."""
    return {
        "/".join(map(str, path)): module.kernel.shape
        for path, module in nnx.iter_modules(model)
        if isinstance(module, Linear)
    }


def attach(model: nnx.Module, adapters: Sequence[Adapter], rngs: nnx.Rngs) -> None:
    """Gives linears of a model their adapters, drawn anew."""
    for adapter in adapters:
        linear = _at(model, adapter.path)
        *stack, features_in, features_out = linear.kernel.shape
        bound = features_in**-0.5
        shape = (*stack, features_in, adapter.rank)
        drawn = jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound)
        linear.lora_a = nnx.Param(drawn)
        linear.lora_b = nnx.Param(jnp.zeros((*stack, adapter.rank, features_out)))
        linear.lora_scale = adapter.scale


def attach_dropout(model: nnx.Module, adapters: Sequence[Adapter]) -> None:
    """Has adapters drop some of what enters them, drawn from the keys that `with_keys` adds."""
    for adapter in adapters:
        if adapter.dropout:
            linear = _at(model, adapter.path)
            linear.lora_dropout = adapter.dropout
            stack = linear.kernel.shape[:-2]
            linear.lora_key = DropoutKey(jnp.zeros((*stack, 2), jnp.uint32))


def with_keys(
    parameters: Mapping[str, Any], adapters: Sequence[Adapter], key: jax.Array
) -> dict[str, Any]:
    """Parameters, nested, and beside adapters that drop something a key for each layer.

    Args:
        parameters: of a model with `attach_dropout`; its keys are no parameters and not among them.
        adapters: the model's.
        key: from which all keys are made; another one drops other places.
    """
    for number, adapter in enumerate(adapters):
        if adapter.dropout:
            *groups, name = adapter.path.split("/")
            mine = jax.random.fold_in(key, number)
            parameters = _put(parameters, [*groups, name], mine)
    return dict(parameters)


def _put(tree: Mapping[str, Any], names: Sequence[str], key: jax.Array) -> dict[str, Any]:
    """A tree with the keys of the linear of these names."""
    if names:
        return {**tree, names[0]: _put(tree[names[0]], names[1:], key)}
    stack = tree["lora_a"].shape[:-2]
    return {**tree, _KEY: jax.random.key_data(jax.random.split(key, stack) if stack else key)}


def merged(kernel: Any, lora_a: Any, lora_b: Any, scale: float) -> Any:
    """The kernel of a linear that does without its adapter what it does with it, float32.

    Args:
        kernel: [..., in, out], of numpy or JAX.
        lora_a, lora_b: [..., in, rank] and [..., rank, out], float32.
        scale: see `Adapter`.
    """
    return kernel.astype("float32") + (lora_a * scale) @ lora_b


def _at(model: nnx.Module, path: str) -> Linear:
    for name in path.split("/"):
        model = getattr(model, name)
    return model
