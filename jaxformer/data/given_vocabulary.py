"""A vocabulary that is there already, in place of one that is learnt from the training text."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from jaxformer.config import DataConfig
from jaxformer.config.checks import as_text
from jaxformer.data.tokenizer import Tokenizer
from jaxformer.paths import expanded
from jaxformer.types import UNK_ID

_MOST_UNKNOWN = 0.01
"""Share of unknown tokens from which on a person should know of them."""


def given_tokenizer(config: DataConfig, *, sides: int) -> Tokenizer:
    """The tokenizer that `data.vocabulary` names; one for both languages if `data.joint_vocabulary` says so.

    Args:
      config: says where it is, and of what kind and size.
      sides: of a record: 2 of pairs, 1 of texts.

    Raises:
      OSError: if it is not there.
      ValueError: if it is damaged, or not as the configuration says.
    """
    try:
        tokenizer = Tokenizer.load(expanded(config.vocabulary))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"data.vocabulary={config.vocabulary} is not there: name the folder of a run, or a sentencepiece model"
        ) from None
    if tokenizer.kind == "char":
        raise ValueError(f"the vocabulary in {config.vocabulary} is of single characters: give one of another kind")
    there: dict[str, Any] = {"tokenizer": tokenizer.kind, "vocabulary_size": tokenizer.source_vocabulary_size}
    if tokenizer.kind != "word":
        there["byte_fallback"] = tokenizer.spells_bytes
    if sides == 2 and (tokenizer.has_target_part or not tokenizer.joint):  # two equal ones look like one
        there["joint_vocabulary"] = tokenizer.joint
    if other := [name for name, value in there.items() if getattr(config, name) != value]:
        listed = " ".join(f"--config.data.{name}={as_text(there[name])}" for name in other)
        raise ValueError(f"the vocabulary in {config.vocabulary} is of another kind than asked for: set {listed}")
    return tokenizer


def warn_of_unknown(config: DataConfig, tokens: np.ndarray) -> None:
    """Says what share of the training text a vocabulary that was learnt from other text cannot write.

    Args:
      config: names the vocabulary; without one there is nothing to say.
      tokens: int [n], of the training text or its beginning.
    """
    share = float((tokens == UNK_ID).mean()) if config.vocabulary and tokens.size else 0.0
    if share > _MOST_UNKNOWN:
        logging.warning(
            "%.1f %% of the training tokens are unknown to the vocabulary in %s: it was learnt from other text",
            100 * share, config.vocabulary,
        )  # fmt: skip
