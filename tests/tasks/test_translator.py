import dataclasses
import itertools
import logging
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

import jaxformer
from jaxformer.config import DecodingConfig, ModelConfig
from jaxformer.models import EncoderDecoder
from jaxformer.tasks.translator import Translation, Translator
from jaxformer.types import EOS_ID, Batch, Sequences

WORDS = [f"w{i}" for i in range(4, 40)]


class WordTokenizer:
    """A word for an id: w7 is 7, unknown words are 1."""

    def encode_source(self, texts):
        return [[int(word[1:]) if word in WORDS else 1 for word in text.split()] + [EOS_ID] for text in texts]

    encode_target = encode_source

    def decode_target(self, ids):
        return " ".join(f"w{i}" for i in ids if i not in (0, 2, 3))


def make_model(seed=0, **settings):
    """Untrained, with weights enlarged until its distributions are peaked and differ from line to line."""
    sizes = {"d_model": 16, "d_ff": 32, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1}
    config = ModelConfig(**sizes | settings, max_length=40, tie_output=False)
    model = EncoderDecoder(config, source_vocabulary_size=40, target_vocabulary_size=40, rngs=nnx.Rngs(seed))
    model.output_table[...] = 4 * model.output_table[...]
    # A likelier end, so that outputs have many lengths.
    model.output_table[...] = model.output_table[...].at[EOS_ID].multiply(1.5)
    return model


@pytest.fixture(scope="module")
def model():
    return make_model()


BEAM = DecodingConfig(beam_size=3, n_best=3, length_penalty=1.0)


@pytest.fixture(scope="module")
def beam(model):
    return Translator(model, WordTokenizer(), BEAM, 40)


def lines(count, longest=30, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(1, longest))) for _ in range(count)]


@nnx.jit
def forward(model, batch):
    return model(batch)


def full_pass(model, source, target):
    """Sum of log-probabilities by the whole forward pass of one pair; float64 from the logits on."""

    def row(ids):
        real = np.arange(40) < len(ids)
        tokens = np.where(real, np.resize(ids, 40), 0).astype(np.int32)[None]
        positions = np.arange(40, dtype=np.int32)[None]
        return Sequences(tokens, positions, real[None].astype(np.int32), real[None].astype(np.float32))

    logits = np.asarray(forward(model, Batch(row(source), row(target))), np.float64)[0]
    logits -= logits.max(-1, keepdims=True)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return sum(log_probs[place, token] for place, token in enumerate(target))


@pytest.mark.parametrize("settings", [{"num_decoder_layers": 2}, {"position": "rotary", "num_kv_heads": 1}])
def test_scores_of_the_search_are_those_of_the_full_forward_pass(settings):
    model = make_model(3, **settings)
    texts = lines(6, longest=12)
    lengths = set()
    for text, translation in zip(texts, Translator(model, WordTokenizer(), BEAM, 40).translate(texts), strict=True):
        source = WordTokenizer().encode_source([text])[0]
        assert len(translation.n_best) == 3
        assert translation[:3] == translation.n_best[0][:3]
        assert [c.score for c in translation.n_best] == sorted((c.score for c in translation.n_best), reverse=True)
        for candidate in translation.n_best:
            lengths.add(len(candidate.tokens))
            assert candidate.tokens[-1] == EOS_ID
            expected = full_pass(model, source, candidate.tokens)
            np.testing.assert_allclose(candidate.log_prob, expected, rtol=1e-4, atol=1e-4)
            norm = (5 + len(candidate.tokens)) / 6
            np.testing.assert_allclose(candidate.score, expected / norm, rtol=1e-4, atol=1e-4)
    assert len(lengths) > 3


def test_scoring_given_pairs(model, beam):
    pairs = list(zip(lines(20), lines(20, seed=1), strict=True))
    found = beam.score(iter(pairs))
    for (source, target), score in zip(pairs, found, strict=True):
        source_ids, target_ids = WordTokenizer().encode_source([source, target])
        assert score.num_tokens == len(target_ids)
        np.testing.assert_allclose(score.log_prob, full_pass(model, source_ids, target_ids), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="pair 2 has a side of 41 tokens, more than the 40 of training"):
        beam.score([("w4", "w5"), ("w4", " ".join(["w5"] * 40))])
    with pytest.raises(ValueError, match="pair 1 must be source and target, got 'w4'"):
        beam.score(("w4", "w5"))


def test_order_is_kept_and_lines_do_not_influence_each_other(beam):
    texts = lines(40)
    together = [translation.text for translation in beam.translate(texts)]
    assert len(set(together)) > 20
    assert [translation.text for translation in beam.translate(texts[::-1])] == together[::-1]
    assert [beam.translate(iter([text]))[0].text for text in texts[:12]] == together[:12]


