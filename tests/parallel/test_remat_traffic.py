"""What a step exchanges again where it computes activations again, as traced: a CPU's compiler undoes some of it."""

from __future__ import annotations

import pytest

from tests.devices import run_on_eight_devices
from tests.parallel.test_layouts import _CASE


@pytest.mark.parametrize("norm", [pytest.param("pre", marks=pytest.mark.slow), "post"])
def test_what_is_computed_again_is_exchanged_as_theory_says(norm: str) -> None:
    run_on_eight_devices(_CASE + f"""
    from jaxformer.parallel.traffic import Step, exchanges, parts_of
    from tests.parallel.counting import traced

    LAYERS = {{"num_encoder_layers": 3, "num_decoder_layers": 2, "norm_position": {norm!r}, "scan_layers": True}}
    CASES = [("full", {{"data": 4, "tensor": 2}}), ("dots", {{"data": 2, "context": 4}})]
    if {norm!r} == "pre":
        CASES += [("none", {{"data": 4, "tensor": 2}}), ("dots", {{"data": 1, "fsdp": 4, "tensor": 2}})]
        # Four heads do not divide over these: keys and values are gathered, again with attention alone.
        CASES += [("dots", {{"data": 1, "tensor": 2, "context": 4}}), ("none", {{"data": 1, "fsdp": 2, "context": 3}})]
    batch = jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == float else x, Batch(side(0, 64), side(1, 48)))
    for remat, sizes in CASES:
        changes, layout = {{"model": LAYERS, "memory": {{"remat": remat}}}}, make_layout(MeshConfig(**sizes))
        config = replace(CONFIG, changes)
        task, optimizer = TranslationTask(config, Sizes(), layout), make_optimizer(config.optimizer, 100)
        new = lambda params: create_state(params, optimizer, seed=3, ema=False)
        state = jax.eval_shape(new, task.abstract_params())
        step = make_train_step(task.loss_function, optimizer, accumulate=2, layout=layout)
        model = replace(CONFIG, changes).model
        slots = SLOTS // layout.parts("length")
        shape = (ROWS // layout.parts("rows") // 2, slots, slots)
        parts = parts_of(layout, state.params)
        theory = exchanges(layout, parts, Step(model, 4, 2, remat), shape)
        asked = traced(step, state, batch)
        said = lambda kind, axes: sum(one.elements for one in theory if (one.kind, one.axes) == (kind, axes))
        large = lambda kind, axes: [size for size in asked[kind, axes] if size >= shape[0] * slots * D // 2]
        exchanged = layout.exchanges_heads(4)
        between = ("all-to-all",) if exchanged else ("all-gather", "reduce-scatter")
        assert exchanged or not asked["all-to-all", ("context",)]
        for kind, axes in (("all-reduce", ("tensor",)), *((kind, ("context",)) for kind in between)):
            sent = large(kind, axes)
            assert sum(sent) == said(kind, axes), (remat, sizes, kind, sum(sent), said(kind, axes), sent)
            assert bool(sent) == (sizes.get(axes[0], 1) > 1)
        if "fsdp" in sizes:
            for kind in ("all-gather", "reduce-scatter"):
                sent = asked[kind, ("fsdp",)]
                assert sum(sent) == said(kind, ("fsdp",)), (remat, sizes, kind, sum(sent), said(kind, ("fsdp",)))
    """)
