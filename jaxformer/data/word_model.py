"""Whole words to token ids: one for every word, an unknown one too, of which sentencepiece joins neighbours into one.

Not for learning a vocabulary (`tokenizer`).
"""

from __future__ import annotations

from collections.abc import Sequence

import sentencepiece

from jaxformer.types import EOS_ID, UNK_ID

_SPACE = "\u2581"  # sentencepiece's mark of a word's beginning


class WordModel:
    """Encodes by a sentencepiece model of whole words, word by word.

    Args:
      model: trained with `model_type=word`.
    """

    def __init__(self, model: sentencepiece.SentencePieceProcessor) -> None:
        self._model = model
        pieces = {model.id_to_piece(i): i for i in range(model.get_piece_size())}
        self._ids = {piece[1:]: i for piece, i in pieces.items() if piece.startswith(_SPACE)}

    def split(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text."""
        return [text.split(_SPACE)[1:] for text in self._model.normalize(list(texts))] if texts else []

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """A token id for each word, and eos."""
        return [[*(self._ids.get(word, UNK_ID) for word in words), EOS_ID] for words in self.split(texts)]
