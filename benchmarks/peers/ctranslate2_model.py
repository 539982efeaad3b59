"""A network of jaxformer as a CTranslate2 model on disk, with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

from benchmarks.peers.work import Work

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")


def pieces(vocabulary: int) -> list[str]:
    """Names of the token ids: the special ones, then numbers."""
    return [*SPECIAL, *(str(i) for i in range(len(SPECIAL), vocabulary))]


def convert(work: Work, folder: Path, *, rotary: bool = False) -> None:
    """Writes the model to `folder`, which must not exist; its target has as many pieces as jaxformer's.

    Positions are rotations of queries and keys if `rotary`, else added to the embeddings.
    """
    sizes, given = work.sizes, work.plain_params
    specs, turned = ctranslate2.specs.transformer_spec, {"rotary_dim": 0, "rotary_interleave": False} if rotary else {}
    spec: Any = specs.TransformerSpec(
        specs.TransformerEncoderSpec(sizes.encoder_layers, sizes.num_heads, **turned),
        specs.TransformerDecoderSpec(sizes.decoder_layers, sizes.num_heads, **turned),
    )

    def linear(theirs: Any, *ours: str) -> None:
        theirs.weight = np.ascontiguousarray(np.concatenate([given[f"{name}.kernel"] for name in ours], axis=1).T)
        theirs.bias = np.concatenate([given[f"{name}.bias"] for name in ours])

    def norm(theirs: Any, ours: str) -> None:
        theirs.gamma, theirs.beta = given[f"{ours}.scale"], given[f"{ours}.bias"]

    table = given["target_embedding.table"]
    spec.encoder.embeddings[0].weight = table
    if (rest := given.get("target_embedding.source_table")) is not None:
        spec.encoder.embeddings[0].weight = np.concatenate([table, rest])
    spec.decoder.embeddings.weight = spec.decoder.projection.weight = table
    for stack, theirs in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        if not rotary:
            theirs.position_encodings.encodings = work.positions
        norm(theirs.layer_norm, f"{stack}_norm")
        for i, layer in enumerate(theirs.layer):
            ours = f"{stack}.layers.{i}"
            linear(layer.self_attention.linear[0], f"{ours}.attention.query_key_value")
            linear(layer.self_attention.linear[1], f"{ours}.attention.output")
            norm(layer.self_attention.layer_norm, f"{ours}.attention_residual.norm")
            if stack == "decoder":
                for place, part in enumerate(("query", "key_value", "output")):
                    linear(layer.attention.linear[place], f"{ours}.cross_attention.{part}")
                norm(layer.attention.layer_norm, f"{ours}.cross_attention_residual.norm")
            linear(layer.ffn.linear_0, f"{ours}.feed_forward.expand")
            linear(layer.ffn.linear_1, f"{ours}.feed_forward.contract")
            norm(layer.ffn.layer_norm, f"{ours}.feed_forward_residual.norm")
    names = pieces(sizes.vocabulary)
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names[: len(table)])
    spec.config.layer_norm_epsilon = 1e-6
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = "<s>", "</s>", "<unk>"
    spec.config.decoder_start_token = "<s>"
    spec.validate()
    spec.optimize()
    folder.mkdir()
    spec.save(str(folder))
