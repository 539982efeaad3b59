"""What lines of text become before they are searched for: looked at, then rows of tokens, each with its own limit.

Not for batches of them or the search (`translator`, `batch_search`), nor for splitting a line (`data.splitting`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from absl import logging

from jaxformer.config import DataConfig
from jaxformer.data.cleaning import Cleaner, has_text
from jaxformer.data.splitting import split_line


class TextTokenizer(Protocol):
    """What is needed of `data.tokenizer.Tokenizer`; encoded rows end in the end-of-sentence id."""

    def encode_source(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of source sentences."""

    def encode_target(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of target sentences."""

    def decode_target(self, ids: Sequence[int]) -> str:
        """Target text."""


class Job(NamedTuple):
    """One source row to translate, into at most `limit` tokens; its samples are drawn from the number `draw`."""

    line: int
    source: list[int]
    prefix: list[int]
    limit: int
    draw: int


def check_lines(texts: object) -> None:
    """Refuses one text where several are wanted: taken apart, it would be a line for every letter.

    Raises:
      ValueError: with what to do.
    """
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"texts must be a list of strings, one a line, got one {type(texts).__name__}: write [text]")


def check_stream(lines: object, chunk: int) -> None:
    """Refuses what `check_lines` does, and chunks without a line, which would lose them all.

    Raises:
      ValueError: with what to do.
    """
    check_lines(lines)
    if chunk < 1:
        raise ValueError(f"chunk must be 1 or greater, got {chunk}: it is how many lines are read at a time")


def checked_lines(
    texts: Iterable[str], prefixes: Iterable[str] | None = None, *, first_line: int = 1
) -> tuple[list[str], list[str] | None]:
    """Lines and their prefixes as lists, with a string for each line.

    Raises:
      ValueError: naming the first line that is none, or if there are not as many prefixes as lines.
    """
    check_lines(texts)
    lines = [_checked(text, f"line {number}") for number, text in enumerate(texts, first_line)]
    if prefixes is None:
        return lines, None
    check_lines(prefixes)
    begun = [_checked(text, f"the prefix of line {number}") for number, text in enumerate(prefixes, first_line)]
    if len(begun) != len(lines):
        raise ValueError(f"{len(lines)} lines but {len(begun)} prefixes: give one for each line, or none at all")
    return lines, begun


def checked_pairs(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Sources and their targets as a list, with two strings for each pair.

    Raises:
      ValueError: naming the first pair that is none.
    """
    found = []
    for number, pair in enumerate(pairs, 1):
        sides = [*pair] if isinstance(pair, Iterable) and not isinstance(pair, (str, bytes)) else []
        if len(sides) != 2:
            raise ValueError(f"pair {number} must be source and target, got {pair!r:.60}: write [(source, target)]")
        source = _checked(sides[0], f"the source of pair {number}")
        target = _checked(sides[1], f"the target of pair {number}")
        found.append((source, target))
    return found


def _checked(text: str, name: str) -> str:
    """`text`, if it is text and UTF-8 can write it; `name` is for the message if not."""
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a string, got {type(text).__name__}: decode bytes, leave out what is no text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = f"U+{ord(text[error.start]):04X}"
        raise ValueError(
            f"{name} is not Unicode ({code} is half of a character): read it again, in the encoding it was written in"
        ) from None
    return text


class SourceLines:
    """Lines of text as jobs for a search.

    Args:
      tokenizer: of the model's vocabulary.
      longest: output, in tokens; 0 for twice the source plus ten, and the prefix.
      max_length: longest row, in tokens, on either side; no output is longer.
      normalization: Unicode form brought upon the input, as in training: `nfc`, `nfkc` or `none`.
    """

    def __init__(self, tokenizer: TextTokenizer, *, longest: int, max_length: int, normalization: str) -> None:
        self._tokenizer, self._longest, self._max_length = tokenizer, longest, max_length
        self._cleaner = Cleaner(DataConfig(normalization=normalization))

    def normalize(self, text: str) -> str:
        """The text as training had it."""
        return self._cleaner.normalize(text)[0]

    def jobs(self, texts: Sequence[str], prefixes: Sequence[str] | None, first_line: int) -> list[Job]:
        """One job for every line that has text, or for every part of one that is too long, which a warning names.

        Args:
          texts, prefixes, first_line: of `Translator.translate`.

        Raises:
          ValueError: for a prefix that does not fit, or is of an empty line.
        """
        normalized = [self.normalize(text) for text in texts]
        encoded = self._tokenizer.encode_source(normalized)
        forced = [self.normalize(prefix) for prefix in prefixes or ()]
        prefix_tokens = [ids[:-1] for ids in self._tokenizer.encode_target(forced)] if forced else []
        jobs = []
        long: list[tuple[int, int, int]] = []
        for i, (text, source) in enumerate(zip(normalized, encoded, strict=True)):
            if not has_text(text):
                if forced and forced[i].strip():
                    raise ValueError(
                        f"line {first_line + i} is empty, and so is its translation, but it has a prefix: leave that "
                        "empty too"
                    )
                continue
            sources = [source] if len(source) <= self._max_length else self._parts(text)
            if len(source) > self._max_length:
                long.append((first_line + i, len(source), len(sources)))
            for part, ids in enumerate(sources):
                prefix = prefix_tokens[i] if prefix_tokens and not part else []
                limit = self.output_limit(len(ids), len(prefix))
                if len(prefix) >= limit:
                    raise ValueError(
                        f"the prefix of line {first_line + i} has {len(prefix)} tokens, but its translation may have "
                        f"no more than {limit}, the end included: shorten the prefix"
                    )
                # A later part of the same line draws other samples.
                draw = zlib.crc32(f"{first_line + i} {part}".encode()) >> 1 if part else first_line + i
                jobs.append(Job(first_line + i, ids, prefix, limit, draw))
        self._warn(long)
        return jobs

    def output_limit(self, source_length: int, prefix_length: int) -> int:
        """The most tokens that a translation may have, of a source and a prefix of so many."""
        return min(self._longest or 2 * source_length + 10 + prefix_length, self._max_length)

    def _parts(self, text: str) -> list[list[int]]:
        encode = self._tokenizer.encode_source

        def fits(part: str, limit: int) -> bool:
            return len(encode([part])[0]) <= limit

        # What is joined leaves room, since a translation may be longer than its source and may be no longer than this.
        room = max(1, 3 * self._max_length // 4)
        return encode(split_line(text, lambda part: fits(part, self._max_length), lambda part: fits(part, room)))

    def _warn(self, long: Sequence[tuple[int, int, int]]) -> None:
        """Names every long line (its number, tokens and parts), the first with details: a corpus may hold hundreds."""
        message = "line %d has %d tokens, more than the %d of training: it is translated in %d parts"
        for line, length, parts in long[:1]:
            logging.warning(message, line, length, self._max_length, parts)
        if others := [str(line) for line, *_ in long[1:]]:
            logging.warning("%d more lines are too long and translated in parts: %s", len(others), ", ".join(others))
