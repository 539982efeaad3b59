"""The fused cross-entropy with its operands split over a mesh: the same sums and gradients, and nothing gathered."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType

from jaxformer.ops import linear_cross_entropy
from jaxformer.types import Shards
from tests.devices import run_on_eight_devices

_OPERANDS = """
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from jaxformer.ops import cross_entropy, linear_cross_entropy
    from jaxformer.types import Shards

    B, T, D, V = 8, 5, 16, 64
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(B, T, D)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(V, D)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, V, (B, T)), jnp.int32)
    weights = jnp.asarray(rng.choice([0.0, 1.0, 2.5], (B, T)), jnp.float32)

    def make(data, tensor):
        mesh = jax.make_mesh((data, tensor), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
        shards = Shards(mesh, batch=("data",), vocabulary=("tensor",))
        put = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, P(*spec)))
        operands = put(hidden, "data"), put(kernel, "tensor"), put(labels, "data"), put(weights, "data")

        def loss(hidden, kernel, labels, weights):
            sums = linear_cross_entropy(
                hidden, kernel, labels, weights, label_smoothing=0.1, chunk=3, shards=shards
            )
            return 3.0 * sums.loss, sums

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True)), operands
"""


@pytest.mark.parametrize("data", [1, 2, 8])
def test_it_equals_the_plain_form_on_every_mesh(data):
    run_on_eight_devices(_OPERANDS + f"""
    step, operands = make({data}, {8 // data})
    (loss, sums), gradients = step(*operands)

    def plain(hidden, kernel):
        sums = cross_entropy(hidden @ kernel.T, labels, weights, label_smoothing=0.1)
        return 3.0 * sums.loss, sums

    (expected, expected_sums), expected_gradients = jax.value_and_grad(plain, (0, 1), has_aux=True)(hidden, kernel)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for ours, theirs in zip(sums, expected_sums, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    shards = Shards(operands[0].sharding.mesh, batch=("data",), vocabulary=("tensor",))
    value = jax.jit(lambda *x: linear_cross_entropy(*x, label_smoothing=0.1, shards=shards))(*operands)
    np.testing.assert_allclose(value.loss, expected / 3.0, rtol=1e-5)
    assert gradients[0].sharding.is_equivalent_to(operands[0].sharding, 3)
    assert gradients[1].sharding.is_equivalent_to(operands[1].sharding, 2)
    """)


def test_neither_the_kernel_nor_the_logits_are_gathered():
    run_on_eight_devices(_OPERANDS + """
    import re
    step, operands = make(2, 4)
    text = step.lower(*operands).compile().as_text()
    assert "all-gather" not in text and "all-to-all" not in text and "collective-permute" not in text
    assert "f32[64,16]" not in text  # the whole kernel
    for shape in re.findall(r"= \\(?f32\\[([\\d,]*)\\]\\S* all-reduce", text):
        size = np.prod([int(n) for n in shape.split(",") if n])
        assert size <= max(3 * D, V // 4 * D), shape  # a chunk's [M, D], or the own part of the kernel's gradient
    """)


def test_what_does_not_divide_is_refused_with_what_does():
    run_on_eight_devices(_OPERANDS + """
    mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    for operands, message in (
        (
            (hidden, kernel[:62], labels % 62, weights),
            "62 pieces of the vocabulary do not divide over 4 devices (tensor): use 60, 64",
        ),
        (
            (hidden[:7], kernel, labels[:7], weights[:7]),
            "7 rows of the batch do not divide over 2 devices (data): use 6, 8",
        ),
    ):
        try:
            linear_cross_entropy(*operands, shards=Shards(mesh, batch=("data",), vocabulary=("tensor",)))
        except ValueError as error:
            assert str(error) == message, error
        else:
            raise AssertionError(message)
    """)


def test_a_mesh_of_one_device_changes_nothing_to_the_last_bit():
    keys = jax.random.split(jax.random.key(0), 2)
    hidden, kernel = jax.random.normal(keys[0], (4, 6, 8)), jax.random.normal(keys[1], (32, 8))
    labels, weights = jnp.arange(24).reshape(4, 6), jnp.ones((4, 6))
    mesh = jax.make_mesh((1, 1), ("data", "tensor"), devices=jax.devices()[:1], axis_types=(AxisType.Auto,) * 2)

    def gradients(shards):
        def loss(hidden, kernel):
            return linear_cross_entropy(hidden, kernel, labels, weights, label_smoothing=0.1, shards=shards).loss

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(hidden, kernel)

    split = gradients(Shards(mesh, batch=("data",), vocabulary=("tensor",)))
    for ours, theirs in zip(jax.tree.leaves(split), jax.tree.leaves(gradients(None)), strict=True):
        assert (ours == theirs).all()
