"""Hardware by name: what is on record, what is refused, and how much of its memory a plan uses."""

from __future__ import annotations

import dataclasses
import re
import types

import pytest

from jaxformer.config import PlanConfig
from jaxformer.monitoring import peaks
from jaxformer.training.planner import hardware
from jaxformer.training.planner.hardware import agreed, assumed_hosts, hardware_for, parse_devices


@pytest.mark.parametrize(
    ("text", "found"), [("8xH200", (8, "H200")), ("16 X a100", (16, "A100")), ("1*H100 PCIe", (1, "H100 PCIe"))]
)
def test_devices_are_read(text, found):
    assert parse_devices(text) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("H200", "plan.devices='H200' is not COUNTxDEVICE, such as 8xH200"),
        ("0xH200", "plan.devices='0xH200' is not COUNTxDEVICE"),
        ("-8xH200", "is not COUNTxDEVICE"),
        ("many", "is not COUNTxDEVICE"),
        ("8xH20", "nothing is on record of 'H20': choose one of A100, A10G"),
        ("8xH20", "Did you mean 'H200'?"),
        ("8xNVIDIA H200", "Did you mean 'H200'?"),
        ("8xnvidia h100 pcie", "Did you mean 'H100 PCIe'?"),
        ("8xA100-40GB", "Did you mean 'A100'? That has 80 GB; set --config.plan.memory for others."),
        ("4097xH200", "plan.devices='4097xH200' are more than the 4,096 devices that are planned for: name no more"),
    ],
)
def test_what_names_no_devices_is_refused_with_the_names(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_devices(text)


def test_every_device_with_a_peak_has_a_data_sheet():
    assert hardware._SHEETS.keys() == peaks._PEAKS.keys()
    for name in hardware._SHEETS:
        found = hardware_for(PlanConfig(devices=f"2x{name}"), "bf16")
        # Nothing computes at less than ten operations for each byte, nor sends faster than it reads.
        assert found.rates.products > 10 * found.rates.memory > 10 * found.rates.link > 0, name


def test_memory_is_what_jax_takes_less_the_reserve(monkeypatch):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    found = hardware_for(PlanConfig(devices="8xH200", reserve=0.2), "bf16")
    assert found.memory == pytest.approx(141e9 * 0.75 * 0.8)
    assert "75%" in found.memory_source
    assert "20%" in found.memory_source
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    assert hardware_for(PlanConfig(devices="8xH200", reserve=0.0), "bf16").memory == pytest.approx(141e9 * 0.9)
    assert hardware_for(PlanConfig(devices="8xH200", memory=2.0, reserve=0.5), "bf16").memory == 1024**3


@pytest.mark.parametrize("text", ["abc", "0", "7", "-0.5", "nan"])
def test_a_share_of_memory_that_is_none_is_refused_by_its_name(monkeypatch, text):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", text)
    with pytest.raises(ValueError, match=f"XLA_PYTHON_CLIENT_MEM_FRACTION='{text}' in the environment is no share of"):
        hardware_for(PlanConfig(devices="8xH200"), "bf16")


def test_an_empty_share_of_memory_is_none(monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "")
    assert "75%" in hardware_for(PlanConfig(devices="8xH200"), "bf16").memory_source


def test_processes_of_a_host_share_its_memory_and_its_links(monkeypatch):
    monkeypatch.setattr(hardware, "devices_of_hosts", lambda: (4, {"a": 4, "b": 8}))
    one = hardware_for(PlanConfig(reserve=0.0), "fp32")
    monkeypatch.setattr(hardware, "devices_of_hosts", lambda: (2, {"a": 2}))
    other = hardware_for(PlanConfig(reserve=0.0), "fp32")
    assert other.memory / one.memory == pytest.approx(2, rel=0.2)  # what is free changes a little
    assert other.rates.products == pytest.approx(2 * one.rates.products)
    assert "shared by its devices" in one.memory_source

    found = []
    monkeypatch.setattr(hardware.jax, "devices", lambda: [None] * 12)
    monkeypatch.setattr(hardware, "devices_of_hosts", lambda: (4, {"a": 4, "b": 8}))
    monkeypatch.setattr(hardware, "_present", lambda *given: found.append(given[3:]) or one)
    hardware_for(PlanConfig(), "fp32")
    assert found == [(4, 4)], "hosts of four and of eight are alike as three hosts of four"


def test_the_hardware_is_that_of_process_0_with_the_least_memory(monkeypatch):
    own = hardware_for(PlanConfig(), "fp32")
    assert agreed(own) == own
    others = [(7.5, 9e9 + 1), (8.5, 7e9 + 1), (9.5, 8e9 + 1)]
    every = [
        dataclasses.replace(own, memory=memory, rates=dataclasses.replace(own.rates, latency=latency))
        for latency, memory in others
    ]
    monkeypatch.setattr(hardware, "every_ones", lambda value: [dataclasses.asdict(one) for one in every])
    for one in every:
        assert (agreed(one).memory, agreed(one).rates.latency) == (7e9 + 1, 7.5)


def test_hosts_are_of_eight_unless_said_otherwise_and_alike():
    assert (hardware_for(PlanConfig(devices="64xH200"), "bf16").per_host) == 8
    assert (hardware_for(PlanConfig(devices="4xH200"), "bf16").per_host) == 4
    assert hardware_for(PlanConfig(devices="64xH200", per_host=4), "bf16").describe() == "64 x H200 in 16 hosts of 4"
    assert hardware_for(PlanConfig(devices="12xH200"), "bf16").describe() == "12 x H200 in 2 hosts of 6"
    with pytest.raises(ValueError, match=r"plan.per_host=8 does not divide the 12 devices"):
        hardware_for(PlanConfig(devices="12xH200", per_host=8), "bf16")


def test_hosts_that_are_not_of_eight_are_said_unless_they_were_named():
    said = "plan.devices=100xH200 do not divide into hosts of 8: 20 hosts of 5 are assumed. Set --config.plan.per_host"
    assert assumed_hosts(PlanConfig(devices="100xH200")).startswith(said)
    assert "13 hosts of 1 are assumed" in assumed_hosts(PlanConfig(devices="13xH200"))
    whole = (PlanConfig(), PlanConfig(devices="7xH200"), PlanConfig(devices="64xH200"))
    assert not any(map(assumed_hosts, (*whole, PlanConfig(devices="100xH200", per_host=10))))


def test_a_longer_name_wins():
    assert hardware._on_record("NVIDIA H100 NVL") == "H100 NVL"
    with pytest.raises(ValueError, match=r"nothing is on record of the device 'Radeon 9': .*--config.plan.devices"):
        hardware._on_record("Radeon 9")


def test_a_device_that_is_here_but_not_on_record_is_left_to_measurement():
    here = types.SimpleNamespace(
        platform="gpu", device_kind="Radeon 9", process_index=0, memory_stats=lambda: {"bytes_limit": 7}
    )
    found = hardware._present(PlanConfig(), "bf16", [here] * 2, 2, 2)
    assert (found.kind, found.count, found.memory) == ("Radeon 9", 2, 7)
    with pytest.raises(ValueError, match="nothing is on record of the device 'Radeon 9'"):
        hardware._present(PlanConfig(measure=False), "bf16", [here] * 2, 2, 2)
    here.device_kind = "NVIDIA H200"
    assert hardware._present(PlanConfig(), "bf16", [here], 1, 1).rates.link == 0.8 * 450e9


def test_the_devices_here_are_taken_where_none_are_named():
    found = hardware_for(PlanConfig(), "fp32")
    assert found.cpu
    assert found.count == found.per_host == 1
    assert 0 < found.memory < 1 << 50
