"""A vocabulary that is there already, in place of one that is learnt from the training text."""

from __future__ import annotations

from typing import Any

from jaxformer.config import DataConfig
from jaxformer.config.checks import as_text
from jaxformer.data.tokenizer import Tokenizer
from jaxformer.paths import expanded


def given_tokenizer(config: DataConfig, *, sides: int) -> Tokenizer:
    """The tokenizer that `data.vocabulary` names; one for both languages if `data.joint_vocabulary` says so.

    Args:
      config: says where it is, and of what kind and size.
      sides: of a record: 2 of pairs, 1 of texts.

    Raises:
      OSError: if it is not there.
      ValueError: if it is damaged, or not as the configuration says.
    """
    tokenizer = Tokenizer.load(expanded(config.vocabulary))
    if tokenizer.kind == "char":
        raise ValueError(f"the vocabulary in {config.vocabulary} is of single characters: give one of another kind")
    there: dict[str, Any] = {"tokenizer": tokenizer.kind, "vocabulary_size": tokenizer.source_vocabulary_size}
    if tokenizer.kind != "word":
        there["byte_fallback"] = tokenizer.spells_bytes
    if sides == 2:
        there["joint_vocabulary"] = tokenizer.joint
    if other := [name for name, value in there.items() if getattr(config, name) != value]:
        listed = " ".join(f"--config.data.{name}={as_text(there[name])}" for name in other)
        raise ValueError(f"the vocabulary in {config.vocabulary} is of another kind than asked for: set {listed}")
    return tokenizer
