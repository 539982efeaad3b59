"""Options for products of few rows: only where they were measured, and they do what they say."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.parallel import gpu_flags
from jaxformer.parallel.cpu_options import options_for_few_rows

OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
YNNPACK = "__ynn_fusion"


@pytest.fixture
def cpuinfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One core of a processor where they were measured."""
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    file = tmp_path / "cpuinfo"
    file.write_text("flags\t\t: fpu sse4_2 avx avx2 fma\n")
    return file


@pytest.mark.parametrize("flags", ["fpu avx2", "fpu avx2 avx512f avx512bw"])
def test_one_core_with_avx2_has_them(cpuinfo: Path, flags: str) -> None:
    cpuinfo.write_text(f"flags : {flags}\n")
    assert options_for_few_rows(cpuinfo) == OPTIONS


@pytest.mark.parametrize("flags", ["fpu sse4_2 avx", "fpu avx2 avx512f amx_tile", "asimd sve"])
def test_other_processors_have_none(cpuinfo: Path, flags: str) -> None:
    cpuinfo.write_text(f"flags : {flags}\n")
    assert options_for_few_rows(cpuinfo) == {}


def test_a_system_that_does_not_describe_its_processor_has_none(cpuinfo: Path) -> None:
    assert options_for_few_rows(cpuinfo.with_name("no-such-file")) == {}


def test_several_cores_have_none(cpuinfo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {2, 3}, raising=False)
    assert options_for_few_rows(cpuinfo) == {}


def test_a_gpu_has_none(cpuinfo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert options_for_few_rows(cpuinfo) == {}


@pytest.mark.parametrize("flags", ["--xla_cpu_experimental_ynn_fusion_type=-individual_dot", "/path/to/flags"])
def test_what_a_person_has_set_stays(cpuinfo: Path, monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert options_for_few_rows(cpuinfo) == {}
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/x")
    assert options_for_few_rows(cpuinfo) == OPTIONS


def test_a_version_that_was_not_tried_has_none(cpuinfo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_flags.importlib.metadata, "version", lambda name: "0.13.0")
    assert options_for_few_rows(cpuinfo) == {}


@pytest.mark.skipif(
    jax.default_backend() != "cpu" or next(iter(OPTIONS)) in os.environ.get("XLA_FLAGS", ""),
    reason="of XLA's CPU backend as it chooses by itself",
)
def test_the_jaxlib_here_multiplies_without_ynnpack() -> None:
    x, w = (np.asarray(jax.random.normal(jax.random.key(i), shape)) for i, shape in enumerate([(32, 128), (128, 512)]))
    plain, with_options = jax.jit(jnp.dot), jax.jit(jnp.dot, compiler_options=OPTIONS)  # type: ignore[arg-type]
    assert YNNPACK in plain.lower(x, w).compile().as_text(), "nothing to choose: the options have become pointless"
    assert YNNPACK not in with_options.lower(x, w).compile().as_text()
    exact = x.astype(np.float64) @ w.astype(np.float64)
    bound = 128 * np.finfo(np.float32).eps * (np.abs(x) @ np.abs(w))  # Higham 2002, section 3.5
    assert (np.abs(with_options(x, w) - exact) <= bound).all()
