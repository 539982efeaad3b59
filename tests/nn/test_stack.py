"""Rematerialisation: the same values and gradients, in less memory."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxformer.config import ModelConfig
from jaxformer.nn import EncoderBlock, Stack
from jaxformer.ops import Mask

CONFIG = ModelConfig(d_model=16, d_ff=64, num_heads=2, dropout=0.2, attention_dropout=0.1, max_length=64)
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 64, 16)), jnp.float32)
POSITIONS = jnp.broadcast_to(jnp.arange(64), (2, 64))
MASK = Mask(key_lengths=jnp.array([64, 40]))


def _gradient(remat, scan):
    stack = Stack(lambda rngs: EncoderBlock(CONFIG, rngs=rngs), 4, scan=scan, remat=remat, rngs=nnx.Rngs(0))
    graph, state = nnx.split(stack)

    def total(state, x):
        return jnp.sin(nnx.merge(graph, state)(x, POSITIONS, MASK, seed=jnp.uint32(3))).sum()

    return jax.jit(jax.value_and_grad(total, (0, 1))), state


@functools.cache
def _value_and_gradient(remat, scan):
    function, state = _gradient(remat, scan)
    return jax.tree.leaves(function(state, X))


@pytest.mark.parametrize(
    ("remat", "scan"),
    [
        ("dots", True),
        ("full", True),
        ("offload", True),
        ("full", False),
        *[pytest.param(remat, False, marks=pytest.mark.slow) for remat in ("dots", "offload")],
    ],
)
def test_rematerialising_changes_no_value_and_no_gradient(remat, scan):
    for a, b in zip(_value_and_gradient(remat, scan), _value_and_gradient("none", scan), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_the_more_is_computed_again_the_less_is_held():
    # Scanned, because XLA's CPU backend merges the second computation of an unrolled layer with the first.
    held = {}
    for remat in ("none", "dots", "full"):
        function, state = _gradient(remat, True)
        held[remat] = function.lower(state, X).compile().memory_analysis().temp_size_in_bytes
    assert held["full"] < held["dots"] < held["none"]


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="remat 'some' is not one of none, dots, full, offload"):
        _gradient("some", False)
