"""Block sizes of the Mosaic GPU attention, what they cost in shared memory, and which blocks matter to which queries.

Plain Python and `jax.numpy`, run outside the kernels: everything that decides how long a kernel's loop is can be
tested on a CPU. The kernels themselves are in `mosaic_forward.py` and `mosaic_backward_*.py`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxformer.ops.attention.mask import Mask

ROWS = 64
"""Rows a compute warp group holds: the fixed M of Hopper's `wgmma`."""

COMPUTE_GROUPS = 2
"""Warp groups that compute in the backward kernels; a third one only starts copies."""

TILE = ROWS * COMPUTE_GROUPS
"""Rows a thread block of the backward kernels holds: queries in that for dq, keys in that for dk and dv."""

BUFFERS = 2
"""Tiles of queries that a thread block of the forward kernel holds: one at work, one on its way in or out."""

SHARED_MEMORY = 227 * 1024
"""Bytes of shared memory a thread block of an H100 or H200 can have."""

_ALIGNMENT = 1024  # Mosaic GPU aligns every allocation to this.

_SMALLEST, _LARGEST = jnp.iinfo(jnp.int32).min, jnp.iinfo(jnp.int32).max


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How much of the sequence that a kernel walks along is worked on at once, and how many such blocks it holds.

    Attributes:
      forward_keys: keys in a block of the forward kernel; a multiple of 64, like all lengths here, since 64 is the
        depth that `wgmma` consumes at a time of operands with 128-byte swizzle.
      forward_stages: blocks of keys and values in shared memory.
      forward_groups: warp groups of the forward kernel that compute, 64 queries each: 2, or 3 or 4 of fewer registers.
      dq_keys: keys in a block of the kernel for dq.
      dq_stages: blocks of keys and values in shared memory.
      dkv_queries: queries in a block of the kernel for dk and dv; 64 or 128, which divide a tile of the forward kernel,
        whose row statistics this one reads.
      dkv_stages: blocks of queries and output gradients in shared memory.
    """

    forward_keys: int = 128
    forward_stages: int = 2
    forward_groups: int = 2
    dq_keys: int = 64
    dq_stages: int = 2
    dkv_queries: int = 64
    dkv_stages: int = 2

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if name.endswith("stages"):
                # A group of barriers holds at most 32; one stage would let nothing overlap.
                if not 2 <= value <= 32:
                    raise ValueError(f"{name} must be from 2 to 32, got {value}")
            elif name == "forward_groups":
                if value not in (2, 3, 4):
                    raise ValueError(f"{name} must be 2, 3 or 4, got {value}")
            elif value % 64 or not 64 <= value <= 256:
                raise ValueError(f"{name} must be 64, 128, 192 or 256, got {value}")
        if TILE % self.dkv_queries:
            raise ValueError(f"dkv_queries must be 64 or 128, got {self.dkv_queries}")
        if self.forward_tile % self.dkv_queries:
            raise ValueError(f"dkv_queries must be 64 with three forward_groups, got {self.dkv_queries}")

    @property
    def forward_tile(self) -> int:
        """Queries a thread block of the forward kernel holds."""
        return ROWS * self.forward_groups

    def shared_memory(self, head_size: int) -> dict[str, int]:
        """Bytes of shared memory of each kernel, two bytes an element, its widest variant (all masks) counted."""

        def bytes_of(*allocations: int) -> int:
            # 1,024 more: the barriers, and the scratch that Mosaic GPU keeps for reductions across warps.
            return sum(-(-size // _ALIGNMENT) * _ALIGNMENT for size in allocations) + 2048 + 1024

        def stages(count: int, length: int) -> list[int]:
            return [count * length * head_size * 2] * 2

        tile = TILE * head_size * 2
        ids = self.forward_stages * self.forward_keys * 4
        queries, ring = self.forward_tile, stages(self.forward_stages, self.forward_keys)
        return {
            "forward": bytes_of(BUFFERS * queries * head_size * 2, queries * 4, ids, *ring),
            "dq": bytes_of(tile, tile, self.dq_stages * self.dq_keys * 4, *stages(self.dq_stages, self.dq_keys)),
            "dkv": bytes_of(
                *[tile] * 2,
                *[self.dkv_stages * self.dkv_queries * 4] * 3,
                *stages(self.dkv_stages, self.dkv_queries),
            ),
        }


# Registers a thread may use: 232, or with three compute groups 160, with four 112 (see `registers`). A tile of 64 rows
# and C columns in float32 takes C / 2 of a thread's registers, in 16 bits C / 4. The largest set alive at once:
#   forward  output H/2, scores keys/2, weights of two blocks keys/4 each:
#                                                                  H 128, keys 128: 64 + 64 + 64 = 192
#                                                                  H 64, keys 128: 32 + 64 + 32 = 128, the second
#                                                                  weights in the place of the scores they come from
#                                                                  H 64, keys 64: 32 + 32 + 16 = 80, likewise
#   dq       dq H/2, scores and their gradient keys/2 each, and one of them in 16 bits:
#                                                                  H 128, keys 64: 64 + 32 + 32 + 16 = 144
#                                                                  H 64, keys 128: 32 + 64 + 64 + 32 = 192
#   dkv      dk and dv H/2 each, scores and gradient queries/2 each: H 128, queries 64: 128 + 64 = 192
#            then both in 16 bits:                                  H 128, queries 64: 128 + 32 = 160
# The rest (some 30 to 40) is for addresses, row statistics and the mask. At H 192 dk and dv alone take 192, at 256 they
# take 256.
_BLOCKS = {
    32: Blocks(128, 4, dq_keys=128, dq_stages=4, dkv_queries=64, dkv_stages=4),
    64: Blocks(128, 4, dq_keys=128, dq_stages=3, dkv_queries=64, dkv_stages=4),
    96: Blocks(128, 3, dq_keys=64, dq_stages=3, dkv_queries=64, dkv_stages=3),
    128: Blocks(128, 2, dq_keys=64, dq_stages=3, dkv_queries=64, dkv_stages=3),
}
HEAD_SIZES = tuple(_BLOCKS)
"""Head sizes that the kernels take."""

PROCESSORS = 132
"""Streaming multiprocessors of an H100 or H200: thread blocks that run at a time, one each."""

_PLAIN = {2: 1.2, 3: 1.0, 4: 1.09}
"""How long a row takes in the forward kernel of so many compute groups, where nothing is masked and H is 64; with more
than two, too few registers are left for a mask. From an H200 at 512, 1,024 and 4,096 queries. Three are the fastest for
a row, and four where they leave less of their last tile empty.
"""

_REGISTERS = {2: (232, 40), 3: (160, 32), 4: (112, 32)}


def registers(groups: int) -> tuple[int, int]:
    """Those of a thread that computes and of one that copies, with so many compute groups.

    A thread block starts with as many for each thread as 65,536 allow, in eights: 168, 128 or 96. No more can be taken
    than were given: threads that ask for more wait for ever.
    """
    return _REGISTERS[groups]


def _time(blocks: Blocks, queries: int, heads: int) -> float:
    """Of the forward kernel without a mask, in rows of three groups: that of the rounds its thread blocks go."""
    tiles = heads * -(-queries // blocks.forward_tile)
    return _PLAIN[blocks.forward_groups] * blocks.forward_tile * -(-tiles // PROCESSORS)


def default_blocks(head_size: int, *, plain: tuple[int, int] | None = None, segmented_keys: int = 0) -> Blocks:
    """Blocks for a head size.

    Args:
      head_size: H.
      plain: T, and how many heads of sentences there are (B N), if there is neither mask nor dropout.
      segmented_keys: S, if there are segments. That they are shorter than a block is assumed; where they are not, a
        short block costs some 4 %.

    Raises:
      NotImplementedError: where there are none; with the reason.
    """
    if head_size in _BLOCKS:
        blocks = _BLOCKS[head_size]
        # Half as long, more blocks are skipped; and half the scores leave registers for a fourth group.
        halved = dataclasses.replace(blocks, forward_keys=64, forward_stages=2 * blocks.forward_stages)
        if segmented_keys > blocks.forward_keys:
            return halved
        if plain is not None and head_size <= 64:
            by_groups = {2: blocks, 3: blocks, 4: halved}
            choices = [dataclasses.replace(by_groups[groups], forward_groups=groups) for groups in _PLAIN]
            return min(choices, key=lambda choice: _time(choice, *plain))
        return blocks
    sizes = ", ".join(map(str, _BLOCKS))
    if head_size > 128 and head_size % 32 == 0:
        reason = "dk and dv of 64 keys would not fit the registers of a warp group"
    else:
        reason = "wgmma operands come in rows of 64 or 128 bytes"
    raise NotImplementedError(f"head size {head_size} is not one of {sizes}: {reason}")


def _segment_extremes(ids: jax.Array, block: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of ids [B, L]: smallest and largest but 0 in each block, [B, blocks], and whether the block is of one id only."""
    count = -(-ids.shape[1] // block)
    # What lies past the end repeats the last id: it makes no block see more, nor less, than it does.
    padded = jnp.pad(ids, ((0, 0), (0, count * block - ids.shape[1])), mode="edge").reshape(-1, count, block)
    smallest = jnp.where(padded == 0, _LARGEST, padded).min(axis=-1)
    largest = jnp.where(padded == 0, _SMALLEST, padded).max(axis=-1)
    return smallest, largest, (smallest == largest) & (padded != 0).all(axis=-1)


def visibility(
    mask: Mask, num_queries: int, num_keys: int, query_block: int, key_block: int
) -> tuple[jax.Array, jax.Array]:
    """Which pairs of a block of queries and a block of keys the mask leaves something of, and which it leaves whole.

    Args:
      mask: the mask.
      num_queries: T.
      num_keys: S.
      query_block: queries in a block.
      key_block: keys in a block.

    Returns:
      bool [B or 1, blocks of queries, blocks of keys], twice. The first is True wherever any query of the one sees any
      key of the other, and perhaps elsewhere; the second only where all of them do and the block of keys ends within S.
    """
    first_query = jnp.arange(-(-num_queries // query_block))[:, None] * query_block
    first_key = jnp.arange(-(-num_keys // key_block))[None, :] * key_block
    # Queries past T are never read, keys past S must be hidden: a block that ends behind S is never whole.
    last_query = jnp.minimum(first_query + query_block, num_queries) - 1
    last_key = jnp.minimum(first_key + key_block, num_keys) - 1
    some = [jnp.ones((1, first_query.shape[0], first_key.shape[1]), bool)]
    whole = [jnp.broadcast_to(first_key + key_block <= num_keys, some[0].shape)]
    if mask.causal:
        some.append((first_key <= last_query)[None])
        whole.append((last_key <= first_query)[None])
    if mask.window is not None:
        some.append(((first_key - last_query <= mask.window) & (first_query - last_key <= mask.window))[None])
        whole.append(((last_key - first_query <= mask.window) & (last_query - first_key <= mask.window))[None])
    if mask.query_lengths is not None:
        some.append(first_query < mask.query_lengths[:, None, None])
        whole.append(last_query < mask.query_lengths[:, None, None])
    if mask.key_lengths is not None:
        some.append(first_key < mask.key_lengths[:, None, None])
        whole.append(last_key < mask.key_lengths[:, None, None])
    if mask.query_segment_ids is not None and mask.key_segment_ids is not None:
        query_low, query_high, query_one = (
            x[:, :, None] for x in _segment_extremes(mask.query_segment_ids, query_block)
        )
        key_low, key_high, key_one = (x[:, None, :] for x in _segment_extremes(mask.key_segment_ids, key_block))
        some.append((query_low <= key_high) & (key_low <= query_high))
        whole.append(query_one & key_one & (query_low == key_low))

    def conjunction(parts: list[jax.Array]) -> jax.Array:
        result = parts[0]
        for part in parts[1:]:
            result = result & part
        return result

    visible = conjunction(some)
    return visible, visible & conjunction(whole)


def block_ranges(visible: jax.Array, whole: jax.Array) -> jax.Array:
    """The blocks of the last axis that a kernel walks along, for each entry of the others.

    Args:
      visible: bool [B or 1, I, J], as `visibility` returns it (or transposed).
      whole: likewise.

    Returns:
      int32 [B or 1, I, 4]: the first visible block, one past the last, and a run within of whole blocks that need no
      mask: its first and one past its last. Where there are none, both ends are the same.
    """
    count = visible.shape[-1]
    indices = jnp.arange(count, dtype=jnp.int32)

    def first(flags: jax.Array, otherwise: jax.Array | int) -> jax.Array:
        return jnp.where(flags.any(axis=-1), jnp.argmax(flags, axis=-1).astype(jnp.int32), otherwise)

    start = first(visible, 0)
    end = jnp.where(visible.any(axis=-1), count - jnp.argmax(visible[..., ::-1], axis=-1).astype(jnp.int32), 0)
    whole_start = first(whole, start)
    whole_end = jnp.where(
        whole.any(axis=-1), first(~whole & (indices >= whole_start[..., None]), count), whole_start
    )
    return jnp.stack([start, end, whole_start, whole_end], axis=-1).astype(jnp.int32)
