"""A checkpoint of another model is refused on a mesh as well, before anything is read, naming the first leaf.

What else is refused: meshes larger than the devices and sizes that do not divide in `test_mesh` and `test_layouts`,
batches that do not divide in `tests/data`, processes that disagree or do not answer in `test_processes`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.devices import run_on_eight_devices
from tests.parallel.test_layouts import _CASE


@pytest.mark.slow  # `test_same_model` without a mesh
def test_a_checkpoint_of_another_model_is_refused_on_a_mesh(tmp_path: Path) -> None:
    run_on_eight_devices(_CASE + f"""
    from pathlib import Path
    from jaxformer.training.checkpoint import Checkpoints
    from tests.parallel.layouts import leaves

    def state(sizes, **model):
        return make(sizes, {{"model": model}} if model else {{}})[1]

    sizes = {{"data": 1, "fsdp": 2, "tensor": 4}}
    checkpoints = Checkpoints(Path({str(tmp_path / "run")!r}))
    written = state(sizes)
    checkpoints.save(1, written, {{"step": 1}})
    checkpoints.wait()
    leaf = "params.decoder.layers.0.feed_forward.contract.kernel"
    for place in (sizes, {{"data": 8}}, {{"data": 1}}):
        try:
            checkpoints.restore(state(place, d_ff=128))
        except ValueError as error:
            assert f"{{leaf}} has shape (64, 32) there and shape (128, 32) here" in str(error), error
        else:
            raise AssertionError(f"{{place}}: accepted")
    # And the same model is taken, however it lies.
    found, _ = checkpoints.restore(state({{"data": 8}}))
    for a, b in zip(leaves(found), leaves(written), strict=True):
        np.testing.assert_array_equal(a, b)
    """)
