"""Whatever happens to a sealed folder is seen; nothing is sealed that is not on the disk."""

import os
from pathlib import Path

import pytest

from jaxformer.data.seal import damage, seal


def sealed(folder: Path) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "tokens").write_bytes(bytes(range(256)) * 2000)  # of more than one block
    (folder / "empty").write_bytes(b"")
    seal(folder)
    return folder


def test_a_sealed_folder_is_whole_wherever_it_goes(tmp_path: Path) -> None:
    assert damage(sealed(tmp_path / "a")) == ""
    assert damage((tmp_path / "a").rename(tmp_path / "b")) == ""


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_a_torn_seal_or_none_is_damage(tmp_path: Path, cut: int) -> None:
    file = sealed(tmp_path / "a") / "seal.json"
    file.write_bytes(file.read_bytes()[:cut])
    assert damage(tmp_path / "a") == "seal.json is torn"
    for other in (b"[]", b"1", b'{"empty": 0}', b"\xff\x00"):
        file.write_bytes(other)
        assert damage(tmp_path / "a") == "seal.json is torn"
    file.unlink()
    assert damage(tmp_path / "a").endswith("seal.json: No such file or directory")


def test_files_that_are_missing_cut_or_changed_are_named(tmp_path: Path) -> None:
    file = sealed(tmp_path / "a") / "inner" / "tokens"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert damage(tmp_path / "a") == "inner/tokens has 511,999 bytes instead of 512,000"
    for place in (0, 300_000, len(content) - 1):
        file.write_bytes(content[:place] + b"!" + content[place + 1 :])
        assert damage(tmp_path / "a") == "inner/tokens is not what was written"
    file.write_bytes(content)
    assert damage(tmp_path / "a") == ""
    file.unlink()
    assert damage(tmp_path / "a").endswith("inner/tokens: No such file or directory")


def test_everything_is_brought_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = set()
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    folder = sealed(tmp_path / "a")
    assert {path.stat().st_ino for path in (folder, *folder.rglob("*"))} <= synced
