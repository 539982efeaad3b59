"""Hugging Face's MarianMT on torch, of the sizes of a benchmark, with weights of its own.

Its layers normalise after each sub-layer, ours before: the same work, but not the same numbers, so that outputs are
not compared. Every sentence is translated to a fixed length.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import MarianConfig, MarianMTModel

from benchmarks.peers.work import Sizes


def make_translate(sizes: Sizes, sentences: list[list[int]], beam: int, rows: int, length: int) -> Callable[[], None]:
    """A function that translates all sentences, equally long lists of token ids, to `length` tokens each."""
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=sizes.vocabulary, d_model=sizes.d_model, encoder_layers=sizes.encoder_layers,
        decoder_layers=sizes.decoder_layers, encoder_attention_heads=sizes.num_heads,
        decoder_attention_heads=sizes.num_heads, encoder_ffn_dim=sizes.d_ff, decoder_ffn_dim=sizes.d_ff,
        activation_function="relu", max_position_embeddings=64, dropout=0.0, pad_token_id=0, eos_token_id=3,
        decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    model = MarianMTModel(config).eval()
    batches = [torch.tensor(sentences[first : first + rows]) for first in range(0, len(sentences), rows)]

    @torch.inference_mode()
    def translate() -> None:
        for batch in batches:
            model.generate(
                input_ids=batch, num_beams=beam, do_sample=False, min_new_tokens=length, max_new_tokens=length,
                length_penalty=1.0, early_stopping=False,
            )  # fmt: skip

    return translate
