import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.decoding import top_k, truncate


@pytest.mark.parametrize(("size", "k"), [(7, 3), (640, 4), (1000, 2), (8000, 7), (8001, 5), (8079, 1)])
def test_top_k_is_lax_top_k_ties_included(size, k):
    rng = np.random.default_rng(size)
    # Few distinct values, so that ties fall within blocks, across blocks and at the k-th place.
    values = rng.integers(0, 6, size=(20, 3, size)).astype(np.float32)
    values[0] = -np.inf
    values[1, :, : size // 2] = -np.inf
    expected = jax.lax.top_k(values, k)
    got = jax.jit(top_k, static_argnums=1)(values, k)
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])


def test_top_k_finds_the_last_entries():
    values = np.arange(8001, dtype=np.float32)[None]
    assert top_k(values, 3)[1].tolist() == [[8000, 7999, 7998]]


LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.3, 0.15], np.float32))


def kept(values, ids):
    return [int(i) for i, value in zip(ids, values, strict=True) if value > -np.inf]


@pytest.mark.parametrize(
    ("k", "p", "expected"),
    [
        (0, 1.0, [1, 3, 4, 0, 2]),
        (2, 1.0, [1, 3]),
        (9, 1.0, [1, 3, 4, 0, 2]),
        (0, 0.39, [1]),
        (0, 0.41, [1, 3]),
        (0, 0.69, [1, 3]),
        (0, 0.71, [1, 3, 4]),
        (0, 1e-9, [1]),
        # Among the best three (masses 0.47, 0.35, 0.18) two reach 0.8; of the whole vocabulary they hold only 0.7.
        (3, 0.8, [1, 3]),
        (3, 0.83, [1, 3, 4]),
    ],
)
def test_truncation_by_hand(k, p, expected):
    values, ids = truncate(LOGITS, k, p)
    assert kept(values, ids) == expected
    chosen = np.asarray(values)[: len(expected)]
    np.testing.assert_array_equal(chosen, LOGITS[expected])


def test_top_p_out_of_range_is_refused():
    with pytest.raises(ValueError, match="top_p must be greater than 0 and at most 1, got 0"):
        truncate(LOGITS, 0, 0.0)


def test_no_array_of_candidates_is_sorted():
    """XLA knows `jax.lax.top_k` no longer where the best alone is read beside all k: half the time of a beam search."""

    def best_beside_all(x):
        values, indices = top_k(x, 7)
        return values, indices, values[..., 0]

    compiled = jax.jit(best_beside_all).lower(jnp.zeros((2, 4, 8000))).compile().as_text()
    sorted_sizes = [int(size) for size in re.findall(r"= \(?\w+\[(?:\d+,)*(\d+)\][^=]* sort\(", compiled)]
    assert all(size == 7 for size in sorted_sizes), sorted_sizes
