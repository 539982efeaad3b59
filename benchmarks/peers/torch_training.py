"""The training step in PyTorch: `nn.Transformer`, `cross_entropy`, fused Adam; fp32, bf16 autocast or compiled."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers.work import Work


class Seq2Seq(nn.Module):
    """Embeddings with positions, `nn.Transformer`, output tied to the embeddings, label-smoothed mean loss."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        sizes = self.sizes = work.sizes
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.d_model)
        self.dropout = nn.Dropout(sizes.dropout)
        self.transformer = nn.Transformer(
            sizes.d_model, sizes.num_heads, sizes.encoder_layers, sizes.decoder_layers, sizes.d_ff, sizes.dropout,
            layer_norm_eps=1e-6, batch_first=True, norm_first=True,
        )
        self.register_buffer("positions", torch.tensor(work.positions))

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, S] to [B, S, D]."""
        x = self.embedding(tokens) * math.sqrt(self.sizes.d_model)
        return self.dropout(x + self.positions[: tokens.shape[1]])

    def forward(self, source: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean loss over real target tokens."""
        padding = source == 0
        causal = nn.Transformer.generate_square_subsequent_mask(inputs.shape[1], device=inputs.device)
        hidden = self.transformer(
            self.embed(source), self.embed(inputs), tgt_mask=causal, tgt_is_causal=True,
            src_key_padding_mask=padding, memory_key_padding_mask=padding,
        )
        logits = functional.linear(hidden, self.embedding.weight)
        return functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=0,
            label_smoothing=self.sizes.label_smoothing,
        )


def _named(work: Work) -> dict[str, np.ndarray]:
    """jaxformer's parameters under torch's names."""
    given, named = work.plain_params, {"embedding.weight": work.params["target_embedding.table"]}

    def linear(ours: str, weight: str, bias: str) -> None:
        named[weight], named[bias] = given[f"{ours}.kernel"].T, given[f"{ours}.bias"]

    def norm(ours: str, theirs: str) -> None:
        named[f"{theirs}.weight"], named[f"{theirs}.bias"] = given[f"{ours}.scale"], given[f"{ours}.bias"]

    for stack, depth in (("encoder", work.sizes.encoder_layers), ("decoder", work.sizes.decoder_layers)):
        for i in range(depth):
            ours, theirs = f"{stack}.layers.{i}", f"transformer.{stack}.layers.{i}"
            own = f"{theirs}.self_attn"
            linear(f"{ours}.attention.query_key_value", f"{own}.in_proj_weight", f"{own}.in_proj_bias")
            linear(f"{ours}.attention.output", f"{own}.out_proj.weight", f"{own}.out_proj.bias")
            norm(f"{ours}.attention_residual.norm", f"{theirs}.norm1")
            if stack == "decoder":
                cross, attention = f"{theirs}.multihead_attn", f"{ours}.cross_attention"
                for part, name in (("kernel", "weight"), ("bias", "bias")):
                    joined = [given[f"{attention}.{which}.{part}"] for which in ("query", "key_value")]
                    named[f"{cross}.in_proj_{name}"] = np.concatenate(joined, axis=-1).T
                linear(f"{attention}.output", f"{cross}.out_proj.weight", f"{cross}.out_proj.bias")
                norm(f"{ours}.cross_attention_residual.norm", f"{theirs}.norm2")
            for number, which in ((1, "expand"), (2, "contract")):
                name = f"{theirs}.linear{number}"
                linear(f"{ours}.feed_forward.{which}", f"{name}.weight", f"{name}.bias")
            norm(f"{ours}.feed_forward_residual.norm", f"{theirs}.norm{3 if stack == 'decoder' else 2}")
        norm(f"{stack}_norm", f"transformer.{stack}.norm")
    return named


class TorchTraining:
    """A peer; see `Work`. `autocast`: compute in bfloat16; `compiled`: through `torch.compile`."""

    def __init__(self, work: Work, *, autocast: bool = False, compiled: bool = False) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = Seq2Seq(work).to(device)
        state = {name: torch.tensor(np.ascontiguousarray(value)) for name, value in _named(work).items()}
        self.model.load_state_dict(state | {"positions": self.model.positions})
        sizes = work.sizes
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), sizes.learning_rate, (sizes.b1, sizes.b2), sizes.eps, fused=True
        )
        self.batches = [[torch.tensor(x).long().to(device) for x in batch] for batch in work.batches]
        self.precision: Any = (
            torch.autocast(device, torch.bfloat16) if autocast else contextlib.nullcontext()
        )
        self.loss: Any = torch.compile(self.model) if compiled else self.model
        self.device = device

    def check(self) -> dict[str, float]:
        """See `Peer`."""
        rates = {m: m.p for m in self.model.modules() if isinstance(m, nn.Dropout)}
        attention = [m for m in self.model.modules() if isinstance(m, nn.MultiheadAttention)]
        for module in rates:
            module.p = 0.0  # eval() would take torch's fused inference path instead
        for module in attention:
            module.dropout = 0.0
        with self.precision:
            loss = self.model(*self.batches[0])
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        self.optimizer.zero_grad()
        for module, rate in rates.items():
            module.p = rate
        for module in attention:
            module.dropout = self.model.sizes.dropout
        return {"loss": float(loss), "gradient": float(norm)}

    def steps(self) -> None:
        """See `Peer`."""
        for batch in self.batches:
            with self.precision:
                loss = self.loss(*batch)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        if self.device == "cuda":
            torch.cuda.synchronize()
