"""The chunked, label-only loss equals the plain one, in value and gradient, on any mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import on_eight_devices

from qwen_audio_jax.models.cuts import Cut, Parted
from qwen_audio_jax.parallel.sharding import AXES, make_mesh
from qwen_audio_jax.training.next_token import next_token_loss, next_token_losses

B, L, D, V = 8, 21, 8, 32


def plain(hidden, head, targets, weights):
    losses = optax.softmax_cross_entropy_with_integer_labels(hidden @ head, targets)
    return jnp.sum(losses * weights)


def exact(hidden, head, targets, weights):
    """The plain loss and its gradients, in float64."""
    with jax.enable_x64(True):
        floats = (jnp.asarray(x, jnp.float64) for x in (hidden, head))
        wanted = jax.value_and_grad(plain, (0, 1))(*floats, targets, weights)
        return jax.tree.map(np.asarray, wanted)


def assert_gradient(ours, wanted):
    """Each is a sum, in float32, of up to 168 terms: four roundings of the largest."""
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=5e-7 * np.abs(wanted).max())


def inputs(labelled="scattered", words=V):
    random = np.random.default_rng(0)
    hidden = jnp.asarray(random.standard_normal((B, L, D)), jnp.float32)
    head = jnp.asarray(random.standard_normal((D, words)), jnp.float32)
    targets = jnp.asarray(random.integers(0, words, (B, L)), jnp.int32)
    weights = {
        "scattered": random.random((B, L)) * (random.random((B, L)) < 0.3),
        "none": np.zeros((B, L)),
        "all": np.ones((B, L)),
        "one_row": np.ones((B, L)) * (np.arange(B) == 1)[:, None],
    }[labelled]
    return hidden, head, targets, jnp.asarray(weights, jnp.float32)


def assert_plain(hidden, head, targets, weights, *, axes="dv", **options):
    def ours(hidden, head):
        # The factor stands for what the loss is divided by.
        total, weight = next_token_loss(hidden, head, targets, weights, axes=axes, **options)
        return total * 3, weight

    step = jax.jit(jax.value_and_grad(ours, (0, 1), has_aux=True))
    turn = (lambda x: x) if axes == "dv" else jnp.transpose
    (loss, weight), (d_hidden, d_head) = step(hidden, turn(head))
    gradients = d_hidden, turn(d_head)
    expected, wanted = exact(hidden, head, targets, weights)
    np.testing.assert_allclose(loss, 3 * expected, rtol=1e-6)
    np.testing.assert_allclose(weight, weights.sum(), rtol=1e-6)
    for ours_gradient, exact_gradient in zip(gradients, wanted, strict=True):
        assert_gradient(ours_gradient, 3 * exact_gradient)


@pytest.mark.parametrize("labelled", ["scattered", "none", "all", "one_row"])
@pytest.mark.parametrize("chunk", [4, 7, 64, None])
def test_equals_plain_cross_entropy(labelled, chunk):
    assert_plain(*inputs(labelled), chunk=chunk)


@pytest.mark.parametrize("labelled", ["scattered", "none", "all"])
def test_a_head_that_is_a_word_embedding(labelled):
    assert_plain(*inputs(labelled), chunk=7, axes="vd")


def test_a_word_embedding_is_not_turned_round():
    """That would copy it in every step, and its gradient too."""
    hidden, head, targets, weights = inputs()

    def arrays(loss):
        step = jax.jit(jax.grad(loss, (0, 1))).lower(hidden, head.T).compile()
        return f"f32[{D},{V}]" in step.as_text()

    def turned(hidden, embedding):
        return next_token_loss(hidden, embedding.T, targets, weights, chunk=7)[0]

    def as_it_is(hidden, embedding):
        return next_token_loss(hidden, embedding, targets, weights, axes="vd", chunk=7)[0]

    assert arrays(turned)
    assert not arrays(as_it_is)


def test_without_gradients_it_is_the_same():
    arguments = inputs()
    total, _ = jax.jit(next_token_loss)(*arguments)
    np.testing.assert_allclose(total, plain(*arguments), rtol=1e-5)


def test_each_gradient_alone():
    """A frozen head costs no gradient; the other one stays the same."""
    hidden, head, targets, weights = inputs()

    def of(number):
        def loss(hidden, head):
            return next_token_loss(hidden, head, targets, weights)[0]

        return jax.jit(jax.grad(loss, number)).lower(hidden, head).compile()

    flops = [of(number).cost_analysis()["flops"] for number in ((0, 1), 0, 1)]
    assert flops[0] > max(flops[1:])
    _, wanted = exact(hidden, head, targets, weights)
    for number in (0, 1):
        assert_gradient(of(number)(hidden, head), wanted[number])


def assert_in_pieces(first_new, *, axes="dv", **options):
    """With a head whose old tokens are frozen: the loss, and the gradients that are wanted."""
    hidden, head, targets, weights = inputs(words=V)
    cut = Cut(axes.index("v"), ((0, first_new),))
    turn = (lambda x: x) if axes == "dv" else jnp.transpose

    def ours(hidden, new, old):
        pieces = Parted(new, old, cut)
        return next_token_loss(hidden, pieces, targets, weights, axes=axes, **options)[0]

    new, old = cut.take(turn(head))
    loss, gradients = jax.jit(jax.value_and_grad(ours, (0, 1)))(hidden, new, old)
    expected, (d_hidden, d_head) = exact(hidden, head, targets, weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    for gradient, wanted in zip(gradients, (d_hidden, turn(d_head[:, first_new:])), strict=True):
        assert gradient.shape == wanted.shape
        assert_gradient(gradient, wanted)


@pytest.mark.parametrize("first_new", [1, 20, V - 1])
@pytest.mark.parametrize("axes", ["dv", "vd"])
def test_a_head_in_pieces_is_the_whole_one(first_new, axes):
    assert_in_pieces(first_new, axes=axes, chunk=7)


MESHES = [dict(zip(AXES, sizes, strict=True)) for sizes in ((2, 2, 2), (1, 8, 1), (1, 1, 8))]


@on_eight_devices
@pytest.mark.slow
def test_on_a_mesh_it_is_the_same():
    """Rows over replica and fsdp; the head in parts, its columns divided or (31 words) whole."""
    two, parts, columns = MESHES
    for sizes, words in ((two, V), (parts, V), (two, 31), (columns, V)):
        mesh = make_mesh(sizes)
        for axes in ("dv", "vd"):
            assert_plain(*inputs(words=words), chunk=8, mesh=mesh, axes=axes)
    # Both pieces divided, none, or one of them.
    for first_new, axes in ((24, "dv"), (21, "vd"), (V - 8, "dv"), (24, "vd")):
        assert_in_pieces(first_new, chunk=8, mesh=make_mesh(MESHES[0]), axes=axes)


def assert_apart(hidden, head, targets, weights, **options):
    """The losses of positions, against plain ones in float64, and their sum."""
    losses = jax.jit(lambda *arrays: next_token_losses(*arrays, **options))
    ours = losses(hidden, head, targets, weights)
    with jax.enable_x64(True):
        logits = jnp.asarray(hidden, jnp.float64) @ jnp.asarray(head, jnp.float64)
        wanted = optax.softmax_cross_entropy_with_integer_labels(logits, targets) * weights
    assert ours.shape == weights.shape
    np.testing.assert_allclose(ours, wanted, rtol=2e-6, atol=1e-6)
    total, _ = next_token_loss(hidden, head, targets, weights)
    np.testing.assert_allclose(ours.sum(), total, rtol=1e-6)


@pytest.mark.parametrize("labelled", ["scattered", "none", "all", "one_row"])
@pytest.mark.parametrize("chunk", [7, None])
def test_the_losses_of_positions_are_what_the_sum_is_made_of(labelled, chunk):
    assert_apart(*inputs(labelled), chunk=chunk)


def test_the_losses_of_positions_with_a_head_that_is_a_word_embedding():
    hidden, head, targets, weights = inputs()
    ours = next_token_losses(hidden, head, targets, weights, chunk=7)
    tied = next_token_losses(hidden, head.T, targets, weights, axes="vd", chunk=7)
    np.testing.assert_allclose(tied, ours, rtol=1e-6, atol=1e-6)


def assert_slopes(axes="dv", first_new=0, **options):
    """The gradients of something else than a sum of the losses, against float64."""
    hidden, head, targets, weights = inputs()
    turn = (lambda x: x) if axes == "dv" else jnp.transpose
    cut = Cut(axes.index("v"), ((0, first_new),))
    # Some losses count for nothing, some against.
    slopes = jnp.asarray(np.random.default_rng(1).integers(-1, 2, (B, L)), jnp.float32)

    def of(losses):
        return jnp.sum(slopes * losses**2)

    def ours(hidden, new, old):
        pieces = Parted(new, old, cut) if first_new else new
        return of(next_token_losses(hidden, pieces, targets, weights, axes=axes, **options))

    def wanted(hidden, head):
        logits = hidden @ head
        return of(weights * optax.softmax_cross_entropy_with_integer_labels(logits, targets))

    new, old = cut.take(turn(head)) if first_new else (turn(head), None)
    d_hidden, d_head = jax.jit(jax.grad(ours, (0, 1)))(hidden, new, old)
    with jax.enable_x64(True):
        floats = (jnp.asarray(x, jnp.float64) for x in (hidden, head))
        exact = jax.tree.map(np.asarray, jax.grad(wanted, (0, 1))(*floats))
    # The rounding of a loss counts beside that of the sums.
    for gradient, one in ((d_hidden, exact[0]), (d_head, turn(exact[1][:, first_new:]))):
        np.testing.assert_allclose(gradient, one, rtol=0, atol=1e-6 * np.abs(one).max())


@pytest.mark.parametrize(("axes", "first_new"), [("dv", 0), ("vd", 0), ("dv", 20)])
def test_the_losses_of_positions_have_gradients(axes, first_new):
    assert_slopes(axes, first_new, chunk=7)


def test_of_the_losses_of_positions_a_frozen_head_costs_no_gradient():
    hidden, head, targets, weights = inputs()

    def flops(number):
        def loss(hidden, head):
            return jnp.sum(next_token_losses(hidden, head, targets, weights) ** 2)

        return (
            jax.jit(jax.grad(loss, number)).lower(hidden, head).compile().cost_analysis()["flops"]
        )

    assert flops((0, 1)) > max(flops(0), flops(1))


@pytest.mark.slow
@on_eight_devices
def test_the_losses_of_positions_have_gradients_on_a_mesh():
    for sizes in ((2, 2, 2), (1, 8, 1)):
        mesh = make_mesh(dict(zip(AXES, sizes, strict=True)))
        assert_slopes(chunk=8, mesh=mesh)


@pytest.mark.slow
@on_eight_devices
def test_the_losses_of_positions_are_the_same_on_a_mesh():
    for sizes, words in (((2, 2, 2), V), ((1, 8, 1), 31), ((1, 1, 8), V)):
        mesh = make_mesh(dict(zip(AXES, sizes, strict=True)))
        assert_apart(*inputs(words=words), chunk=8, mesh=mesh)
