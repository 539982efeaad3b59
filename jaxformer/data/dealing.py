"""The order of the rows of a batch: such that devices, which take them in blocks, get equally many real tokens.

Rows are dealt by size alone, never by how many devices there are: the same order is as even as can be for 2, 4, 8, ...
blocks at once, so that a run continues on other devices with the same batches. Other numbers of blocks that divide the
rows come out nearly as even. Not for which records form a row or a batch (`packing.py`, `bucketing.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxformer.data.bucketing import Shape, WindowPlan


def even_order(sizes: np.ndarray) -> np.ndarray:
    """An order of rows whose halves, quarters, eighths, ... have sums that are as equal as can be.

    The rows, m * 2^k of them with m odd, are dealt to 2^k groups in m rounds, the largest first: in each round the
    group with the smallest sum comes first (the rule LPT of Graham 1969, with equal numbers). Then groups are paired,
    the one of the largest sum with that of the smallest, and the pairs paired again, up to the whole.

    Args:
      sizes: int [batches, B], of the rows.

    Returns:
      int64 [batches, B]: which row comes first, second, ...
    """
    batches, rows = sizes.shape
    count = rows & -rows  # the largest power of two that divides
    falling = np.argsort(-sizes, axis=1, kind="stable")
    rounds = falling.reshape(batches, -1, count)
    groups = np.empty((batches, count, rounds.shape[1]), np.int64)
    sums = np.zeros((batches, count), np.int64)
    for number in range(rounds.shape[1]):
        given = rounds[:, number]
        taker = np.argsort(sums, axis=1, kind="stable")
        np.put_along_axis(groups[:, :, number], taker, given, axis=1)
        np.put_along_axis(sums, taker, np.take_along_axis(sums, taker, 1) + np.take_along_axis(sizes, given, 1), axis=1)
    groups = groups[:, :, _alternating(rounds.shape[1])]
    while groups.shape[1] > 1:
        half = groups.shape[1] // 2
        order = np.argsort(-sums, axis=1, kind="stable")
        large, small = order[:, :half], order[:, : half - 1 : -1]
        pair = [np.take_along_axis(groups, side[:, :, None], axis=1) for side in (large, small)]
        groups = np.concatenate(pair, axis=2)
        sums = np.take_along_axis(sums, large, axis=1) + np.take_along_axis(sums, small, axis=1)
    return groups[:, 0]


def _alternating(count: int) -> np.ndarray:
    """0, n - 1, 1, n - 2, ...: large and small in turn, for blocks that end inside a group."""
    return np.stack([np.arange(count), np.arange(count)[::-1]], axis=1).ravel()[:count]


def deal(plan: WindowPlan, sizes: np.ndarray, shapes: Sequence[Shape]) -> WindowPlan:
    """`plan` with the rows of every batch in `even_order`.

    Args:
      plan: of batches.
      sizes: int [n], real tokens of each record, both sides together, numbered as in `plan.records`.
      shapes: what the batches' shape numbers mean.
    """
    batch_of = np.repeat(np.arange(len(plan)), np.diff(plan.starts))
    rows = plan.rows.astype(np.int64)
    for number in np.unique(plan.shapes):
        batches = np.flatnonzero(plan.shapes == number)
        local = np.full(len(plan), -1)
        local[batches] = np.arange(len(batches))
        own = np.flatnonzero(local[batch_of] >= 0)
        shape = (len(batches), shapes[number].rows)
        place = local[batch_of[own]] * shape[1] + rows[own]
        totals = np.bincount(place, sizes[plan.records[own]], minlength=shape[0] * shape[1]).astype(np.int64)
        order = even_order(totals.reshape(shape))
        rows[own] = np.argsort(order, axis=1).ravel()[place]
    order = np.lexsort((rows, batch_of))  # stable: the records of a row stay in their order
    return dataclasses.replace(plan, records=plan.records[order], rows=rows[order].astype(np.int32))


def imbalance(sizes: np.ndarray, parts: int) -> np.ndarray:
    """The largest sum over equal blocks of rows, over the mean of these sums, minus 1: 0.03 is 3 % above the mean.

    Args:
      sizes: [*, B], real tokens of rows.
      parts: how many blocks; divides B.

    Returns:
      float [*].
    """
    blocks = sizes.reshape(*sizes.shape[:-1], parts, -1).sum(axis=-1)
    return blocks.max(axis=-1) / blocks.mean(axis=-1) - 1.0
