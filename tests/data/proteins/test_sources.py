import pytest

from jaxformer.config import DataConfig
from jaxformer.data.proteins import read_splits
from jaxformer.data.proteins.sources import read_chains
from tests.data.proteins.test_structures import POLYMER, SUMMARY, _dssp, _row

TABLE = "id\tseq\tss3\n{}\tMKV\tCHE\n"


def _config(path, **fields):
    return DataConfig(source="files", path=str(path), **fields)


def _names(splits):
    return {split: [chain.name for chain in chains] for split, chains in splits.items()}


def test_tables_are_found_under_their_usual_names(tmp_path):
    for name in ("train.tsv", "val.tsv", "test_new364.tsv"):
        (tmp_path / name).write_text(TABLE.format(name))
    assert _names(read_splits(_config(tmp_path))) == {
        "train": ["train.tsv"], "validation": ["val.tsv"], "test": ["test_new364.tsv"],
    }  # fmt: skip


def test_one_of_several_test_splits_must_be_named(tmp_path):
    for name in ("train", "test_a", "test_b"):
        (tmp_path / f"{name}.tsv").write_text(TABLE.format(name))
    with pytest.raises(ValueError, match=r"several test splits: test_a.tsv, test_b.tsv; choose one with --config"):
        read_splits(_config(tmp_path))
    assert _names(read_splits(_config(tmp_path, test="test_b")))["test"] == ["test_b"]


def test_a_split_that_is_not_there_is_refused_with_what_is(tmp_path):
    (tmp_path / "val.tsv").write_text(TABLE.format("x"))
    with pytest.raises(FileNotFoundError, match=r"no train split: looked for train .* holds val.tsv; name it with"):
        read_splits(_config(tmp_path))
    assert _names(read_splits(_config(tmp_path), train=False)) == {"validation": ["x"]}
    with pytest.raises(FileNotFoundError, match="no test split: looked for casp"):
        read_splits(_config(tmp_path, test="casp"), train=False)


@pytest.mark.parametrize(("name", "text"), [("val.tsv", "id\tseq\tss3\n\n"), ("val.list", "\n")])
def test_a_split_without_chains_is_refused_by_name(tmp_path, name, text):
    (tmp_path / "train.tsv").write_text(TABLE.format("x"))
    (tmp_path / name).write_text(text)
    splits = read_splits(_config(tmp_path))
    assert len(list(splits["train"])) == 1
    with pytest.raises(ValueError, match=rf"the validation split .*{name} holds no chains: .*--config.data.val"):
        list(splits["validation"])


def test_a_named_split_is_that_file_or_folder_and_no_other(tmp_path):
    for name in ("train", "test_a"):
        (tmp_path / f"{name}.tsv").write_text(TABLE.format(name))
    for name in ("test", str(tmp_path / "nowhere")):
        with pytest.raises(FileNotFoundError, match=f"no test split: looked for {name} with one of"):
            read_splits(_config(tmp_path, test=name))


def test_an_evaluation_needs_no_training_split_even_a_named_one(tmp_path):
    (tmp_path / "val.tsv").write_text(TABLE.format("x"))
    assert _names(read_splits(_config(tmp_path, train="chains"), train=False)) == {"validation": ["x"]}
    assert set(read_splits(DataConfig(source="bundled", num_examples=2), train=False)) == {"validation", "test"}


def test_no_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"set --config.data.path=DIR"):
        read_splits(DataConfig(source="files"))
    with pytest.raises(FileNotFoundError, match="is no folder"):
        read_splits(_config(tmp_path / "none"))


def test_folders_lists_and_fasta_beside_dssp(tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    _dssp(folder, [_row(1, 1, "A", "M", "H", 1), _row(2, 2, "A", "K", "E", 1)], "9xyz.dssp")
    (folder / "9abc.cif").write_text(POLYMER.replace("9XYZ", "9ABC") + SUMMARY)
    (folder / "notes.txt").write_text("nothing")
    assert [chain.name for chain in read_chains(folder)] == ["9abc-X", "9xyz-A"]

    (tmp_path / "some.list").write_text("train/9xyz.dssp\n\n")
    assert [chain.name for chain in read_chains(tmp_path / "some.list")] == ["9xyz-A"]

    (tmp_path / "train.fasta").write_text(">9xyz_A\nGMK\n")
    (chain,) = read_splits(_config(tmp_path))["train"]
    assert (chain.sequence, chain.eight, chain.scored.tolist()) == ("GMK", "CHE", [False, True, True])


def test_what_holds_no_chains_is_refused(tmp_path):
    (tmp_path / "a.fasta").write_text(">a\nM\n")
    (tmp_path / "a.pdb").write_text("")
    (tmp_path / "empty").mkdir()
    for name, error, said in (
        ("a.fasta", FileNotFoundError, "no structures beside it"),
        ("a.pdb", ValueError, "of no known kind"),
        ("empty", ValueError, "holds no file that ends in .dssp, .cif"),
    ):
        with pytest.raises(error, match=said):
            list(read_chains(tmp_path / name))


def test_the_bundled_chains_need_no_path():
    splits = read_splits(DataConfig(source="bundled", num_examples=2))
    assert [len(list(splits[split])) for split in ("train", "validation", "test")] == [2, 200, 200]
