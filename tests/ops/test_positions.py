"""Sinusoidal and rotary positions by their formulas; decoder inputs by hand."""

from __future__ import annotations

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxformer.nn import SelfAttention
from jaxformer.ops import apply_rotary, rotation, shift_right, sinusoidal_positions


def test_sinusoids_by_hand():
    got = sinusoidal_positions(jnp.array([0, 3]), 4)
    expected = [[0, 0, 1, 1], [np.sin(3), np.sin(3e-4), np.cos(3), np.cos(3e-4)]]  # wavelengths from 1 to 10000
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert sinusoidal_positions(jnp.zeros((2, 3), int), 5).shape == (2, 3, 5)


def test_rotation_by_hand():
    x = jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2)
    np.testing.assert_allclose(apply_rotary(x, jnp.array([[2]]))[0, 0, 0], [np.cos(2), np.sin(2)], atol=1e-6)


def test_rotated_products_depend_on_the_distance_alone():
    rng = np.random.default_rng(0)
    q, k = (jnp.asarray(rng.normal(size=(1, 1, 1, 8)), jnp.float32) for _ in range(2))

    def product(i, j):
        return float((apply_rotary(q, jnp.array([[i]])) * apply_rotary(k, jnp.array([[j]]))).sum())

    np.testing.assert_allclose(product(5, 3), product(12, 10), rtol=1e-4)
    assert abs(product(5, 3) - product(5, 4)) > 1e-3
    np.testing.assert_allclose(
        jnp.linalg.norm(apply_rotary(q, jnp.array([[7]]))), jnp.linalg.norm(q), rtol=1e-5
    )


def test_shift_right_begins_every_packed_sequence():
    tokens = jnp.array([[5, 6, 3, 7, 3, 0]])
    positions = jnp.array([[0, 1, 2, 0, 1, 0]])
    np.testing.assert_array_equal(shift_right(tokens, positions, 2), [[2, 5, 6, 2, 7, 2]])


def test_rotations_looked_up_are_those_worked_out():
    positions = np.array([[0, 3, 1], [6, 2, 0]])
    for found, expected in zip(rotation(positions, 8, length=7), rotation(positions, 8), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.isnan(rotation(np.array([6, 7]), 8, length=7).sin).any(axis=-1).tolist() == [False, True]


def test_a_compiled_step_takes_few_sines():
    """A sine for every channel of every head would be 4 % of a training step."""
    attention = SelfAttention(64, 4, rotary=True, rngs=nnx.Rngs(0))

    @jax.jit
    def loss(x, positions):
        return attention(x, positions).sum()

    shape = (8, 32)
    positions = jnp.broadcast_to(jnp.arange(32), shape)
    compiled = jax.jit(jax.grad(loss)).lower(jnp.zeros((*shape, 64)), positions).compile().as_text()
    sizes = [re.findall(r"\d+", found) for found in re.findall(r"= f32\[([\d,]*)\]\S* sine\(", compiled)]
    assert sizes
    assert all(math.prod(map(int, size)) == 32 * 8 for size in sizes), sizes
