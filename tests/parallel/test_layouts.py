"""Every layout of eight devices trains as one device does, keeps its share of the state, and sends what theory says."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx

from jaxformer.config import Config, MeshConfig, replace
from jaxformer.tasks.task import check_divides
from jaxformer.training.planner.share import Candidate
from tests.devices import run_on_eight_devices

_CASE = """
    import re
    from jaxformer.config import Config, MeshConfig, replace
    from jaxformer.parallel.mesh import make_layout, place_batch
    from jaxformer.tasks.translation import TranslationTask
    from jaxformer.training import create_state, make_optimizer, make_train_step
    from jaxformer.types import Batch, Sequences
    from tests.parallel.layouts import GATHERING, LAYOUTS, check_gradients, check_steps

    D, ROWS, SLOTS = 32, 32, 12

    class Sizes:
        source_vocabulary_size, target_vocabulary_size = 64, 48  # 16 pieces are of the source alone

    CONFIG = replace(Config(), {
        "model": {"d_model": D, "d_ff": 64, "num_heads": 4, "num_encoder_layers": 1, "num_decoder_layers": 1,
                  "dropout": 0.2, "attention_dropout": 0.2, "activation_dropout": 0.2, "max_length": SLOTS},
        "data": {"max_length": SLOTS},
        "optimizer": {"name": "adam", "learning_rate": 0.01, "schedule": "constant", "warmup_steps": 0},
    })

    def side(seed, vocabulary):
        '''Rows of two packed sequences and padding.'''
        random = np.random.default_rng(seed)
        first, second = random.integers(1, 6, (2, ROWS, 1))
        place = np.arange(SLOTS)
        real = place < first + second
        positions = np.where(place < first, place, place - first) * real
        segments = np.where(place < first, 1, 2) * real
        tokens = random.integers(4, vocabulary, real.shape) * real
        return Sequences(*(x.astype(np.int32) for x in (tokens, positions, segments)), real.astype(float))

    def make(sizes, changes={}, accumulate=1, dtype=jnp.float32):
        config, layout = replace(CONFIG, changes), make_layout(MeshConfig(**sizes))
        task, optimizer = TranslationTask(config, Sizes(), layout), make_optimizer(config.optimizer, 100)
        task.dtype = dtype
        new = lambda: jax.tree.map(lambda x: x.astype(dtype), task.new_params(0))
        state = create_state(new, optimizer, seed=3, ema=False, layout=layout)
        step = make_train_step(task.loss_function, optimizer, accumulate=accumulate, layout=layout)
        batch = Batch(side(0, 64), side(1, 48))
        batch = jax.tree.map(lambda x: x.astype(dtype) if x.dtype == float else x, batch)
        return step, state, place_batch(batch, layout), layout
"""

_QUICKLY = """
    jax.config.update("jax_disable_most_optimizations", True)
