"""Tables and FASTA: what is read, and every refusal with its line."""

import gzip

import numpy as np
import pytest

from jaxformer.data.proteins.fasta import check_letters, read_fasta
from jaxformer.data.proteins.files import stem
from jaxformer.data.proteins.tsv import read_tsv

TABLE = "id\tseq\tss3\tmask\n1abc-A\tMKV\tCHE\t011\n"


def _write(tmp_path, text, name="t.tsv"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz"])
def test_a_table_is_read_plain_or_gzipped(tmp_path, name):
    (chain,) = read_tsv(_write(tmp_path, TABLE, name))
    assert (chain.name, chain.sequence, chain.three, chain.eight) == ("1abc-A", "MKV", "CHE", "")
    assert chain.scored.tolist() == [False, True, True]
    assert chain.accessibility is None
    assert chain.place.endswith("line 2")


def test_columns_may_come_in_any_order_with_eight_states_and_accessibility(tmp_path):
    text = "rsa\tseq\tid\tss8\r\n0.5,nan,1.2\tMKV\tx\tH-T\r\n\r\n"
    (chain,) = read_tsv(_write(tmp_path, "\ufeff" + text))
    assert (chain.eight, chain.three, chain.scored) == ("HCT", "", None)
    np.testing.assert_array_equal(chain.accessibility, np.array([0.5, np.nan, 1.0], np.float32))


def test_a_chain_without_accessibility_may_stand_beside_others(tmp_path):
    text = "id\tseq\tss3\trsa\na\tMK\tHH\t\nb\tMK\tHH\t0.1,0.2\n"
    first, second = read_tsv(_write(tmp_path, text))
    assert first.accessibility is None
    np.testing.assert_allclose(second.accessibility, [0.1, 0.2])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id\tsequence\tss3\n", "no column seq among id, sequence, ss3"),
        ("id\tseq\tmask\n", "no column ss3 or ss8"),
        ("", "no column id, seq"),
        (TABLE + "x\tMK\tHH\n", "line 3: 3 cells, but 4 columns"),
        (TABLE + "x\tMK\tHH\t02\n", "line 3: column mask holds '2'"),
        ("id\tseq\tss3\trsa\nx\tMK\tHH\t0.1;0.2\n", "line 2: column rsa holds '0.1;0.2'"),
        ("id\tseq\tss3\trsa\nx\tMK\tHH\t0.1,45\n", "line 2: column rsa holds 45: give shares from 0 to 1, not"),
        ("id\tseq\tss3\trsa\nx\tMK\tHH\t-1,0.5\n", "line 2: column rsa holds -1"),
        ("id\tseq\tss3\trsa\nx\tMK\tHH\tinf,0.5\n", "line 2: column rsa holds inf"),
        ("id\tseq\tseq\tss3\nx\tMK\tMV\tHH\n", "names the column seq twice"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_the_line(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        list(read_tsv(_write(tmp_path, text)))


def test_stems():
    assert [stem(f"a/{name}") for name in ("1cbs.cif.gz", "1cbs.dssp", "x")] == ["1cbs", "1cbs", "x"]


FASTA = ">one first chain\nMK v\n\nACD*\n>two\n;a comment\nxx\n"


def test_fasta_is_read_with_the_line_of_every_residue():
    one, two = read_fasta(FASTA.splitlines())
    assert (one.name, one.title, one.sequence, one.line) == ("one", "one first chain", "MKvACD*", 1)
    assert [one.line_of(place) for place in range(7)] == [2, 2, 2, 4, 4, 4, 4]
    assert (two.sequence, two.line_of(1)) == ("xx", 7)


def test_residues_are_upper_case_letters_without_gaps():
    one, two = read_fasta(FASTA.splitlines())
    assert check_letters(one) == "MKVACD"
    assert check_letters(two) == "XX"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (">a\nMK\nM1\n", "line 3: '1' in a is no amino acid"),
        (">a\nMK\n>b\n\n>c\nM\n", "line 3: b has no residues"),
        (">\n--\n", "line 1: line-1 has no residues"),
    ],
)
def test_a_bad_sequence_is_refused_with_its_line(text, said):
    with pytest.raises(ValueError, match=said):
        [check_letters(record) for record in read_fasta(text.splitlines())]


def test_letters_before_a_title_are_refused():
    with pytest.raises(ValueError, match=r"in\.fa, line 2: 'MKV' comes before any title"):
        list(read_fasta(["", "MKV"], source="in.fa"))


def test_an_empty_text_has_no_sequences():
    assert list(read_fasta([])) == []


def test_a_damaged_gzip_file_is_said_to_be_one(tmp_path):
    data = bytearray(gzip.compress(TABLE.encode()))
    data[10] |= 0b110  # a block of the third kind, which there is not: zlib.error, no OSError
    (tmp_path / "t.tsv.gz").write_bytes(data)
    with pytest.raises(ValueError, match=r"t\.tsv\.gz cannot be unpacked .*: is it complete, and gzipped"):
        list(read_tsv(tmp_path / "t.tsv.gz"))
