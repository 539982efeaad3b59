"""The formula of model FLOPs by hand, and against a count of the products in the traced network."""

from __future__ import annotations

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxformer.config import Config, ModelConfig, replace
from jaxformer.models import EncoderDecoder
from jaxformer.monitoring.flops import (
    describe_encoder_flops,
    describe_flops,
    encoder_flops,
    forward_flops,
    training_flops,
)
from jaxformer.tasks.classification import ClassificationTask
from jaxformer.tasks.forecasting import ForecastingTask
from jaxformer.tasks.objectives import Classes, Numbers, Quantiles
from jaxformer.tasks.tagging import TaggingTask
from jaxformer.types import Batch, Sequences

SMALL = ModelConfig(d_model=16, d_ff=24, num_heads=4, num_encoder_layers=2, num_decoder_layers=3, max_length=32)
V, B, S, T = 11, 3, 5, 7


def test_one_layer_by_hand():
    model = dataclasses.replace(SMALL, num_encoder_layers=1, num_decoder_layers=1)
    flops = forward_flops(model, V, rows=1, source=2, target=4)
    assert flops["encoder"] == 2 * 2 * (4 * 16 * 16 + 2 * 16 * 24)
    assert flops["decoder"] == 2 * (4 * (6 * 16 * 16 + 2 * 16 * 24) + 2 * (2 * 16 * 16))
    assert flops["attention"] == 2 * 2 * 16 * (2 * 2 + 4 * 4 / 2 + 4 * 2)
    assert flops["output"] == 2 * 4 * 16 * V
    assert training_flops(model, V, 1, 2, 4) == 3 * sum(flops.values())


@pytest.mark.parametrize(
    ("window", "length", "keys"), [(1, 8, 3), (2, 8, 5), (2, 5, 5), (2, 4, 4), (16, 8, 8)]
)  # a query, and so many on either side
def test_layers_with_a_local_window_count_its_positions(window, length, keys):
    model = dataclasses.replace(SMALL, num_encoder_layers=3, local_layers=2, local_window=window)
    parts = encoder_flops(model, B, length)
    assert parts["attention"] == B * 2 * 2 * 16 * (1 * length * length + 2 * length * keys)
    everywhere = encoder_flops(dataclasses.replace(model, local_layers=0), B, length)
    assert parts["encoder"] == everywhere["encoder"]
    assert everywhere["attention"] == B * 2 * 2 * 16 * 3 * length * length
    text = describe_encoder_flops(parts, B, length)
    assert text.endswith("; a layer with a local window counts the positions in it, recomputation nothing")


def _products(jaxpr) -> float:
    """FLOPs of every matrix product in a jaxpr."""
    total = 0.0
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else [value]:
                if hasattr(inner, "jaxpr"):
                    total += _products(inner.jaxpr)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
    return total


@pytest.mark.parametrize("changes", [{}, {"num_kv_heads": 2}, {"activation": "swiglu"}])
def test_equals_the_products_of_the_network(changes):
    model = dataclasses.replace(SMALL, **changes)
    network = EncoderDecoder(model, source_vocabulary_size=V, target_vocabulary_size=V, rngs=nnx.Rngs(0))

    def side(length):
        shape = (B, length)
        positions = jnp.broadcast_to(jnp.arange(length), shape)
        return Sequences(jnp.ones(shape, jnp.int32), positions, jnp.ones(shape, jnp.int32), jnp.ones(shape))

    graph, state = nnx.split(network)
    traced = jax.make_jaxpr(lambda state: nnx.merge(graph, state)(Batch(side(S), side(T))))(state)
    flops = forward_flops(model, V, B, S, T)
    # The plain form computes the whole of the causal half's square.
    upper_half = 2 * B * 2 * model.d_model * model.num_decoder_layers * T * T / 2
    assert _products(traced.jaxpr) == sum(flops.values()) + upper_half


def test_the_description_shows_the_parts_and_their_sum():
    text = describe_flops(dataclasses.replace(SMALL, d_model=512), 32000, 64, 32, 32)
    found = re.findall(r"(?:encoder|decoder|attention|output) ([\d.,e+]+)[,)]", text)
    numbers = [float(number.replace(",", "")) for number in found]
    assert len(numbers) == 4
    assert float(text.split(" ")[0].replace(",", "")) == pytest.approx(3 * sum(numbers), rel=0.01)


_HEADS = {
    "tokens, a label for each": (TaggingTask, {"x": Classes(3)}, {"vocabulary_size": V}),
    "tokens, a label for all": (ClassificationTask, {"x": Classes(3)}, {"vocabulary_size": V, "pooling": "mean"}),
    "tokens, convolutions": (ClassificationTask, {"x": Classes(3)}, {"vocabulary_size": V, "pooling": "convolution"}),
    "numbers, two parts and a linear map": (
        ClassificationTask, {"x": Classes(2), "y": Numbers("huber")},
        {"num_channels": 5, "pooling": "attention", "linear_skip": True},
    ),
    "patches, quantiles": (
        ForecastingTask, {"x": Quantiles((0.1, 0.5))},
        {"patch_length": 7, "num_patches": S, "horizon": 6, "linear_skip": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "objectives", "sizes"), _HEADS.values(), ids=_HEADS)
@pytest.mark.parametrize("members", [1, 2])
def test_of_an_encoder_equals_the_products_of_encoder_and_heads(kind, objectives, sizes, members):
    config = replace(Config(), {"model": dataclasses.asdict(SMALL), "data": {"max_length": 32}})
    own = {"task": {"kind": "protein", "members": members}, "training.best_metric": "validation/q3"}
    config = replace(config, own)
    task = kind(config, objectives, **sizes)
    batch = task.abstract_batch((B, S, 0))
    outputs = lambda params, batch: [task.outputs(one, batch.inputs, 1, None) for one in task.model(params).members]  # noqa: E731
    traced = jax.make_jaxpr(outputs)(task.abstract_params(), batch)
    heads = task.head_flops(B, S)
    parts = encoder_flops(SMALL, B, S, num_channels=task.num_channels, heads=heads, members=members)
    assert heads > 0
    assert _products(traced.jaxpr) == sum(parts.values())
    assert f"heads {heads / 1e9:,.3g}" in describe_encoder_flops(parts, B, S)
