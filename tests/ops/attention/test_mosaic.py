"""The Mosaic GPU attention without a GPU: it lowers, its blocks are the right ones, its kernels run in an emulation.

The emulation replaces the few primitives the kernels use with numpy and runs the warp groups as threads. It
keeps what goes wrong on a GPU: shared memory starts as nan; barriers count arrivals and have parities; a copy, a
product and a store may take effect as soon as they are started or only once they are waited for, and both are tried;
copies fill in zeros past the end of an array, and vectors must never need it. It knows nothing of swizzles, registers
or speed.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxformer.ops.attention import (
    mosaic,
    mosaic_backward,
    mosaic_backward_keys,
    mosaic_backward_queries,
    mosaic_blocks,
    mosaic_forward,
    mosaic_order,
    mosaic_short,
    mosaic_tile,
)
from jaxformer.ops.attention.mask import Mask
from jaxformer.ops.attention.mosaic_blocks import Blocks
from jaxformer.ops.attention.reference import attention_xla
from jaxformer.ops.dropout import head_seeds, keep_at
from tests.ops.attention.base import AttentionTests

BATCH = 2
SMALL_BLOCKS = Blocks(forward_keys=64, forward_stages=2, dq_keys=64, dq_stages=2, dkv_queries=64, dkv_stages=2)


def _segments(length: int, sizes: tuple[tuple[int, ...], ...]) -> jax.Array:
    """int32 [B, length]: segments of these sizes, numbered from 1, then padding."""
    rows = [np.repeat(np.arange(1, len(row) + 1), row)[:length] for row in sizes]
    return jnp.asarray(np.stack([np.pad(row, (0, length - len(row))) for row in rows]), jnp.int32)


def make_mask(kind: str, num_queries: int, num_keys: int) -> Mask | None:
    half = max(num_keys // 2, 1)
    lengths = jnp.asarray([half, num_keys], jnp.int32)
    packed = Mask.segments(
        _segments(num_queries, ((40, 30, 50), (num_queries // 3 + 1, 100))),
        _segments(num_keys, ((40, 70), (num_keys // 2 + 1, 100, 3))),
    )
    return {
        "none": None,
        "causal": Mask(causal=True),
        "window": Mask(window=40),
        "causal window": Mask(causal=True, window=70),
        "key lengths": Mask(key_lengths=lengths),
        "no keys": Mask(key_lengths=jnp.asarray([0, num_keys], jnp.int32)),
        "query lengths": Mask(query_lengths=jnp.asarray([num_queries // 2, num_queries], jnp.int32)),
        "segments": packed,
        "shuffled segments": Mask.segments(
            jnp.asarray(np.random.default_rng(1).integers(0, 3, (BATCH, num_queries)), jnp.int32),
            jnp.asarray(np.random.default_rng(2).integers(0, 3, (BATCH, num_keys)), jnp.int32),
        ),
        "everything": packed & Mask(causal=True, window=90, key_lengths=lengths, query_lengths=lengths),
    }[kind]


KINDS = (
    "none",
    "causal",
    "window",
    "causal window",
    "key lengths",
    "no keys",
    "query lengths",
    "segments",
    "shuffled segments",
    "everything",
)


# Which blocks are walked along, against every single pair.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("num_queries", "num_keys", "query_block", "key_block"),
    [(1, 1, 128, 128), (65, 63, 128, 64), (200, 300, 64, 128), (704, 192, 128, 128)],
)
def test_block_ranges_hold_every_visible_pair_and_whole_blocks_hide_none(
    kind: str, num_queries: int, num_keys: int, query_block: int, key_block: int
) -> None:
    mask = make_mask(kind, num_queries, num_keys) or Mask()
    allowed = mask.materialise(num_queries, num_keys)
    allowed = np.ones((1, 1, 1), bool) if allowed is None else np.asarray(allowed)[:, 0]
    allowed = np.broadcast_to(allowed, (len(allowed), num_queries, num_keys))
    compute = jax.jit(mosaic_blocks.visibility, static_argnums=(1, 2, 3, 4))
    visible, whole = compute(mask, num_queries, num_keys, query_block, key_block)
    for transposed in (False, True):
        pairs = allowed.swapaxes(1, 2) if transposed else allowed
        rows, columns = (key_block, query_block) if transposed else (query_block, key_block)
        flags = (x.swapaxes(1, 2) if transposed else x for x in (visible, whole))
        ranges = np.asarray(jax.jit(mosaic_blocks.block_ranges)(*flags))
        assert ranges.shape == (ranges.shape[0], -(-pairs.shape[1] // rows), 4)
        for b in range(pairs.shape[0]):
            for i, (start, end, whole_start, whole_end) in enumerate(ranges[min(b, len(ranges) - 1)]):
                mine = pairs[b, i * rows : (i + 1) * rows]
                assert start <= whole_start <= whole_end <= end <= -(-pairs.shape[2] // columns)
                assert not mine[:, : start * columns].any()
                assert not mine[:, end * columns :].any()
                assert mine[:, whole_start * columns : whole_end * columns].all()
                if whole_end > whole_start:  # keys past the end are hidden by the mask: never in a whole block
                    last_key = (i + 1) * rows if transposed else whole_end * columns
                    assert last_key <= num_keys


def test_causal_blocks_are_skipped_and_most_are_whole() -> None:
    visible, whole = mosaic_blocks.visibility(Mask(causal=True), 1024, 1024, 128, 128)
    ranges = np.asarray(mosaic_blocks.block_ranges(visible, whole))[0]
    np.testing.assert_array_equal(ranges, [[0, i + 1, 0, i] for i in range(8)])


def test_packed_blocks_are_skipped() -> None:
    ids = _segments(512, ((128, 256, 128),))
    visible, whole = mosaic_blocks.visibility(Mask.segments(ids), 512, 512, 128, 128)
    ranges = np.asarray(mosaic_blocks.block_ranges(visible, whole))[0]
    np.testing.assert_array_equal(ranges, [[0, 1, 0, 1], [1, 3, 1, 3], [1, 3, 1, 3], [3, 4, 3, 4]])


# What fits, and what is refused.


@pytest.mark.parametrize("head_size", [32, 64, 96, 128])
def test_default_blocks_fit_shared_memory(head_size: int) -> None:
    for what in ({}, {"plain": (192, 999)}, {"plain": (256, 999)}, {"segmented_keys": 256}):
        sizes = mosaic_blocks.default_blocks(head_size, **what).shared_memory(head_size)
        assert set(sizes) == {"forward", "dq", "dkv"}
        assert max(sizes.values()) <= mosaic_blocks.SHARED_MEMORY == 232448


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_no_thread_waits_for_registers_that_nobody_gives(groups: int) -> None:
    computes, copies = mosaic_blocks.registers(groups)
    threads = 128 * (groups + 1)
    at_launch = 65536 // threads // 8 * 8
    assert copies <= at_launch <= computes <= 255
    assert computes % 8 == copies % 8 == 0  # what `setmaxnreg` takes
    assert copies >= 24
    assert 128 * (groups * computes + copies) <= threads * at_launch


@pytest.mark.parametrize(
    ("queries", "heads", "groups"),
    [
        # Many rounds: what a last tile leaves empty decides. At 512 and 1,024 four were fastest on an H200, at 4,096
        # three.
        (65, 2048, 2), (128, 2048, 2), (192, 1360, 3), (256, 1024, 4), (384, 680, 3), (512, 512, 4), (1024, 256, 4),
        (4096, 64, 3),
        # One round: the shorter the tiles, the better, as long as they are no more than there are processors.
        (512, 32, 2), (512, 44, 3), (512, 66, 4),
    ],
)  # fmt: skip
def test_compute_groups_fit_the_queries_where_nothing_is_masked(queries: int, heads: int, groups: int) -> None:
    blocks = mosaic_blocks.default_blocks(64, plain=(queries, heads))
    assert (blocks.forward_groups, blocks.forward_keys) == (groups, 64 if groups == 4 else 128)
    assert mosaic_blocks.default_blocks(32, plain=(queries, heads)).forward_groups == groups
    assert mosaic_blocks.default_blocks(96, plain=(queries, heads)).forward_groups == 2


@pytest.mark.parametrize(
    ("mask", "rate", "seeded", "keys", "expected"),
    [
        (None, 0.0, False, 256, (4, 64)),
        (None, 0.1, True, 256, (2, 128)),
        (None, 0.1, False, 256, (4, 64)),  # without a seed nothing is dropped
        (None, 0.0, False, 192, (2, 128)),  # the end of the last block has to be masked
        (Mask(causal=True), 0.0, False, 256, (2, 128)),
        ("segments", 0.1, True, 256, (2, 64)),
        ("segments", 0.0, False, 128, (2, 128)),
    ],
)
def test_a_call_has_the_blocks_for_it(
    mask: Any, rate: float, seeded: bool, keys: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(mosaic, "_attention", lambda call, q, *_: seen.append(call) or q)
    q, k = (jnp.zeros((BATCH, length, 256, 64), jnp.bfloat16) for length in (512, keys))
    if mask == "segments":
        mask = Mask.segments(jnp.ones((BATCH, 512), jnp.int32), jnp.ones((BATCH, keys), jnp.int32))
    mosaic.attention_mosaic_anywhere(
        q, k, k, mask=mask, scale=1.0, dropout=rate, dropout_seed=jnp.uint32(1) if seeded else None
    )
    assert (seen[0].blocks.forward_groups, seen[0].blocks.forward_keys) == expected


def test_segments_come_in_shorter_blocks_unless_one_has_all_keys() -> None:
    assert mosaic_blocks.default_blocks(64, segmented_keys=128) == mosaic_blocks.default_blocks(64)
    blocks = mosaic_blocks.default_blocks(64, segmented_keys=129)
    assert (blocks.forward_keys, blocks.forward_stages, blocks.forward_groups) == (64, 8, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"forward_keys": 96}, {"dq_keys": 320}, {"dkv_queries": 256}, {"dq_stages": 1}, {"forward_groups": 1},
        {"dkv_queries": 128, "forward_groups": 3},
    ],
)
def test_impossible_blocks_are_errors(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Blocks(**change)


def _inputs(num_queries: int, num_keys: int, heads: int, kv_heads: int, head_size: int, dtype: Any) -> list[jax.Array]:
    shapes = [(BATCH, num_queries, heads, head_size)] + [(BATCH, num_keys, kv_heads, head_size)] * 2
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(key, shape, jnp.float32).astype(dtype) for key, shape in zip(keys, shapes, strict=True)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": jnp.float32}, "no float32 operands"),
        ({"head_size": 256}, "registers"),
        ({"head_size": 192}, "registers"),
        ({"head_size": 40}, "64 or 128 bytes"),
        ({"scale": -1.0}, "positive scale"),
        ({"blocks": Blocks(forward_keys=256, forward_stages=4)}, "shared memory"),
    ],
)
def test_refusals_carry_reasons(change: dict[str, Any], reason: str) -> None:
    q, k, v = _inputs(8, 8, 2, 2, change.get("head_size", 128), change.get("dtype", jnp.bfloat16))
    options = {name: change[name] for name in ("scale", "blocks") if name in change}
    with pytest.raises(NotImplementedError, match=reason):
        mosaic.attention_mosaic_anywhere(
            q, k, v, mask=None, dropout=0.0, dropout_seed=None, **({"scale": 0.1} | options)
        )


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="refused only elsewhere")
def test_other_devices_are_refused() -> None:
    q, k, v = _inputs(8, 8, 2, 2, 64, jnp.bfloat16)
    with pytest.raises(NotImplementedError, match="Hopper GPUs"):
        mosaic.attention_mosaic(q, k, v, mask=None, scale=0.1, dropout=0.0, dropout_seed=None)


def _is_hopper() -> bool:
    return jax.default_backend() == "gpu" and str(jax.devices()[0].compute_capability).startswith("9.")


@pytest.mark.skipif(not _is_hopper(), reason="needs a Hopper GPU; the emulation below does not")
class TestMosaic(AttentionTests):
    """The kernels themselves, as a run compiles them."""

    implementation = "mosaic"
    size = 64
    may_refuse = True

    @pytest.mark.parametrize(
        "case",
        [
            (64, 64, "none", "bfloat16", 2, 2),
            (17, 33, "causal+segments", "float16", 2, 2),
            (1, 17, "lengths", "bfloat16", 2, 2),
            (65, 63, "causal", "bfloat16", 2, 1),
            (704, 704, "causal+segments", "bfloat16", 2, 2),
            (130, 300, "lengths", "float16", 4, 2),
            (128, 192, "nothing", "bfloat16", 2, 2),
        ],
        ids=lambda case: "-".join(map(str, case)),
    )
    def test_what_it_takes_is_right(self, case: tuple) -> None:
        self.may_refuse = False
        self.check(*case)

    @pytest.mark.parametrize("head_size", [32, 96, 128])
    def test_other_head_sizes_are_right(self, head_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(self, "may_refuse", False)
        monkeypatch.setattr(self, "size", head_size)
        self.check(200, 130, "causal", "bfloat16", 2, 2)
        self.check(60, 50, "segments", "bfloat16", 2, 2)

    @pytest.mark.parametrize(
        ("head_size", "queries", "kind", "groups"),
        [(64, 576, "none", 3), (64, 512, "none", 4), (64, 576, "causal+segments", 2), (128, 576, "causal", 2)],
    )
    def test_several_tiles_a_thread_block_are_right(
        self, head_size: int, queries: int, kind: str, groups: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mosaic_forward, "PROCESSORS", 2)
        monkeypatch.setattr(mosaic_blocks, "PROCESSORS", 2)
        plain = (queries, 2 * BATCH) if kind == "none" else None
        assert mosaic_blocks.default_blocks(head_size, plain=plain).forward_groups == groups
        monkeypatch.setattr(self, "may_refuse", False)
        monkeypatch.setattr(self, "size", head_size)
        self.check(queries, 512, kind, "bfloat16", 2, 2)


# Lowering, which checks layouts, tilings, swizzles, TMA shapes and registers' types, but runs nothing.


def _lower(kind: str, *, shape: tuple[int, int, int, int, int], dtype: Any, rate: float = 0.0) -> None:
    num_queries, num_keys = shape[:2]
    mask = make_mask(kind, num_queries, num_keys)
    inputs = _inputs(*shape, dtype)

    def loss(q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask | None, seed: jax.Array) -> jax.Array:
        return mosaic.attention_mosaic_anywhere(
            q, k, v, mask=mask, scale=0.125, dropout=rate, dropout_seed=seed
        ).astype(jnp.float32).sum()

    both = jax.value_and_grad(loss, argnums=(0, 1, 2))
    text = jax.jit(both).trace(*inputs, mask, jnp.uint32(7)).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("mosaic_gpu") >= (2 if max(shape[:2]) <= 64 and shape[2] == shape[3] else 3)


@pytest.mark.parametrize("kind", KINDS)
def test_lowers_for_every_mask(kind: str) -> None:
    _lower(kind, shape=(200, 300, 4, 2, 64), dtype=jnp.bfloat16)


@pytest.mark.parametrize(
    ("head_size", "dtype"),
    [
        (32, jnp.bfloat16),
        (96, jnp.float16),
        (128, jnp.bfloat16),
        *[
            pytest.param(size, dtype, marks=pytest.mark.slow)
            for size, dtype in ((32, jnp.float16), (96, jnp.bfloat16), (128, jnp.float16))
        ],
    ],
)
def test_lowers_for_every_head_size(head_size: int, dtype: Any) -> None:
    _lower("causal", shape=(128, 128, 2, 2, head_size), dtype=dtype)


@pytest.mark.parametrize(("queries", "kv_heads", "groups"), [(192, 2, 3), (256, 1, 4)])
def test_lowers_for_three_and_four_compute_groups(
    queries: int, kv_heads: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosaic_blocks, "PROCESSORS", 1)
    assert mosaic_blocks.default_blocks(64, plain=(queries, 2 * BATCH)).forward_groups == groups
    _lower("none", shape=(queries, 128, 2, kv_heads, 64), dtype=jnp.bfloat16)


@pytest.mark.parametrize("shape", [(1, 1, 2, 2, 64), (17, 704, 4, 1, 64), (704, 17, 2, 2, 128)])
def test_lowers_for_odd_lengths(shape: tuple[int, int, int, int, int]) -> None:
    _lower("segments", shape=shape, dtype=jnp.float16)


def test_lowers_with_dropout() -> None:
    _lower("everything", shape=(65, 130, 4, 2, 64), dtype=jnp.bfloat16, rate=0.1)


# The kernels themselves, emulated.


class Deadlock(AssertionError):
    """A warp group waited for something that never came."""


class Reference:
    """A piece of memory: an array, and indices into it that are applied when it is read or written."""

    def __init__(self, array: np.ndarray, index: tuple[Any, ...] = (), permutation: tuple[int, ...] | None = None):
        self.array, self.index, self.permutation = array, index, permutation
        self.shape, self.dtype = array.shape, array.dtype

    @property
    def at(self) -> Any:
        return _At(self)

    def transpose(self, permutation: tuple[int, ...]) -> Reference:
        return Reference(self.array, self.index, permutation)

    def _places(self) -> list[np.ndarray]:
        """For each axis, the indices wanted of it, within the array or not."""
        index = self.index + (slice(None),) * (self.array.ndim - len(self.index))
        places = []
        for length, one in zip(self.array.shape, index, strict=True):
            if isinstance(one, slice):
                places.append(np.arange(length))
            elif hasattr(one, "size") and hasattr(one, "start"):
                places.append(int(one.start) + np.arange(int(one.size)))
            else:
                places.append(np.asarray([int(one)]))
        return places

    def _squeezed(self) -> tuple[int, ...]:
        index = self.index + (slice(None),) * (self.array.ndim - len(self.index))
        return tuple(i for i, one in enumerate(index) if not isinstance(one, slice) and not hasattr(one, "start"))

    def read(self, *, past_end: bool = False) -> np.ndarray:
        """The values; zeros past the end, where that is allowed."""
        places = self._places()
        inside = [(p >= 0) & (p < n) for p, n in zip(places, self.array.shape, strict=True)]
        assert past_end or all(x.all() for x in inside), f"{self.array.shape} read at {self.index}"
        values = self.array[np.ix_(*[np.clip(p, 0, n - 1) for p, n in zip(places, self.array.shape, strict=True)])]
        seen = inside[0]
        for one in inside[1:]:
            seen = seen[..., None] & one
        values = np.where(seen, values, np.zeros((), values.dtype)).squeeze(self._squeezed())
        return values if self.permutation is None else values.transpose(self.permutation)

    def write(self, values: Any) -> None:
        """Stores values; what lies past the end is left out."""
        places, values = self._places(), np.asarray(values)
        values = np.expand_dims(values, self._squeezed())
        inside = [(p >= 0) & (p < n) for p, n in zip(places, self.array.shape, strict=True)]
        kept = [p[x] for p, x in zip(places, inside, strict=True)]
        self.array[np.ix_(*kept)] = values[np.ix_(*[np.flatnonzero(x) for x in inside])]

    def __getitem__(self, index: Any) -> Any:
        return self.read() if index is Ellipsis else self.at[index].read()[()]

    def __setitem__(self, index: Any, values: Any) -> None:
        assert index is Ellipsis
        assert tuple(values.shape) == self.read().shape
        assert values.dtype == self.dtype
        self.write(values)
        _GROUP.dirty = True


@dataclasses.dataclass
class _At:
    reference: Reference

    def __getitem__(self, index: Any) -> Any:
        index = index if isinstance(index, tuple) else (index,)
        if isinstance(self.reference, Barriers):
            return self.reference.barriers[int(index[0])]
        assert not self.reference.index, "indexed once is enough for these kernels"
        return Reference(self.reference.array, index)


class Barrier:
    """Counts arrivals of warp groups and bytes of copies; both missing ones keep a phase from ending."""

    def __init__(self, arrivals: int):
        self.arrivals = self.missing = arrivals
        self.phases = 0
        self.copies: list[Any] = []
        self.changed = threading.Condition()

    def arrive(self, copy: Any = None) -> None:
        with self.changed:
            if copy is not None:
                if _GROUP.late:
                    self.copies.append(copy)
                else:
                    copy()
            self.missing -= 1
            assert self.missing >= 0, "more arrivals than the barrier counts"
            if self.missing == 0 and not self.copies:
                self._end_phase()

    def _end_phase(self) -> None:
        self.phases, self.missing = self.phases + 1, self.arrivals
        self.changed.notify_all()

    def wait(self) -> None:
        waits = _GROUP.waits.get(id(self), 0)
        with self.changed:
            if self.missing == 0 and self.copies:  # late copies land now
                for copy in self.copies:
                    copy()
                self.copies = []
                self._end_phase()

            def landed() -> bool:
                if self.missing == 0 and self.copies:
                    for copy in self.copies:
                        copy()
                    self.copies = []
                    self._end_phase()
                return self.phases % 2 != waits % 2  # all that the hardware can tell

            while not landed():
                if not self.changed.wait(timeout=0.05) and _GROUP.failed.is_set():
                    raise Deadlock("another warp group failed")
                _GROUP.patience -= 1
                if _GROUP.patience < 0:
                    _GROUP.failed.set()
                    raise Deadlock(f"waited in vain in {threading.current_thread().name}")
            _GROUP.patience = 400
            assert self.phases == waits + 1, f"phase {self.phases} taken for phase {waits + 1}"
        _GROUP.waits[id(self)] = waits + 1


class Barriers(Reference):
    def __init__(self, arrivals: int, count: int):
        self.barriers = [Barrier(arrivals) for _ in range(count)]


class Accumulator:
    """What products are added to, when they are waited for."""

    def __init__(self, value: Any):
        self.value = np.asarray(value, np.float32)

    def __getitem__(self, index: Any) -> np.ndarray:
        assert index is Ellipsis
        _finish_products()
        return self.value

    def __setitem__(self, index: Any, value: np.ndarray) -> None:
        assert index is Ellipsis
        assert not _GROUP.products, "written to while products are on their way"
        self.value = value


_GROUP = threading.local()


def _finish_products(but: int = 0) -> None:
    """Ends all products but the last few."""
    count = max(len(_GROUP.products) - but, 0)
    for product in _GROUP.products[:count]:
        product()
    _GROUP.products = _GROUP.products[count:]


def _load_accumulator(accumulator: Accumulator, wait_n: int) -> np.ndarray:
    _finish_products(but=wait_n)
    return accumulator.value


def _wgmma(accumulator: Accumulator, a: Any, b: Reference) -> None:
    assert isinstance(b, Reference)

    def product() -> None:
        left, right = a.read() if isinstance(a, Reference) else a, b.read()
        assert left.dtype == right.dtype == np.float16
        accumulator.value = accumulator.value + left.astype(np.float32) @ right.astype(np.float32)

    if _GROUP.late:
        _GROUP.products.append(product)
    else:
        product()


def _copy_in(source: Reference, target: Reference, barrier: Any) -> None:
    assert source.dtype == target.dtype
    matrix = source.array.ndim == 4
    assert not matrix or source.array.shape[1] % 8 == 0

    def copy() -> None:
        target.write(source.read(past_end=matrix))

    _barrier(barrier).arrive(copy)


def _copy_out(source: Reference, target: Reference) -> None:
    assert not _GROUP.dirty, "commit_smem is missing"
    assert source.dtype == target.dtype
    if _GROUP.late_stores:
        _GROUP.stores.append(lambda: target.write(source.read()))
    else:
        target.write(source.read())


def _finish_stores(count: int) -> None:
    assert count == 0
    if _GROUP.stores and not _GROUP.late:
        time.sleep(0.01)  # for those to go on who should not yet
    for store in _GROUP.stores:
        store()
    _GROUP.stores = []


def _barrier(barrier: Any) -> Barrier:
    return barrier.barriers[0] if isinstance(barrier, Barriers) else barrier


def _run_scoped(body: Any, *kinds: Any) -> Any:
    return body(*[Accumulator(np.zeros(shape)) for shape in kinds])


def _run_state(body: Any) -> Any:
    def run(initial: Any) -> Any:
        many = isinstance(initial, tuple)
        accumulators = tuple(Accumulator(x) for x in (initial if many else (initial,)))
        body(accumulators if many else accumulators[0])
        _finish_products()
        values = tuple(x.value for x in accumulators)
        return values if many else values[0]

    return run


def _fori_loop(start: Any, end: Any, body: Any, carry: Any) -> Any:
    for index in range(int(start), int(end)):
        carry = body(np.int32(index), carry)
    return carry


_WHEN = types.SimpleNamespace(late=False, late_stores=False)
"""What happens as late as it may in the kernels that are emulated next: everything asynchronous, and stores."""


def _commit() -> None:
    _GROUP.dirty = False


def _kernel(
    body: Any, *, out_type: Any, scratch_types: dict[str, Any], grid: Any, grid_names: Any, **launch: Any
) -> Any:
    late, late_stores = _WHEN.late, _WHEN.late_stores

    def run(*operands: jax.Array) -> list[jax.Array]:
        inputs = [Reference(np.asarray(x)) for x in operands]
        outputs = [Reference(np.full(x.shape, np.nan, x.dtype)) for x in out_type]
        for place in np.ndindex(*grid):
            scratch = {name: make() for name, make in scratch_types.items()}
            failed, errors = threading.Event(), []

            def group(
                number: int, place: Any = place, scratch: Any = scratch, failed: Any = failed, errors: Any = errors
            ) -> None:
                names = dict(zip(grid_names, place, strict=True)) | {launch["thread_name"]: number}
                _GROUP.names = {name: np.int32(value) for name, value in names.items()}
                _GROUP.late, _GROUP.late_stores, _GROUP.failed, _GROUP.patience = late, late_stores, failed, 400
                _GROUP.waits, _GROUP.products, _GROUP.stores, _GROUP.dirty = {}, [], [], False
                try:
                    body(*inputs, *outputs, **scratch)
                    assert not any((_GROUP.products, _GROUP.stores, _GROUP.dirty)), "something is not waited for"
                except BaseException as error:
                    failed.set()
                    errors.append(error)

            threads = [
                threading.Thread(target=group, args=(i,), name=f"group {i}") for i in range(launch["num_threads"])
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if errors:
                raise next((e for e in errors if not isinstance(e, Deadlock)), errors[0])
        return [jnp.asarray(x.array) for x in outputs]

    return run


@pytest.fixture(params=[False, True], ids=["early", "late"])
def emulated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the emulation in the place of the primitives; asynchronous things happen at once, or as late as they may.

    Or, with "stores", stores alone happen late: what overwrites them does not.
    """
    _WHEN.late, _WHEN.late_stores = request.param is True, bool(request.param)

    class ACC:
        @staticmethod
        def init(value: np.ndarray) -> np.ndarray:
            return value

        def __new__(cls, shape: tuple[int, ...], dtype: Any) -> Any:
            return shape

    fake = types.SimpleNamespace(
        Layout=plgpu.Layout,
        ACC=ACC,
        SMEM=lambda shape, dtype, transforms=(): lambda: Reference(
            np.full(shape, np.nan, dtype) if jnp.issubdtype(dtype, jnp.floating) else np.full(shape, -7, dtype)
        ),
        Barrier=lambda num_arrivals=1, num_barriers=1: lambda: Barriers(num_arrivals, num_barriers),
        TilingTransform=plgpu.TilingTransform,
        SwizzleTransform=plgpu.SwizzleTransform,
        CompilerParams=plgpu.CompilerParams,
        LoweringSemantics=plgpu.LoweringSemantics,
        kernel=_kernel,
        layout_cast=lambda x, layout: x,
        load=lambda ref, *index, layout, optimized: ref.read(),
        broadcasted_iota=lambda dtype, shape, axis, layout: np.indices(shape, dtype)[axis],
        set_max_registers=lambda count, action: None,
        wgmma=_wgmma,
        wgmma_accumulator_load=_load_accumulator,
        copy_gmem_to_smem=_copy_in,
        copy_smem_to_gmem=_copy_out,
        wait_smem_to_gmem=_finish_stores,
        commit_smem=_commit,
        barrier_arrive=lambda barrier: _barrier(barrier).arrive(),
        barrier_wait=lambda barrier: _barrier(barrier).wait(),
    )
    fake_lax = types.SimpleNamespace(
        axis_index=lambda name: _GROUP.names[name],
        fori_loop=_fori_loop,
        cond=lambda predicate, yes, no: yes() if bool(predicate) else no(),
        optimization_barrier=lambda values: values,
        rem=lambda a, b: a % b,
        div=lambda a, b: a // b,
        broadcast_in_dim=lambda x, shape, axes: np.broadcast_to(x[:, None] if axes == [0] else x, shape),
    )
    fake_pl = types.SimpleNamespace(
        when=lambda predicate: lambda body: body() if bool(predicate) else None,
        run_scoped=_run_scoped,
        run_state=_run_state,
        ds=pl.ds,
        cdiv=pl.cdiv,
    )

    def keep_at_places(seed: Any, indices: Any, *rest: Any) -> np.ndarray:
        return np.asarray(keep_at(jnp.asarray(seed), [jnp.asarray(i) for i in indices], *rest))

    monkeypatch.setattr(mosaic_tile, "keep_at", keep_at_places)
    backward = (mosaic_backward, mosaic_backward_keys, mosaic_backward_queries)
    for module in (mosaic_tile, mosaic_order, mosaic_forward, *backward, mosaic_short):
        monkeypatch.setattr(module, "jnp", np)  # in a kernel; numpy has the same names and compiles nothing
        for name, stand_in in (("plgpu", fake), ("lax", fake_lax), ("pl", fake_pl)):
            monkeypatch.setattr(module, name, stand_in, raising=False)  # not all have all three


