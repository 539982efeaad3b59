"""The flags for GPUs: never over a person's own, never where they might be unknown, and known to the jaxlib here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from jaxformer.parallel import overlap
from jaxformer.parallel.overlap import FLAGS, overlap_on_gpus

ALL = [f"--{name}={value}" for name, value in FLAGS.items()]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a plugin for CUDA were installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        overlap.importlib.util, "find_spec", lambda name: found("json" if name == "jax_cuda13_plugin" else name)
    )


def test_all_are_set_for_gpus(plugin: None) -> None:
    environment: dict[str, str] = {}
    assert overlap_on_gpus(environment) == ALL
    assert environment == {"XLA_FLAGS": " ".join(ALL)}
    assert overlap_on_gpus(environment) == [], "a second call has nothing to add"


def test_what_a_person_has_set_stays(plugin: None) -> None:
    own = "--xla_dump_to=/tmp/x --xla_gpu_enable_latency_hiding_scheduler=false"
    environment = {"XLA_FLAGS": own, "JAX_PLATFORMS": "cuda,cpu"}
    assert overlap_on_gpus(environment) == ["--xla_gpu_enable_pipelined_all_gather=true"]
    assert environment["XLA_FLAGS"] == f"{own} --xla_gpu_enable_pipelined_all_gather=true"


@pytest.mark.parametrize("platforms", ["cpu", "tpu", "CPU"])
def test_nothing_is_set_for_other_devices(plugin: None, platforms: str) -> None:
    environment = {"JAX_PLATFORMS": platforms}
    assert overlap_on_gpus(environment) == []
    assert "XLA_FLAGS" not in environment


def test_nothing_is_set_without_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap.importlib.util, "find_spec", lambda name: None)
    assert overlap_on_gpus({}) == []


@pytest.mark.parametrize(
    ("version", "tried"), [("0.9.2", False), ("0.10.2", True), ("0.12.0.1", True), ("0.13.0", False)]
)
def test_a_version_that_was_not_tried_gets_none(
    plugin: None, monkeypatch: pytest.MonkeyPatch, version: str, tried: bool
) -> None:
    monkeypatch.setattr(overlap.importlib.metadata, "version", lambda name: version)
    assert bool(overlap_on_gpus({})) == tried


def test_the_jaxlib_here_knows_them_and_a_cpu_does_not_mind() -> None:
    """XLA ends the process at a flag that it does not know."""

    def start(flags: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        code = "import jax; print(jax.jit(lambda x: x + 1)(1))"
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    assert start(" ".join(ALL)).stdout.strip() == "2"
    refused = start("--xla_gpu_no_such_flag=true")
    assert refused.returncode != 0
    assert "no_such_flag" in refused.stderr
