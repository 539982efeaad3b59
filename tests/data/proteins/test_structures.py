"""DSSP and mmCIF: small files written here, and one real entry in three forms."""

from pathlib import Path

import numpy as np
import pytest

from jaxformer.data.proteins.alphabet import to_three_states
from jaxformer.data.proteins.chain import Chain
from jaxformer.data.proteins.dssp import read_dssp, relative_accessibility, with_whole_sequences
from jaxformer.data.proteins.fasta import read_fasta
from jaxformer.data.proteins.mmcif import read_mmcif

SAMPLE = Path(__file__).parents[4] / "shared/data/dssp_sample"
real = [
    pytest.mark.data,
    pytest.mark.skipif(not SAMPLE.exists(), reason="needs ../shared/data/dssp_sample"),
]

HEAD = "  #  RESIDUE AA STRUCTURE BP1 BP2  ACC     N-H-->O    O-->H-N    N-H-->O    O-->H-N    TCO  KAPPA ALPHA  PHI   PSI    X-CA   Y-CA   Z-CA"  # noqa: E501


def _row(index, number, chain, letter, structure, area):
    bonds = "      0, 0.0     2,-0.5     0, 0.0    91,-0.0"
    return (
        f"{index:5d}{number:5d} {chain} {letter}  {structure}           0   0 {area:4d}{bonds}"
        "   0.000 360.0 360.0 360.0 151.2   18.1   13.5   43.7"
    )


def _dssp(tmp_path, rows, name="9xyz.dssp"):
    path = tmp_path / name
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    return path


def _chain_of(tmp_path):
    rows = [_row(1, 3, "A", "M", "H", 112), _row(2, 4, "A", "a", "E", 0), _row(3, 5, "A", "K", " ", 236)]
    gap = "    4        !*             0   0    0      0, 0.0     0, 0.0     0, 0.0     0, 0.0   0.000 360.0 360.0 360.0 360.0    0.0    0.0    0.0"  # noqa: E501
    return read_dssp(_dssp(tmp_path, [*rows, gap, _row(5, 1, "B", "G", "P", 52)]))


def test_dssp_gives_chains_with_states_and_accessibility(tmp_path):
    first, second = _chain_of(tmp_path)
    assert (first.name, first.sequence, first.eight, first.three) == ("9xyz-A", "MCK", "HEC", "HEC")  # a: a bridged C
    # Tien et al. 2013, table 1, theoretical: M 224, K 236, G 104.
    np.testing.assert_allclose(first.accessibility, [0.5, 0.0, 1.0])
    assert (second.name, second.sequence, second.eight) == ("9xyz-B", "G", "C")
    np.testing.assert_allclose(second.accessibility, [0.5])


def test_accessibility_is_at_most_one_and_unknown_for_unknown_residues():
    np.testing.assert_array_equal(relative_accessibility("AX", [500.0, 20.0]), np.array([1.0, np.nan], np.float32))


@pytest.mark.parametrize(
    ("text", "said"), [("no dssp", "holds no residues"), (HEAD + "\n    1    x A P", "cannot be read as classic DSSP")]
)
def test_what_is_no_dssp_is_refused(tmp_path, text, said):
    path = tmp_path / "a.dssp"
    path.write_text(text + "\n")
    with pytest.raises(ValueError, match=said):
        read_dssp(path)


def test_whole_sequences_score_what_was_resolved(tmp_path):
    fasta = ">9XYZ_1|Chain A|some protein\nGGMCGGK\n>9xyz_B\nG\n>9xyz-C\nMMM\n>1abc:A\nMCK\n"
    first, second, third, other = with_whole_sequences(_chain_of(tmp_path), read_fasta(fasta.splitlines()))
    assert (first.sequence, first.eight, first.three) == ("GGMCGGK", "CCHECCC", "CCHECCC")
    assert first.scored.tolist() == [False, False, True, True, False, False, True]
    np.testing.assert_array_equal(np.isnan(first.accessibility), ~first.scored)
    assert (second.eight, second.scored.tolist()) == ("C", [True])
    assert (third.three, other.three) == ("", "")  # no such chain: cleaning counts them


@pytest.mark.parametrize("chain", ["Chain C[auth A]", "Chains B[auth A], A[auth B]", "Chains A, B[auth C]"])
def test_a_chain_goes_by_the_name_that_its_author_gave(tmp_path, chain):
    (found,) = with_whole_sequences(_chain_of(tmp_path), read_fasta([f">9XYZ_1|{chain}|some protein|Homo", "GMCK"]))
    assert (found.three, found.scored.tolist()) == ("CHEC", [False, True, True, True])


@pytest.mark.parametrize(("whole", "labelled"), [("ACDEWGHIKL", True), ("ACDEWGHWKL", False)])
def test_a_chain_may_differ_in_a_tenth_of_its_residues(whole, labelled):
    resolved = Chain("9xyz-A", "ACDEFGHIKL", "H" * 10, "H" * 10, np.ones(10, np.float32))
    (chain,) = with_whole_sequences([resolved], read_fasta([">9xyz_A", whole]))
    assert bool(chain.three) is labelled


def test_ends_that_were_not_resolved_cost_nothing():
    resolved = Chain("9xyz-A", "CGDACG", "H" * 6, "H" * 6, np.ones(6, np.float32))
    (chain,) = with_whole_sequences([resolved], read_fasta([">9xyz_A", "DDGCGDACGDAGDG"]))
    assert np.flatnonzero(chain.scored).tolist() == [3, 4, 5, 6, 7, 8]  # not the last G for the one beside the others


def test_another_protein_under_the_same_name_gets_no_labels(tmp_path):
    (chain,) = with_whole_sequences(_chain_of(tmp_path), read_fasta([">9xyz_A", "WWWWW"]))
    assert chain.three == ""


