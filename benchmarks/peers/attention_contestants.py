"""Who computes attention in `benchmarks.attention`, ours and rivals, each as a function of the same inputs.

What a contestant does not do, or is not asked to, is refused with `NotImplementedError`.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

from benchmarks.peers.attention_cases import Case

LONGEST_DENSE = 4096  # rivals without segments take them as a dense mask, up to this length
LARGEST_WEIGHTS = 9 * 2**30  # bytes of float32 weights up to which plain array operations are tried


def contestants(gpu: bool) -> list[str]:
    """Ours by their names, rivals by package and backend."""
    from jaxformer.ops.attention.api import IMPLEMENTATIONS

    names = [*IMPLEMENTATIONS, "jax.nn xla"]
    if gpu:
        names.append("jax.nn cudnn")
        if importlib.util.find_spec("tokamax"):
            names += ["tokamax mosaic", "tokamax triton"]
        if importlib.util.find_spec("torch"):
            names.append("torch sdpa")
    return names


def _dense(case: Case) -> Any:
    """The mask as bool [B or 1, 1, T, S] for rivals, or None where flags say all."""
    if case.mask in ("none", "causal"):
        return None
    if max(case.num_queries, case.num_keys) > LONGEST_DENSE:
        raise NotImplementedError(f"a dense mask of more than {LONGEST_DENSE} positions is not tried")
    return case.make_mask().materialise(case.num_queries, case.num_keys)


def jax_function(name: str, case: Case) -> Callable[..., Any]:
    """(q, k, v) -> output of a contestant written in JAX; refusals are `NotImplementedError`."""
    import jax
    import jax.numpy as jnp

    from jaxformer.ops.attention import api

    weights = 4 * case.batch * case.num_heads * case.num_queries * case.num_keys
    if name in ("xla", "jax.nn xla") and weights > LARGEST_WEIGHTS:
        raise NotImplementedError(f"its weights would take {weights / 2**30:.0f} GiB")
    if name in api.IMPLEMENTATIONS:
        seed = jnp.uint32(9) if case.dropout else None
        return functools.partial(
            api.attention, mask=case.make_mask(), dropout=case.dropout, dropout_seed=seed, implementation=name
        )
    if not case.plain:
        raise NotImplementedError("not asked of rivals")
    package, backend = name.split(" ")
    if package == "tokamax":
        from tokamax import dot_product_attention
    else:
        dot_product_attention = jax.nn.dot_product_attention
    return functools.partial(
        dot_product_attention, mask=_dense(case), is_causal=case.mask == "causal", implementation=backend
    )


def both_ways(function: Callable[..., Any]) -> Callable[..., Any]:
    """(q, k, v, gradient of the output) -> output and the gradients of q, k and v."""
    import jax

    def run(q: Any, k: Any, v: Any, d_out: Any) -> tuple[Any, ...]:
        out, pullback = jax.vjp(function, q, k, v)
        return (out, *pullback(d_out))

    return run


def torch_function(case: Case) -> tuple[Callable[[bool], Any], list[Any]]:
    """A function that computes (with or without gradients) from tensors that stay the same, and these tensors."""
    import numpy as np
    import torch

    if not case.plain:
        raise NotImplementedError("not asked of rivals")
    if case.num_kv_heads != case.num_heads:
        raise NotImplementedError("grouped queries are not asked of torch")
    mask = _dense(case)
    mask = None if mask is None else torch.from_numpy(np.array(mask)).cuda()
    tensors = [
        torch.from_numpy(np.array(x, np.float32)).cuda().to(getattr(torch, case.dtype)).transpose(1, 2).contiguous()
        for x in case.inputs()
    ]
    q, k, v = (x.requires_grad_() for x in tensors[:3])

    def run(backward: bool) -> Any:
        with torch.set_grad_enabled(backward):
            out = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=case.mask == "causal"
            )
            return (out, *torch.autograd.grad(out, (q, k, v), tensors[3])) if backward else (out,)

    return run, tensors
