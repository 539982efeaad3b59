"""Rates of the devices that are here are found by trying."""

from __future__ import annotations

from jaxformer.config import PlanConfig
from jaxformer.monitoring.peaks import measured_rate
from jaxformer.training.planner.hardware import hardware_for
from jaxformer.training.planner.measuring import measured


def test_a_single_device_is_measured_but_not_its_links():
    before = hardware_for(PlanConfig(), "fp32")
    after = measured(before, "fp32")
    assert 0.1 < after.rates.products / measured_rate("float32") < 10
    assert 1e8 < after.rates.memory < 1e12
    assert 0 < after.rates.start < 1e-2
    assert (after.rates.link, after.rates.latency) == (before.rates.link, before.rates.latency)
    assert "measured here" in after.rates.source
    assert after.memory == before.memory
