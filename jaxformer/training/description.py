"""What is about to be trained, in a few lines for the log: network, precision, attention, FLOPs, batches.

Not for what a run would need (`plan`) nor for the machine (`monitoring.machine`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from jaxformer.data.bucketing import Shape
from jaxformer.monitoring.peaks import mesh_peak
from jaxformer.ops import Mask
from jaxformer.ops.attention import Call, describe_attention
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.task import Task
from jaxformer.training.study import Study, TrainingPipeline
from jaxformer.training.tuning import attention_calls


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
            f"{_balance(pipeline, layout)}",
            f"training: {size:,} {study.noun}, {pipeline.batches_per_epoch:,} batches an epoch, "
            f"{steps:,} steps = {steps / pipeline.batches_per_epoch:.1f} epochs, devices: {layout.describe()}",
        ]
    )


def describe_shape(shape: Shape) -> str:
    """`64x(20+24)`, or of an encoder `64x20`."""
    rows, source, target = shape
    return f"{rows}x({source}+{target})" if target else f"{rows}x{source}"


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
    """Which attention the decoder, or an encoder alone, uses on each device for the longest rows, and why."""
    rows, source, target = max(pipeline.shapes, key=lambda shape: (shape.target_length, shape.source_length))
    calls = attention_calls(task, [(rows // (accumulate * layout.parts("rows")), source, target)])
    call = next((call for call in calls if call.mask is not None and call.mask.causal), calls[-1])
    call = from_own_positions(call, layout)
    return describe_attention(call.q, call.k, mask=call.mask, dropout=call.dropout)


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
