"""Subword regularisation: random segmentations of text that depend on nothing but a seed.

BPE dropout (Provilkov et al. 2020, algorithm 1) and sampling from the best unigram segmentations (Kudo 2018, section
3.2), done word by word, since no piece crosses a space. sentencepiece can sample too, but its generator is salted
afresh in every process, so that its samples cannot be had again. Each word has a fixed pool of segmentations, drawn
when first asked for; a sentence takes one of the pool for each of its words. Not for evaluation or prediction, which
use the best segmentation.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import sentencepiece

from jaxformer.types import EOS_ID

_POOL = 32  # segmentations a word may have: with 16 stored variants, more would hardly be seen
_WORDS = 1 << 18  # words whose pools are kept
_SPACE = "\u2581"  # sentencepiece's mark of a word's beginning


class SubwordSampler:
    """Random segmentations by one sentencepiece model.

    Args:
      model: trained with `split_by_whitespace`, as `tokenizer.train_tokenizer` does.
      kind: `bpe` or `unigram`, as the model was trained.
      strength: the rate at which merges are dropped, or the exponent alpha of the probabilities.
    """

    def __init__(self, model: sentencepiece.SentencePieceProcessor, kind: str, strength: float) -> None:
        self._model = model
        self._draw = self._dropped if kind == "bpe" else self._from_best
        self._strength = strength
        self._pools: dict[str, list[list[int] | None]] = {}
        pieces = range(model.get_piece_size())
        normal = [i for i in pieces if not (model.is_control(i) or model.is_unknown(i) or model.is_byte(i))]
        self._ids = {model.id_to_piece(i): i for i in normal}
        self._scores = {model.id_to_piece(i): model.get_score(i) for i in normal}

    def encode(self, texts: Sequence[str], *seed: int) -> list[list[int]]:
        """Token ids of `texts`, each ending in eos: a pure function of the arguments."""
        words = [text.split(" ") if text else [] for text in texts]
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
        choices = iter(generator.integers(0, _POOL, sum(map(len, words))).tolist())
        result = []
        for sentence in words:
            ids: list[int] = []
            for word in sentence:
                ids += self._segmentation(word, next(choices))
            ids.append(EOS_ID)
            result.append(ids)
        return result

    def _segmentation(self, word: str, number: int) -> list[int]:
        pool = self._pools.get(word)
        if pool is None:
            if len(self._pools) == _WORDS:
                self._pools.clear()  # what is drawn again is the same: it depends on the word and its number alone
            pool = self._pools[word] = [None] * _POOL
        segmentation = pool[number]
        if segmentation is None:
            segmentation = pool[number] = self._draw(word, random.Random(f"{number} {word}"))
        return segmentation

    def _dropped(self, word: str, chance: random.Random) -> list[int]:
        """BPE with merges dropped: in each step the best of the merges that survive is made, until none does."""
        symbols = [_SPACE, *word]
        while True:
            best, place = -math.inf, -1
            for i in range(len(symbols) - 1):
                score = self._scores.get(symbols[i] + symbols[i + 1])
                if score is not None and score > best and chance.random() >= self._strength:
                    best, place = score, i
            if place < 0:
                ids = [i for symbol in symbols for i in self._symbol(symbol)]
                unknown = self._model.unk_id()  # several in a row are one, as in sentencepiece
                return [i for i, before in zip(ids, [-1, *ids[:-1]], strict=True) if not i == before == unknown]
            symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]

    def _symbol(self, symbol: str) -> list[int]:
        """The id of a piece; of a character outside the vocabulary its bytes, or unk."""
        if symbol in self._ids:
            return [self._ids[symbol]]
        spelt = [self._model.piece_to_id(f"<0x{byte:02X}>") for byte in symbol.encode()]
        unknown = self._model.unk_id()
        return [unknown] if unknown in spelt else spelt

    def _from_best(self, word: str, chance: random.Random) -> list[int]:
        """One of the best unigram segmentations, with probability proportional to its own to the power alpha."""
        several = self._model.nbest_encode(word, nbest_size=_POOL, out_type=int)
        scores = [sum(self._model.get_score(i) for i in ids) for ids in several]
        highest = max(scores)
        weights = [math.exp(self._strength * (score - highest)) for score in scores]
        return list(chance.choices(several, weights)[0])
