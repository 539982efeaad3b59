"""What benchmarks take for the same result before they time it: nan is never among it, wherever it stands."""

from __future__ import annotations

import concurrent.futures
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import attention_table, cross_entropy, memory
from jaxformer.monitoring import machine
from jaxformer.ops.attention import Call


@pytest.mark.parametrize("place", [0, 1, 2])
def test_cross_entropy_sees_nan_in_any_output(place):
    right = [jnp.ones(3), jnp.ones(2), jnp.ones(4)]
    wrong = [x.at[1].set(jnp.nan) if number == place else x for number, x in enumerate(right)]
    assert cross_entropy.differ(right, right) == 0.0
    assert math.isnan(cross_entropy.differ(wrong, right))


def test_cross_entropy_times_no_form_with_nan_among_its_gradients(monkeypatch):
    def spoilt(hidden, kernel, labels):
        return cross_entropy_forms["plain"](hidden, kernel, labels) + 0.0 * jnp.sqrt(kernel - kernel).sum()

    cross_entropy_forms = cross_entropy.forms()
    monkeypatch.setattr(cross_entropy, "forms", lambda: {"fused": cross_entropy_forms["fused"], "spoilt": spoilt})
    with pytest.raises(SystemExit, match="spoilt differs from fused by nan"):
        cross_entropy.measure(64, 8, 16, "float32", 1)


def test_cross_entropy_tells_the_memory_of_fused_where_it_does_not_fit_itself(monkeypatch, capsys):
    small, large = (cross_entropy.forms()[name] for name in ("fused", "optax"))  # 1 and 2 MiB
    monkeypatch.setattr(cross_entropy, "forms", lambda: {"fused": large, "plain": small})
    monkeypatch.setattr(machine, "memory", lambda: (0, int(1.5 * 2**20 / 0.6)))
    monkeypatch.setattr("sys.argv", ["cross_entropy", "--tokens=64", "--width=8", "--vocabularies=2048"])
    cross_entropy.main()
    fused, plain = (line.split() for line in capsys.readouterr().out.splitlines()[-2:])
    assert fused == ["V", "2,048:", "fused", "not", "run", "2"]
    assert plain[:3] == ["V", "2,048:", "plain"]
    assert (len(plain), plain[-1]) == (8, "1"), "a time, from ... to, no comparison, and memory"


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_attention_table_times_nothing_with_nan_in_any_gradient(monkeypatch, place):
    monkeypatch.setattr(attention_table, "milliseconds", lambda run, arrays: 1.0)
    q = jax.ShapeDtypeStruct((1, 16, 2, 64), jnp.bfloat16)
    right = [np.full(3, 2.0, np.float32)] * 4
    wrong = [x * (np.nan if number == place else 1.0) for number, x in enumerate(right)]

    def job(results):
        future = concurrent.futures.Future()
        future.set_result(lambda *arrays: (results, 0.0))
        return future

    found = attention_table.measured(Call(q, q, None, 0.0), {"xla": job(right), "mosaic": job(wrong)}, "cpu")
    assert found.milliseconds == {"xla": 1.0}
    assert found.refused["mosaic"].startswith("WRONG here: differs by nan")


def test_memory_takes_no_loss_that_is_nan(monkeypatch):
    losses = {"as it is": 7.0, "scan": math.nan}
    monkeypatch.setattr(
        memory, "measured_apart",
        lambda setting: {"compiled": 1.0, "peak": 1.0, "seconds": 1.0, "loss": losses[setting]},
    )  # fmt: skip
    monkeypatch.setattr("sys.argv", ["memory", "--only=as it is,scan"])
    with pytest.raises(SystemExit, match="scan has another loss than as it is"):
        memory.main()
