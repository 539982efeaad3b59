import numpy as np
import pytest

from jaxformer.monitoring.chain_picture import draw_chain

PNG = b"\x89PNG"


def test_pictures_are_drawn(tmp_path):
    letters = "HEC" * 70
    confidence = np.linspace(0.3, 1.0, 210)
    scored = np.arange(210) > 5
    sequence, known = "ACD" * 70, {"observed": letters, "scored": scored}
    draw_chain(sequence, letters, confidence, tmp_path / "made/a.png", title="a chain", **known)
    draw_chain(sequence, letters, confidence, tmp_path / "b.png")
    for name in ("made/a.png", "b.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)
    assert (tmp_path / "made/a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_a_picture_of_parts_that_do_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="3 residues but 2 confidences"):
        draw_chain("ACD", "HHH", np.ones(2), tmp_path / "a.png")
