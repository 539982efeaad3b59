import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.decoding import top_k, truncate
from jaxformer.decoding.selection import best_extensions, best_free


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


@pytest.mark.parametrize("barred", [(), (0, 1), (2, 79, 80, 500, -1, 9000)])
@pytest.mark.parametrize("size", [5, 80, 640, 8001])
@pytest.mark.parametrize("levels", [3, 10**6], ids=["ties", "few-ties"])
def test_the_best_is_the_first_of_the_largest_that_are_free(size, barred, levels):
    values = np.random.default_rng(size).integers(0, levels, size=(20, 3, size)).astype(np.float32)
    inside = [index for index in barred if 0 <= index < size]
    values[0][:, inside] = levels + 1  # the largest are barred, all of them
    values[1, :, : size - 1] = -np.inf
    index, highest = jax.jit(best_free, static_argnums=1)(values, barred)
    np.testing.assert_array_equal(highest, values.max(axis=-1))
    free = values.copy()
    free[..., inside] = -np.inf
    np.testing.assert_array_equal(index, free.argmax(axis=-1))
    assert index.dtype == np.int32


def test_where_nothing_free_is_left_the_first_is_taken():
    assert best_free(np.full((2, 200), -np.inf, np.float32), (0, 1))[0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("size", "width", "barred"), [(9, 2, (1, 8)), (80, 3, ()), (960, 4, (3, 0, 1, -1)), (8001, 5, (3, 8000))]
)
@pytest.mark.parametrize("levels", [6, 1000], ids=["ties", "few-ties"])
def test_the_best_extensions_are_those_of_a_plain_sort(size, width, barred, levels):
    rng = np.random.default_rng(size)
    logits = rng.integers(0, levels, size=(20, width, size)).astype(np.float32) * 8 / levels
    log_probs = -np.sort(rng.random((20, width)).astype(np.float32), axis=-1)
    log_probs[0, 1:] = -np.inf  # as at the start of a search
    log_probs[1:3, 1] = log_probs[1:3, 0]
    logits[1:3, 1] = logits[1:3, 0]
    found, normaliser = jax.jit(best_extensions, static_argnums=(2, 3))(logits, log_probs, width, barred)
    np.testing.assert_allclose(normaliser, jax.nn.logsumexp(logits, axis=-1), rtol=1e-5)
    totals = log_probs[..., None] + (logits - np.asarray(normaliser)[..., None])
    totals[:, :, [token for token in barred if token >= 0]] = -np.inf
    totals = totals.reshape(20, -1)
    places = np.argsort(-totals, axis=-1, kind="stable")[:, :width]
    expected = np.take_along_axis(totals, places, axis=-1)
    np.testing.assert_array_equal(found.log_probs, expected)
    real = expected > -np.inf
    np.testing.assert_array_equal(np.asarray(found.beams)[real], (places // size)[real])
    np.testing.assert_array_equal(np.asarray(found.tokens)[real], (places % size)[real])
    assert np.asarray(found.tokens).max() < size


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


def test_top_k_and_top_p_out_of_range_are_refused():
    with pytest.raises(ValueError, match="top_k must be 0 or greater, got -1"):
        truncate(LOGITS, -1, 1.0)
    with pytest.raises(ValueError, match="top_p must be greater than 0 and at most 1, got 0"):
        truncate(LOGITS, 0, 0.0)


def test_no_array_of_candidates_is_sorted():
    """XLA knows `jax.lax.top_k` no longer where the best alone is read beside all k: half the time of a beam search."""

    def best_beside_all(x):
        values, indices = top_k(x, 7)
        return values, indices, values[..., 0], best_extensions(x, x[..., 0], 4, (3,))

    compiled = jax.jit(best_beside_all).lower(jnp.zeros((2, 4, 8000))).compile().as_text()
    sorted_sizes = [int(size) for size in re.findall(r"= \(?\w+\[(?:\d+,)*(\d+)\][^=]* sort\(", compiled)]
    assert all(size in (4, 7) for size in sorted_sizes), sorted_sizes
