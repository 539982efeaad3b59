"""What travels by formula, by hand; `test_layouts` holds the same formulas to compiled steps."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, AxisType

from jaxformer.config import ModelConfig
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.mesh import AXES
from jaxformer.parallel.traffic import Exchange, exchanges

MODEL = ModelConfig(d_model=8, d_ff=16, num_heads=4, num_kv_heads=2, num_encoder_layers=3, num_decoder_layers=2)


def layout(**sizes: int) -> Layout:
    types = (AxisType.Auto,) * len(AXES)
    return Layout(AbstractMesh(tuple(sizes.get(axis, 1) for axis in AXES), AXES, axis_types=types))  # type: ignore[arg-type]


def params() -> dict[str, nnx.Param]:
    """A table, a stacked kernel of a layer, and its bias."""

    def abstract(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, np.float32)

    return {
        "table": nnx.Param(abstract(40, 8), dims=("vocabulary", "model")),
        "kernel": nnx.Param(abstract(2, 8, 16), dims=("model", "feed_forward")),
        "bias": nnx.Param(abstract(2, 16), dims=("feed_forward",)),
    }


def found(accumulate: int = 1, **sizes: int) -> dict[tuple[str, str, tuple[str, ...]], int]:
    every = exchanges(layout(**sizes), params(), MODEL, (4, 6, 5), itemsize=2, accumulate=accumulate)
    return {(one.what, one.kind, one.axes): one.bytes for one in every}


def test_one_device_exchanges_nothing() -> None:
    assert found() == {}


@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradients_travel_once_a_step_in_float32(accumulate: int) -> None:
    assert found(accumulate, data=4) == {("gradients", "all-reduce", ("data",)): 4 * (320 + 256 + 32)}


@pytest.mark.parametrize("accumulate", [1, 3])
def test_matrices_stored_in_parts_travel_in_every_micro_batch(accumulate: int) -> None:
    assert found(accumulate, data=2, fsdp=4) == {
        ("parameters", "all-gather", ("fsdp",)): accumulate * 2 * (320 + 2 * 256),
        ("gradients", "reduce-scatter", ("fsdp",)): accumulate * 4 * (320 + 256),
        ("gradients", "all-reduce", ("data",)): 4 * (320 + 256) // 4,
        ("gradients", "all-reduce", ("data", "fsdp")): 4 * 32,
    }


def test_activations_are_summed_where_layers_are_split() -> None:
    source = 1 + 3 * 4 + 2 * 1  # the embedding; the encoder; attention to it
    target = 1 + 2 * 6
    assert found(tensor=2) == {
        ("activations", "all-reduce", ("tensor",)): 2 * 4 * 8 * (6 * source + 5 * target),
        ("gradient of the output", "all-reduce", ("tensor",)): 4 * 4 * 8 * 5,
    }


def test_heads_are_exchanged_for_positions() -> None:
    own, keys = 2 * 8, 2 * 4  # queries and results; keys and values, of half as many heads
    encoder = 3 * 6 * (own + keys)
    decoder = 2 * (5 * (own + keys) + 5 * own + 6 * keys)
    assert found(context=2)["heads for positions", "all-to-all", ("context",)] == 2 * 2 * 4 * (encoder + decoder)
    both = found(context=2, tensor=2)
    assert both["heads for positions", "all-to-all", ("context",)] == 2 * 4 * (encoder + decoder)


def test_rings_send_the_part_of_the_others() -> None:
    place = layout(data=2, fsdp=4)
    assert Exchange("x", "all-gather", ("fsdp",), 100, 2, 1).sent(place) == 3 / 4 * 200
    assert Exchange("x", "all-reduce", ("data", "fsdp"), 100, 4, 1).sent(place) == 2 * 7 / 8 * 400
