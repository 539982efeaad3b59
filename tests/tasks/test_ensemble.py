"""Several networks of one task: trained apart, on the same batches, and right together."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxformer.config import replace
from jaxformer.ops import fold_seed
from jaxformer.tasks.attribution import gradient_times_input
from jaxformer.tasks.classification import ClassificationTask
from jaxformer.tasks.hiding import hidden_tokens
from jaxformer.tasks.objectives import Classes, Numbers
from jaxformer.tasks.tagging import TaggingTask
from jaxformer.training import create_state, make_optimizer, make_train_step
from jaxformer.types import LabelledBatch, Mean, RowLabels, Sequences
from tests.tasks.learning import V, learn, rows, small

MEMBERS = 3


def _task(members: int, part_weights=None, **model) -> ClassificationTask:
    own = {"task": {"kind": "text_classification", "members": members}, "training.best_metric": "validation/loss"}
    parts = {"first": Classes(4), "size": Numbers()}
    config = replace(small(**model), own)
    return ClassificationTask(config, parts, vocabulary_size=V, pooling="attention", part_weights=part_weights)


def _batch(number: int) -> LabelledBatch:
    inputs = rows(np.random.default_rng(number), 32, packed=False, tokens=(4, 8))
    ones = np.ones((32, 1), np.float32)
    labels = {"first": inputs.tokens[:, :1] - 4, "size": inputs.segment_ids.sum(axis=1, keepdims=True) / 16.0}
    return LabelledBatch(inputs, {name: RowLabels(values, ones) for name, values in labels.items()})


def _each(params: nnx.State) -> list[nnx.State]:
    """The parameters of each member."""
    return [params["members"][number] for number in range(MEMBERS)]


class _Signs:
    """An objective for one network: it cannot say from which outputs something would be believed."""

    num_outputs, likelihood_factor = 1, 1.0

    def abstract_labels(self, places):
        return jax.ShapeDtypeStruct(places, jnp.float32)

    def sums(self, outputs, labels, weights):
        return {"loss": Mean((weights * jax.nn.softplus(-labels * outputs[..., 0])).sum(), weights.sum())}

    def predict(self, outputs):
        return jnp.sign(outputs)


def test_what_cannot_be_measured_together_is_refused_for_several_alone():
    kind = {"task.kind": "text_classification", "training.best_metric": "validation/loss"}
    ClassificationTask(replace(small(), kind), {"sign": _Signs()}, vocabulary_size=V, pooling="mean")
    for several in ({"task.members": 2}, {"task.linear_members": 1, "task.token_dropout": 0.1}):
        config = replace(small(), {**kind, **several})
        with pytest.raises(ValueError, match="believe of 'sign' cannot be measured: give _Signs a method outputs_for"):
            ClassificationTask(config, {"sign": _Signs()}, vocabulary_size=V, pooling="mean")


def test_members_begin_apart():
    task = _task(MEMBERS)
    kernels = [one["heads"]["first"]["project"]["kernel"][...] for one in _each(task.init_params(0))]
    assert not np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[1], kernels[2])


@pytest.mark.parametrize("part_weights", ["learned", pytest.param(None, marks=pytest.mark.slow)])
def test_loss_and_gradient_are_those_of_each_by_itself_with_dropout_of_its_own(part_weights):
    task, alone = (_task(members, part_weights, dropout=0.3) for members in (MEMBERS, 1))
    params, batch, seed = task.init_params(0), _batch(0), jnp.uint32(7)
    each = _each(params)

    def gradient_of(task):
        def loss(params, seed):
            mean, metrics = task.loss_function(params, batch, seed)
            return mean.sum / mean.weight, (mean, metrics)

        return jax.jit(jax.value_and_grad(loss, has_aux=True))

    (found, (mean, metrics)), gradient = gradient_of(task)(params, seed)
    assert mean == metrics["loss"]
    of_one = gradient_of(alone)
    apart = [of_one(one, fold_seed(seed, n)) for n, one in enumerate(each)]
    np.testing.assert_allclose(found, np.mean([value for (value, _), _ in apart]), rtol=1e-6)
    for name, told in metrics.items():
        each_told = [of_it[name].sum / of_it[name].weight for (_, (_, of_it)), _ in apart]
        np.testing.assert_allclose(told.sum / told.weight, np.mean(each_told), rtol=1e-5, err_msg=name)
    for number, (_, expected) in enumerate(apart):
        for a, b in zip(jax.tree.leaves(gradient["members"][number]), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a * MEMBERS, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("learned", [None, pytest.param("learned", marks=pytest.mark.slow)])
def test_metrics_are_of_what_all_believe_together_and_losses_the_mean(learned):
    task, alone = _task(MEMBERS, learned), _task(1, learned)
    params, batch = task.init_params(0), _batch(0)
    believed = task.predict(params, batch.inputs)
    _, found = task.loss_function(params, batch, None)
    metrics = {name: float(mean.sum / mean.weight) for name, mean in found.items()}
    labels = {name: np.asarray(one.values)[:, 0] for name, one in batch.labels.items()}
    given = np.take_along_axis(np.asarray(believed["first"])[:, 0], labels["first"][:, None], axis=1)
    errors = np.asarray(believed["size"])[:, 0, 0] - labels["size"]
    right = np.asarray(believed["first"])[:, 0].argmax(axis=1) == labels["first"]
    assert metrics["first/nll"] == pytest.approx(-np.log(given).mean(), rel=1e-5)
    assert metrics["first/accuracy"] == pytest.approx(right.mean(), rel=1e-6)
    assert metrics["size/mse"] == pytest.approx((errors**2).mean(), rel=1e-5)
    assert metrics["size/mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    apart = [alone.loss_function(one, batch, None)[1] for one in _each(params)]
    for name in ("loss", "first/loss", "size/loss"):
        assert metrics[name] == pytest.approx(np.mean([one[name].sum / one[name].weight for one in apart]), rel=1e-5)
    assert metrics["first/nll"] < metrics["first/loss"], "together they are no better than each by itself"


def test_the_prediction_is_the_mean_of_all():
    task, alone = _task(MEMBERS), _task(1)
    params, inputs = task.init_params(0), _batch(0).inputs
    together = task.predict(params, inputs)
    apart = [alone.predict(one, inputs) for one in _each(params)]
    for name, found in together.items():
        np.testing.assert_allclose(found, np.mean([one[name] for one in apart], axis=0), rtol=1e-5)
    np.testing.assert_allclose(together["first"].sum(axis=-1), 1.0, rtol=1e-5)


def test_what_a_prediction_hangs_on_is_the_mean_of_all_for_the_class_that_they_choose_together():
    task, alone = _task(MEMBERS), _task(1)
    params, inputs = task.init_params(0), jax.device_put(_batch(0).inputs)
    scores, found = gradient_times_input(task, "first")(params, inputs)
    chosen = np.asarray(task.predict(params, inputs)["first"])[:, 0].argmax(axis=-1)
    np.testing.assert_array_equal(found, chosen)
    apart = [gradient_times_input(alone, "first")(one, inputs) for one in _each(params)]
    agreed = np.all([np.asarray(classes) == chosen for _, classes in apart], axis=0)
    assert 3 <= agreed.sum() < len(agreed)
    expected = np.mean([found for found, _ in apart], axis=0)
    np.testing.assert_allclose(np.asarray(scores)[agreed], expected[agreed], rtol=1e-4, atol=1e-6)


def test_a_member_without_layers_tells_by_the_order_of_two_words_what_no_sum_of_words_could():
    own = {
        "task": {"kind": "text_classification", "linear_members": 1, "token_dropout": 0.1},
        "training.best_metric": "validation/loss",
    }
    config = replace(small(), own)
    task = ClassificationTask(config, {"first": Classes(2)}, vocabulary_size=V, pooling="attention")

    def batch(number: int) -> LabelledBatch:
        random = np.random.default_rng(number)
        rising = random.integers(0, 2, (32, 1))
        low = random.integers(4, V - 1, (32, 1))
        high = random.integers(low + 1, V)
        tokens = np.where(rising, np.concatenate([low, high], 1), np.concatenate([high, low], 1)).astype(np.int32)
        ones = np.ones_like(tokens)
        inputs = Sequences(tokens, ones.cumsum(axis=1) - 1, ones, ones.astype(np.float32))
        return LabelledBatch(inputs, {"first": RowLabels(rising, np.ones((32, 1), np.float32))})

    def alone(params: nnx.State) -> float:
        test = batch(0)
        outputs = task.outputs(task.model(params).members[1], jax.device_put(test.inputs), 1, None)["first"]
        return float((np.asarray(outputs).argmax(axis=-1) == test.labels["first"].values).mean())

    optimizer = make_optimizer(config.optimizer, 150)
    state = create_state(lambda: task.new_params(0), optimizer, seed=1, ema=False)
    step = make_train_step(task.loss_function, optimizer)
    for number in range(1, 151):
        state, _ = step(state, batch(number))
    assert alone(state.params) > 0.95
    both = task.predict(state.params, batch(0).inputs)["first"]
    np.testing.assert_allclose(both.sum(axis=-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("members", "linear_members", "shares"),
    [(2, 3, (0.5, 0.0, 0.5, 0.25, 0.0)), pytest.param(1, 2, (0.5, 0.5, 0.0), marks=pytest.mark.slow)],
)
def test_from_members_of_each_kind_ever_less_is_hidden_down_to_nothing(members, linear_members, shares):
    own = {
        "task": {
            "kind": "text_classification", "token_dropout": 0.5, "vary_token_dropout": True,
            "members": members, "linear_members": linear_members,
        },
        "training.best_metric": "validation/loss",
    }  # fmt: skip
    task = ClassificationTask(replace(small(), own), {"first": Classes(4)}, vocabulary_size=V, pooling="attention")
    params, batch, seed = task.init_params(0), _batch(0), jnp.uint32(7)
    for number, one in enumerate(params["members"].values()):
        if number >= members:  # these begin with nothing to say
            weights = one["encoder"]["weights"]
            weights[...] = jax.random.normal(jax.random.key(number), weights[...].shape)

    def loss_of(number: int, share: float) -> float:
        own = fold_seed(seed, number)
        seen = hidden_tokens(batch.inputs, share, own) if share else batch.inputs
        outputs = task.outputs(task.model(params).members[number], seen, 1, own)
        labels = batch.labels["first"]
        mean = task.objectives["first"].sums(outputs["first"], labels.values, labels.weights)["loss"]
        return float(mean.sum / mean.weight)

    batch = LabelledBatch(batch.inputs, {"first": batch.labels["first"]})
    mean, _ = task.loss_function(params, batch, seed)
    apart = [loss_of(number, share) for number, share in enumerate(shares)]
    np.testing.assert_allclose(float(mean.sum / mean.weight), np.mean(apart), rtol=1e-5)
    last = len(shares) - 1
    assert loss_of(last, 0.0) != pytest.approx(loss_of(last, 0.25), rel=1e-3)


def test_members_without_layers_add_up_words_alone():
    own = {"task": {"kind": "text_classification", "linear_members": 1}, "training.best_metric": "validation/loss"}
    with pytest.raises(ValueError, match="linear_members=1 add up words, for labels of whole sequences of tokens: set"):
        ClassificationTask(replace(small(), own), {"first": Classes(2)}, num_channels=3)
    with pytest.raises(ValueError, match="linear_members=1 add up words, for labels of whole sequences of tokens: set"):
        TaggingTask(replace(small(), own), {"first": Classes(2)}, vocabulary_size=V)


def test_they_learn():
    before, after = learn(_task(2), _batch, 150)
    assert before["first/accuracy"] < 0.6
    assert after["first/accuracy"] > 0.95
