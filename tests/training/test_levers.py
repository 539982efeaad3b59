"""Every acceleration against the plain float32 path: the same loss and the same gradient, within the bound it states.

The plain path: layers unrolled, attention with all its weights, all the logits, one pair a row, one batch a step.
Bounds are relative: of the loss, and of the norm of the difference of gradients.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.config import Config, replace
from jaxformer.data.bucketing import Shape
from jaxformer.data.store import TokenizedDataset
from jaxformer.ops import cross_entropy
from jaxformer.ops.attention import choice, recorded_calls
from jaxformer.ops.dropout import row_seeds
from jaxformer.tasks import translation
from jaxformer.tasks.translation import TranslationTask
from jaxformer.training.leaves import leaf_names
from jaxformer.training.step import split_rows, sum_of_gradients
from jaxformer.types import Batch

VOCABULARY, PAIRS, LENGTH = 40, 16, 12
CONFIG = replace(Config(), {
    "model": {
        "d_model": 32, "d_ff": 64, "num_heads": 4, "num_encoder_layers": 1, "num_decoder_layers": 2, "max_length": 32,
        "dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1,
    },
    "data": {"max_length": 32},
})  # fmt: skip
SEED = jnp.uint32(7)


class Sizes:
    source_vocabulary_size = target_vocabulary_size = VOCABULARY


def _batch(pairs_a_row: int = 1) -> Batch:
    random = np.random.default_rng(0)
    sides = [[random.integers(4, VOCABULARY, random.integers(2, LENGTH)).tolist() for _ in range(PAIRS)] for _ in "ab"]
    records = np.arange(PAIRS)
    rows = PAIRS // pairs_a_row
    shape = Shape(rows, *(2 * (pairs_a_row * LENGTH,)))
    return TokenizedDataset.from_lists(*sides).assemble(records, records // pairs_a_row, shape, rows)


def _without_dropout(config: Config) -> Config:
    return replace(config, {f"model.{name}": 0.0 for name in ("dropout", "attention_dropout", "activation_dropout")})


def _plain_loss(task: TranslationTask, params: Any, batch: Batch) -> jax.Array:
    """The mean loss with all the logits."""
    model = task.model(params)
    logits = model.logits(model.hidden(batch, seed=row_seeds(SEED, batch.source.tokens.shape[0])))
    target = batch.target
    sums = cross_entropy(logits, target.tokens, target.weights, label_smoothing=CONFIG.training.label_smoothing)
    return sums.loss / target.weights.sum()


@functools.cache
def _plain(config: Config) -> tuple[float, dict[str, np.ndarray]]:
    task, batch = TranslationTask(config, Sizes()), _batch()
    loss, gradient = jax.jit(jax.value_and_grad(lambda p: _plain_loss(task, p, batch)))(task.init_params(0))
    return float(loss), leaf_names(gradient)


def _trained(config: Config, batch: Batch, *, accumulate: int = 1) -> tuple[float, dict[str, np.ndarray]]:
    """The mean loss and its gradient, as the training step takes them."""
    task = TranslationTask(config, Sizes())
    seeds = row_seeds(SEED, batch.source.tokens.shape[0])
    scale = 2.0**10 if config.precision == "fp16" else 1.0

    def both(params: Any) -> Any:
        gradient, weight, metrics = sum_of_gradients(
            task.loss_function, params, *split_rows((batch, seeds), accumulate), scale
        )
        return metrics["loss"].sum / weight, jax.tree.map(lambda leaf: leaf / (scale * weight), gradient)

    loss, gradient = jax.jit(both)(task.init_params(0))
    return float(loss), leaf_names(gradient)


def _assert_same(found: Any, expected: Any, bound: float) -> None:
    assert found[0] == pytest.approx(expected[0], rel=bound)
    assert set(found[1]) == set(expected[1])

    def norm(leaves: Any) -> float:
        return float(np.sqrt(sum(np.square(np.asarray(leaf, np.float64)).sum() for leaf in leaves)))

    difference = norm(np.asarray(found[1][name], np.float64) - expected[1][name] for name in expected[1])
    assert difference <= bound * norm(expected[1].values())


def test_fused_cross_entropy():
    batch = _batch()
    _assert_same(_trained(CONFIG, batch), _plain(CONFIG), 1e-5)


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_rematerialisation(remat):
    batch = _batch()
    _assert_same(_trained(replace(CONFIG, {"memory.remat": remat}), batch), _plain(CONFIG), 1e-5)


def test_chunked_attention(monkeypatch):
    batch = _batch()
    config = _without_dropout(CONFIG)
    expected = _plain(config)
    monkeypatch.setattr(choice, "LARGEST_WEIGHTS", 0)
    with recorded_calls() as calls:
        found = _trained(config, batch)
    assert choice.prefer(calls[0].q, calls[0].k, calls[0].mask, False).order[0] == "xla_chunked"
    _assert_same(found, expected, 1e-5)


def test_scanned_layers():
    loss, gradient = _plain(CONFIG)
    stacked: dict[str, Any] = {}
    for name, leaf in gradient.items():
        stack, layers, rest = name.partition(".layers.")
        if layers:
            number, _, inside = rest.partition(".")
            stacked.setdefault(f"{stack}.layers.{inside}", []).insert(int(number), np.asarray(leaf))
        else:
            stacked[name] = leaf
    expected = {name: np.stack(leaf) if isinstance(leaf, list) else leaf for name, leaf in stacked.items()}
    _assert_same(_trained(replace(CONFIG, {"model.scan_layers": True}), _batch()), (loss, expected), 1e-5)


@pytest.mark.parametrize("accumulate", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_accumulation(accumulate):
    batch = _batch()  # a row drops the same in a micro-batch as in the whole
    _assert_same(_trained(CONFIG, batch, accumulate=accumulate), _plain(CONFIG), 1e-5)


def test_r_drop_in_micro_batches():
    config, batch = replace(CONFIG, {"training.r_drop": 5.0}), _batch()
    whole = _trained(config, batch)
    assert whole[0] > _plain(CONFIG)[0] * 1.01  # what the two passes differ by costs something
    _assert_same(_trained(config, batch, accumulate=4), whole, 1e-5)


def test_r_drop_of_equal_passes_is_the_plain_path(monkeypatch):
    """Its first pass drops what the plain path drops; with a second that does the same, nothing is left to pay for."""
    monkeypatch.setattr(translation, "fold_seed", lambda seed, _: seed)
    _assert_same(_trained(replace(CONFIG, {"training.r_drop": 5.0}), _batch()), _plain(CONFIG), 1e-5)


@pytest.mark.parametrize("pairs_a_row", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_packing(pairs_a_row):
    config = replace(_without_dropout(CONFIG), {"model.max_length": 64})
    packed = _batch(pairs_a_row)
    assert packed.target.segment_ids.max() == pairs_a_row
    _assert_same(_trained(config, packed), _plain(_without_dropout(CONFIG)), 1e-5)


@pytest.mark.parametrize(("precision", "loss_bound", "gradient_bound"), [("bf16", 1e-3, 2e-2), ("fp16", 2e-4, 3e-3)])
def test_low_precision(precision, loss_bound, gradient_bound):
    batch = _batch()
    smooth = replace(CONFIG, {"model.activation": "gelu"})  # rounding can open or shut a ReLU, which no bound is about
    expected = _plain(smooth)
    found = _trained(replace(smooth, {"precision": precision}), batch)
    assert found[0] == pytest.approx(expected[0], rel=loss_bound)
    _assert_same((expected[0], found[1]), expected, gradient_bound)


def test_all_of_them_together(monkeypatch):
    config = _without_dropout(CONFIG)
    expected = _plain(config)
    monkeypatch.setattr(choice, "LARGEST_WEIGHTS", 0)
    levers = {"memory.remat": "full", "precision": "bf16", "model.max_length": 64}
    found = _trained(replace(config, levers), _batch(2), accumulate=2)
    assert found[0] == pytest.approx(expected[0], rel=1e-2)
    _assert_same((expected[0], found[1]), expected, 5e-2)


def test_the_bound_is_met_by_the_same_path_alone():
    """A gradient of another seed's dropout is far outside every bound above: the comparison can fail."""
    expected = _plain(CONFIG)
    with pytest.raises(AssertionError):
        _assert_same(_plain(_without_dropout(CONFIG)), expected, 5e-2)
