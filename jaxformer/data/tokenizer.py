"""Subword tokenisation by sentencepiece: text to token ids and back, one vocabulary or one for each language.

A joint vocabulary lists the pieces of target text first, and target text is made of those alone: the output layer need
not be as tall as the vocabulary (of 8,000 joint pieces learnt from Multi30k, German uses 5,800).

Ids are pad 0, unk 1, bos 2, eos 3 in every vocabulary; encoded sequences end in eos. sentencepiece normalises nothing
here (`cleaning.py` has done it), so decoding gives back the encoded text exactly; only `U+2581`, its own mark for a
space, comes back as a space. Of whole words, every unknown one is a token (`word_model`). Not for caching: `prepare.py`
trains once and keeps the model.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import sentencepiece

from jaxformer.config import DataConfig
from jaxformer.data import pieces
from jaxformer.data.sampling import SubwordSampler
from jaxformer.data.word_model import WordModel
from jaxformer.types import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Pair

_SPACE = "\u2581"
"""What sentencepiece writes for a space, before every word."""

_SEPARATE = b"jaxformer separate vocabularies\n"  # first bytes of a file that holds two models


class Tokenizer:
    """One sentencepiece model for both languages, or one for each.

    Args:
      source_model: serialised sentencepiece model of the source language.
      target_model: of the target language; the same bytes for a joint vocabulary, which may say how many of its first
        pieces the target uses (`pieces.target_first`).
    """

    def __init__(self, source_model: bytes, target_model: bytes) -> None:
        self._models = (source_model, target_model)
        self._source = sentencepiece.SentencePieceProcessor(model_proto=source_model)
        self._target = self._source
        if not self.joint or self.has_target_part:
            self._target = sentencepiece.SentencePieceProcessor(model_proto=pieces.target_part(target_model))
        self._source_words = WordModel(self._source) if pieces.kind(source_model) == "word" else None
        self._target_words = WordModel(self._target) if pieces.kind(target_model) == "word" else None

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[bytes, bytes]]:
        return (Tokenizer, self._models)

    @property
    def joint(self) -> bool:
        """Whether both languages share one vocabulary."""
        return self._models[0] == self._models[1]

    @property
    def has_target_part(self) -> bool:
        """Whether a joint vocabulary says which of its pieces the target uses; one that was learnt here does."""
        return pieces.has_target_part(self._models[1])

    @property
    def kind(self) -> str:
        """As `data.tokenizer`: `bpe`, `unigram` or `word`; also `char`, of models made elsewhere."""
        return pieces.kind(self._models[0])

    @property
    def spells_bytes(self) -> bool:
        """As `data.byte_fallback`."""
        return any(self._source.is_byte(i) for i in range(self._source.get_piece_size()))

    @property
    def source_vocabulary_size(self) -> int:
        """Pieces of the source vocabulary, special tokens included."""
        return self._source.get_piece_size()

    @property
    def target_vocabulary_size(self) -> int:
        """Pieces of the target vocabulary, special tokens included; if it is joint, the first ones of the source's."""
        return self._target.get_piece_size()

    @property
    def digest(self) -> str:
        """A short hash of the model: equal for tokenizers that encode alike."""
        way = b"|each word" if self._source_words or self._target_words else b""  # not as sentencepiece cuts them
        return hashlib.sha256(self._models[0] + b"|" + self._models[1] + way).hexdigest()[:20]

    def encode_source(self, texts: Sequence[str], *, num_threads: int = 1) -> list[list[int]]:
        """Token ids of source sentences, each ending in eos."""
        return _encoded(self._source, self._source_words, texts, num_threads)

    def encode_target(self, texts: Sequence[str], *, num_threads: int = 1) -> list[list[int]]:
        """Token ids of target sentences, each ending in eos."""
        return _encoded(self._target, self._target_words, texts, num_threads)

    def source_pieces(self, texts: Sequence[str]) -> list[list[str]]:
        """What `encode_source` gives numbers to, as it is written: of unknown pieces too; without eos or marks."""
        return [[piece.removeprefix(_SPACE) for piece in row] for row in self._pieces(texts)]

    def _pieces(self, texts: Sequence[str]) -> list[list[str]]:
        if self._source_words:
            return [[_SPACE + word for word in words] for words in self._source_words.split(texts)]
        found: list[list[str]] = self._source.encode(list(texts), out_type=str) if texts else []
        return found

    def decode_source(self, ids: Sequence[int]) -> str:
        """The source text of `ids`, special tokens dropped."""
        return self._decode(self._source, ids)

    def decode_target(self, ids: Sequence[int]) -> str:
        """The target text of `ids`, special tokens dropped."""
        return self._decode(self._target, ids)

    @staticmethod
    def _decode(model: sentencepiece.SentencePieceProcessor, ids: Sequence[int]) -> str:
        return model.decode([int(i) for i in ids if i not in (PAD_ID, BOS_ID, EOS_ID)])

    def words(self, text: str, ids: Sequence[int], numbers: Sequence[float]) -> tuple[list[str], list[float]]:
        """The words of a source text as it has them, unknown ones too, and for each the sum of its tokens' numbers.

        Args:
          text: what was encoded.
          ids: of the text or its beginning; special tokens are passed over.
          numbers: one a token.
        """
        words: list[list[str]] = []
        by_bytes: list[bool] = []  # in part
        sums: list[float] = []
        own = ((i, number) for i, number in zip(ids, numbers, strict=False) if i not in (PAD_ID, BOS_ID, EOS_ID))
        for piece, (i, number) in zip(self._pieces([text])[0], own, strict=False):
            if not words or piece.startswith(_SPACE):
                words.append([])
                by_bytes.append(False)
                sums.append(0.0)
            words[-1].append(piece)
            by_bytes[-1] |= self._source.is_byte(i)
            sums[-1] += number
        # Not decoded without need: an unknown piece may be written as a special one is.
        found = [
            self._source.decode(word) if decoded else "".join(word)
            for word, decoded in zip(words, by_bytes, strict=True)
        ]
        return [word.replace(_SPACE, " ").strip(" ") for word in found], sums

    def samplers(self, kind: str, strength: float) -> tuple[SubwordSampler, SubwordSampler]:
        """Sources of random segmentations for both sides; see `SubwordSampler`."""
        return SubwordSampler(self._source, kind, strength), SubwordSampler(self._target, kind, strength)

    def to_bytes(self) -> bytes:
        """What `load` reads from a file; with a joint vocabulary it is a plain sentencepiece model."""
        if self.joint:
            return self._models[0]
        sizes = json.dumps([len(model) for model in self._models]).encode() + b"\n"
        return _SEPARATE + sizes + self._models[0] + self._models[1]

    def save(self, path: str | Path) -> None:
        """Writes the tokenizer to one file."""
        Path(path).write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """The tokenizer that `save` wrote to `path`, or a plain sentencepiece model.

        A folder means its `tokenizer.model`.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: it is no tokenizer, or one with other special ids.
        """
        path = Path(path)
        path = path / "tokenizer.model" if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"no tokenizer at {path}: was this folder written by a training run?")
        data = path.read_bytes()
        try:
            tokenizer = cls(*_models(data))
        except (RuntimeError, ValueError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged or no sentencepiece model: {error}; bring it back as the run wrote it"
            ) from None
        for model in (tokenizer._source, tokenizer._target):
            ids = (model.pad_id(), model.unk_id(), model.bos_id(), model.eos_id())
            if ids != (PAD_ID, UNK_ID, BOS_ID, EOS_ID):
                raise ValueError(f"{path} numbers pad, unk, bos, eos as {ids}; jaxformer needs 0, 1, 2, 3")
        return tokenizer


