"""What decays, what is frozen, and the schedule's three points."""

import jax
import jax.numpy as jnp
import numpy as np

from qwen_audio_jax.optimizer import OptimizerConfig, make_optimizer, schedule

CONFIG = OptimizerConfig(
    learning_rate=1.0,
    final_learning_rate=0.1,
    warmup_steps=10,
    beta1=0.9,
    beta2=0.98,
    eps=1e-6,
    weight_decay=0.5,
    clip_norm=1.0,
    frozen=("^decoder/head$",),
)
PARAMETERS = {
    "encoder": {"positions": jnp.ones((3, 2)), "blocks": {"norm": {"scale": jnp.ones((2, 3))}}},
    "decoder": {"head": jnp.ones((2, 2)), "embedding": jnp.ones((2, 2))},
}


def test_schedule_rises_then_falls():
    rate = schedule(CONFIG, 110)
    np.testing.assert_allclose([rate(0), rate(5), rate(10), rate(110)], [0, 0.5, 1, 0.1], atol=1e-6)


def test_only_matrices_decay_and_frozen_parameters_stay():
    optimizer = make_optimizer(CONFIG, 110)
    state = optimizer.init(PARAMETERS)
    zero = jax.tree.map(jnp.zeros_like, PARAMETERS)
    parameters = PARAMETERS
    for _ in range(3):
        updates, state = optimizer.update(zero, state, parameters)
        parameters = jax.tree.map(jnp.add, parameters, updates)
    assert np.all(parameters["encoder"]["positions"] == 1)
    assert np.all(parameters["encoder"]["blocks"]["norm"]["scale"] == 1)
    assert np.all(parameters["decoder"]["head"] == 1)
    assert np.all(parameters["decoder"]["embedding"] < 1)


def test_frozen_parameters_carry_no_moments():
    state = make_optimizer(CONFIG, 110).init(PARAMETERS)
    sizes = sum(leaf.size for leaf in jax.tree.leaves(state))
    trained = 6 + 4  # norm scale and embedding
    assert sizes < 2 * trained + 5