def _check(kind: str, shape: tuple[int, int, int, int, int], *, blocks: Blocks, rate: float = 0.0) -> None:
    """Output and gradients against the reference in float32, on the same float16 numbers."""
    num_queries, num_keys, heads, kv_heads, head_size = shape
    mask = make_mask(kind, num_queries, num_keys)
    q, k, v = _inputs(*shape, jnp.float16)
    d_out = jax.random.normal(jax.random.key(5), q.shape, jnp.float32).astype(jnp.float16)
    seed = jnp.uint32(11) if rate else None
    scale = head_size**-0.5
    call = mosaic_tile.Call(
        *(BATCH, num_queries, num_keys, heads, kv_heads, head_size, scale, rate),
        causal=mask is not None and mask.causal,
        window=None if mask is None else mask.window,
        blocks=blocks,
    )

    def reference(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return attention_xla(q, k, v, mask=mask, scale=scale, dropout=rate, dropout_seed=seed)

    wide = [x.astype(jnp.float32) for x in (q, k, v)]
    @jax.jit
    def expectation(d_out: jax.Array, *inputs: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        out, pullback = jax.vjp(reference, *inputs)
        return out, pullback(d_out)

    expected, right_gradients = expectation(d_out.astype(jnp.float32), *wide)
    seeds = None if seed is None else head_seeds(seed, call.batch, call.num_heads)
    out, residuals = mosaic._forward(call, q, k, v, mask or Mask(), seeds)
    np.testing.assert_allclose(out, expected, atol=4e-3)
    gradients = mosaic._backward(call, residuals, d_out)[:3]
    for name, mine, right in zip("qkv", gradients, right_gradients, strict=True):
        assert mine.dtype == jnp.float16
        np.testing.assert_allclose(mine, right, atol=1.5e-2, err_msg=f"gradient of {name}")


_EACH_KIND = [
    pytest.param(
        kind, late, id=f"{'late' if late else 'early'}-{kind}",
        marks=pytest.mark.slow if late == bool(number % 2) and kind != "everything" else [],
    )
    for number, kind in enumerate(KINDS)
    for late in (False, True)
]  # fmt: skip
"""Masks in both orders of what is asynchronous: one of them by default, in turn, and both for everything together."""


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(("kind", "emulated"), _EACH_KIND, indirect=["emulated"])
def test_emulated_kernels_agree_for_every_mask(kind: str) -> None:
    _check(kind, (150, 203, 2, 1, 32), blocks=SMALL_BLOCKS)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(
    "kind",
    ["none", "everything", *[pytest.param(kind, marks=pytest.mark.slow) for kind in ("causal window", "no keys")]],
)
@pytest.mark.parametrize("groups", [2, 3, 4])
def test_emulated_thread_blocks_take_several_tiles(
    kind: str, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosaic_forward, "PROCESSORS", 2)
    blocks = dataclasses.replace(SMALL_BLOCKS, forward_groups=groups)
    _check(kind, (330, 203, 2, 1, 32), blocks=blocks)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("emulated", ["stores"], indirect=True)
@pytest.mark.parametrize("groups", [2, 3])
def test_results_are_out_before_queries_take_their_place(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosaic_forward, "PROCESSORS", 2)
    # All blocks of keys have a stage of their own: nothing but the queries keeps the copying group back.
    _check("none", (330, 100, 2, 1, 32), blocks=dataclasses.replace(SMALL_BLOCKS, forward_groups=groups))


@pytest.mark.usefixtures("emulated")
def test_three_groups_start_their_products_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosaic_forward, "PROCESSORS", 1)
    taken: list[int] = []
    take = mosaic_order.Turns.take

    def take_and_tell(turns: Any) -> None:
        take(turns)
        taken.append(int(turns.group))

    monkeypatch.setattr(mosaic_order.Turns, "take", take_and_tell)
    _check("none", (192, 640, 1, 1, 32), blocks=dataclasses.replace(SMALL_BLOCKS, forward_groups=3))
    # Of a tile's ten blocks the first has no product of weights and values before it, and no turn.
    assert taken == [0, 1, 2] * 9 * BATCH


def _dealt(workers: int, total: int) -> list[list[int]]:
    """The numbers of the tiles of each thread block."""
    share = mosaic_order.Share(np.arange(workers, dtype=np.int32), workers, total)
    count = np.broadcast_to(np.asarray(share.count), (workers,))
    rounds = [np.asarray(share.number(jnp.int32(index))) for index in range(count.max() + 1)]
    assert all(((numbers >= 0) & (numbers < total)).all() for numbers in rounds)  # the one after the last is asked for
    return [[int(numbers[worker]) for numbers in rounds[: count[worker]]] for worker in range(workers)]


@pytest.mark.parametrize(
    ("workers", "total"), [(1, 1), (1, 5), (5, 5), (2, 4), (2, 5), (132, 264), (132, 265), (132, 395)]
)
def test_thread_blocks_take_every_tile_once(workers: int, total: int) -> None:
    dealt = _dealt(workers, total)
    assert sorted(number for numbers in dealt for number in numbers) == list(range(total))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


@pytest.mark.parametrize("tiles", [2, 3, 4, 8, 16, 32])
def test_under_a_causal_mask_thread_blocks_have_even_work(tiles: int) -> None:
    dealt = _dealt(132, 16_384 // 128 * 16)
    blocks = [sum(tiles - number % tiles for number in numbers) for numbers in dealt]  # a head's longest tile is first
    assert max(blocks) <= sum(blocks) / len(blocks) + tiles


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1, 32), (128, 128, 2, 2, 32), (17, 320, 1, 1, 64), (320, 17, 3, 1, 32), (256, 384, 1, 1, 32)]
)
def test_emulated_kernels_agree_for_lengths_and_heads(shape: tuple[int, int, int, int, int]) -> None:
    _check("none", shape, blocks=dataclasses.replace(SMALL_BLOCKS, forward_keys=128, dkv_queries=128, dkv_stages=3))


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(("kind", "emulated"), _EACH_KIND, indirect=["emulated"])
@pytest.mark.parametrize(
    "shape", [(50, 37, 2, 2, 32), pytest.param((64, 64, 2, 2, 64), marks=pytest.mark.slow)], ids=["odd", "full"]
)
def test_emulated_short_kernels_agree_for_every_mask(kind: str, shape: tuple[int, int, int, int, int]) -> None:
    _check(kind, shape, blocks=SMALL_BLOCKS, rate=0.2 if kind == "everything" else 0.0)


def test_short_kernels_take_what_fits_one_tile() -> None:
    call = mosaic_tile.Call(2, 64, 64, 4, 4, 64, 0.125, 0.0, causal=True, window=None, blocks=SMALL_BLOCKS)
    assert mosaic_short.takes(call)
    for change in ({"num_queries": 65}, {"num_keys": 65}, {"num_kv_heads": 2}):
        assert not mosaic_short.takes(dataclasses.replace(call, **change))


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("kind", ["none", "everything"])
def test_emulated_kernels_drop_what_the_reference_drops(kind: str) -> None:
    _check(kind, (70, 130, 4, 2, 32), blocks=SMALL_BLOCKS, rate=0.3)
