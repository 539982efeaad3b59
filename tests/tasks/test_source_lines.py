"""Lines of text as rows of tokens: none for empty ones, several for long ones, each with a limit of its own."""

from __future__ import annotations

import logging

import pytest

from jaxformer.tasks.source_lines import Job, SourceLines, check_stream, checked_lines, checked_pairs
from jaxformer.types import EOS_ID
from tests.tasks.test_translator import WordTokenizer


def _lines(longest=0, max_length=12, normalization="nfc"):
    return SourceLines(WordTokenizer(), longest=longest, max_length=max_length, normalization=normalization)


def test_a_line_is_a_job_and_an_empty_one_none():
    jobs = _lines().jobs(["w4 w5", "  ", "w6", "\xad\u2060"], None, 7)
    assert jobs == [Job(7, [4, 5, EOS_ID], [], 12, 7), Job(9, [6, EOS_ID], [], 12, 9)]


def test_an_output_is_as_long_as_it_is_told_or_twice_its_source_and_ten_and_its_prefix():
    assert _lines(max_length=100).output_limit(3, 0) == 16
    assert _lines(max_length=100).output_limit(3, 5) == 21
    assert _lines(max_length=20).output_limit(3, 5) == 20
    assert _lines(longest=4, max_length=20).output_limit(3, 5) == 4
    assert _lines(longest=30, max_length=20).output_limit(3, 0) == 20


def test_a_long_line_becomes_parts_that_fit_and_draw_other_samples(caplog):
    text = " ".join(f"w{i}" for i in range(4, 30))
    with caplog.at_level(logging.WARNING):
        jobs = _lines().jobs(["w4", text, text], None, 1)
    assert [job.line for job in jobs] == [1, *[2] * 4, *[3] * 4]  # a part has room: 8 words and the end
    assert [token for job in jobs[1:5] for token in job.source[:-1]] == list(range(4, 30))
    assert all(len(job.source) <= 12 for job in jobs)
    assert len({job.draw for job in jobs}) == len(jobs)
    assert "line 2 has 27 tokens, more than the 12 of training: it is translated in 4 parts" in caplog.text
    assert "1 more lines are too long and translated in parts: 3" in caplog.text


def test_a_prefix_is_for_the_first_part_alone_and_has_to_leave_room():
    jobs = _lines().jobs(["w4 w5", " ".join(["w6"] * 20)], ["w7", "w8"], 1)
    assert [job.prefix for job in jobs] == [[7], [8], *[[] for _ in jobs[2:]]]
    with pytest.raises(ValueError, match="the prefix of line 1 has 3 tokens, but its translation may have no mo"):
        _lines(longest=3).jobs(["w4"], ["w5 w6 w7"], 1)


def test_a_prefix_of_an_empty_line_is_refused_rather_than_lost():
    assert _lines().jobs(["", "w4"], [" ", "w5"], 1)[0].line == 2
    with pytest.raises(ValueError, match="line 8 is empty, and so is its translation, but it has a prefix: leave that"):
        _lines().jobs(["w4", " "], ["", "w5"], 7)


def test_lines_of_any_kind_become_lists_and_what_is_no_text_is_told_by_its_line():
    assert checked_lines(iter(["ä", ""])) == (["ä", ""], None)
    assert checked_lines(("w4",), iter(["w5"])) == (["w4"], ["w5"])
    refused = {None: "string, got NoneType", b"x": "string, got bytes: decode", "a\udc80": r"Unicode \(U\+DC80 is half"}
    for line, told in refused.items():
        with pytest.raises(ValueError, match=f"^line 6 .*{told}"):
            checked_lines(["w4", line], first_line=5)
        with pytest.raises(ValueError, match=f"the prefix of line 5 .*{told}"):
            checked_lines(["w4"], [line], first_line=5)


def test_pairs_are_of_two_texts():
    assert checked_pairs(zip(["w4"], ["w5"], strict=True)) == [("w4", "w5")]
    for pair in ("ab", ("w4",), None):
        with pytest.raises(ValueError, match=r"pair 2 must be source and target, got .*: write \[\(source, targ"):
            checked_pairs([("w4", "w5"), pair])
    with pytest.raises(ValueError, match="the target of pair 1 must be a string, got NoneType"):
        checked_pairs([("w4", None)])


def test_chunks_have_lines():
    with pytest.raises(ValueError, match="chunk must be 1 or greater, got 0"):
        check_stream([], 0)


def test_text_is_brought_into_the_form_of_training():
    assert _lines(normalization="nfkc").normalize("ﬁ") == "fi"
    assert _lines(normalization="none").normalize("ﬁ") == "ﬁ"
