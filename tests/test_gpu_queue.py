"""What waits for a GPU can be run in one go: the queue is read from its document, and rows end when they have to."""

from __future__ import annotations

import importlib.util
import re
import time

import pytest

from benchmarks import gpu_queue
from benchmarks.gpu_queue import Item, chosen, read_queue, summary, take

HEAD = "| # | what | GPUs | minutes | command | expected |\n|---|---|---|---|---|---|\n"


def test_every_row_of_the_document_is_read_and_names_what_there_is():
    items = read_queue(gpu_queue.QUEUE.read_text(encoding="utf-8"))
    assert len({item.number for item in items}) == len(items) > 10
    for item in items:
        assert item.devices >= 1
        assert item.minutes > 0
        for module in re.findall(r"python -m (\S+)", " ".join(item.commands)):
            assert importlib.util.find_spec(module), module
    assert [item.number for item in chosen(items, "11, 15")] == [11, 15]
    with pytest.raises(ValueError, match=r"--rows=11,99: there is no row '99', but 15, 11, "):
        chosen(items, "11,99")


def test_cells_of_a_row_are_its_fields():
    text = f"Before.\n\n{HEAD}| 7 | of `x` | 8 | 1.5 | `a | b`; `c` | fast |\n\nAfter.\n"
    with pytest.raises(ValueError, match="a row of the queue needs 6 cells"):
        read_queue(text)
    (item,) = read_queue(text.replace("a | b", "a"))
    assert item == Item(7, "of `x`", 8, 1.5, ["a", "c"], "fast")
    with pytest.raises(ValueError, match="no table of the columns"):
        read_queue("Nothing.")


@pytest.mark.parametrize(
    ("commands", "minutes", "ended", "said"),
    [
        (["X=1 python -c 'print(6 * 7)'"], 1, "ok", "42"),
        (["echo one; exit 3", "echo two"], 1, "exit 3", "one"),
        (["echo begun; sleep 60 & wait"], 0.01, "too long", "begun"),
    ],
)
def test_a_row_ends_with_its_commands_or_when_its_minutes_are_over(tmp_path, commands, minutes, ended, said):
    item = Item(5, "try", 1, minutes, commands, "")
    start = time.monotonic()
    found, seconds = take(item, tmp_path)
    assert found == ended
    assert seconds <= time.monotonic() - start < 30
    assert (tmp_path / "5.txt").read_text().splitlines()[-1] == said
    assert summary([(item, found, seconds)], tmp_path).splitlines()[-1].split() == [
        "5", "try", *ended.split(), f"{seconds:.0f}", said
    ]  # fmt: skip


def test_rows_for_more_gpus_or_minutes_than_there_are_are_left_out(tmp_path, monkeypatch, capsys):
    queue = tmp_path / "queue.md"
    queue.write_text(f"{HEAD}| 1 | many | 8 | 1 | `echo a` | x |\n| 2 | long | 1 | 90 | `echo b` | x |\n"
                     "| 3 | short | 1 | 1 | `echo c` | x |\n")  # fmt: skip
    monkeypatch.setattr(gpu_queue, "QUEUE", queue)
    monkeypatch.setattr("sys.argv", ["gpu_queue", "--devices=1", "--minutes=2", f"--output={tmp_path / 'out'}"])
    gpu_queue.main()
    rows = capsys.readouterr().out.splitlines()
    assert "needs 8 GPUs" in rows[3]
    assert "left out: 2.0 min left" in rows[4]
    assert rows[5].split() == ["3", "short", "ok", "0", "c"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["3.txt", "summary.txt"]
