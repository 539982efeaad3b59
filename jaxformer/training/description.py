"""What is about to be trained, in a few lines for the log: network, precision, attention, FLOPs, batches.

Not for what a run would need (`plan`) nor for the machine (`monitoring.machine`).
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterable
from typing import Any

import jax

from jaxformer.config import Config
from jaxformer.data.bucketing import Shape, rows_within
from jaxformer.monitoring.peaks import mesh_peak
from jaxformer.ops import Mask
from jaxformer.ops.attention import Call, Decision, decide_attention, loaded_measurements
from jaxformer.ops.attention.choice import Case, current_device
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.task import Task
from jaxformer.training.study import Study, TrainingPipeline
from jaxformer.training.tuning import attention_calls

_LOGGER = logging.getLogger(__name__)


def describe_run(study: Study, task: Task[Any], pipeline: TrainingPipeline, layout: Layout, size: int) -> str:
    """The lines.

    Args:
      study: of the run.
      task: of the study.
      pipeline: of the training split.
      layout: of the devices that share the work.
      size: records of the training split.
    """
    config = study.config
    encoder = not any(shape.target_length for shape in pipeline.shapes)
    meaning = "rows x positions" if encoder else "rows x (source + target)"
    shapes = ", ".join(describe_shape(shape) for shape in pipeline.shapes)
    steps, device = config.training.num_steps, layout.mesh.devices.flat[0]
    return "\n".join(
        [
            f"model: {task.num_parameters:,} parameters, {describe_precision(config.precision, device)}",
            _attention(task, pipeline, layout, config.memory.accumulate),
            _flops(study, task, pipeline, layout.mesh),
            f"batches: {shapes} ({meaning}); planned padding efficiency {pipeline.efficiency:.3f}"
            f"{_fewer_rows(config, pipeline, layout)}{_balance(pipeline, layout)}",
            f"training: {size:,} {study.noun}, {pipeline.batches_per_epoch:,} batches an epoch, "
            f"{steps:,} steps = {steps / pipeline.batches_per_epoch:.1f} epochs, devices: {layout.describe()}",
        ]
    )


def describe_shape(shape: Shape) -> str:
    """`64x(20+24)`, or of an encoder `64x20`."""
    rows, source, target = shape
    return f"{rows}x({source}+{target})" if target else f"{rows}x{source}"


def _fewer_rows(config: Config, pipeline: TrainingPipeline, layout: Layout) -> str:
    """That one device alone would train on other batches, where that may be so, and what makes them alike."""
    data, parts = config.data, layout.parts("rows") * config.memory.accumulate
    if data.batching == "pack":
        return ""
    if layout.parts("length") > 1:
        return f"; lengths are multiples of {layout.parts('length')} for mesh.context: other batches than on one device"
    if all(
        shape.rows == rows_within(data.batch_tokens // max(shape[1:]), data.batch_rows, data.row_multiple)
        for shape in pipeline.shapes
    ):
        return ""
    return (
        f"; shared by {parts} devices or micro-batches, some batches have fewer rows than on one device: all meshes "
        f"that divide N train alike with --config.data.row_multiple=N, such as {data.row_divisor(parts)}"
    )


def _balance(pipeline: TrainingPipeline, layout: Layout) -> str:
    """How evenly real tokens lie on the devices that share the rows, where several do."""
    parts = layout.parts("rows")
    if parts == 1:
        return ""
    uneven = pipeline.imbalances(parts)
    return (
        f"; of {parts} devices the fullest has {uneven.mean():.2%} more real tokens than the mean "
        f"(in the worst batch {uneven.max():.1%})"
    )


def describe_precision(precision: str, device: Any) -> str:
    """`precision`, and how a GPU multiplies float32 matrices: JAX leaves that to TF32 where the device has it."""
    wanted = str(jax.config.jax_default_matmul_precision or "default").lower()  # type: ignore[attr-defined]
    short = wanted in ("default", "fastest", "tensorfloat32", "tf32_tf32_f32")
    generation = str(getattr(device, "compute_capability", "")).partition(".")[0]  # "9" of "9.0"; "gfx90a" elsewhere
    if precision == "fp32" and short and generation.isdigit() and int(generation) >= 8:
        return "fp32, matrix products in TF32 (JAX_DEFAULT_MATMUL_PRECISION=highest computes them in full)"
    return precision


def _attention(task: Task[Any], pipeline: TrainingPipeline, layout: Layout, accumulate: int) -> str:
    """Which attention a device uses and why, for the longest rows and the shortest: a line for each decision."""
    parts = accumulate * layout.parts("rows")
    calls = [
        from_own_positions(call, layout)
        for rows, source, target in _longest_and_shortest(pipeline.shapes)
        for call in reversed(attention_calls(task, [(rows // parts, source, target)]))
    ]
    return describe_decisions(calls)


def _longest_and_shortest(shapes: Iterable[Shape]) -> list[Shape]:
    """The shapes at both ends, or the only one; what lies between is left out, as each takes a second to trace."""
    by_length = sorted(shapes, key=lambda shape: (shape.target_length, shape.source_length))
    return list(dict.fromkeys((by_length[-1], by_length[0])))


def describe_decisions(calls: Iterable[Call]) -> str:
    """Which implementation of attention the calls use and why, one line for each distinct decision.

    A line speaks of the first causal call of its decision, or else of the first, and where there are several decisions
    it names the others that are decided alike. Warns where `model.attention_table` has a fastest one that refuses.

    Args:
      calls: the longest first; at least one.

    Raises:
      NotImplementedError: if every implementation refuses one of them; with the reasons.
    """
    alike: dict[Any, list[tuple[Call, Decision]]] = {}
    for call in dict.fromkeys(calls):
        made = decide_attention(call.q, call.k, mask=call.mask, dropout=call.dropout)
        refused = tuple(name for name, _ in made.refusals)
        alike.setdefault((made.used, made.measured, refused), []).append((call, made))
    _warn_of_refusals(itertools.chain(*alike.values()))
    lines = []
    for told in alike.values():
        call, made = next((one for one in told if one[0].mask is not None and one[0].mask.causal), told[0])
        others = dict.fromkeys(_case(other) for other, _ in told)
        others.pop(_case(call))
        rest = "; ".join(f"up to {case.length} positions, mask {case.mask}" for case in others)
        lines.append(f"{made}; likewise for {rest}" if rest and len(alike) > 1 else str(made))
    return "\n".join(lines)


def _warn_of_refusals(told: Iterable[tuple[Call, Decision]]) -> None:
    """Says once for each case of `model.attention_table` that its fastest implementation refuses the call."""
    table, warned = loaded_measurements(), set[Case]()
    for call, made in told:
        case = _case(call)
        fastest = min(table.get(case, {}).items(), key=lambda item: item[1], default=(made.used, 0.0))[0]
        if fastest != made.used and case not in warned:
            warned.add(case)
            _LOGGER.warning(
                "model.attention_table has %s as the fastest for %s, but it refuses such a call: %s. Write the "
                "table again with --mode=tune on this device",
                fastest, case, made,
            )  # fmt: skip


def _case(call: Call) -> Case:
    return Case.of(call.q, call.k, call.mask, call.dropout > 0, current_device().device_kind)


def from_own_positions(call: Call, layout: Layout) -> Call:
    """`call` as a device makes it where it has a part of the queries and gathers keys and values; else as it is."""
    parts = layout.parts("length")
    if parts == 1 or layout.exchanges_heads(call.k.shape[2]):
        return call
    batch, length, heads, size = call.q.shape
    mask = jax.eval_shape(lambda mask: mask.of_queries(0, length // parts), call.mask or Mask())
    queries = jax.ShapeDtypeStruct((batch, length // parts, heads, size), call.q.dtype)
    return dataclasses.replace(call, q=queries, mask=mask)


def _flops(study: Study, task: Task[Any], pipeline: TrainingPipeline, mesh: Any) -> str:
    """Model FLOPs of a middling batch, and what MFU compares them with."""
    text = study.describe_flops(task, pipeline.shapes[len(pipeline.shapes) // 2])
    peak = mesh_peak(study.config.precision, mesh)
    against = f"against {peak.rate / 1e9:,.0f} GFLOP/s, {peak.source}" if peak.rate else f"not told: {peak.source}"
    training = study.config.training
    if training.r_drop:
        text += f"; twice that from step {training.r_drop_start + 1:,} on, since R-Drop passes every row twice"
    return f"model FLOPs: {text}; MFU is {against}"
