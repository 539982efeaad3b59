import numpy as np
import pytest

from jaxformer.data.proteins import alphabet
from jaxformer.types import UNK_ID


def test_the_twenty_amino_acids_have_ids_of_their_own_after_the_special_tokens():
    ids = alphabet.encode(alphabet.AMINO_ACIDS)
    assert ids.tolist() == list(range(4, 24))
    assert alphabet.VOCABULARY_SIZE == 24
    assert ids.dtype == np.int32


@pytest.mark.parametrize("letter", "BZJXUO")
def test_every_other_letter_of_a_residue_is_the_unknown_one(letter):
    assert alphabet.encode("A" + letter).tolist() == [4, UNK_ID]


@pytest.mark.parametrize(
    ("text", "said"), [("AC1", "'1' at residue 3"), ("aC", "'a' at residue 1"), ("A-", "'-'"), ("Aé", "'é'")]
)
def test_what_is_no_amino_acid_is_refused_with_its_place(text, said):
    with pytest.raises(ValueError, match=said):
        alphabet.encode(text)


def test_eight_states_become_three_as_usual():
    assert alphabet.to_three_states("HGIEBTSC") == "HHHEECCC"


def test_every_way_to_write_the_blank_of_dssp_is_coil():
    assert alphabet.to_eight_states("H -._~LPeC") == "HCCCCCCCEC"


def test_classes_are_places_in_the_states():
    assert alphabet.classes("HECX", alphabet.THREE_STATES).tolist() == [0, 1, 2, -1]
