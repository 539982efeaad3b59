"""Pictures and pages of classes: they show the numbers they were given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxformer.evaluation.classification import reliability
from jaxformer.monitoring import pages, pictures
from jaxformer.monitoring.durable import DiskError


@pytest.fixture
def drawn(monkeypatch):
    figures = []
    original = Figure.savefig

    def keep(self, path, **options):
        figures.append(self)
        original(self, path, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_a_confusion_matrix_shows_shares_and_counts(tmp_path, drawn):
    pictures.draw_confusion(np.array([[30.0, 10.0], [0.0, 1200.0]]), ["no", "yes"], tmp_path / "report" / "a.png")
    assert (tmp_path / "report" / "a.png").read_bytes().startswith(b"\x89PNG")
    texts = [text.get_text() for text in drawn[0].axes[0].texts]
    assert texts == ["75%\n30", "25%\n10", "0%\n0", "100%\n1,200"]


def test_a_confusion_matrix_of_many_classes_is_no_larger_and_has_no_cell_texts(tmp_path, drawn):
    pictures.draw_confusion(np.eye(300), [f"class {number}" for number in range(300)], tmp_path / "a.png")
    axes = drawn[0].axes[0]
    assert not axes.texts
    assert max(drawn[0].get_size_inches()) <= 24
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[:2] == ["class 0", "class 5"]
    assert len(labels) == 60


def test_calibration_leaves_empty_bins_out(tmp_path, drawn):
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.4, 0.6]])
    curve = reliability(probabilities, np.array([0, 0, 1]), bins=10)
    pictures.draw_calibration({"test": curve}, tmp_path / "b.png", title="sentiment")
    upper, lower = drawn[0].axes
    perfect, line = upper.get_lines()
    np.testing.assert_allclose(line.get_xdata(), [0.6, 0.9])
    np.testing.assert_allclose(line.get_ydata(), [1.0, 0.5])
    assert line.get_label() == f"test, calibration error {curve.error:.3f}"
    assert upper.get_xlim() == (0.5, 1.0)
    assert lower.get_ylabel() == "predictions"
    assert perfect.get_label() == "perfect"


def test_a_page_colours_words_and_escapes_them(tmp_path):
    texts = [
        pages.ColouredText(["good", "<film>"], [2.0, -1.0], "positive", "positive", 0.98),
        pages.ColouredText(["fine"], [0.5], "positive", "negative", 0.6),
        pages.ColouredText([], [], "negative", "", 0.5),
    ]
    pages.write_coloured_texts(texts, tmp_path / "x" / "words.html", title="A & B", explanation="what it is")
    page = (tmp_path / "x" / "words.html").read_text()
    assert "<h1>A &amp; B</h1>" in page
    assert '<span style="background: rgba(46, 160, 67, 0.75)" title="+2.000">good</span>' in page
    assert 'rgba(207, 34, 46, 0.38)" title="-1.000">&lt;film&gt;</span>' in page
    assert '<span class="wrong">positive 60%, but negative</span>' in page
    assert page.count("<tr>") == 3
    assert "<script" not in page


def test_an_unwritable_place_is_explained(tmp_path):
    (tmp_path / "report").write_text("")
    with pytest.raises(DiskError, match="it is a file, not a folder"):
        pictures.draw_confusion(np.eye(2), ["a", "b"], tmp_path / "report" / "a.png")
    with pytest.raises(DiskError, match="it is a file, not a folder"):
        pages.write_coloured_texts([], tmp_path / "report" / "a.html", title="a", explanation="b")
