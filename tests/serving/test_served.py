"""Models that are served: an adapter's takes no memory for what it has from the base model."""

import dataclasses

import jax
import jax.numpy as jnp
from api_server import TINY

from qwen_audio_jax.checkpoint import by_path
from qwen_audio_jax.serving.served import sharing

pytest_plugins = ("api_fixtures",)


def test_equal_parameters_are_the_same_arrays(models):
    base = models.find(TINY).loaded
    copied = jax.tree.map(jnp.copy, base.parameters)
    copied["decoder"]["norm"]["scale"] += 1
    copied["decoder"]["lora_a"] = jnp.ones(3)
    found = sharing(dataclasses.replace(base, parameters=copied), base)
    ours, theirs = by_path(base.parameters), by_path(found.parameters)
    own = {path for path, leaf in theirs.items() if leaf is not ours.get(path)}
    assert own == {"decoder/norm/scale", "decoder/lora_a"}
    assert theirs["decoder/norm/scale"] is copied["decoder"]["norm"]["scale"]
