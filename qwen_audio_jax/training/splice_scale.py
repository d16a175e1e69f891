"""How long audio tokens are at the start, beside the words that they stand among."""

from typing import Any

import jax
import jax.numpy as jnp


def at_word_norm(parameters: Any, layout: Any, first_new_token: int = 0) -> Any:
    """Parameters whose projector is new, scaled to give vectors as long as words' embeddings.

    It is drawn for vectors as long as the square root of D or more; trained embeddings are a tenth
    of that. What is so much longer than its neighbours hardly changes on its way through blocks
    that add to it.

    Args:
        parameters: of the whole model.
        layout: their shardings.
        first_new_token: of the tokens that the decoder was not trained with, the first; 0 if none.
    """
    scale = jax.jit(_scaled, static_argnums=3, out_shardings=layout["projector"])
    projector = scale(
        parameters["projector"],
        parameters["encoder"]["norm"],
        parameters["decoder"]["embedding"],
        first_new_token,
    )
    return parameters | {"projector": projector}


def _scaled(projector: Any, encoder_norm: Any, embedding: jax.Array, first_new_token: int) -> Any:
    words = embedding[: first_new_token or len(embedding)].astype(jnp.float32)
    length = jnp.median(jnp.linalg.norm(words, axis=-1))
    # What comes out of a layer norm has a mean square of scale² + bias²: no clip has to be encoded.
    squares = sum(encoder_norm[name].astype(jnp.float32) ** 2 for name in ("scale", "bias"))
    kernel = projector["kernel"].astype(jnp.float32)
    present = jnp.sqrt(squares @ (kernel**2).sum(axis=-1))
    kernel = kernel * (length / present)
    return projector | {"kernel": kernel.astype(projector["kernel"].dtype)}
