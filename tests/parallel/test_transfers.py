"""Nothing but batches goes from the host to the devices while a run trains, on a mesh as on one device.

The guard is on in every run (`training/loop.py`), so that any test that trains would fail if something else crossed;
here it is shown that it is, for the paths where something might.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.devices import run_on_eight_devices
from tests.training import reversal

_RUN = """
    from pathlib import Path
    from jaxformer import training
    from jaxformer.training import hooks
    from tests.training import reversal

    def train(name, **changes):
        steps = {"training__num_steps": 6, "training__log_every": 2, "training__checkpoint_every": 4,
                 "training__eval_every": 3, "training__eval_examples": 8, "decoding__method": "greedy"}
        config = reversal.config(Path(DATA), **steps, **changes)
        return training.train(config, Path(DATA) / "runs" / name)

    MESH = {"mesh__data": 2, "mesh__fsdp": 2, "mesh__tensor": 2}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reversal.write_corpus(tmp_path_factory.mktemp("data"))


def test_a_whole_run_on_a_mesh_places_its_batches_alone(data: Path) -> None:
    run_on_eight_devices(f"    DATA = {str(data)!r}\n" + _RUN + """
    import json
    seen = set()

    def guards(function):
        def looked_at(*arguments, **named):
            seen.add(jax.config.jax_transfer_guard_host_to_device)
            return function(*arguments, **named)
        return looked_at

    for hook in (hooks.StopAtNan, hooks.Log, hooks.Validation, hooks.SaveCheckpoint):
        hook.__call__ = guards(hook.__call__)
    train("all", **MESH)
    assert seen == {"disallow_explicit", "disallow"}, seen
    records = [json.loads(line) for line in (Path(DATA) / "runs/all/metrics.jsonl").read_text().splitlines()]
    uneven = [record["train/imbalance"] for record in records if "train/imbalance" in record]
    assert len(uneven) >= 2 and all(0 <= value < 0.03 for value in uneven), uneven
    """)


@pytest.mark.slow
def test_whatever_else_crosses_ends_the_run(data: Path) -> None:
    run_on_eight_devices(f"    DATA = {str(data)!r}\n" + _RUN + """
    from jaxformer.training import session

    called = hooks.Log.__call__
    place = session.place_batch

    def refused(name):
        try:
            train(name, **MESH)
        except Exception as error:
            assert "Disallowed host-to-device transfer" in str(error), error
        else:
            raise AssertionError(f"{name}: nothing was refused")

    # A hook that computes on the device, even if it says so, ...
    for name, leak in (("implicit", lambda: jnp.asarray(np.ones(3))), ("explicit", lambda: jax.device_put(np.ones(3)))):
        hooks.Log.__call__ = lambda *arguments: (leak(), called(*arguments))
        refused(name)
    hooks.Log.__call__ = called
    # ... a batch that was never placed, and one that is placed in passing.
    session.place_batch = lambda batch, layout: batch
    refused("unplaced")
    session.place_batch = lambda batch, layout: jax.tree.map(jnp.asarray, place(batch, layout=layout) and batch)
    refused("in passing")
    """)
