"""Every layout of eight devices trains an encoder with heads as one device does, whatever the heads and losses."""

from __future__ import annotations

import pytest

from tests.devices import run_on_eight_devices

_CASE = """
    import dataclasses
    from jaxformer.config import Config, MeshConfig, replace
    from jaxformer.parallel.mesh import make_layout, place_batch
    from jaxformer.tasks.classification import ClassificationTask
    from jaxformer.tasks.forecasting import ForecastingTask
    from jaxformer.tasks.objectives import Classes, Numbers, Quantiles, YesNo
    from jaxformer.tasks.tagging import TaggingTask
    from jaxformer.training import create_state, make_optimizer, make_train_step
    from jaxformer.types import SPELLING_SIZE, LabelledBatch, PositionLabels, RowLabels, Sequences, Series
    from tests.parallel.layouts import LAYOUTS, check_gradients, check_steps

    ROWS, SLOTS, V = 32, 12, 24

    CONFIG = replace(Config(), {
        "model": {"d_model": 32, "d_ff": 64, "num_heads": 4, "num_encoder_layers": 1,
                  "dropout": 0.2, "attention_dropout": 0.2, "activation_dropout": 0.2, "max_length": SLOTS},
        "data": {"max_length": SLOTS},
        "optimizer": {"name": "adam", "learning_rate": 0.01, "schedule": "constant", "warmup_steps": 0},
    })
    random = np.random.default_rng(0)

    def packed():
        '''Rows of two packed sequences and padding.'''
        first, second = random.integers(1, 6, (2, ROWS, 1))
        place = np.arange(SLOTS)
        real = place < first + second
        positions = np.where(place < first, place, place - first) * real
        segments = np.where(place < first, 1, 2) * real
        tokens = random.integers(4, V, real.shape) * real
        return Sequences(*(x.astype(np.int32) for x in (tokens, positions, segments)), real.astype(float))

    def labels(kind, objective, shape):
        '''What is wanted at some of the places of `shape`; no number at the others.'''
        weights = random.choice([0.0, 1.0, 2.0], shape)
        if isinstance(objective, Classes):
            return kind(np.where(weights > 0, random.integers(0, objective.num_classes, shape), -100), weights)
        if isinstance(objective, YesNo):
            return kind(random.integers(0, 2, (*shape, objective.num_labels)), weights)
        return kind(np.where(weights > 0, random.normal(size=shape), np.nan), weights)

    def tagging(layout):
        parts = {"class": Classes(3, (0.5, 1.0, 2.0), 0.1), "exposed": YesNo(2), "area": Numbers("huber")}
        task = TaggingTask(CONFIG, parts, vocabulary_size=V, part_weights="learned", layout=layout)
        rows = packed()
        return task, LabelledBatch(rows, {n: labels(PositionLabels, part, (ROWS, SLOTS)) for n, part in parts.items()})

    def near(layout):
        model = {"neighbourhood": 2, "num_encoder_layers": 2, "local_layers": 1, "local_window": 3}
        own = {"model": model, "task": {"kind": "protein"}, "training": {"best_metric": "validation/q3"}}
        config, part = replace(CONFIG, own), Classes(3)
        task = TaggingTask(config, {"class": part}, vocabulary_size=V, layout=layout)
        return task, LabelledBatch(packed(), {"class": labels(PositionLabels, part, (ROWS, SLOTS))})

    def classifying(pooling, part_weights=None):
        def make(layout):
            parts = {"class": Classes(3), "number": Numbers()}
            task = ClassificationTask(
                CONFIG, parts, vocabulary_size=V, pooling=pooling, part_weights=part_weights, layout=layout
            )
            return task, LabelledBatch(packed(), {n: labels(RowLabels, part, (ROWS, 2)) for n, part in parts.items()})
        return make

    def spelt(layout):
        own = {"task": {"kind": "text_classification", "members": 2, "linear_members": 1, "token_dropout": 0.2}}
        config = replace(CONFIG, own | {"training.best_metric": "validation/loss"})
        parts = {"class": Classes(3)}
        task = ClassificationTask(config, parts, vocabulary_size=V, spelling=8, pooling="attention", layout=layout)
        rows = packed()
        spelling = random.choice([0, *range(V, V + 8)], (ROWS, SLOTS, SPELLING_SIZE)) * (rows.tokens > 0)[..., None]
        tokens = np.concatenate([rows.tokens[..., None], spelling], axis=-1).astype(np.int32)
        found = {n: labels(RowLabels, part, (ROWS, 2)) for n, part in parts.items()}
        return task, LabelledBatch(dataclasses.replace(rows, tokens=tokens), found)

    def wide(layout):
        parts = {"class": Classes(3), "number": Numbers()}
        task = ClassificationTask(CONFIG, parts, num_channels=4, linear_skip=True, pooling="attention", layout=layout)
        real = np.arange(SLOTS) < random.integers(3, SLOTS + 1, (ROWS, 1))
        values = np.where(real[..., None], random.normal(size=(ROWS, SLOTS, 4)), np.nan)
        inputs = Series(values, (np.arange(SLOTS) * real).astype(np.int32), real.astype(np.int32))
        return task, LabelledBatch(inputs, {n: labels(RowLabels, part, (ROWS, 1)) for n, part in parts.items()})

    def forecasting(layout):
        quantiles = Quantiles((0.1, 0.5, 0.9))
        task = ForecastingTask(
            CONFIG, {"price": quantiles}, patch_length=4, num_patches=SLOTS, horizon=5, reversible=True,
            linear_skip=True, layout=layout,
        )  # fmt: skip
        real = np.arange(SLOTS) < random.integers(3, SLOTS + 1, (ROWS, 1))
        values = np.where(real[..., None], random.normal(size=(ROWS, SLOTS, 4)), np.nan)
        inputs = Series(values, (np.arange(SLOTS) * real).astype(np.int32), real.astype(np.int32))
        return task, LabelledBatch(inputs, {"price": labels(RowLabels, quantiles, (ROWS, 5))})

    TASKS = {
        "tagging": tagging,
        "near": near,
        "cls": classifying("cls"),
        "mean": classifying("mean", {"number": 0.3}),
        "attention": classifying("attention", "learned"),
        "convolution": classifying("convolution"),
        "forecasting": forecasting,
        "wide": wide,
        "spelt": spelt,
    }

    def make(name, sizes, accumulate=1, changes={}, dtype=jnp.float32):
        global random
        random = np.random.default_rng(0)
        layout = make_layout(MeshConfig(**sizes))
        task, batch = TASKS[name](layout)
        task.dtype = dtype
        optimizer = make_optimizer(replace(CONFIG, {"optimizer": changes}).optimizer, 100)
        new = lambda: jax.tree.map(lambda x: x.astype(dtype), task.new_params(0))
        state = create_state(new, optimizer, seed=3, ema=False, layout=layout)
        step = make_train_step(task.loss_function, optimizer, accumulate=accumulate, layout=layout)
        batch = jax.tree.map(lambda x: x.astype(dtype if x.dtype == float else np.int32), batch)
        return step, state, place_batch(batch, layout)

    jax.config.update("jax_disable_most_optimizations", True)
"""


