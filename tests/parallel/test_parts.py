"""What a device makes of its part is that part of what one device makes of the whole: pieces of models, one by one.

Whole models are held to one device in `test_layouts` and `test_encoder_layouts`, most of them at length (`slow`).
"""

from __future__ import annotations

import jax
import pytest
from jax.sharding import PartitionSpec as P

from jaxformer.parallel.layout import Layout
from jaxformer.parallel.mesh import AXES
from tests.devices import run_on_eight_devices

_CASE = """
    from flax import nnx
    from jaxformer.config import MeshConfig
    from jaxformer.parallel.mesh import make_layout
    from jaxformer.parallel.sharding import use_layout, whole_length
    from jaxformer.types import Sequences

    P = jax.sharding.PartitionSpec
    ROWS, SLOTS = 4, 16
    random = np.random.default_rng(0)
    place = np.arange(SLOTS)
    first = random.integers(4, 9, (ROWS, 1))
    segments = np.broadcast_to(np.where(place < first, 1, 2) * (place < 14), (ROWS, SLOTS)).astype(np.int32)
    positions = (np.where(place < first, place, place - first) * (segments > 0)).astype(np.int32)
    tokens = (random.integers(4, 24, (ROWS, SLOTS)) * (segments > 0)).astype(np.int32)
    rows = Sequences(tokens, positions, segments, (segments > 0).astype(np.float32))

    def parts_are_the_whole(function, *operands, atol=0.0, **sizes):
        '''`function` of operands [B, S, ...] or [B], with a result [B, S, ...], on every device with its part.'''
        layout = make_layout(MeshConfig(**sizes))

        def own(*operands):
            with use_layout(layout):
                return function(*operands)

        split = jax.shard_map(own, mesh=layout.mesh, in_specs=layout.batch_specs(operands),
                              out_specs=P(layout.axes("rows") or None, layout.axes("length") or None), check_vma=False)
        whole = function(*operands)
        np.testing.assert_allclose(jax.jit(split)(*operands), whole, rtol=0, atol=atol)
        return whole
"""


def test_the_same_tokens_are_hidden() -> None:
    run_on_eight_devices(_CASE + """
    from jaxformer.tasks.hiding import hidden_tokens
    seeds = np.arange(ROWS, dtype=np.uint32)
    hide = lambda rows, seeds: hidden_tokens(rows, 0.5, seeds).tokens
    hidden = parts_are_the_whole(hide, rows, seeds, data=2, context=4)
    assert 5 < (np.asarray(hidden) != tokens).sum() < 50
    """)


def test_words_and_pairs_say_the_same() -> None:
    run_on_eight_devices(_CASE + """
    from jaxformer.models.linear import WordsAndPairs
    model = WordsAndPairs(24, 3, pairs=50)
    model.weights[...] = jnp.asarray(random.normal(size=(74, 3)), jnp.float32)
    parts_are_the_whole(model.embed, rows, data=2, context=4)
    """)


@pytest.mark.parametrize("heads", [4, 2], ids=["exchanged for positions", "gathered"])
def test_rotations_reach_to_the_end_of_a_sequence(heads: int) -> None:
    run_on_eight_devices(_CASE + f"""
    from jaxformer.nn.attention import SelfAttention
    from jaxformer.ops import Mask
    layer = SelfAttention(16, {heads}, rotary=True, rngs=nnx.Rngs(0))
    one = np.broadcast_to(place, (ROWS, SLOTS)).astype(np.int32)  # a single sequence: positions up to the last
    attend = lambda x, positions: layer(x, positions, Mask(causal=True))
    x = random.normal(size=(ROWS, SLOTS, 16)).astype(np.float32)
    parts_are_the_whole(attend, x, one, atol=1e-5, data=2, context=4)
    """)


def test_sums_over_rows_are_of_all_positions() -> None:
    run_on_eight_devices(_CASE + """
    from jaxformer.parallel.rows import sum_over_rows
    weigh = lambda scale, rows: {"sum": scale * rows.sum()}
    for sizes in ({"data": 8}, {"data": 2, "context": 4}, {"data": 1, "fsdp": 2, "tensor": 2, "context": 2}):
        layout = make_layout(MeshConfig(**sizes))
        found = jax.jit(sum_over_rows(weigh, layout))(np.float32(2), np.ones((8, SLOTS), np.float32))
        assert found["sum"] == 2 * 8 * SLOTS, (sizes, found)
    """)


def test_what_one_device_works_with_alone_is_whole() -> None:
    run_on_eight_devices(_CASE + """
    from jaxformer.parallel.mesh import first_copy
    kernel = nnx.Param(jnp.arange(64.0).reshape(8, 8), dims=("model", "feed_forward"))
    for sizes in ({"data": 1, "fsdp": 8}, {"data": 4, "tensor": 2}, {"data": 1, "fsdp": 4, "tensor": 2}):
        layout = make_layout(MeshConfig(**sizes))
        placed = jax.device_put({"kernel": kernel}, layout.shardings({"kernel": kernel}))
        assert placed["kernel"][...].addressable_data(0).size < 64
        np.testing.assert_array_equal(first_copy(placed, layout)["kernel"][...], kernel[...])
    """)


def test_gradients_of_stored_parts_are_summed_in_float32() -> None:
    run_on_eight_devices(_CASE + """
    from jaxformer.parallel.sharding import gathered
    layout = make_layout(MeshConfig(data=1, fsdp=8))

    def own(kernel, x):
        with use_layout(layout):
            return jax.grad(lambda kernel: (x @ gathered(kernel, ("model", "outputs"))).sum())(kernel)

    split = jax.shard_map(own, mesh=layout.mesh, in_specs=(P("fsdp"), P("fsdp")), out_specs=P("fsdp"), check_vma=False)
    kernel, x = jnp.ones((8, 4), jnp.bfloat16), jnp.ones((8, 8), jnp.bfloat16).at[0].set(256)
    scatters = [line for line in str(jax.make_jaxpr(split)(kernel, x)).splitlines() if "reduce_scatter" in line]
    assert len(scatters) == 1 and ":f32[1,4]" in scatters[0], scatters
    gradient = jax.jit(split)(kernel, x)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient, jnp.full((8, 4), 256 + 7, jnp.bfloat16))
    """)


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((16, 32), P(("fsdp",), ("tensor",))),
        ((6, 16, 32), P(None, ("fsdp",), ("tensor",))),  # scanned layers
        ((5, 16, 32), P(None, ("fsdp",), ("tensor",))),
        ((16, 31), P()),
        ((6, 15, 32), P()),
        ((16,), P()),  # a mean for every row of the matrix, as Adafactor keeps it
    ],
)
def test_the_last_dimensions_are_those_of_the_parameter(shape: tuple[int, ...], spec: P) -> None:
    layout = Layout(jax.sharding.AbstractMesh((1, 2, 1, 4), AXES))
    dims = ("model", "feed_forward")
    assert layout.spec(shape, dims) == spec
    assert layout.spec(shape, ()) == P()
