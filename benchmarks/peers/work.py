"""The same work for every peer of a benchmark, as plain numpy arrays and numbers in a folder.

Peers run in processes of their own (so that their memory can be told apart, and their thread pools do not meet) and
read the work from there. Not for measuring (`benchmarks.train_step`).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of the network and its training.

    Attributes:
      vocabulary: V, shared by both sides and tied to the output.
      d_model, d_ff, num_heads: D, F, N.
      encoder_layers, decoder_layers: of each stack, normalised before each sub-layer.
      dropout: rate everywhere: embeddings, sub-layers, attention weights, inside the feed-forward layer.
      label_smoothing: in the loss.
      learning_rate, b1, b2, eps: of Adam.
    """

    vocabulary: int
    d_model: int
    d_ff: int
    num_heads: int
    encoder_layers: int
    decoder_layers: int
    dropout: float
    label_smoothing: float
    learning_rate: float
    b1: float
    b2: float
    eps: float


@dataclasses.dataclass(frozen=True)
class Work:
    """What a peer is given.

    Attributes:
      sizes: see there.
      params: arrays by path, such as `encoder.layers.0.attention.output.kernel`, laid out as jaxformer's.
      batches: (source, inputs, labels) of each batch, int32 [B, S], [B, T], [B, T], padded with 0.
      positions: float32 [max(S, T), D], added to the embeddings.
    """

    sizes: Sizes
    params: dict[str, np.ndarray]
    batches: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
    positions: np.ndarray

    @property
    def plain_params(self) -> dict[str, np.ndarray]:
        """`params` with fused projections part after part: all queries, all keys, all values, in the order of heads."""
        parts = {"query_key_value": 3, "key_value": 2}  # jaxformer lays the parts of a head side by side

        def plain(name: str, array: np.ndarray) -> np.ndarray:
            if (number := parts.get(name.split(".")[-2])) is None:
                return array
            heads = array.reshape(*array.shape[:-1], self.sizes.num_heads, number, -1)
            return heads.swapaxes(-3, -2).reshape(array.shape)

        return {name: plain(name, array) for name, array in self.params.items()}

    def save(self, folder: Path) -> None:
        """Writes everything to `folder`."""
        (folder / "sizes.json").write_text(json.dumps(dataclasses.asdict(self.sizes)), encoding="utf-8")
        np.savez(folder / "params.npz", **self.params)
        arrays = {f"{i}.{j}": array for i, batch in enumerate(self.batches) for j, array in enumerate(batch)}
        np.savez(folder / "batches.npz", **arrays)
        np.save(folder / "positions.npy", self.positions)

    @classmethod
    def load(cls, folder: Path) -> Work:
        """Reads what `save` wrote."""
        sizes = Sizes(**json.loads((folder / "sizes.json").read_text(encoding="utf-8")))
        arrays = dict(np.load(folder / "batches.npz"))
        batches = [tuple(arrays[f"{i}.{j}"] for j in range(3)) for i in range(len(arrays) // 3)]
        params = dict(np.load(folder / "params.npz"))
        return cls(sizes, params, batches, np.load(folder / "positions.npy"))  # type: ignore[arg-type]

    @property
    def target_tokens(self) -> int:
        """Real target tokens of all batches."""
        return sum(int(np.count_nonzero(labels)) for _, _, labels in self.batches)


class Peer(Protocol):
    """One implementation of the training step."""

    def check(self) -> dict[str, float]:
        """`loss` (mean over real tokens) and `gradient` (global norm) of the first batch, without dropout."""

    def steps(self) -> Any:
        """One training step on each batch in turn; returns when all are done."""