def test_few_shapes_are_compiled_once_whatever_the_parameters(model):
    translator = Translator(model, WordTokenizer(), dataclasses.replace(BEAM, n_best=1), 40)
    texts = lines(300, longest=40)
    before = [translation.text for translation in translator.translate(texts)]
    compiled = translator.num_compilations
    # Source rows of 16, 32 and 40 tokens; of each all and a quarter; but for the last, with a short and a long cache.
    assert 3 <= compiled <= 10
    other = nnx.state(make_model(1), nnx.Param)
    translator.update(other)
    after = [translation.text for translation in translator.translate(texts)]
    translator.translate(lines(299, longest=40, seed=5))
    assert translator.num_compilations <= 10
    assert after != before
    compiled = translator.num_compilations
    translator.update(nnx.state(model, nnx.Param))
    assert [translation.text for translation in translator.translate(texts)] == before
    assert translator.num_compilations == compiled


def test_empty_lines_stay_empty(beam):
    texts = ["", "w5 w6", " \t ", "w7", ""]
    found = beam.translate(texts)
    assert [found[i] for i in (0, 2, 4)] == [Translation("", 0.0, 0.0, [])] * 3
    assert [found[i].text for i in (1, 3)] == [beam.translate([texts[i]])[0].text for i in (1, 3)]
    assert beam.translate([]) == []


