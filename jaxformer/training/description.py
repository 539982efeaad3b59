"""What is about to be trained, in a few lines for the log: network, precision, attention, FLOPs, batches.

Not for what a run would need (`plan`) nor for the machine (`monitoring.machine`).
"""

from __future__ import annotations

from typing import Any

import jax

from jaxformer.config import Config
from jaxformer.data.pipeline import BatchPipeline
from jaxformer.monitoring.flops import describe_flops
from jaxformer.monitoring.peaks import mesh_peak
from jaxformer.ops.attention import describe_attention
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.translation import TranslationTask
from jaxformer.training.tuning import attention_calls


def describe_run(config: Config, task: TranslationTask, pipeline: BatchPipeline, layout: Layout, pairs: int) -> str:
    """The lines.

    Args:
      config: of the run.
      task: with its tokenizer.
      pipeline: of the training split.
      layout: of the devices that share the work.
      pairs: of the training split.
    """
    shapes = ", ".join(f"{s.rows}x({s.source_length}+{s.target_length})" for s in pipeline.shapes)
    steps, device = config.training.num_steps, layout.mesh.devices.flat[0]
    return "\n".join(
        [
            f"model: {task.num_parameters:,} parameters, {describe_precision(config.precision, device)}",
            _attention(task, pipeline, config.memory.accumulate * layout.parts("rows")),
            _flops(config, task, pipeline, layout.mesh),
            f"batches: {shapes} (rows x (source + target)); planned padding efficiency {pipeline.efficiency:.3f}"
            f"{_balance(pipeline, layout)}",
            f"training: {pairs:,} pairs, {pipeline.batches_per_epoch:,} batches an epoch, "
            f"{steps:,} steps = {steps / pipeline.batches_per_epoch:.1f} epochs, devices: {layout.describe()}",
        ]
    )


def _balance(pipeline: BatchPipeline, layout: Layout) -> str:
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


def _attention(task: TranslationTask, pipeline: BatchPipeline, parts: int) -> str:
    """Which attention the decoder uses on each device for the longest rows, and why."""
    rows, source, target = max(pipeline.shapes, key=lambda shape: shape.target_length)
    calls = attention_calls(task, [(rows // parts, source, target)])
    call = next(call for call in calls if call.mask is not None and call.mask.causal)
    return describe_attention(call.q, call.k, mask=call.mask, dropout=call.dropout)


def _flops(config: Config, task: TranslationTask, pipeline: BatchPipeline, mesh: Any) -> str:
    """Model FLOPs of a middling batch, and what MFU compares them with."""
    rows, source, target = pipeline.shapes[len(pipeline.shapes) // 2]
    text = describe_flops(config.model, task.tokenizer.target_vocabulary_size, rows, source, target)
    peak = mesh_peak(config.precision, mesh)
    against = f"against {peak.rate / 1e9:,.0f} GFLOP/s, {peak.source}" if peak.rate else f"not told: {peak.source}"
    training = config.training
    if training.r_drop:
        text += f"; twice that from step {training.r_drop_start + 1:,} on, since R-Drop passes every row twice"
    return f"model FLOPs: {text}; MFU is {against}"