POLYMER = """data_9XYZ
_entry.id 9XYZ
loop_
_entity_poly.entity_id
_entity_poly.type
1 'polypeptide(L)'
2 polyribonucleotide
loop_
_pdbx_poly_seq_scheme.asym_id
_pdbx_poly_seq_scheme.entity_id
_pdbx_poly_seq_scheme.seq_id
_pdbx_poly_seq_scheme.mon_id
_pdbx_poly_seq_scheme.auth_mon_id
_pdbx_poly_seq_scheme.pdb_strand_id
A 1 1 MET ?   X
A 1 2 MSE MSE X
A 1 3 GLY GLY X
A 1 3 ALA ALA X
A 1 4 LYS LYS X
A 1 5 QQQ QQQ X
B 2 1 A   A   Y
"""
SUMMARY = """loop_
_dssp_struct_summary.label_asym_id
_dssp_struct_summary.label_seq_id
_dssp_struct_summary.label_comp_id
_dssp_struct_summary.secondary_structure
_dssp_struct_summary.accessibility
A 2 MSE H 112
A 3 GLY . 104
A 4 LYS P ?
A 5 QQQ B 10
"""


def _mmcif(tmp_path, text):
    path = tmp_path / "9xyz.cif"
    path.write_text(text)
    return read_mmcif(path)


def test_mmcif_with_a_summary_gives_every_residue(tmp_path):
    (chain,) = _mmcif(tmp_path, POLYMER + SUMMARY)
    assert (chain.name, chain.sequence, chain.eight, chain.three) == ("9xyz-X", "MMGKX", "CHCCB", "CHCCE")
    assert chain.scored.tolist() == [False, True, True, True, True]
    np.testing.assert_array_equal(chain.accessibility, np.array([np.nan, 0.5, 1.0, np.nan, np.nan], np.float32))
    assert chain.by_dssp


def test_residues_that_dssp_left_out_are_not_scored(tmp_path):
    (chain,) = _mmcif(tmp_path, POLYMER + SUMMARY.replace("A 3 GLY . 104\n", ""))
    assert (chain.sequence, chain.scored.tolist()) == ("MMGKX", [False, True, False, True, True])


def test_mmcif_made_from_a_pdb_file_has_the_summary_alone(tmp_path):
    (chain,) = _mmcif(tmp_path, "data_x\n" + SUMMARY)
    assert (chain.name, chain.sequence, chain.eight) == ("9xyz-A", "MGKX", "HCCB")


def test_helices_and_sheets_of_depositors_are_three_states_and_marked(tmp_path):
    ranges = """loop_
_struct_conf.conf_type_id
_struct_conf.beg_label_asym_id
_struct_conf.beg_label_seq_id
_struct_conf.end_label_seq_id
HELX_P A 1 2
_struct_sheet_range.beg_label_asym_id A
_struct_sheet_range.beg_label_seq_id 4
_struct_sheet_range.end_label_seq_id 5
"""
    (chain,) = _mmcif(tmp_path, POLYMER + ranges)
    assert (chain.three, chain.eight, chain.by_dssp) == ("HHCEE", "", False)
    assert chain.accessibility is None


RANGES = """loop_
_struct_conf.conf_type_id
_struct_conf.beg_label_asym_id
_struct_conf.beg_label_seq_id
_struct_conf.end_label_seq_id
HELX_RH_3T_P A 1 2
STRN A 3 3
STRN A 4 5
_struct_conf_type.id HELX_RH_3T_P
_struct_conf_type.criteria DSSP
"""


def test_ranges_of_dssp_have_eight_states_and_what_was_not_resolved_is_not_scored(tmp_path):
    (chain,) = _mmcif(tmp_path, POLYMER + RANGES)
    assert (chain.eight, chain.three, chain.by_dssp) == ("GGBEE", "HHEEE", True)
    assert chain.scored.tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("text", [SUMMARY.replace("112", "many"), RANGES.replace("A 1 2", "A one 2")])
def test_mmcif_with_a_cell_that_is_no_number_is_refused_by_name(tmp_path, text):
    with pytest.raises(ValueError, match=r"9xyz\.cif cannot be read as mmCIF \(.*'(many|one)'"):
        _mmcif(tmp_path, POLYMER + text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (POLYMER, "tells no secondary structure: annotate it with `mkdssp"),
        ("data_x\n_entry.id 9XYZ\n", "holds no protein chain"),
        ("", "cannot be read as mmCIF|holds no protein chain"),
    ],
)
def test_mmcif_without_structure_or_protein_is_refused(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        _mmcif(tmp_path, text)


class TestRealEntry:
    pytestmark = real

    def test_classic_dssp_and_annotated_mmcif_say_the_same(self):
        (classic,), (annotated,) = read_dssp(SAMPLE / "1cbs.dssp"), read_mmcif(SAMPLE / "1cbs-dssp.cif")
        assert classic.name == annotated.name == "1cbs-A"
        assert classic.sequence == annotated.sequence
        assert classic.eight == annotated.eight
        assert classic.three == annotated.three == to_three_states(annotated.eight)
        assert annotated.scored.all()
        assert len(classic) == 137

    def test_the_depositors_differ_only_at_the_ends_of_segments(self):
        (classic,), (entry,) = read_dssp(SAMPLE / "1cbs.dssp"), read_mmcif(SAMPLE / "1cbs.cif.gz")
        assert entry.sequence == classic.sequence
        differ = [i for i in range(137) if entry.three[i] != classic.three[i]]
        assert 0 < len(differ) < 0.05 * 137
        assert all(classic.three[i - 1] != classic.three[i] or classic.three[i + 1] != classic.three[i] for i in differ)
        assert not entry.by_dssp
