"""Starting again with huge pages: only where it helps, only once, with the same command line."""

from __future__ import annotations

import sys

import pytest

from jaxformer.monitoring import huge_pages


class Restarted(Exception):
    pass


@pytest.fixture
def restart(monkeypatch):
    def execv(program, arguments):
        raise Restarted(program, arguments)

    monkeypatch.setattr(huge_pages.os, "execv", execv)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    return monkeypatch


def _setting(tmp_path, text):
    path = tmp_path / "enabled"
    path.write_text(text)
    return path


def test_restarts_once_with_the_same_command_line(restart, tmp_path):
    restart.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    setting = _setting(tmp_path, "always [madvise] never\n")
    with pytest.raises(Restarted) as restarted:
        huge_pages.restart_with_huge_pages(setting)
    program, arguments = restarted.value.args
    assert program == sys.executable
    assert arguments[1:] == sys.orig_argv[1:]
    assert huge_pages.os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=0:glibc.malloc.hugetlb=1"
    huge_pages.restart_with_huge_pages(setting)  # the second time, the variable is there


@pytest.mark.parametrize("text", ["[always] madvise never", "always madvise [never]"])
def test_leaves_alone_what_it_cannot_change(restart, tmp_path, text):
    huge_pages.restart_with_huge_pages(_setting(tmp_path, text))  # `Restarted` would end the test
    assert "GLIBC_TUNABLES" not in huge_pages.os.environ


def test_leaves_other_systems_alone(restart, tmp_path):
    huge_pages.restart_with_huge_pages(tmp_path / "missing")
    restart.setattr(sys, "platform", "darwin")
    huge_pages.restart_with_huge_pages(_setting(tmp_path, "[madvise]"))
    assert "GLIBC_TUNABLES" not in huge_pages.os.environ
