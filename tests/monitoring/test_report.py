"""The picture shows what was recorded, and exists even when little was."""

import struct

import pytest

from jaxformer.monitoring import report
from jaxformer.monitoring.durable import DiskError
from jaxformer.training.studies.translation import TranslationStudy
from jaxformer.training.study import Curves

RECORDS = [
    {"step": 50, "train/loss": 7.0},
    {"step": 100, "train/loss": 5.0},
    {"step": 100, "validation/loss": 5.5, "validation/bleu": 3.0},
    {"step": 150, "train/loss": float("nan")},
    {"step": 150, "test/bleu": 4.0},
]

CURVES = TranslationStudy.curves


def _size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_a_series_has_only_records_that_hold_a_finite_value():
    assert report.series(RECORDS, "train/loss") == ([50, 100], [7.0, 5.0])
    assert report.series(RECORDS, "validation/bleu") == ([100], [3.0])
    assert report.series(RECORDS, "none") == ([], [])


def test_both_panels_are_drawn_with_labels(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = {}

    def keep(self, path, **options):
        drawn["figure"] = self
        original(self, path, **options)

    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", keep)
    path = tmp_path / "report" / "learning_curves.png"
    report.learning_curves(RECORDS, path, curves=CURVES, title="wmt:bundled")
    assert _size(path) == (1200, 480)
    left, right = drawn["figure"].axes
    assert (left.get_xlabel(), right.get_xlabel()) == ("step", "step")
    assert (left.get_ylabel(), right.get_ylabel()) == ("loss (nats per target token)", "score")
    assert left.get_legend_handles_labels()[1] == ["training", "validation"]
    assert right.get_legend_handles_labels()[1] == ["validation BLEU", "test BLEU 4.0"]
    assert [list(line.get_ydata()) for line in left.get_lines()] == [[7.0, 5.0], [5.5]]


def test_a_run_without_records_has_a_picture_that_says_so(tmp_path):
    report.learning_curves([], tmp_path / "empty.png", curves=CURVES)
    assert _size(tmp_path / "empty.png") == (1200, 480)


def test_an_unwritable_place_is_explained(tmp_path):
    (tmp_path / "report").write_text("")
    with pytest.raises(DiskError, match="it is a file, not a folder"):
        report.learning_curves(RECORDS, tmp_path / "report" / "learning_curves.png", curves=CURVES)


def test_scores_that_are_all_but_equal_do_not_look_far_apart(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: drawn.append(self))
    records = [{"step": 900, "validation/accuracy": 0.83028, "validation/macro_f1": 0.83023}]
    names = {"validation/accuracy": "validation accuracy", "validation/macro_f1": "validation F1"}
    report.learning_curves(records, tmp_path / "curve.png", curves=Curves("nats per text", names, 100.0))
    drawn[0].canvas.draw()
    right = drawn[0].axes[1]
    low, high = right.get_ylim()
    assert low < 81.5 < 84.5 < high
    assert right.yaxis.get_offset_text().get_text() == ""


def test_shares_are_shown_in_per_cent(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: drawn.append(self))
    records = [{"step": 5, "validation/accuracy": 0.5}, {"step": 5, "test/accuracy": 0.25}]
    curves = Curves("nats per label", {"validation/accuracy": "validation accuracy"}, 100.0)
    report.learning_curves(records, tmp_path / "curve.png", curves=curves)
    left, right = drawn[0].axes
    assert left.get_ylabel() == "loss (nats per label)"
    assert right.get_legend_handles_labels()[1] == ["validation accuracy", "test accuracy 25.0"]
    assert [list(line.get_ydata()) for line in right.get_lines()] == [[50.0], [25.0]]
