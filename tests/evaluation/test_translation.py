import math
import os
import pathlib
import subprocess
import sys

import pytest
import sacrebleu

from jaxformer.evaluation import (
    check_language,
    corpus_bleu,
    corpus_chrf,
    exact_match,
    tokenize_like,
    tokenized_bleu,
)

MULTI30K = pathlib.Path(__file__).parents[3] / "shared" / "data" / "multi30k"

HYPOTHESES = ["The cat sat on the mat.", "A dog runs through the green grass quickly."]
REFERENCES = ["The cat sat on the mat.", "A dog runs across the green grass quickly."]


def test_bleu_by_hand():
    # 13a tokens: 7 + 9. Matches of 1..4-grams: 7 + 8, 6 + 6, 5 + 4, 4 + 2, of 16, 14, 12, 10; lengths are equal.
    expected = 100 * math.prod((15 / 16, 12 / 14, 9 / 12, 6 / 10)) ** 0.25
    score = corpus_bleu(HYPOTHESES, REFERENCES)
    assert score.value == pytest.approx(expected)
    assert score.name == "bleu"
    assert score.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_bleu_is_cased_unless_told():
    lowered = [line.lower() for line in REFERENCES]
    assert corpus_bleu(lowered, REFERENCES).value < 90
    score = corpus_bleu(lowered, REFERENCES, lowercase=True)
    assert score.value == pytest.approx(100)
    assert "case:lc" in score.signature


def test_scores_are_those_of_the_sacrebleu_program(tmp_path):
    reference, hypothesis = tmp_path / "reference", tmp_path / "hypothesis"
    reference.write_text("\n".join(REFERENCES) + "\n", encoding="utf-8")
    hypothesis.write_text("\n".join(HYPOTHESES) + "\n", encoding="utf-8")
    for metric, score in (("bleu", corpus_bleu(HYPOTHESES, REFERENCES)), ("chrf", corpus_chrf(HYPOTHESES, REFERENCES))):
        command = [sys.executable, "-m", "sacrebleu", str(reference), "-i", str(hypothesis), "-m", metric]
        environment = os.environ | {"PYTHONWARNINGS": "ignore"}
        printed = subprocess.run(
            [*command, "-f", "text", "-w", "8"], capture_output=True, text=True, check=True, env=environment
        ).stdout
        assert f"|version:{score.signature.split('version:')[1]} = {score.value:.8f}"[:40] in printed
        assert score.signature in printed


def test_chrf_by_hand():
    # chrF2 of "ab" against "abc": characters 2/2 and 2/3, bigrams 1/1 and 1/2; longer n-grams exist in the reference
    # alone or not at all and are left out. Precision 1, recall 7/12; F2 = 5 P R / (4 P + R).
    score = corpus_chrf(["ab"], ["abc"])
    assert score.value == pytest.approx(100 * 5 * (7 / 12) / (4 + 7 / 12))
    assert score.signature.startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_exact_match_by_hand():
    score = exact_match(["a b", "c ", "D", "e"], ["a b", "c", "d", "f"])
    assert (score.name, score.value) == ("exact_match", 50.0)


@pytest.mark.parametrize("score", [corpus_bleu, corpus_chrf, exact_match, lambda h, r: tokenized_bleu(h, r, "de")])
def test_sides_that_do_not_match_are_refused(score):
    with pytest.raises(ValueError, match="2 hypotheses but 1 references"):
        score(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="no sentences to score"):
        score([], [])


def test_hypotheses_take_the_form_of_the_references():
    lines = ['Er sagt: "Hallo, Welt!"', "Das T-Shirt kostet 3,50 Euro."]
    lowered = ["er sagt : &quot; hallo , welt ! &quot;", "das t-shirt kostet 3,50 euro ."]
    cased = ['Er sagt : " Hallo , Welt ! "', "Das T-Shirt kostet 3,50 Euro ."]
    assert tokenize_like(lines, lowered, "de") == (lowered, "moses-de|norm:yes|escape:yes|case:lc")
    assert tokenize_like(lines, cased, "de") == (cased, "moses-de|norm:yes|escape:no|case:mixed")
    assert tokenize_like(["„Ja“ – sagt er …"], cased, "de")[0] == ['" Ja " - sagt er ...']


def test_each_language_has_its_own_rules_of_quotes_and_abbreviations():
    line, references = 'Er kam "früh", am 3. Mai', ["A"]
    assert tokenize_like([line], references, "de")[0] == ['Er kam " früh " , am 3. Mai']
    assert tokenize_like([line], references, "en")[0] == ['Er kam " früh , " am 3 . Mai']


def test_tokenised_bleu_of_equal_text_is_full_and_says_how():
    references = ["ein mann sagt : &quot; hallo ! &quot;", "eine frau mit t-shirt lacht ."]
    score = tokenized_bleu(['Ein Mann sagt: "Hallo!"', "Eine Frau mit T-Shirt lacht."], references, "de")
    assert score.value == pytest.approx(100)
    assert "tok:none" in score.signature
    assert score.signature.endswith("|pre:moses-de|norm:yes|escape:yes|case:lc")


def test_tokenised_bleu_counts_tokens_as_they_stand(recwarn):
    # One wrong token of eight: 7/8, 5/7, 4/6, 3/5.
    score = tokenized_bleu(["a b c d e f x ."], ["a b c d e f g ."], "en")
    assert score.value == pytest.approx(100 * math.prod((7 / 8, 5 / 7, 4 / 6, 3 / 5)) ** 0.25)
    assert not recwarn.list


@pytest.mark.data
@pytest.mark.skipif(not MULTI30K.exists(), reason="needs ../shared/data/multi30k")
@pytest.mark.parametrize("language", ["de", "en"])
def test_raw_multi30k_becomes_the_published_tokens(language):
    read = lambda kind: (MULTI30K / kind / f"test2016.{language}").read_text(encoding="utf-8").splitlines()  # noqa: E731
    raw, published = read("raw"), read("tok")
    made, _ = tokenize_like(raw, published, language)
    wrong = [(one, other) for one, other in zip(made, published, strict=True) if one != other]
    assert len(published) == 1000
    assert wrong == []
    assert tokenized_bleu(raw, published, language).value == pytest.approx(100)


def test_each_language_is_tokenised_as_sacrebleu_does():
    hypothesis, reference = ["我喜欢吃红苹果。"], ["我喜欢吃红苹果和梨。"]
    found = corpus_bleu(hypothesis, reference, language="zh")
    assert "tok:zh" in found.signature
    assert found.value == pytest.approx(sacrebleu.corpus_bleu(hypothesis, [reference], tokenize="zh").score)
    assert found.value > corpus_bleu(hypothesis, reference).value  # one long word, without
    assert "tok:13a" in corpus_bleu(["a"], ["a"], language="de").signature


@pytest.mark.parametrize("language", ["zh-CN", "zh_TW", "ZH"])
def test_a_language_of_a_country_is_tokenised_as_the_language(language):
    assert "tok:zh" in corpus_bleu(["我喜欢吃"], ["我喜欢吃"], language=language).signature


def test_a_tokeniser_that_is_not_installed_is_named(monkeypatch):
    def missing(**_):
        raise RuntimeError("Please install mecab")

    monkeypatch.setattr("jaxformer.evaluation.translation.BLEU", missing)
    for call in (check_language, lambda language: corpus_bleu(["a"], ["a"], language=language)):
        with pytest.raises(ValueError, match=r"BLEU of ja-JP needs .* for it: `pip install 'sacrebleu\[ja\]'`$"):
            call("ja-JP")
