"""Which pieces of a joint vocabulary the target uses: they come first, so that the output layer can end after them.

As with the vocabulary threshold of subword-nmt (Sennrich et al. 2017, section 3.1), target text is made of those pieces
that it was made of where the vocabulary was learnt; the text seen there is cut as before. sentencepiece's file is a
protocol buffer: pieces are its fields number 1, in the order of their ids. The number of pieces that the target uses is
kept in a field of ours, which other programs pass over: the file stays a plain sentencepiece model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import sentencepiece

_PIECE = 1  # number of the field that holds a piece
_TRAINING, _KIND = 2, 3  # the field that says how a model was trained; in it its kind
_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_TARGET_SIZE = 200  # the first number that sentencepiece leaves to others
_VARINT = 0  # the kind of a field that holds a number
_MULTIPLE = 64  # the target's pieces are a multiple of this, for devices that share or tile them
_BATCH = 4096  # texts that are cut at once


def target_first(model: bytes, texts: Iterable[str]) -> bytes:
    """`model` with the special and byte pieces first, then those that `texts` need, then the rest; and their number.

    A piece is needed if `texts` are cut into it, or if a needed one is merged from it: cutting by needed pieces alone
    gives the same tokens. The number is rounded up to a multiple of 64.

    Args:
      model: a serialised sentencepiece model, BPE or unigram.
      texts: of the target language.
    """
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    needed = _needed(processor, texts)
    everywhere = (processor.is_control, processor.is_unknown, processor.is_byte)
    ids = range(processor.get_piece_size())
    special = [i for i in ids if any(holds(i) for holds in everywhere)]
    target = sorted(needed - set(special))
    rest = sorted(set(ids) - needed - set(special))
    fields = list(_fields(model))
    pieces = [field for number, field in fields if number == _PIECE]
    others = [field for number, field in fields if number not in (_PIECE, _TARGET_SIZE)]
    size = min(len(ids), -(-(len(special) + len(target)) // _MULTIPLE) * _MULTIPLE)
    count = _varint(_TARGET_SIZE << 3 | _VARINT) + _varint(size)
    return b"".join([*(pieces[i] for i in [*special, *target, *rest]), *others, count])


def has_target_part(model: bytes) -> bool:
    """Whether `model` says how many pieces the target uses."""
    return any(number == _TARGET_SIZE for number, _ in _fields(model))


def kind(model: bytes) -> str:
    """How the pieces of `model` were found: `unigram`, `bpe`, `word` or `char`."""
    training = (_message(field) for number, field in _fields(model) if number == _TRAINING)
    settings = (field for message in training for field in _fields(message))
    found = [_number(field) for number, field in settings if number == _KIND]
    return _KINDS[found[-1] if found else 1]  # sentencepiece leaves out what it has by default


def target_part(model: bytes) -> bytes:
    """`model` with the pieces alone that the target uses; all of them if it does not say."""
    fields = list(_fields(model))
    sizes = [_number(field) for number, field in fields if number == _TARGET_SIZE]
    if not sizes:
        return model
    pieces = [field for number, field in fields if number == _PIECE]
    return b"".join([*pieces[: sizes[0]], *(field for number, field in fields if number not in (_PIECE, _TARGET_SIZE))])


def _needed(processor: sentencepiece.SentencePieceProcessor, texts: Iterable[str]) -> set[int]:
    """Ids of the pieces that `texts` are cut into, and of those that these are merged from."""
    used: set[int] = set()
    for batch in _batches(texts):
        for row in processor.encode(batch):
            used.update(row)
    scores = {processor.id_to_piece(i): processor.get_score(i) for i in range(processor.get_piece_size())}
    needed = set(used)
    if not any(processor.is_byte(i) for i in range(len(processor))):  # then only characters can spell what is new
        needed.update(i for i in range(len(processor)) if len(processor.id_to_piece(i)) == 1)
    for piece in map(processor.id_to_piece, used):
        needed.update(processor.piece_to_id(part) for part in _parts(piece, scores))
    return needed


def _parts(piece: str, scores: dict[str, float]) -> Iterator[str]:
    """The pieces that byte-pair encoding passes through on its way to `piece`, which it reaches by itself."""
    symbols = list(piece)
    yield from (symbol for symbol in symbols if symbol in scores)
    while len(symbols) > 1:
        merges = [scores.get(left + right, -math.inf) for left, right in itertools.pairwise(symbols)]
        place = max(range(len(merges)), key=merges.__getitem__)
        if merges[place] == -math.inf:
            return
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
        yield symbols[place]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


# The wire format of protocol buffers: https://protobuf.dev/programming-guides/encoding/


def _number(field: bytes) -> int:
    """What a field of kind 0 holds."""
    return _read_varint(field, _read_varint(field, 0)[1])[0]


def _message(field: bytes) -> bytes:
    """What a field of kind 2 holds."""
    _, length_place = _read_varint(field, 0)
    _, start = _read_varint(field, length_place)
    return field[start:]


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes, tag included, of every field of a message."""
    place = 0
    while place < len(data):
        tag, end = _read_varint(data, place)
        match tag & 7:
            case 0:
                _, end = _read_varint(data, end)
            case 1:
                end += 8
            case 2:
                length, end = _read_varint(data, end)
                end += length
            case 5:
                end += 4
            case kind:
                raise ValueError(f"no sentencepiece model: a field of kind {kind} at byte {place}")
        if end > len(data):
            raise ValueError(f"no sentencepiece model: it ends within a field, at byte {len(data)}")
        yield tag >> 3, data[place:end]
        place = end


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    """The number at `place`, and the place after it."""
    value = shift = 0
    while True:
        if place >= len(data):
            raise ValueError(f"no sentencepiece model: it ends within a number, at byte {len(data)}")
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def _varint(value: int) -> bytes:
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])
