"""The peak that MFU is compared with: by data sheet, or measured on a CPU."""

import jax
import numpy as np
import pytest

from jaxformer.monitoring.peaks import data_sheet_rate, measured_rate, mesh_peak, product_peak


@pytest.mark.parametrize(
    ("kind", "precision", "teraflops"),
    [
        ("NVIDIA H200", "bf16", 989),
        ("NVIDIA H100 80GB HBM3", "fp16", 989),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA A100-SXM4-40GB", "fp32", 156),
        ("NVIDIA L40S", "bf16", 362),
        ("NVIDIA L4", "bf16", 121),
        ("NVIDIA L40", "bf16", 181),
        ("NVIDIA H100 NVL", "bf16", 835),
        ("Tesla V100-SXM2-32GB", "fp16", 125),
        ("Tesla V100-SXM2-32GB", "bf16", 15.7),  # it has units for fp16 alone
        ("Tesla T4", "bf16", 8.1),
    ],
)
def test_a_device_is_found_by_the_longest_name_in_its_kind(kind, precision, teraflops):
    assert data_sheet_rate(kind, precision) == teraflops * 1e12


@pytest.mark.parametrize("kind", ["Abacus 3", "NVIDIA RTX A4000", "NVIDIA RTX A3000 Laptop GPU", "NVIDIA T400"])
def test_an_unknown_device_has_no_peak_even_if_its_name_is_like_a_known_one(kind):
    assert data_sheet_rate(kind, "bf16") == 0.0


def test_a_cpu_is_measured_once():
    devices = tuple(jax.devices())
    peak = product_peak("fp32", devices)
    assert peak is product_peak("fp32", devices)
    assert "measured here with float32" in peak.source
    assert 1e8 < peak.rate < 1e15


def test_a_measurement_is_at_least_one_product(monkeypatch):
    monkeypatch.setattr("jaxformer.monitoring.peaks._SECONDS", -1.0)
    assert 1e8 < measured_rate("float32") < 1e15


def test_the_peak_of_several_processes_is_that_of_all():
    class Device:
        platform, device_kind = "gpu", "NVIDIA H200"

        def __init__(self, process):
            self.process_index = process

    class Mesh:
        devices = np.array([[Device(0), Device(0)], [Device(1), Device(1)]])
        local_devices = tuple(devices[0])

    assert mesh_peak("bf16", Mesh).rate == 4 * 989e12
