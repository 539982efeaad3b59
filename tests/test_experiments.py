"""The registry finds every experiment, and its recipes are what the literature says."""

import re
import types

import pytest

import experiments
from experiments import wmt
from jaxformer.config import replace


@pytest.mark.parametrize("name", experiments.NAMES)
def test_every_variant_is_described_and_named(name):
    experiment = experiments.find(name)
    assert set(experiment.descriptions) == set(experiment.variants) != set()
    assert experiment.summary.endswith((".", "exact match."))
    for variant in experiment.variants:
        assert experiment.config(variant).experiment == f"{name}:{variant}"


def test_the_listing_shows_every_variant_with_its_line():
    listing = experiments.listing()
    for name in experiments.NAMES:
        for variant, description in experiments.find(name).descriptions.items():
            assert any(f"{name}:{variant}" in line and description in line for line in listing.splitlines())


def test_wmt_has_the_variants_of_the_contract():
    assert list(experiments.find("wmt").variants) == ["base", "big", "tiny", "bundled"]


def test_base_and_big_follow_table_3():
    base, big = wmt.VARIANTS["base"], wmt.VARIANTS["big"]
    assert (base.model.num_encoder_layers, base.model.num_decoder_layers) == (6, 6)
    assert (base.model.d_model, base.model.d_ff, base.model.num_heads, base.model.dropout) == (512, 2048, 8, 0.1)
    assert (big.model.d_model, big.model.d_ff, big.model.num_heads, big.model.dropout) == (1024, 4096, 16, 0.3)
    assert (base.training.num_steps, big.training.num_steps) == (100_000, 300_000)
    assert (base.training.average_checkpoints, big.training.average_checkpoints) == (5, 20)
    assert (base.optimizer.b1, base.optimizer.b2, base.optimizer.eps) == (0.9, 0.98, 1e-9)
    # lr(4000) of equation 3, by hand: 1 / (sqrt(512) * sqrt(4000)) = 1 / (22.6274 * 63.2456).
    assert base.optimizer.learning_rate == pytest.approx(6.9877e-4, rel=1e-4)
    assert big.optimizer.learning_rate == pytest.approx(4.9411e-4, rel=1e-4)
    assert (base.decoding.beam_size, base.decoding.length_penalty) == (4, 0.6)
    assert base.data.vocabulary_size == 37_000
    assert base.training.keep_checkpoints >= base.training.average_checkpoints
    assert big.training.keep_checkpoints >= big.training.average_checkpoints


def test_tiny_has_the_shape_of_the_contract():
    model = wmt.VARIANTS["tiny"].model
    assert (model.num_encoder_layers, model.num_decoder_layers, model.d_model, model.d_ff) == (4, 4, 128, 256)
    assert (model.num_heads, model.dropout) == (4, 0.3)


def test_bundled_needs_no_data_from_outside():
    assert wmt.VARIANTS["bundled"].data.source == "bundled"


def _machine(accelerator, prepared):
    return types.SimpleNamespace(has_accelerator=accelerator, wmt_prepared=prepared)


@pytest.mark.parametrize(
    ("accelerator", "prepared", "variant", "said"),
    [
        (True, True, "base", ["an accelerator is present", "WMT14 is prepared"]),
        (False, True, "bundled", ["no accelerator"]),
        (True, False, "bundled", ["WMT14 is not prepared", "--mode=prepare"]),
        (False, False, "bundled", ["no accelerator", "WMT14 is not prepared"]),
    ],
)
def test_wmt_is_chosen_by_the_machine_and_says_why(accelerator, prepared, variant, said):
    config, reason = experiments.select("wmt", "", lambda: _machine(accelerator, prepared))
    assert config.experiment == f"wmt:{variant}"
    assert all(part in reason for part in said)
    assert ("no accelerator" in reason) == (not accelerator)


def _never():
    raise AssertionError("the machine was looked at")


def test_an_explicit_variant_never_falls_back_and_asks_no_machine():
    assert experiments.select("wmt:base", "", _never)[0].experiment == "wmt:base"


def test_a_bare_name_means_the_variant_that_the_workdir_holds():
    assert experiments.select("wmt", "wmt:tiny", _never)[0].experiment == "wmt:tiny"
    for held in ("wmt:tiny", "multi30k:gone", "multi30k"):
        assert experiments.select("multi30k", held, _never)[0].experiment == "multi30k:tiny"


def test_a_bare_name_without_a_choice_means_the_first_variant():
    config, reason = experiments.select("multi30k", "", _never)
    assert config.experiment == "multi30k:tiny"
    assert "default" in reason


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("wtm", "unknown experiment 'wtm': choose one of multi30k, protein, scan, sentiment, stocks, tatoeba, wmt."),
        ("wmt:bas", "unknown variant 'bas' of experiment 'wmt': choose one of base, big, bundled, tiny. Did you mean"),
        ("", "--experiment=NAME is needed, one of wmt, multi30k, tatoeba, scan"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(spec, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        experiments.select(spec, "", _never)


@pytest.mark.parametrize("spec", ["", "wmt", "wmt:tiny"])
def test_a_name_that_agrees_with_the_workdir_passes(spec):
    experiments.check_agrees(spec, "wmt:tiny")


@pytest.mark.parametrize("spec", ["wmt:base", "scan", "scan:simple"])
def test_a_name_that_disagrees_with_the_workdir_is_refused_naming_both(spec):
    with pytest.raises(ValueError, match=f"holds a run of wmt:tiny, not of {spec}: leave --experiment out"):
        experiments.check_agrees(spec, "wmt:tiny")


def test_recipes_can_be_changed_like_any_configuration():
    assert replace(wmt.VARIANTS["base"], {"data.reverse": True}).data.reverse
