"""Masks as values: their conjunction, and what block-wise implementations make of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.ops import Mask
from jaxformer.ops.attention.blocks import Band, as_ids, block_ranges, visible_blocks
from tests.ops.attention.oracle import MASKS, make_mask


def test_combining_masks_is_conjunction():
    segments, allowed = make_mask("segments", 2, 5, 7)
    both = (Mask(causal=True) & segments & Mask(key_lengths=jnp.array([2, 7])) & Mask(key_lengths=jnp.array([4, 5]))
            & Mask(window=3) & Mask(window=2))
    expected = allowed & make_mask("causal", 2, 5, 7)[1]
    expected = expected & (np.arange(7) < np.array([2, 5])[:, None, None])
    expected = expected & (abs(np.arange(7) - np.arange(5)[:, None]) <= 2)
    np.testing.assert_array_equal(both.materialise(5, 7)[:, 0], expected)
    assert Mask().materialise(5, 7) is None
    with pytest.raises(ValueError, match="both masks have query_segment_ids"):
        segments & segments


def test_masks_combine_with_masks_or_nothing():
    mask = Mask(causal=True)
    assert mask & None is mask
    assert None & mask is mask
    for other in (True, np.ones((5, 7), bool), jnp.ones((5, 7), bool), [3]):
        with pytest.raises(TypeError, match="by & with another Mask or None, got "):
            mask & other
    ids = jnp.ones((2, 5), jnp.int32)
    parts = Mask(query_segment_ids=ids) & Mask(key_segment_ids=ids)  # a part alone is a value too
    np.testing.assert_array_equal(parts.materialise(5, 5), Mask.segments(ids).materialise(5, 5))


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_a_tree_whatever_stands_for_its_arrays(name):
    mask = make_mask(name, 2, 5, 7)[0] or Mask()
    for standing in (lambda x: None, lambda x: 0, lambda x: (x.shape, x.dtype)):
        leaves = jax.tree.map(standing, mask)
        assert (leaves.causal, leaves.window) == (mask.causal, mask.window)
    leaves, tree = jax.tree.flatten(mask)
    assert jax.tree.structure(jax.tree.unflatten(tree, leaves)) == tree


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_of_some_queries_is_their_rows(name):
    mask, allowed = make_mask(name, 2, 9, 7)
    mask = Mask() if mask is None else mask
    for some in (mask.of_queries(3, 4), mask.of_queries(1, 7).of_queries(2, 4)):
        found = some.materialise(4, 7)
        assert (found is None) == (name == "none")
        if found is not None:
            np.testing.assert_array_equal(np.broadcast_to(found[:, 0], (2, 4, 7)), allowed[:, 3:7])


def test_masks_of_some_queries_combine_where_these_are_the_same():
    some = Mask(causal=True).of_queries(3, 4)
    both = Mask(window=2) & some & some
    np.testing.assert_array_equal(both.materialise(4, 7), (Mask(causal=True, window=2)).materialise(7, 7)[:, :, 3:])
    with pytest.raises(ValueError, match="both masks have query_offset"):
        some & Mask(window=2).of_queries(4, 4)
    assert some.offset_matters(dropped=False)
    neither = Mask(key_lengths=jnp.array([2, 7])).of_queries(3, 4)
    assert (neither.offset_matters(dropped=False), neither.offset_matters(dropped=True)) == (False, True)
    assert not Mask(causal=True).offset_matters(dropped=True)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_blocks_leave_nothing_visible_out(name, shuffled):
    queries, keys, block_q, block_k = 40, 57, 8, 16
    mask, allowed = make_mask(name, 2, queries, keys)
    mask = Mask() if mask is None else mask
    if shuffled and mask.key_segment_ids is not None:
        order = np.random.default_rng(0).permutation(keys)
        mask = Mask.segments(mask.query_segment_ids, mask.key_segment_ids[:, order]) & Mask(causal=mask.causal)
        allowed = np.broadcast_to(mask.materialise(queries, keys)[:, 0], allowed.shape)
    padded = -(-keys // block_k) * block_k
    ids = as_ids(mask, 2, (queries, queries), (keys, padded))
    band = Band(mask.causal, mask.window, keys if ids is None else None)
    pair = None if ids is None else (ids[0][:, :, None], ids[1][:, None])
    seen = band.allowed(jnp.arange(queries)[:, None], jnp.arange(padded), pair)
    seen = np.broadcast_to(np.ones((2, queries, padded)) if seen is None else seen, (2, queries, padded))
    np.testing.assert_array_equal(seen[:, :, :keys], allowed)
    assert not seen[:, :, keys:].any()

    visible = visible_blocks(band, ids, 2, (queries, block_q), (padded, block_k))
    needed = seen.reshape(2, queries // block_q, block_q, padded // block_k, block_k).any((2, 4))
    assert not (needed & ~np.asarray(visible)).any()
    if not shuffled and name != "none":
        assert not np.asarray(visible).all()  # something is skipped
    numbers = np.arange(padded // block_k)
    start, stop = np.moveaxis(np.asarray(block_ranges(visible)), -1, 0)[..., None]
    assert not (needed & ~((start <= numbers) & (numbers < stop))).any()
    np.testing.assert_array_equal((stop > start)[..., 0], np.asarray(visible).any(-1))
