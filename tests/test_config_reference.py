"""The reference of the configuration is complete, and `docs/configuration.md` is what it says."""

import re
from pathlib import Path

import pytest

import jaxformer
from jaxformer.config import Config, to_dict
from jaxformer.config_reference import attributes, check_name, fields, markdown, overview, takes

DOCUMENT = Path(jaxformer.__file__).parents[1] / "docs" / "configuration.md"


def _leaves(values, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_it_has_every_leaf_of_the_configuration_with_its_default():
    assert {field.name: field.default for field in fields().values()} == dict(_leaves(to_dict(Config())))


def test_every_field_is_described():
    assert not [field.name for field in fields().values() if len(field.description) < 8]


def test_several_fields_may_share_a_description_and_descriptions_may_take_several_lines():
    class Section:
        """A section.

        Attributes:
          first: one thing: with a colon,
            on two lines.
          second, third: both.
        """

    both = {"second": "both.", "third": "both."}
    assert attributes(Section) == {"first": "one thing: with a colon, on two lines.", **both}


def test_the_document_is_up_to_date():
    command = "python -m jaxformer.config_reference > docs/configuration.md"
    assert DOCUMENT.read_text(encoding="utf-8") == markdown(), f"write it again: {command}"


def test_the_overview_names_every_field():
    text = overview({"mode": "what to do"})
    assert "--mode " in text
    assert not [name for name in fields() if name != "experiment" and name.rpartition(".")[2] not in text]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("training.num_step", "Did you mean 'training.num_steps'?"),
        ("learning_rate", "Did you mean 'optimizer.learning_rate'?"),
        ("training.learning_rate", "Did you mean 'optimizer.learning_rate'?"),
        ("optimiser.clip_norm", "Did you mean 'optimizer.clip_norm'?"),
        ("training", "config section 'training' is set field by field, --config.training.FIELD=VALUE"),
        ("experiment", "unknown config field 'experiment'"),
        ("zzz", "memory, mesh, model, monitoring, optimizer, plan, precision, profile, series, task, training."),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_name(name)


def test_known_names_pass():
    for name in fields():
        if name != "experiment":
            check_name(name)


def test_types_are_said_in_words():
    assert takes("training.num_steps") == "a whole number"
    assert takes("model.dropout") == "a number"
    assert takes("data.reverse") == "true or false"
    assert takes("precision") == "text"
