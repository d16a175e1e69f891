"""Which weights a model has: what it answered can be told from what another one did."""

import hashlib

import jax
import ml_dtypes
import numpy as np

from qwen_audio_jax.fingerprints import digits, partial_sums
from qwen_audio_jax.inference.loading import Loaded
from qwen_audio_jax.models.parts import path_name


def weights_of(loaded: Loaded) -> str:
    """A fingerprint of all parameters, rounded to bfloat16: the same on every kind of device."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(loaded.parameters):
        values = np.asarray(leaf).astype(ml_dtypes.bfloat16)
        sums = digits(partial_sums(values, (0,) * values.ndim))
        digest.update(f"{path_name(path)} {values.shape} {sums}\n".encode())
    return digest.hexdigest()[:16]
