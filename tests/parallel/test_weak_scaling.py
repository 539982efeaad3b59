"""As devices and the batch grow together, the work of each device stays what it was: counted, not timed."""

from __future__ import annotations

import pytest

from tests.devices import run_on_eight_devices
from tests.parallel.test_layouts import _CASE


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["data", "fsdp"])
def test_work_per_device_stays_the_same(axis: str) -> None:
    run_on_eight_devices(_CASE + f"""
    found = {{}}
    for devices in (1, 2, 4, 8):
        ROWS = 8 * devices
        step, state, batch, _ = make({{"data": 1, {axis!r}: devices}})
        costs = step.lower(state, batch).compile().cost_analysis()
        found[devices] = costs["flops"], costs["bytes accessed"]
    flops, bytes_ = zip(*found.values())
    # Two devices add sums, an operation and a read and a write for each gradient; more of them add nothing. Where
    # matrices are stored in parts, each updates a smaller part of them.
    assert all(abs(each / flops[0] - 1) < 0.02 for each in flops), found
    assert max(bytes_) < 1.05 * bytes_[0], found
    if {axis!r} == "data":
        assert len({{*flops[1:]}}) == len({{*bytes_[1:]}}) == 1, found
    else:
        assert list(bytes_[1:]) == sorted(bytes_[1:], reverse=True), found
    # And the check can fail: twice the rows a device are not the same work.
    ROWS = 32
    step, state, batch, _ = make({{"data": 1, {axis!r}: 2}})
    twice = step.lower(state, batch).compile().cost_analysis()["flops"]
    assert twice > 1.7 * found[2][0], (twice, found)
    """)
