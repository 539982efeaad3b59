"""What an encoder with heads sends in a compiled step, element by element, against `parallel.traffic`."""

from __future__ import annotations

import pytest

from tests.devices import run_on_eight_devices
from tests.parallel.test_encoder_layouts import _CASE

_COUNT = _CASE + """
    from jaxformer.parallel.traffic import Step, encoder_exchanges, parts_of
    from tests.parallel.counting import compiled, traced

    MESHES = [{"data": 8}, {"data": 1, "fsdp": 8}, {"data": 4, "tensor": 2}, {"data": 2, "context": 4}]
    if NAME == "attention":
        MESHES.append({"data": 1, "fsdp": 2, "tensor": 2, "context": 2})
    if NAME == "tagging":
        MESHES.append({"data": 1, "tensor": 2, "context": 4})  # over which four heads do not divide
    D = 32
    # Numbers that heads sum of a row: two heads of two sequences; three quantiles of five steps.
    POOLED, FORECAST = {"attention": 2 * 2 * D}, {"forecasting": 3 * 5}

    for sizes in MESHES:
        step, state, batch = make(NAME, sizes)
        layout = make_layout(MeshConfig(**sizes))
        found, asked = compiled(step, state, batch), traced(step, state, batch)
        size = lambda axis: layout.mesh.shape[axis]
        rows, slots = ROWS // layout.parts("rows"), SLOTS // size("context")
        parts = parts_of(layout, state.params)
        theory = encoder_exchanges(
            layout, parts, Step(CONFIG.model, 4), (rows, slots),
            tokens=NAME != "forecasting", pooled=POOLED.get(NAME, 0), forecast=FORECAST.get(NAME, 0),
        )
        held = [leaf.addressable_shards[0].data for leaf in jax.tree.leaves(state.params)]
        said = lambda kind, *what: sum(
            one.elements for one in theory if one.kind == kind and (not what or one.what in what))

        # Matrices that are stored in parts: gathered as traced, the layers' twice, heads and tables once; a CPU's
        # compiler merges what is gathered again. Every gradient of them is scattered once.
        stored = size("fsdp") > 1
        matrices = sorted(one.used for one in parts if one.axes)
        assert bool(matrices) == stored
        segments = [rows * SLOTS] * (size("context") > 1)
        assert sum(asked["all-gather", ("fsdp",)]) == said("all-gather", "parameters"), (sizes, asked, theory)
        assert len(asked["all-gather", ("fsdp",)]) == sum(one.count for one in theory if one.what == "parameters")
        # Keys and values of one layer, whole, where heads cannot be exchanged.
        gathers = size("tensor") * size("context") == 8
        keys = [rows * SLOTS * D // size("tensor")] * 2 * gathers
        assert sorted(found["all-gather"]) == sorted(matrices + segments + keys), (sizes, found)
        own = [one.stored for one in parts if one.axes] + [x // size("context") for x in keys]
        assert sorted(found["reduce-scatter"]) == sorted(own), (sizes, found)
        assert said("reduce-scatter", "gradients") == sum(matrices), (sizes, theory)
        assert said("all-gather", "keys and values") == sum(keys) == said(
            "reduce-scatter", "gradients of keys and values"), (sizes, theory)

        # Sequences in parts: queries, keys, values and results of the attention of one layer, there and back.
        exchanged = 4 * 2 * rows * slots * D // size("tensor") if size("context") > 1 and not gathers else 0
        assert sum(found["all-to-all"]) == said("all-to-all") == exchanged, (sizes, found, theory)
        assert not found["collective-permute"], found

        # All-reduce: gradients that no reduce-scatter has summed over all rows; activations, of the embedding if it is
        # a table, and of two sub-layers there and back; what heads sum over positions, there and back. The rest are
        # rows of numbers: weights of pooling, sums of losses, norms of gradients.
        gradients = sum(one.stored for one in parts if set(layout.batch_axes) - set(one.axes))
        activations = (4 + (NAME != "forecasting")) * rows * slots * D if size("tensor") > 1 else 0
        pooled = 2 * rows * (POOLED.get(NAME, 0) + FORECAST.get(NAME, 0)) if size("context") > 1 else 0
        assert said("all-reduce", "gradients") == gradients, (sizes, theory)
        assert said("all-reduce", "activations") == activations, (sizes, theory)
        assert said("all-reduce", "pooled rows", "forecasts") == pooled, (sizes, theory)
        # Attention pooling: the highest score, and twice the sum of exponentials, of two sequences and two heads.
        numbers = 3 * rows * 2 * 2 if NAME == "attention" and size("context") > 1 else 0
        rest = sum(found["all-reduce"]) - gradients - activations - pooled - numbers
        assert 0 < rest <= 3 * len(held) + 40, (sizes, rest, len(held), sorted(found["all-reduce"]), theory)
"""


@pytest.mark.slow  # as that of translation in `test_layouts`
@pytest.mark.parametrize("name", ["attention", "tagging", "forecasting"])
def test_what_an_encoder_sends_is_what_theory_says(name: str) -> None:
    run_on_eight_devices(f"    NAME = {name!r}\n" + _COUNT)