"""


@pytest.mark.parametrize(
    ("layouts", "changes"),
    [
        ("[LAYOUTS[0], *LAYOUTS[3::2]]", {}),
        pytest.param("[*LAYOUTS[1:3], LAYOUTS[4]]", {}, marks=pytest.mark.slow),
        pytest.param("LAYOUTS[3:4]", {"training": {"r_drop": 5.0}}, marks=pytest.mark.slow),  # as plain, twice
        # .ci/run tries it by itself, compiled as a run compiles it.
        pytest.param("GATHERING[:1]", {"model": {"num_heads": 2}}, marks=pytest.mark.slow),
        pytest.param("GATHERING[1:]", {"model": {"num_heads": 2}}, marks=pytest.mark.slow),
        pytest.param(
            "LAYOUTS[3::2]",
            {"model": {"position": "rotary", "norm": "rmsnorm", "activation": "swiglu", "scan_layers": True}},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "LAYOUTS[3::2]",
            {
                "model": {"norm_position": "post", "position": "learned", "tie_output": False},
                "memory": {"remat": "full"},
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "LAYOUTS[3::2]",
            {"model": {"share_embeddings": False, "num_heads": 8, "num_kv_heads": 4}},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            '[{"data": 1, "fsdp": 2, "context": 4}, {"data": 2, "context": 3}]',
            {
                "model": {"num_kv_heads": 2, "position": "rotary", "scan_layers": True},
                "memory": {"remat": "dots"},
            },
            marks=pytest.mark.slow,
        ),
    ],
    ids=[
        "plain", "plain, others", "R-Drop", "gathered", "gathered, heads in parts", "rotary, rms, swiglu, scanned",
        "post, learned, untied, remat",
        "separate, grouped", "gathered, grouped, rotary, scanned, remat",
    ],
)
def test_loss_and_gradient_are_those_of_one_device(layouts: str, changes: dict) -> None:
    run_on_eight_devices(_CASE + f"""
    changes = {{**{changes!r}, "optimizer": {{"name": "sgd", "momentum": 0.0, "learning_rate": 1.0}}}}
    check_gradients(lambda sizes, accumulate: make(sizes, changes, accumulate), {layouts})
    """)


@pytest.mark.parametrize("layouts", ["LAYOUTS[5:]", pytest.param("LAYOUTS[:5]", marks=pytest.mark.slow)])
def test_in_float64_twenty_steps_of_adam_are_those_of_one_device(layouts: str) -> None:
    run_on_eight_devices('    jax.config.update("jax_enable_x64", True)\n' + _CASE + _QUICKLY + f"""
    check_steps(lambda sizes: make(sizes, dtype=jnp.float64), {layouts})
    """)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rate"), [("lion", 1e-3), ("adafactor", 0.03)])
def test_in_float64_steps_of_any_size_of_gradient_are_those_of_one_device(name: str, rate: float) -> None:
    run_on_eight_devices('    jax.config.update("jax_enable_x64", True)\n' + _CASE + _QUICKLY + f"""
    from tests.parallel.layouts import leaves_but_key_biases
    changes = {{"optimizer": {{"name": "{name}", "learning_rate": {rate}}}}}
    make_in_float64 = lambda sizes: make(sizes, changes, dtype=jnp.float64)
    check_steps(make_in_float64, LAYOUTS[3:4], leaves=lambda state: leaves_but_key_biases(state, 8))
    """)


@pytest.mark.slow
def test_in_float64_twenty_steps_with_gathered_keys_are_those_of_one_device() -> None:
    run_on_eight_devices('    jax.config.update("jax_enable_x64", True)\n' + _CASE + _QUICKLY + """
    check_steps(lambda sizes: make(sizes, {"model": {"num_heads": 2}}, dtype=jnp.float64), GATHERING)
    """)


def test_each_device_holds_its_share() -> None:
    run_on_eight_devices(_CASE + """
    from flax import nnx

    def specs(sizes):
        _, state, _, _ = make(sizes)
        held = {tree: sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(getattr(state, tree)))
                for tree in ("params", "opt_state")}
        named = {".".join(map(str, path)): leaf[...].sharding.spec for path, leaf in nnx.to_flat_state(state.params)}
        return held, named

    whole, _ = specs({"data": 1})
    matrices, _ = specs({"data": 1, "fsdp": 8})
    P = jax.sharding.PartitionSpec
    held, named = specs({"data": 1, "fsdp": 2, "tensor": 4})
    layer = "decoder.layers.0"
    for name, spec in {
        "target_embedding.table": P("tensor", "fsdp"), "target_embedding.source_table": P("tensor", "fsdp"),
        f"{layer}.attention.query_key_value.kernel": P("fsdp", "tensor"),
        f"{layer}.attention.query_key_value.bias": P("tensor"),
        f"{layer}.cross_attention.output.kernel": P("tensor", "fsdp"),
        f"{layer}.feed_forward.expand.kernel": P("fsdp", "tensor"),
        f"{layer}.feed_forward.contract.kernel": P("tensor", "fsdp"),
        f"{layer}.feed_forward.contract.bias": P(), "decoder_norm.scale": P(),
    }.items():
        assert named[name] == spec, (name, named[name])
    for tree in whole:  # vectors stay whole: they are a twentieth of this small network
        assert whole[tree] / 8 < matrices[tree] < whole[tree] / 8 * 1.4, (tree, whole, matrices)
        assert whole[tree] / 8 < held[tree] < whole[tree] / 8 * 1.4, (tree, whole, held)
    """)


@pytest.mark.parametrize(
    "layouts",
    ["LAYOUTS[1::4]", *(pytest.param(others, marks=pytest.mark.slow) for others in ("LAYOUTS[3:4]", "LAYOUTS[::2]"))],
)
def test_what_travels_is_what_theory_says(layouts: str) -> None:
    run_on_eight_devices(_CASE + _QUICKLY + f"    LAYOUTS = {layouts}\n" + """
    from jaxformer.parallel.traffic import Step, exchanges, parts_of

    KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

    def check_the_state_stays_where_it_is(program, state):
        after, _ = program.output_shardings
        for tree in ("params", "opt_state"):
            pairs = zip(jax.tree.leaves(getattr(state, tree)), jax.tree.leaves(getattr(after, tree)), strict=True)
            for leaf, sharding in pairs:
                assert sharding.is_equivalent_to(leaf.sharding, leaf.ndim), (tree, leaf.shape, leaf.sharding, sharding)

    def sent(sizes):
        '''For every kind of collective, the numbers of elements of all that are in the compiled step.'''
        step, state, batch, layout = make(sizes)
        found = {kind: [] for kind in KINDS}
        program = step.lower(state, batch).compile()
        check_the_state_stays_where_it_is(program, state)
        for line in program.as_text().splitlines():
            match = re.search(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\\(", line)
            if match:
                shapes = re.findall(r"\\w+\\[([\\d,]*)\\]", match[1])
                found[match[2]] += [int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes]
        held = [leaf.addressable_shards[0].data for leaf in jax.tree.leaves(state.params)]
        traced = str(jax.make_jaxpr(lambda *given: step(*given))(state, batch)).count("all_gather[")
        slots = SLOTS // layout.parts("length")
        shape = (ROWS // layout.parts("rows"), slots, slots)
        theory = exchanges(layout, parts_of(layout, state.params), Step(CONFIG.model, 4), shape)
        return found, held, layout, traced, theory

    for sizes in LAYOUTS:
        found, held, layout, traced, theory = sent(sizes)
        size = lambda axis: layout.mesh.shape[axis]
        rows, slots = ROWS // layout.parts("rows"), SLOTS // size("context")
        matrices = sorted(x.size for x in held if x.ndim == 2)
        kept = sum(x.size for x in held)
        stored = size("fsdp") > 1
        segments = [rows * SLOTS] * 2 if size("context") > 1 else []

        # Parameters that are stored in parts: those of layers are gathered twice as traced, since the backward pass
        # keeps none of them, and the two tables once; each gradient is scattered once. Segment ids are gathered three
        # times as traced. A CPU's compiler merges what is gathered again.
        gathers = (2 * (len(matrices) - 2) + 2) * stored + 3 * bool(segments)
        assert traced == gathers, (sizes, traced)
        assert sorted(found["all-gather"]) == sorted([x * size("fsdp") for x in matrices] * stored + segments), found
        assert sorted(found["reduce-scatter"]) == matrices * stored, found

        # Sequences in parts: queries, keys, values and results of three attentions, there and back; and one column.
        exchanged = 3 * 4 * 2 * rows * slots * D // size("tensor") if size("context") > 1 else 0
        assert sum(found["all-to-all"]) == exchanged, found
        assert found["collective-permute"] == ([rows] if size("context") > 1 else []), found

        # All-reduce: gradients that no reduce-scatter has summed over all rows, and for tensor parallelism activations:
        # two embeddings, two sub-layers of the encoder there and back, three of the decoder, of which attention to the
        # source enters twice, and the gradient to the output of the decoder. The rest are rows of numbers: of logits
        # the largest, the sum and the label's; a mean of the output kernel; norms of gradients; sums of losses.
        gradients = (kept - sum(matrices) if stored and layout.batch_axes == ("fsdp",) else kept)
        activations = 14 * rows * slots * D if size("tensor") > 1 else 0
        numbers = 3 * rows * slots + D if size("tensor") > 1 else 0
        total = sum(found["all-reduce"])
        assert 0 < total - gradients - activations - numbers <= 3 * len(held), (sizes, total, gradients, activations)

        # `parallel.traffic` says the same.
        said = lambda kind, what=None: sum(
            one.elements for one in theory if one.kind == kind and what in (None, one.what))
        assert said("all-reduce", "gradients") == gradients * bool(layout.batch_axes), (sizes, theory)
        assert said("all-reduce") - said("all-reduce", "gradients") == activations, (sizes, theory)
        assert said("reduce-scatter") == size("fsdp") * sum(found["reduce-scatter"]), (sizes, theory)
        assert said("all-to-all") == exchanged, (sizes, theory)
        tables = sum(x.size * size("fsdp") for x in held if x.ndim == 2 and x.shape[0] * size("tensor") in (48, 16))
        once = sum(found["all-gather"]) - sum(segments)
        assert said("all-gather") == 2 * once - tables * stored, (sizes, theory)
        assert sum(one.count for one in theory if one.kind == "all-gather") == traced - 3 * bool(segments), sizes
    """)


def test_what_travels_where_keys_are_gathered_is_what_theory_says() -> None:
    run_on_eight_devices(_CASE + _QUICKLY + """
    from jaxformer.parallel.traffic import Step, exchanges, parts_of
    from tests.parallel.counting import compiled, traced

    changes = {"model": {"num_heads": 2}}
    for sizes in GATHERING[1:]:
        step, state, batch, layout = make(sizes, changes)
        found, asked = compiled(step, state, batch), traced(step, state, batch)
        rows, slots = ROWS // layout.parts("rows"), SLOTS // 4
        parts = parts_of(layout, state.params)
        theory = exchanges(layout, parts, Step(replace(CONFIG, changes).model, 4), (rows, slots, slots))

        # Keys and values of three attentions, whole; and segment ids, as everywhere.
        whole = rows * SLOTS * D // layout.parts("heads")
        segments = [rows * SLOTS] * 2
        assert sorted(found["all-gather"]) == segments + [whole] * 6, (sizes, found)
        assert sorted(asked["all-gather", ("context",)]) == segments + segments[:1] + [whole] * 6, (sizes, asked)
        assert found["reduce-scatter"] == [whole // 4] * 6, (sizes, found)
        assert asked["reduce-scatter", ("context",)] == [whole] * 6, (sizes, asked)
        assert not found["all-to-all"], found
        said = {(one.what, one.kind): (one.elements, one.itemsize, one.count) for one in theory}
        assert said["keys and values", "all-gather"] == (6 * whole, 4, 6), theory
        assert said["gradients of keys and values", "reduce-scatter"] == (6 * whole, 4, 6), theory
        assert "all-to-all" not in {one.kind for one in theory}
    """)


def test_what_does_not_divide_is_refused_with_what_would() -> None:
    run_on_eight_devices(_CASE + r"""
    for sizes, target, message in (
        ({"data": 4, "tensor": 4}, 48, "mesh.data=4 x mesh.tensor=4 is more than the 8 devices"),
        ({"data": -1, "tensor": 3}, 48, "3 devices do not divide the 8 .* the nearest number that does is 2"),
        ({"data": 1, "tensor": 8}, 48, "model.num_heads=4 does not divide .* 8 devices: choose 8 heads"),
        ({"data": 4, "tensor": 2}, 47, "17 pieces.* 2 devices of mesh.tensor: .*multiple of 2"),
        ({"data": 1, "fsdp": 3}, 48, "32, the size of the dimension 'model' .* mesh.fsdp: 24 or 36 would, or fewer"),
    ):
        Sizes.target_vocabulary_size = target
        try:
            make(sizes)
        except ValueError as error:
            assert re.search(message, str(error)), error
        else:
            raise AssertionError(f"{sizes} accepted")
    """)


@pytest.mark.parametrize(
    ("model", "sizes", "said"),
    [
        ({}, {"tensor": 3}, "model.num_heads=8 does not divide over mesh.tensor = 3 devices: choose 6 or 12 heads,"),
        ({"d_model": 32}, {"tensor": 3}, "model.num_heads=8 .* 3 devices: choose fewer devices along this axis"),
        ({"num_kv_heads": 4}, {"tensor": 3}, "model.num_heads=8 .* 3 devices: choose 12 heads, or fewer"),
        ({"position": "rotary"}, {"tensor": 16}, "16 devices: choose fewer devices"),  # 16 and 48 heads are of odd size
        ({"num_kv_heads": 2}, {"tensor": 4}, "model.num_kv_heads=2 .* 4 devices: choose 4 heads, or fewer"),
        ({"d_model": 32}, {"fsdp": 3}, "^32, .* 'model' .* mesh.fsdp: 24 or 48 would, or fewer devices"),
        ({"position": "rotary"}, {"fsdp": 5}, "^48, .* 'model' .* mesh.fsdp: 80 would, or fewer devices"),
        ({"d_ff": 62}, {"tensor": 4}, "^62, .* 'feed_forward' .* mesh.tensor: 60 or 64 would, or fewer devices"),
    ],
)
def test_sizes_that_would_divide_are_sizes_that_the_model_takes(model, sizes, said) -> None:
    model = replace(Config(), {"model": {"d_model": 48, "num_heads": 8, **model}}).model
    params = {"kernel": nnx.Param(np.zeros((model.d_model, model.d_ff)), dims=("model", "feed_forward"))}
    with pytest.raises(ValueError, match=said):
        check_divides(model, Candidate(**sizes).layout(), params)


def test_two_axes_for_the_rest_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mesh.data and mesh.fsdp are -1"):
        MeshConfig(data=-1, fsdp=-1)


@pytest.mark.slow
def test_a_research_table_replaces_ours() -> None:
    run_on_eight_devices(_CASE + _QUICKLY + """
    from jaxformer.parallel.layout import TABLE, Layout
    from jaxformer.parallel.mesh import make_mesh

    P, mesh = jax.sharding.PartitionSpec, make_mesh(MeshConfig(data=4, tensor=2))
    table = {**TABLE, "feed_forward": ()}  # heads and vocabulary in parts, feed-forward layers whole
    layout = Layout(mesh, table)
    task = TranslationTask(CONFIG, Sizes(), layout)
    optimizer = make_optimizer(CONFIG.optimizer, 100)
    state = create_state(lambda: task.new_params(0), optimizer, seed=3, ema=False, layout=layout)
    assert state.params["encoder"]["layers"][0]["feed_forward"]["expand"]["kernel"][...].sharding.spec == P()
    step = make_train_step(task.loss_function, optimizer, layout=layout)
    batch = place_batch(jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == float else x,
                                     Batch(side(0, 64), side(1, 48))), layout)
    _, metrics = step(state, batch)
    one_step, one, one_batch, _ = make({"data": 1})
    _, expected = one_step(one, one_batch)
    np.testing.assert_allclose(metrics["grad_norm"].value(), expected["grad_norm"].value(), rtol=1e-5)
    """)
