"""Neighbours are those of the same sequence, at their own distance."""

import jax
import numpy as np
from flax import nnx

from jaxformer.nn import Neighbourhood

V, D, REACH = 5, 8, 2


def test_it_is_the_sum_of_a_table_for_every_distance_within_a_sequence():
    layer = Neighbourhood(V, D, REACH, rngs=nnx.Rngs(0))
    tokens = np.array([[1, 2, 3, 4, 2, 0, 0], [4, 4, 1, 1, 2, 3, 3]], np.int32)
    segments = np.array([[1, 1, 1, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 1]], np.int32)
    table = np.asarray(layer.table[...]).reshape(2 * REACH, V, D)
    wanted = np.zeros((2, 7, D), np.float32)
    for row in range(2):
        for place in range(7):
            for number, distance in enumerate((-2, -1, 1, 2)):
                other = place + distance
                if 0 <= other < 7 and segments[row, place] == segments[row, other] != 0:
                    wanted[row, place] += table[number, tokens[row, other]]
    np.testing.assert_allclose(layer(tokens, segments), wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(layer(tokens, segments)[0, 5:], 0.0)


def test_its_sum_begins_with_unit_variance():
    layer = Neighbourhood(24, 64, 7, rngs=nnx.Rngs(1))
    tokens = jax.random.randint(jax.random.key(0), (4, 200), 0, 24)
    found = np.asarray(layer(tokens, np.ones((4, 200), np.int32)))[:, 7:-7]
    assert abs(found.std() - 1.0) < 0.05
