"""What a training step needs in memory, by its compiled program, and what to do when that is too much.

Nothing is allocated: programs are compiled for abstract inputs. Not for memory in use (`monitoring.throughput`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import NamedSharding

from jaxformer.config import Config, DecodingConfig, replace
from jaxformer.data.packing import packed_rows
from jaxformer.monitoring.machine import memory as host_memory
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.task import Task
from jaxformer.training.optimizer import make_optimizer
from jaxformer.training.state import create_state
from jaxformer.training.step import make_train_step

MakeTask = Callable[[Config, Layout | None], Task[Any]]
"""The task of a configuration on some devices, or on one."""


class OutOfMemory(ValueError):
    """A device has too little memory; the message says what would need less."""


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes on each device.

    Attributes:
      state: parameters, optimizer state, moving average: there all the time.
      temporary: while a step computes; None where the backend does not tell.
    """

    state: int
    temporary: int | None

    @property
    def total(self) -> int:
        """Both together."""
        return self.state + (self.temporary or 0)


def step_memory(config: Config, task: Task[Any], layout: Layout, shape: tuple[int, int, int]) -> StepMemory:
    """The memory of a step of `config` on a batch of `shape`: rows, input slots, and target slots (0 of an encoder)."""
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    ema, scaled = config.training.ema_decay > 0, config.precision == "fp16"
    state = jax.eval_shape(
        lambda p: create_state(p, optimizer, seed=0, ema=ema, loss_scale=scaled), task.abstract_params()
    )
    state = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state, layout.shardings(state)
    )
    abstract = task.abstract_batch(shape)
    batch = jax.tree.map(
        lambda leaf, spec: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(layout.mesh, spec)),
        abstract, layout.batch_specs(abstract),
    )  # fmt: skip
    step: Any = make_train_step(
        task.loss_function,
        optimizer,
        accumulate=config.memory.accumulate,
        ema_decay=config.training.ema_decay,
        layout=layout,
    )
    held = sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(state)
        if leaf.dtype.itemsize
    )
    found = step.lower(state, batch).compile().memory_analysis()
    return StepMemory(held, None if found is None else int(found.temp_size_in_bytes))


