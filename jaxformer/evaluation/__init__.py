"""Scores of outputs against references, without models: BLEU and chrF with their signatures, exact match."""

from jaxformer.evaluation.translation import (
    Score,
    check_language,
    corpus_bleu,
    corpus_chrf,
    exact_match,
    tokenize_like,
    tokenized_bleu,
)

__all__ = ["Score", "check_language", "corpus_bleu", "corpus_chrf", "exact_match", "tokenize_like", "tokenized_bleu"]