def test_a_line_that_is_too_long_is_translated_in_parts(beam, caplog):
    first, second = lines(2, longest=38, seed=8)
    long = " ".join(["w9"] * 30) + " " + first
    words = long.split()
    assert len(words) > 39
    with caplog.at_level(logging.WARNING, logger="absl"):
        found = beam.translate(["w4", long, second])
    assert [record.getMessage() for record in caplog.records] == [
        f"line 2 has {len(words) + 1} tokens, more than the 40 of training: it is translated in 2 parts"
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert beam.translate([long, "w4", long, long], first_line=10)[2].text == found[1].text
    first_of_three, others = [record.getMessage() for record in caplog.records]
    assert first_of_three.startswith("line 10 has")
    assert others == "2 more lines are too long and translated in parts: 12, 13"
    # 29 words and the end are three quarters of what the model accepts.
    parts = beam.translate([" ".join(words[start : start + 29]) for start in range(0, len(words), 29)])
    assert found[1].text == " ".join(part.text for part in parts if part.text)
    np.testing.assert_allclose(found[1].log_prob, sum(part.log_prob for part in parts), rtol=1e-5)
    assert len(found[1].n_best) == 3
    assert found[2].text == beam.translate([second])[0].text


def test_prefixes_are_kept(beam):
    texts = ["w5 w6 w7", "w8", "w9 w10"]
    free = [translation.text for translation in beam.translate(texts)]
    found = [translation.text for translation in beam.translate(texts, ["w11 w12", "", "w13"])]
    assert found[0].split()[:2] == ["w11", "w12"]
    assert found[1] == free[1]
    assert found[2].split()[0] == "w13"
    spaced = [translation.text for translation in beam.translate(texts, [" w11\u2028w12 ", "", "w13"])]
    assert spaced == found, "a prefix is normalised as every other text is"
    with pytest.raises(ValueError, match="3 lines but 1 prefixes"):
        beam.translate(texts, ["w4"])
    with pytest.raises(ValueError, match=r"prefix of line 1 has 40 tokens, but its .* no more than 40"):
        beam.translate(["w4"], [" ".join(["w5"] * 40)])


def test_the_example_of_prefixes_and_scores_works(beam, monkeypatch):
    text = (Path(__file__).parents[2] / "docs/own_text.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    monkeypatch.setattr(jaxformer, "load_translator", lambda workdir: beam)
    names = {}
    exec(compile(block, "docs/own_text.md", "exec"), names)
    assert names["translations"][0].text.split()[:2] == ["w1", "w1"]  # unknown words
    assert [score.num_tokens for score in names["scores"]] == [5, 5]


def test_the_output_limit_is_kept(model):
    texts = lines(10, longest=12)
    by_source = Translator(model, WordTokenizer(), DecodingConfig(beam_size=2), 40).translate(texts)
    for text, translation in zip(texts, by_source, strict=True):
        assert len(translation.n_best[0].tokens) <= 2 * (len(text.split()) + 1) + 10
    by_hand = Translator(model, WordTokenizer(), DecodingConfig(beam_size=2, max_length=3), 40).translate(texts)
    assert {len(translation.n_best[0].tokens) for translation in by_hand} <= {1, 2, 3}
    assert 3 in {len(translation.n_best[0].tokens) for translation in by_hand}


def test_greedy_is_a_beam_of_one_and_sampling_repeats(model):
    texts = lines(12, longest=12)

    def tokens(first_line=1, texts=texts, **settings):
        translator = Translator(model, WordTokenizer(), DecodingConfig(**settings), 40)
        found = translator.translate(texts, first_line=first_line)
        return [[candidate.tokens for candidate in translation.n_best] for translation in found]

    greedy = tokens(method="greedy")
    assert greedy == tokens(method="beam", beam_size=1)
    assert tokens(method="sample", top_k=1) == greedy
    drawn = tokens(method="sample", n_best=2, temperature=2.0)
    assert drawn != greedy
    assert {len(samples) for samples in drawn} == {2}
    # A sample depends on the seed and the number of the line alone.
    assert tokens(method="sample", n_best=2, temperature=2.0, texts=texts[4:5], first_line=5) == drawn[4:5]
    assert tokens(method="sample", n_best=2, temperature=2.0, seed=1) != drawn


def test_rows_longer_than_the_learned_positions_are_refused(model, monkeypatch):
    monkeypatch.setattr(model.target_embedding, "position", "learned")
    with pytest.raises(ValueError, match=r"learned positions end at model\.max_length=40, got rows of 41"):
        Translator(model, WordTokenizer(), BEAM, 41)


def test_one_text_that_is_not_in_a_list_is_refused(beam):
    told = r"texts must be a list of strings, one a line, got one str: write \[text\]"
    with pytest.raises(ValueError, match="chunk must be 1 or greater, got 0"):
        next(beam.translate_stream(["w4"], chunk=0))
    with pytest.raises(ValueError, match="line 3 must be a string, got NoneType"):
        list(beam.translate_stream(["", "", None], chunk=2))
    in_a_stream, as_prefixes = lambda text: next(beam.translate_stream(text)), lambda text: beam.translate(["w"], text)
    for call in (beam.translate, in_a_stream, as_prefixes):
        with pytest.raises(ValueError, match=told):
            call("w")


def test_a_stream_is_read_in_chunks_and_keeps_its_order(beam):
    taken = []

    def source():
        for text in itertools.cycle(lines(7, longest=10)):
            taken.append(text)
            yield text

    stream = beam.translate_stream(source(), chunk=5)
    found = list(itertools.islice(stream, 12))
    assert len(taken) == 15
    assert [translation.text for translation in found] == [one.text for one in beam.translate(taken[:12])]
    assert list(beam.translate_stream(iter([]))) == []


def test_a_stream_names_translations_that_may_be_cut(model, caplog):
    translator = Translator(model, WordTokenizer(), DecodingConfig(beam_size=2, max_length=3), 40)
    texts = ["", *lines(30, longest=12)]
    with caplog.at_level(logging.WARNING, logger="absl"):
        found = list(translator.translate_stream(iter(texts), chunk=20))
    full = [number for number, one in enumerate(found, 1) if one.n_best and len(one.n_best[0].tokens) == 3]
    assert full
    named = [record.getMessage().rpartition("that of line ")[2] for record in caplog.records]
    assert [int(number) for part in named for number in part.split(", ")] == full
    assert [one.full for one in found] == [number in full for number in range(1, 32)]


def test_equal_parts_of_a_long_line_draw_different_samples(model):
    sentence = " ".join(["w5"] * 29) + "."

    class Sentences(WordTokenizer):
        def encode_source(self, texts):
            return super().encode_source([text.replace(".", "") for text in texts])

    translator = Translator(model, Sentences(), DecodingConfig(method="sample", temperature=2.0), 40)
    (found,) = translator.translate([f"{sentence} {sentence}"])
    first = translator.translate([sentence])[0].n_best[0].tokens
    tokens = found.n_best[0].tokens
    assert tokens[: len(first)] == first
    assert tokens[len(first) :] != first


def test_line_ends_in_the_output_do_not_make_two_lines(model):
    class Breaking(WordTokenizer):
        def decode_target(self, ids):
            return "one\ntwo\u2028three "

    translator = Translator(model, Breaking(), DecodingConfig(method="greedy"), 40)
    assert translator.translate(["w4"])[0].text == "one two three"


def test_nothing_moves_between_host_and_device_unasked(beam):
    texts = lines(3)
    expected = beam.translate(texts)
    with jax.transfer_guard("disallow"):
        assert beam.translate(texts) == expected
