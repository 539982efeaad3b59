"""Several networks translate together by the mean of their probabilities."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from flax import nnx

from jaxformer.config import DecodingConfig, ModelConfig
from jaxformer.models import EncoderDecoder, TranslationEnsemble
from jaxformer.tasks.translator import Translator
from tests.tasks.test_translator import BEAM, WordTokenizer, full_pass, lines, make_model

WIDE = {"d_model": 24, "d_ff": 16, "num_heads": 4, "num_kv_heads": 2, "num_decoder_layers": 2, "position": "rotary"}


@pytest.fixture(scope="module")
def members() -> list[EncoderDecoder]:
    """Of different sizes and kinds."""
    return [make_model(0), make_model(1, **WIDE)]


@pytest.fixture(scope="module")
def together(members) -> Translator:
    return Translator(TranslationEnsemble(members), WordTokenizer(), BEAM, 40)


def _mean_log_prob(members, source, target):
    """By the whole forward pass of each member, in float64 from the logits on."""
    ends = range(1, len(target) + 1)
    sums = np.array([[0.0, *(full_pass(member, source, target[:end]) for end in ends)] for member in members])
    return float(np.log(np.exp(np.diff(sums)).mean(axis=0)).sum())


def test_a_pair_has_the_mean_probability_of_its_tokens(members, together):
    [scored] = together.score([("w5 w9 w11", "w8 w30")])
    source, target = (WordTokenizer().encode_source([text])[0] for text in ("w5 w9 w11", "w8 w30"))
    assert scored.log_prob == pytest.approx(_mean_log_prob(members, source, target), rel=1e-5)
    assert scored.log_prob != pytest.approx(full_pass(members[0], source, target), rel=1e-2)


@pytest.mark.parametrize(
    "settings",
    [{}, {"method": "greedy", "n_best": 1}, pytest.param({"method": "sample", "seed": 3}, marks=pytest.mark.slow)],
)
def test_what_is_found_step_by_step_has_the_score_of_the_whole(members, together, settings):
    texts = lines(20)
    config = dataclasses.replace(BEAM, **settings)
    found = Translator(TranslationEnsemble(members), WordTokenizer(), config, 40).translate(texts)
    ended = [(text, one) for text, one in zip(texts, found, strict=True) if one.n_best[0].tokens[-1:] == [3]]
    assert len(ended) > 5
    pairs = [(text, one.text) for text, one in ended if one.text]
    scores = together.score(pairs)
    expected = [one.log_prob for _, one in ended if one.text]
    np.testing.assert_allclose([score.log_prob for score in scores], expected, rtol=1e-4, atol=1e-4)


def test_a_network_with_itself_translates_as_by_itself(members):
    texts = lines(20, seed=1)
    alone = Translator(members[0], WordTokenizer(), BEAM, 40).translate(texts)
    twice = Translator(TranslationEnsemble([members[0], members[0]]), WordTokenizer(), BEAM, 40).translate(texts)
    assert [one.text for one in twice] == [one.text for one in alone]
    np.testing.assert_allclose([one.score for one in twice], [one.score for one in alone], rtol=1e-4)


def test_it_can_be_sent_to_another_process(together):
    texts = lines(5, seed=2)
    assert pickle.loads(pickle.dumps(together)).translate(texts) == together.translate(texts)


def test_members_with_other_vocabularies_and_none_are_refused(members):
    config = ModelConfig(d_model=16, d_ff=32, num_heads=2, num_encoder_layers=1, num_decoder_layers=1, max_length=40)
    other = EncoderDecoder(config, source_vocabulary_size=41, target_vocabulary_size=41, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"theirs have \[40, 41\] target pieces"):
        TranslationEnsemble([members[0], other])
    with pytest.raises(ValueError, match="at least one network"):
        TranslationEnsemble([])


def test_rows_longer_than_a_member_knows_are_refused(members):
    learned = make_model(2, position="learned")
    with pytest.raises(ValueError, match="learned positions"):
        Translator(TranslationEnsemble([members[1], learned]), WordTokenizer(), DecodingConfig(), 41)