@pytest.mark.parametrize(
    ("name", "layouts"),
    [
        ("attention", "LAYOUTS[1::4]"),
        pytest.param("attention", "LAYOUTS", marks=pytest.mark.slow),
        pytest.param("near", '[{"data": 1, "tensor": 2, "context": 4}]', marks=pytest.mark.slow),  # gathers keys
        pytest.param("near", "LAYOUTS[2:5]", marks=pytest.mark.slow),
        pytest.param("spelt", "LAYOUTS", marks=pytest.mark.slow),  # as `attention`, with several ids a token
        pytest.param("wide", "LAYOUTS[4:]", marks=pytest.mark.slow),  # as `attention`, of other sizes
        pytest.param("tagging", "LAYOUTS", marks=pytest.mark.slow),  # `near` without neighbours
        pytest.param("forecasting", "LAYOUTS", marks=pytest.mark.slow),
        pytest.param("cls", "LAYOUTS[3:5]", marks=pytest.mark.slow),  # pooled as `attention` is, in simpler ways
        pytest.param("mean", "LAYOUTS[3:5]", marks=pytest.mark.slow),  # as `attention` begins
        pytest.param("convolution", "LAYOUTS[:4]", marks=pytest.mark.slow),  # without `context`
    ],
)
def test_loss_and_gradient_are_those_of_one_device(name: str, layouts: str) -> None:
    run_on_eight_devices(_CASE + f"""
    descent = {{"name": "sgd", "momentum": 0.0, "learning_rate": 1.0}}
    check_gradients(lambda sizes, accumulate: make({name!r}, sizes, accumulate, descent), {layouts})
    """)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tagging", "attention", "forecasting"])
def test_in_float64_twenty_steps_of_adam_are_those_of_one_device(name: str) -> None:
    run_on_eight_devices('    jax.config.update("jax_enable_x64", True)\n' + _CASE + f"""
    check_steps(lambda sizes: make({name!r}, sizes, dtype=jnp.float64), LAYOUTS)
    """)


def test_labels_of_rows_are_whole_where_sequences_are_split_and_small_heads_everywhere() -> None:
    run_on_eight_devices(_CASE + """
    P = jax.sharding.PartitionSpec
    _, state, batch = make("attention", {"data": 2, "context": 4})
    assert batch.labels["class"].values.addressable_shards[0].data.shape == (ROWS // 2, 2)
    assert batch.inputs.tokens.addressable_shards[0].data.shape == (ROWS // 2, SLOTS // 4)
    layout = make_layout(MeshConfig(data=2, context=4))
    for shape, spec in (((8,), P(("data",))), ((8, 4), P(("data",), ("context",)))):
        assert place_batch(np.zeros(shape), layout).sharding.spec == spec
    _, state, _ = make("attention", {"data": 1, "fsdp": 2, "tensor": 4})
    head = state.params["heads"]["class"]
    assert head["project"]["kernel"][...].sharding.spec == P("fsdp")
    assert head["score"][...].sharding.spec == P()
    assert state.params["part_weights"]["log_variances"][...].sharding.spec == P()
    _, state, _ = make("forecasting", {"data": 2, "context": 4})
    assert state.params["heads"]["price"]["kernel"][...].sharding.spec == P()
    """)