@contextlib.contextmanager
def explained_out_of_memory(advice: Callable[[], str]) -> Iterator[None]:
    """Turns a device's out-of-memory error inside the block into `OutOfMemory` with `advice`."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        text = str(error).lower()
        if "shared memory" in text or ("resource_exhausted" not in text and "out of memory" not in text):
            raise
        raise OutOfMemory(advice()) from error


def training_advice(config: Config, make_task: MakeTask, layout: Layout, shape: tuple[int, int, int]) -> str:
    """What a step of `config` needs, what there is, and what it would need with less costly settings.

    Args:
      config: of the run that failed.
      make_task: the task of a configuration.
      layout: of the run.
      shape: rows, input slots and target slots of the batch that failed, or of the longest.
    """
    device = layout.mesh.devices.flat[0]
    slots = f"({shape[1]}+{shape[2]})" if shape[2] else str(shape[1])
    step = f"out of memory: a step on {shape[0]}x{slots} slots"
    try:
        now = _needed(config, make_task, layout, shape)
    except jax.errors.JaxRuntimeError:  # compiling may need memory as well
        settings = "\n".join(f"  {setting}" for setting, _, _ in _cheaper(config, shape[0], layout))
        return f"{step} does not fit, {_available(device)}. What needs less:\n{settings}"
    lines = [
        f"{step} needs {describe_size(now)} on each device, and {_available(device)}. What it would need "
        "instead (compiled, not guessed):"
    ]
    found: dict[str, int] = {}
    for setting, changed, rows in _cheaper(config, shape[0], layout):
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            found[setting] = needed = _needed(changed, make_task, layout, (rows, *shape[1:]))
            lines.append(f"  {describe_size(needed):>9}  {setting}")
    limit, halved = _limit(device), found.get(_accumulated(2 * config.memory.accumulate))
    if limit and halved and min(found.values()) > limit:
        lines += _enough_micro_batches(config, shape[0], layout, (now, halved), limit)
    return "\n".join(lines)


def _enough_micro_batches(
    config: Config, rows: int, layout: Layout, needed: tuple[int, int], limit: int
) -> Iterator[str]:
    """The line for the smallest `memory.accumulate` that would fit, if any, not compiled: scaled.

    Args:
      config, rows, layout: see `_cheaper`.
      needed: bytes with the present micro-batches, and with twice as many: what one adds is in proportion to its rows.
      limit: bytes that there are.
    """
    shrinking = max(0, 2 * (needed[0] - needed[1]))
    constant, times = needed[0] - shrinking, 4
    while _possible(config, {"memory.accumulate": times * config.memory.accumulate}, rows, layout.parts("rows")):
        if (about := constant + shrinking // times) <= limit:
            setting = _accumulated(times * config.memory.accumulate)
            yield f"  about {describe_size(about)}  {setting} (nothing above fits; scaled, not compiled)"
            return
        times *= 2


def decoding_advice(config: DecodingConfig) -> str:
    """What to do when translating takes too much."""
    beam = f" or --config.decoding.beam_size (now {config.beam_size})" if config.method == "beam" else ""
    return f"out of memory while translating: lower --config.decoding.batch_tokens (now {config.batch_tokens}){beam}"


def _cheaper(config: Config, rows: int, layout: Layout) -> Iterator[tuple[str, Config, int]]:
    """Settings that need less and can be trained with, the configuration with each, and its rows."""
    parts = 2 * config.memory.accumulate
    batch = "data.batch_rows" if config.data.batch_rows else "data.batch_tokens"
    half = (config.data.batch_rows or config.data.batch_tokens) // 2
    offers: list[tuple[str, dict[str, Any], int]] = [
        (_accumulated(parts), {"memory.accumulate": parts}, rows),
        (f"--config.{batch}={half}", {batch: half}, rows // 2),
    ]
    if config.precision == "fp32":
        offers.append(("--config.precision=bf16", {"precision": "bf16"}, rows))
    offers += [(setting, changes, rows) for setting, changes in _recomputing(config, _platform(layout))]
    for setting, changes, wanted in offers:
        if possible := _possible(config, changes, wanted, layout.parts("rows")):
            yield setting, *possible


def _accumulated(parts: int) -> str:
    return f"--config.memory.accumulate={parts}"


def _recomputing(config: Config, platform: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Settings that keep less for the backward pass than the present ones, and the changes that each makes.

    On a CPU recomputation saves memory where layers are scanned alone, and there is no other memory to offload to.
    """
    scan = platform == "cpu" and not config.model.scan_layers
    scanned, suffix = ({"model.scan_layers": True}, " --config.model.scan_layers=true") if scan else ({}, "")
    if scan and config.memory.remat != "none":
        yield suffix.strip(), scanned
    policies = ("none", "dots", "full") if platform == "cpu" else ("none", "dots", "full", "offload")
    present = config.memory.remat
    for remat in policies[policies.index(present) + 1 :] if present in policies else ():
        yield f"--config.memory.remat={remat}{suffix}", {"memory.remat": remat, **scanned}


def _possible(config: Config, changes: dict[str, Any], rows: int, devices: int) -> tuple[Config, int] | None:
    """The changed configuration and what the pipeline makes of `rows` with it; None if training would refuse it."""
    with contextlib.suppress(ValueError):
        changed = replace(config, changes)
        divisor = changed.data.row_divisor(devices * changed.memory.accumulate)
        if changed.data.batching == "pack":
            return changed, packed_rows(changed.data, divisor)[0]
        if whole := rows // divisor * divisor:  # the pipeline rounds rows in the same way
            return changed, whole
    return None


def _needed(config: Config, make_task: MakeTask, layout: Layout, shape: tuple[int, int, int]) -> int:
    return step_memory(config, make_task(config, layout), layout, shape).total


def _platform(layout: Layout) -> str:
    return str(layout.mesh.devices.flat[0].platform)


def _limit(device: Any) -> int:
    """Bytes that there are for a step; 0 where the backend does not tell."""
    return host_memory()[1] if device.platform == "cpu" else int((device.memory_stats() or {}).get("bytes_limit", 0))


def _available(device: Any) -> str:
    limit = _limit(device)
    if device.platform == "cpu":
        return f"{describe_size(limit)} of host memory are free"
    return f"{device.device_kind} gives {describe_size(limit)}" if limit else f"{device.device_kind} has less"


def predicting_advice(config: DecodingConfig) -> str:
    """What to do when predicting with an encoder takes too much."""
    return f"out of memory while predicting: lower --config.decoding.batch_tokens (now {config.batch_tokens})"


def describe_size(size: float) -> str:
    """`size` bytes for a person."""
    return f"{size / 1024**3:.1f} GiB" if size >= 1024**3 else f"{size / 1024**2:.0f} MiB"
