"""Exchanges beside work: the flags for GPUs, and the room that the compiled step leaves.

Flags are never set over a person's own, never where they might be unknown, and are known to the jaxlib here.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from jaxformer.parallel import gpu_flags
from jaxformer.parallel.gpu_flags import FLAGS, set_gpu_flags
from tests.devices import run_on_eight_devices
from tests.parallel.test_layouts import _CASE, _QUICKLY

ALL = [f"--{name}={value}" for name, value in FLAGS.items()]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a plugin for CUDA were installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        gpu_flags.importlib.util, "find_spec", lambda name: found("json" if name == "jax_cuda13_plugin" else name)
    )


def test_all_are_set_for_gpus(plugin: None) -> None:
    environment: dict[str, str] = {}
    assert set_gpu_flags(environment) == ALL
    assert environment == {"XLA_FLAGS": " ".join(ALL)}
    assert set_gpu_flags(environment) == [], "a second call has nothing to add"


def test_what_a_person_has_set_stays(plugin: None) -> None:
    own = "--xla_dump_to=/tmp/x --xla_gpu_enable_latency_hiding_scheduler=false"
    environment = {"XLA_FLAGS": own, "JAX_PLATFORMS": "cuda,cpu"}
    others = [flag for flag in ALL if "latency_hiding" not in flag]
    assert set_gpu_flags(environment) == others
    assert environment["XLA_FLAGS"] == " ".join([own, *others])


@pytest.mark.parametrize("platforms", ["cpu", "tpu", "CPU"])
def test_nothing_is_set_for_other_devices(plugin: None, platforms: str) -> None:
    environment = {"JAX_PLATFORMS": platforms}
    assert set_gpu_flags(environment) == []
    assert "XLA_FLAGS" not in environment


def test_nothing_is_set_without_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_flags.importlib.util, "find_spec", lambda name: None)
    assert set_gpu_flags({}) == []


@pytest.mark.parametrize(
    ("version", "tried"), [("0.9.2", False), ("0.10.2", True), ("0.12.0.1", True), ("0.13.0", False)]
)
def test_a_version_that_was_not_tried_gets_none(
    plugin: None, monkeypatch: pytest.MonkeyPatch, version: str, tried: bool
) -> None:
    monkeypatch.setattr(gpu_flags.importlib.metadata, "version", lambda name: version)
    assert bool(set_gpu_flags({})) == tried


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


@pytest.mark.slow
def test_most_of_what_is_summed_can_travel_beside_work() -> None:
    """In the compiled step most gradients wait for a part of the backward pass alone, and nothing but the end for them.

    That is what a scheduler which hides latency needs. A CPU has none, so that dependences are looked at instead of an
    order; and it combines all sums of so small a network into one, as a GPU does up to 30 MiB, unless told not to.
    """
    run_on_eight_devices(_CASE + _QUICKLY + r"""
    import os
    os.environ["XLA_FLAGS"] = "--xla_disable_hlo_passes=cpu-all-reduce-combiner"  # before JAX starts its devices

    def program(text):
        '''For every instruction of the main computation: its operands, and how many products and bytes it holds.'''
        bodies, name = {}, None
        for line in text.splitlines():
            if match := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$", line):
                name = "ENTRY" if match[1] else match[2]
                bodies[name] = []
            elif name and (match := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)", line)):
                bodies[name].append(match.groups())

        def products(op, rest):
            inside = re.findall(r"(?:calls|to_apply|body)=%?([\w.\-]+)", rest)
            return (op == "dot") + sum(products(*one[2:]) for body in inside for one in bodies.get(body, []))

        nodes = {}
        for name, shape, op, rest in bodies["ENTRY"]:
            operands = re.findall(r"%([\w.\-]+)", rest.partition("), ")[0])
            size = sum(int(np.prod([int(n) for n in dims.split(",") if n]))
                       for dims in re.findall(r"\w+\[([\d,]*)\]", shape))
            nodes[name] = op, operands, products(op, rest), size
        return nodes

    def reach(nodes, edges, start):
        found, left = set(), [start]
        while left:
            for other in edges.get(left.pop(), ()):
                if other in nodes and other not in found:
                    found.add(other)
                    left.append(other)
        return found

    for sizes, kind in (({"data": 8}, "all-reduce"), ({"data": 1, "fsdp": 8}, "reduce-scatter")):
        step, state, batch, _ = make(sizes, {"model": {"num_encoder_layers": 2, "num_decoder_layers": 2}})
        nodes = program(step.lower(state, batch).compile().as_text())
        before = {name: node[1] for name, node in nodes.items()}
        after = {}
        for name, operands in before.items():
            for operand in operands:
                after.setdefault(operand, []).append(name)
        work = {name for name, node in nodes.items() if node[2]}
        total = sum(nodes[name][2] for name in work)
        assert total > 40, total
        weighed = whole = 0
        for name, (op, _, _, size) in nodes.items():
            if op.startswith(kind):
                beside = work - reach(nodes, before, name) - reach(nodes, after, name)
                weighed += size * sum(nodes[one][2] for one in beside)
                whole += size * total
        assert weighed > 0.3 * whole, (sizes, weighed / whole)  # products beside an exchange, by its size
    """)
