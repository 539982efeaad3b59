"""The hashed dropout: rate, scale, independence, gradient, determinism."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.ops import dropout, fold_seed
from jaxformer.ops.dropout import head_seeds, keep_at, keep_mask, row_seeds

N = 1 << 18


def _mask(seed, rate=0.5, shape=(512, 512)):
    return np.asarray(keep_mask(jnp.uint32(seed), shape, rate))


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.5, 0.9])
def test_rate_within_five_standard_deviations(rate):
    for seed in range(5):
        dropped = 1 - _mask(seed, rate).mean()
        assert abs(dropped - rate) < 5 * np.sqrt(rate * (1 - rate) / N)


def _correlation(a, b):
    return abs(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_masks_are_independent_across_places_seeds_and_sites():
    bound = 5 / np.sqrt(N)
    mask = _mask(7)
    for shift in (1, 2, 16, 511):
        assert _correlation(mask.ravel()[:-shift], mask.ravel()[shift:]) < bound  # along the rows
        assert _correlation(mask[:-shift], mask[shift:]) < 5 / np.sqrt((512 - shift) * 512)  # across rows
    assert _correlation(mask, _mask(8)) < bound
    sites = [_mask(int(fold_seed(jnp.uint32(7), site))) for site in range(4)]
    for i, a in enumerate(sites):
        assert _correlation(a, mask) < bound
        for b in sites[:i]:
            assert _correlation(a, b) < bound


def test_every_row_and_head_of_attention_has_an_independent_mask_of_its_own():
    seeds = head_seeds(jnp.uint32(3), 4, 4)
    assert len(np.unique(seeds)) == 16
    masks = np.asarray(keep_mask(seeds, (4, 4, 256, 256), 0.3)).reshape(16, -1)
    assert np.all(abs(masks.mean(axis=1) - 0.7) < 5 * np.sqrt(0.21 / 256**2))
    correlations = np.corrcoef(masks) - np.eye(16)
    assert abs(correlations).max() < 5 / 256
    other_step = np.asarray(keep_mask(head_seeds(jnp.uint32(4), 4, 4), (4, 4, 256, 256), 0.3)).reshape(16, -1)
    assert max(_correlation(a, b) for a, b in zip(masks, other_step, strict=True)) < 5 / 256


def test_splitting_rows_and_heads_splits_the_masks():
    seeds = head_seeds(jnp.uint32(3), 4, 6)
    assert head_seeds(seeds, 4, 6) is seeds
    np.testing.assert_array_equal(head_seeds(row_seeds(jnp.uint32(3), 4), 4, 6), seeds)
    np.testing.assert_array_equal(head_seeds(row_seeds(jnp.uint32(3), 4)[2:], 2, 6), seeds[2:])
    whole = np.asarray(keep_mask(seeds, (4, 6, 5, 7), 0.5))
    part = np.asarray(keep_mask(seeds[2:, 3:], (2, 3, 5, 7), 0.5))
    later = np.asarray(keep_mask(seeds, (4, 6, 2, 7), 0.5, first=jnp.array([3])))
    np.testing.assert_array_equal(whole[:, :, 3:], later)
    np.testing.assert_array_equal(part, whole[2:, 3:])


def test_seeds_of_many_places_are_all_different():
    seeds = {int(s) for step in range(4) for s in jax.vmap(lambda i, step=step: fold_seed(jnp.uint32(step), i))(
        jnp.arange(2000))}
    assert len(seeds) == 8000


def test_survivors_are_scaled_and_the_gradient_uses_the_same_mask():
    x = jnp.linspace(1.0, 2.0, 1000)
    out, pullback = jax.vjp(lambda x: dropout(x, 0.2, jnp.uint32(3)), x)
    kept = out != 0
    np.testing.assert_allclose(out[kept], x[kept] / 0.8, rtol=1e-6)
    np.testing.assert_allclose(pullback(jnp.ones_like(x))[0], jnp.where(kept, 1.25, 0.0), rtol=1e-6)


def test_no_seed_or_rate_zero_returns_the_input():
    x = jnp.ones(3)
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, jnp.uint32(1)) is x
    assert fold_seed(None, 3) is None


def test_the_mask_does_not_depend_on_sharding():
    # Sharding by XLA splits the computation of an array, never its meaning; here the split is made by hand.
    whole = _mask(5, 0.3, (8, 64))
    np.testing.assert_array_equal(whole, jax.jit(lambda: keep_mask(jnp.uint32(5), (8, 64), 0.3))())
    np.testing.assert_array_equal(whole[:4], _mask(5, 0.3, (4, 64)))  # row-major counters: the first rows agree


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ValueError, match="dropout rate must be at least 0"):
        dropout(jnp.ones(3), rate, jnp.uint32(0))


def test_rows_beyond_32_bits_of_elements_still_have_masks_of_their_own():
    columns = jnp.arange(2000, dtype=jnp.uint32)
    first, second = (
        keep_at(jnp.uint32(3), [jnp.uint32(row), jnp.uint32(0), columns], (4, 2**16, 2**16), 0.5) for row in (0, 1)
    )
    assert 0.4 < float((first == second).mean()) < 0.6


def test_parts_of_the_last_dimensions_lose_what_the_whole_does():
    x = jnp.ones((3, 8, 12))
    seeds = row_seeds(jnp.uint32(5), 3)
    whole = dropout(x, 0.5, seeds)
    for row in range(2):
        for column in range(3):
            place = np.s_[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            np.testing.assert_array_equal(dropout(x[place], 0.5, seeds, ((row, 2), (column, 3))), whole[place])
