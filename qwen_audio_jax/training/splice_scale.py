"""How long audio tokens are at the start, beside the words that they stand among."""

import dataclasses

import jax
import jax.numpy as jnp

from qwen_audio_jax.checkpoint import by_path
from qwen_audio_jax.models.parts import path_name
from qwen_audio_jax.training.step import TrainState

_KERNEL = "projector/kernel"


def at_word_norm(state: TrainState, layout: TrainState, first_new_token: int = 0) -> TrainState:
    """A state whose projector is new, scaled to give vectors as long as words' embeddings.

    It is drawn for vectors as long as the square root of D or more; trained embeddings are a tenth
    of that. What is so much longer than its neighbours hardly changes on its way through blocks
    that add to it.

    Args:
        state: of the whole model.
        layout: its shardings.
        first_new_token: of the tokens that the decoder was not trained with, the first; 0 if none.
    """
    # Of an embedding that is cut, the frozen rows are those of the old tokens.
    leaves = by_path(state.parameters) | by_path(state.frozen)
    sharding = (by_path(layout.parameters) | by_path(layout.frozen))[_KERNEL]
    kernel = jax.jit(_scaled, static_argnums=4, out_shardings=sharding)(
        leaves[_KERNEL],
        leaves["encoder/norm/scale"],
        leaves["encoder/norm/bias"],
        leaves["decoder/embedding"],
        first_new_token,
    )

    def put(tree):
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: kernel if path_name(path) == _KERNEL else leaf, tree
        )

    return dataclasses.replace(state, parameters=put(state.parameters), frozen=put(state.frozen))


def _scaled(
    kernel: jax.Array,
    norm_scale: jax.Array,
    norm_bias: jax.Array,
    embedding: jax.Array,
    first_new_token: int,
) -> jax.Array:
    words = embedding[: first_new_token or len(embedding)].astype(jnp.float32)
    length = jnp.median(jnp.linalg.norm(words, axis=-1))
    # What comes out of a layer norm has a mean square of scale² + bias²: no clip has to be encoded.
    squares = norm_scale.astype(jnp.float32) ** 2 + norm_bias.astype(jnp.float32) ** 2
    present = jnp.sqrt(squares @ (kernel.astype(jnp.float32) ** 2).sum(axis=-1))
    return (kernel.astype(jnp.float32) * (length / present)).astype(kernel.dtype)