def _models(data: bytes) -> tuple[bytes, bytes]:
    """The models of both languages in what `Tokenizer.to_bytes` gave.

    Raises:
      ValueError, TypeError: if it is damaged.
    """
    if not data.startswith(_SEPARATE):
        return data, data
    header, _, rest = data.removeprefix(_SEPARATE).partition(b"\n")
    source, target = json.loads(header)
    if source + target != len(rest):
        raise ValueError(f"there are {len(rest)} bytes of two models of {source} and {target}")
    return rest[:source], rest[source:]


def _encoded(
    model: sentencepiece.SentencePieceProcessor, words: WordModel | None, texts: Sequence[str], num_threads: int
) -> list[list[int]]:
    if words:
        return words.encode(texts)
    return model.encode(list(texts), add_eos=True, num_threads=num_threads) if texts else []


def train_tokenizer(pairs: Iterable[Pair], config: DataConfig) -> Tokenizer:
    """A tokenizer learnt from cleaned text; the same text and settings give the same tokenizer.

    Args:
      pairs: sentence pairs; a sample of some hundred thousand is as good as millions.
      config: `tokenizer`, `vocabulary_size`, `joint_vocabulary` and `byte_fallback` are read.

    Raises:
      ValueError: the text does not allow a vocabulary of that size (with the size that it allows).
    """
    pairs = list(pairs)
    if config.joint_vocabulary:
        model = _train((text for pair in pairs for text in pair), config)
        model = pieces.target_first(model, (pair.target for pair in pairs))
        return Tokenizer(model, model)
    return Tokenizer(_train((p.source for p in pairs), config), _train((p.target for p in pairs), config))


def train_text_tokenizer(texts: Iterable[str], config: DataConfig) -> Tokenizer:
    """A tokenizer for text that is not translated, learnt from it; see `train_tokenizer`."""
    model = _train(iter(texts), config)
    return Tokenizer(model, model)


def _train(texts: Iterator[str], config: DataConfig) -> bytes:
    model = io.BytesIO()
    spelled = config.byte_fallback and config.tokenizer != "word"  # an unknown word is one token
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=texts,
            model_writer=model,
            model_type=config.tokenizer,
            vocab_size=config.vocabulary_size,
            byte_fallback=spelled,
            character_coverage=0.9995 if spelled else 1.0,
            pad_id=PAD_ID,
            unk_id=UNK_ID,
            bos_id=BOS_ID,
            eos_id=EOS_ID,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            max_sentence_length=1 << 16,
            num_threads=2,  # a constant: the sums of unigram training depend on it
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _vocabulary_error(str(error), config.vocabulary_size) from None
    return model.getvalue()


def _vocabulary_error(message: str, size: int) -> ValueError:
    """sentencepiece's refusal in words that say what to change."""
    largest = re.search(r"value <= (\d+)", message)
    smallest = re.search(r"smaller than required_chars\. \d+ vs (\d+)", message)
    if largest:
        advice = f"larger than this text allows: lower --config.data.vocabulary_size to {largest[1]} or less"
    elif smallest:
        advice = (
            f"too small for the single characters and special tokens of this text ({smallest[1]}): "
            f"raise --config.data.vocabulary_size above {smallest[1]}"
        )
    else:
        return ValueError(f"sentencepiece could not learn a vocabulary of {size} pieces: {message}")
    return ValueError(f"data.vocabulary_size={size} is {advice}")
