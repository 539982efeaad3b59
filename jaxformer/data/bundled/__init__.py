"""The bundled corpus: English-German sentence pairs written by a synchronous grammar, from a seed.

`BundledCorpus` is all that other packages use. The layers below it: `lexicon` (tables) and `entries` (their reader);
`english`, `german` and `numerals` (inflection); `phrases`, `verbs`, `clauses` and `word_order` (parts of sentences and
their order); `questions`, `subordination`, `facts` and `sentences` (patterns); `corpus` (seeds and splits).
"""

from jaxformer.data.bundled.corpus import BundledCorpus

__all__ = ["BundledCorpus"]
