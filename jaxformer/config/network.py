"""What is learnt, and by which network.

Not for how it is trained (`training`), nor for what compiles and splits it (`devices`).
"""

from __future__ import annotations

import dataclasses

from jaxformer.config.checks import check_choice, check_fraction, check_not_negative, check_positive, check_types


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network (Vaswani et al. 2017, table 3, names the sizes).

    Attributes:
      d_model: width of the residual stream, D.
      d_ff: width of the feed-forward layer, F.
      num_heads: attention heads, N; must divide `d_model`.
      num_kv_heads: key/value heads, K, for grouped-query attention; 0 means as many as `num_heads`.
      num_encoder_layers: depth of the encoder.
      num_decoder_layers: depth of the decoder.
      activation: of the feed-forward layer: `relu`, `gelu` or `swiglu`.
      norm: `layernorm` or `rmsnorm`.
      norm_position: `pre` (normalise before each sub-layer, and once at the end) or `post` (as in the paper).
      position: `sinusoidal`, `learned` or `rotary`.
      max_length: longest sequence, in tokens: `data.max_length` may not be more. Learned positions know no later ones;
        the other kinds do not depend on it.
      share_embeddings: one embedding for source and target; needs `data.joint_vocabulary`.
      tie_output: the output projection is the transposed target embedding.
      dropout: rate on embeddings and on the output of every sub-layer.
      attention_dropout: rate on attention weights.
      activation_dropout: rate inside the feed-forward layer.
      neighbourhood: of encoders with heads: an input token also takes an embedding of each of its neighbours up to this
        far away, by distance; for vocabularies as small as amino acids. 0 for none.
      local_layers: of encoders with heads: in the first so many layers a position sees only those near to it.
      local_window: of encoders with heads: how far away they may be, on either side.
      scale_embedding: of encoders with heads: multiply embeddings by sqrt(D), as the paper does. Without it they begin
        small, and what is rare in few data stays so.
      final_norm: of encoders with heads and `pre`: normalise once at the end. Without it, how long the vector of a
        position is says how much it counts where positions are pooled.
      scan_layers: compile one layer and scan over the depth, instead of compiling every layer.
      attention_table: file that `--mode=tune` wrote: attention uses what was fastest there; empty: the package's own.
    """

    d_model: int = 512
    d_ff: int = 2048
    num_heads: int = 8
    num_kv_heads: int = 0
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    activation: str = "relu"
    norm: str = "layernorm"
    norm_position: str = "pre"
    position: str = "sinusoidal"
    max_length: int = 256
    share_embeddings: bool = True
    tie_output: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    neighbourhood: int = 0
    local_layers: int = 0
    local_window: int = 16
    scale_embedding: bool = True
    final_norm: bool = True
    scan_layers: bool = False
    attention_table: str = ""

    def __post_init__(self) -> None:
        check_types("model", self)
        check_positive("model", self, "d_model", "d_ff", "num_heads", "num_encoder_layers", "num_decoder_layers")
        check_positive("model", self, "max_length")
        check_positive("model", self, "local_window")
        check_not_negative("model", self, "num_kv_heads", "neighbourhood", "local_layers")
        check_choice("model.activation", self.activation, "relu", "gelu", "swiglu")
        check_choice("model.norm", self.norm, "layernorm", "rmsnorm")
        check_choice("model.norm_position", self.norm_position, "pre", "post")
        check_choice("model.position", self.position, "sinusoidal", "learned", "rotary")
        check_fraction("model", self, "dropout", "attention_dropout", "activation_dropout")
        if self.d_model % self.num_heads:
            raise ValueError(
                f"model.num_heads={self.num_heads} does not divide model.d_model={self.d_model}: "
                "choose a number of heads that does"
            )
        if self.num_kv_heads and self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"model.num_kv_heads={self.num_kv_heads} does not divide model.num_heads={self.num_heads}: "
                "choose a divisor, or 0 for one key/value head per query head"
            )
        if self.local_layers >= self.num_encoder_layers:
            raise ValueError(
                f"model.local_layers={self.local_layers} leaves none of model.num_encoder_layers="
                f"{self.num_encoder_layers} that sees whole sequences: lower it, or raise the other"
            )
        if self.position == "rotary" and (self.d_model // self.num_heads) % 2:
            raise ValueError(
                "model.position=rotary needs an even head size, "
                f"got d_model / num_heads = {self.d_model // self.num_heads}"
            )


KINDS = ("translation", "text_classification", "protein", "price_movement", "forecasting")
"""The kinds of problem that can be trained; `jaxformer.training.study` says which class serves each."""

OF_TEXT = ("translation", "text_classification")
"""Kinds of task that read text, and have a vocabulary of it."""

POOLED = ("text_classification", "price_movement")
"""Kinds of task that make one vector of a sequence."""


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """What is learnt from the data; all but `kind` is for encoders with heads, which translation is not.

    Attributes:
      kind: `translation`, `text_classification` (a label for every text, such as its sentiment), `protein` (the
        secondary structure of every residue), `price_movement` (rise or fall of a price on the next day, and its
        return) or `forecasting` (the next steps of every channel of a series).
      pooling: how a text or a window of prices becomes one vector: `cls` (of a text a token of its own at its start, of
        prices the last day), `mean`, `attention` (a learned weighted mean), or `convolution` (the largest values of
        features of 3 to 5 neighbours; not with `mesh.context`); other kinds pool nothing.
      part_weights: of the losses where several things are predicted: `equal`, or `learned` (by their uncertainty).
      class_weights: of the classes in a loss: `none`, or `balanced` (rare ones count more: inversely to how often they
        occur in the training data).
      token_dropout: share of input tokens that training hides, each time others: they become the unknown token.
      vary_token_dropout: of several `members` hide ever less, `token_dropout` from the first, nothing from the last,
        and from those between shares at equal distances; of `linear_members` likewise. Who has read whole texts and who
        has to do without half of them are wrong about different ones. It changes nothing for one of a kind.
      members: networks that are trained side by side, on the same batches, and whose predictions are averaged; each
        costs the memory and time of one. Losses, and what is measured in training, are means over them; other metrics
        of validation are of what they believe together.
      linear_members: of text_classification: further members without layers, which add up what every word and every
        pair of neighbours says by itself (Wang and Manning 2012); of few classes they cost next to nothing. They differ
        by the tokens that are hidden from them.
    """

    kind: str = "translation"
    pooling: str = "attention"
    part_weights: str = "equal"
    class_weights: str = "none"
    token_dropout: float = 0.0
    vary_token_dropout: bool = False
    members: int = 1
    linear_members: int = 0

    def __post_init__(self) -> None:
        check_types("task", self)
        check_choice("task.kind", self.kind, *KINDS)
        check_choice("task.pooling", self.pooling, "cls", "mean", "attention", "convolution")
        check_choice("task.part_weights", self.part_weights, "equal", "learned")
        check_choice("task.class_weights", self.class_weights, "none", "balanced")
        check_fraction("task", self, "token_dropout")
        check_positive("task", self, "members")
        check_not_negative("task", self, "linear_members")
        if self.linear_members > 1 and not self.token_dropout:
            raise ValueError(
                f"task.linear_members={self.linear_members} would all be the same, as nothing but hidden tokens makes "
                "them differ: set --config.task.token_dropout, or --config.task.linear_members=1"
            )
