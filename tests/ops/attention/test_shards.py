"""Attention under a mesh: each device attends to its own rows and heads, the result is the same, nothing travels."""

from __future__ import annotations

import pytest

from tests.devices import run_on_eight_devices

_CASE = """
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from jaxformer.ops.attention import Mask, attention
    from jaxformer.types import Shards

    mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    shards = Shards(mesh, batch=("data",), heads=("tensor",))
    B, T, S, N, K, H = 4, 17, 23, 8, 4, 32
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v = (jax.random.normal(key, (B, *x, H)) for key, x in zip(keys, ((T, N), (S, K), (S, K))))
    do = jax.random.normal(keys[3], q.shape)
    segments = Mask.segments(jnp.arange(T)[None].repeat(B, 0) // 6 + 1, jnp.arange(S)[None].repeat(B, 0) // 8 + 1)
    mask = segments & Mask(key_lengths=jnp.array([23, 9, 0, 20]))

    def both(shards, implementation):
        def run(q, k, v, mask):
            out, pull = jax.vjp(lambda q, k, v: attention(
                q, k, v, mask=mask, dropout=0.3, dropout_seed=jnp.uint32(5), implementation=implementation,
                shards=shards), q, k, v)
            return out, *pull(do)
        return jax.jit(run)

    rows = NamedSharding(mesh, P("data", None, "tensor"))
    placed = [jax.device_put(x, rows) for x in (q, k, v)]
"""


@pytest.mark.parametrize("implementation", ["xla", "xla_chunked", "pallas"])
def test_the_result_and_what_dropout_drops_do_not_depend_on_the_mesh(implementation):
    run_on_eight_devices(_CASE + f"""
    ours = both(shards, "{implementation}")(*placed, mask)
    expected = both(None, "{implementation}")(q, k, v, mask)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # of elements up to 3
        assert a.sharding.is_equivalent_to(rows, 4)
    """)


def test_nothing_travels_between_devices():
    run_on_eight_devices(_CASE + """
    for implementation in ("xla", "xla_chunked", "pallas"):
        text = both(shards, implementation).lower(*placed, mask).compile().as_text()
        for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter"):
            assert collective not in text, (implementation, collective)
    """)


def test_heads_and_rows_that_do_not_divide_are_refused():
    run_on_eight_devices(_CASE + """
    for arrays, message in (
        ((q, k[:, :, :2], v[:, :, :2]), "2 key/value heads do not divide over 4 devices (tensor): use 4"),
        ((q[:3], k[:3], v[:3]), "3 rows of the batch do not divide over 2 devices (data): use 2, 4"),
    ):
        try:
            attention(*arrays, shards=shards)
        except ValueError as error:
            assert str(error) == message, error
        else:
            raise AssertionError(message)
    """)
