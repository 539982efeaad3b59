"""What a step exchanges again where it computes activations again, as it is traced: a CPU's compiler undoes some of it."""

from __future__ import annotations

import pytest

from tests.devices import run_on_eight_devices
from tests.parallel.test_layouts import _CASE


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_what_is_computed_again_is_exchanged_as_theory_says(norm: str) -> None:
    run_on_eight_devices(_CASE + f"""
    from jaxformer.parallel.traffic import Step, exchanges, parts_of
    from tests.parallel.counting import traced

    LAYERS = {{"num_encoder_layers": 3, "num_decoder_layers": 2, "norm_position": {norm!r}, "scan_layers": True}}
    CASES = [("none", {{"data": 4, "tensor": 2}}), ("none", {{"data": 2, "context": 4}})]
    CASES += [(remat, sizes) for remat in ("dots", "full") for sizes in (
        {{"data": 4, "tensor": 2}}, {{"data": 2, "context": 4}}, {{"data": 1, "fsdp": 4, "tensor": 2}})]
    for remat, sizes in CASES:
        changes = {{"model": LAYERS, "memory": {{"remat": remat}}}}
        step, state, batch, layout = make(sizes, changes, accumulate=2)
        model = replace(CONFIG, changes).model
        slots = SLOTS // layout.parts("length")
        shape = (ROWS // layout.parts("rows") // 2, slots, slots)
        parts = parts_of(layout, state.params)
        theory = exchanges(layout, parts, Step(model, 4, 2, remat), shape)
        asked = traced(step, state, batch)
        said = lambda kind, axes: sum(one.elements for one in theory if (one.kind, one.axes) == (kind, axes))
        large = lambda kind, axes: [size for size in asked[kind, axes] if size >= shape[0] * slots * D // 2]
        for kind, axes in (("all-reduce", ("tensor",)), ("all-to-all", ("context",))):
            sent = large(kind, axes)
            assert sum(sent) == said(kind, axes), (remat, sizes, kind, sum(sent), said(kind, axes), sent)
            assert bool(sent) == (sizes.get(axes[0], 1) > 1)
        if "fsdp" in sizes:
            for kind in ("all-gather", "reduce-scatter"):
                sent = asked[kind, ("fsdp",)]
                assert sum(sent) == said(kind, ("fsdp",)), (remat, sizes, kind, sum(sent), said(kind, ("fsdp",)))
    """)
