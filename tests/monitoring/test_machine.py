"""The assessment tells facts that can be checked by hand, within a container's limits."""

import os

import psutil
import pytest

from jaxformer.config import DataConfig
from jaxformer.monitoring import machine
from jaxformer.monitoring.machine import WMT14, assess


@pytest.mark.parametrize(("text", "cores"), [("150000 100000\n", 1.5), ("max 100000\n", 0.0), ("", 0.0)])
def test_cores_of_a_container_version_2(tmp_path, text, cores):
    (tmp_path / "cpu.max").write_text(text)
    assert machine._cgroup_cores(str(tmp_path)) == cores


@pytest.mark.parametrize(("quota", "cores"), [("400000", 4.0), ("-1", 0.0)])
def test_cores_of_a_container_version_1(tmp_path, quota, cores):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert machine._cgroup_cores(str(tmp_path)) == cores


def test_memory_of_a_container_leaves_out_the_page_cache(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 400\n")
    assert machine._cgroup_memory(str(tmp_path)) == (1000, 300)


def test_a_container_without_limits(tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700\n")
    assert machine._cgroup_memory(str(tmp_path)) == (0, 0)
    assert machine._cgroup_cores(str(tmp_path)) == 0.0


def test_usable_memory_is_what_the_container_has_left(monkeypatch):
    monkeypatch.setattr(machine, "_cgroup_memory", lambda: (2**30, 2**29))
    assert machine.memory() == (2**30, min(2**29, psutil.virtual_memory().available))
    monkeypatch.setattr(machine, "_cgroup_memory", lambda: (0, 0))
    assert machine.memory()[0] == psutil.virtual_memory().total


def test_usable_cores_are_at_most_the_container_s(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(machine, "_cgroup_cores", lambda: 2.0)
    assert machine.usable_cores() == 2
    monkeypatch.setattr(machine, "_cgroup_cores", lambda: 0.0)
    assert machine.usable_cores() == 16
    monkeypatch.setattr(machine, "_cgroup_cores", lambda: 0.3)
    assert machine.usable_cores() == 1


def _prepare(root, version="1.0.0", complete=True):
    folder = root / WMT14 / version
    folder.mkdir(parents=True)
    (folder / "wmt14_translate-train.array_record-00000-of-00001").write_text("")
    if complete:
        (folder / "dataset_info.json").write_text("{}")
    return folder


def test_a_prepared_data_set_is_found_where_tfds_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert not assess(DataConfig(), tmp_path).wmt_prepared
    _prepare(tmp_path)
    assert assess(DataConfig(), tmp_path).wmt_prepared
    elsewhere = DataConfig(source="tfds", name=WMT14, path=str(tmp_path / "elsewhere"))
    assert not assess(elsewhere, tmp_path).wmt_prepared


def test_a_half_prepared_data_set_is_not_prepared(tmp_path):
    _prepare(tmp_path, complete=False)
    assert not assess(DataConfig(source="tfds", name=WMT14, path=str(tmp_path)), tmp_path).wmt_prepared


def test_a_data_set_in_a_format_without_random_access_is_not_prepared(tmp_path):
    folder = _prepare(tmp_path)
    (folder / "wmt14_translate-train.array_record-00000-of-00001").rename(folder / "train.tfrecord-00000-of-00001")
    assert not assess(DataConfig(source="tfds", name=WMT14, path=str(tmp_path)), tmp_path).wmt_prepared


def test_the_table_says_what_is_there_and_what_it_means(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    _prepare(tmp_path)
    workdir = tmp_path / "runs" / "new"
    found = assess(DataConfig(source="files", path=str(tmp_path / "none")), workdir)
    assert found.platform == "cpu"
    assert not found.has_accelerator
    assert found.wmt_prepared
    assert found.usable_cores == len(os.sched_getaffinity(0)) or found.usable_cores < (os.cpu_count() or 1)
    assert found.workdir_free > 0
    assert not workdir.exists()  # looking changes nothing
    rows = found.table(chosen="wmt:bundled", reason="no accelerator is present").splitlines()
    first = [row.split()[0] for row in rows]
    assert first == ["machine", "devices", "cores", "memory", "disk", "cache", "data", "data", "data", "chosen"]
    assert str(workdir) in rows[4]
    assert "MISSING" in rows[8]
    assert rows[9].split(maxsplit=2)[1:] == ["wmt:bundled", "no accelerator is present"]


@pytest.mark.parametrize("name", ["", "prices.csv"])
def test_a_folder_and_a_file_that_are_there_are_found(tmp_path, name):
    (tmp_path / "prices.csv").touch()
    path = str(tmp_path / name)
    row = assess(DataConfig(source="files", path=path), tmp_path).table().splitlines()[-1]
    assert row.split()[1:3] == [path.rstrip("/"), "found"]


def test_a_nearly_full_disk_is_pointed_out(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "free_disk", lambda _: 2**30)
    assert "LOW" in assess(DataConfig(source="bundled"), tmp_path).table()


def test_the_environment_holds_what_a_result_needs(monkeypatch):
    import jax

    found = machine.environment()
    assert found["versions"]["jax"] == jax.__version__
    assert found["platform"] == "cpu"
    assert found["num_devices"] == jax.device_count()
    assert found["device_kind"]


def test_the_commit_is_git_s(monkeypatch):
    import subprocess

    root = os.path.dirname(os.path.dirname(os.path.dirname(machine.__file__)))
    if not os.path.exists(os.path.join(root, ".git")):
        pytest.skip("not a git checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
    assert machine.commit().partition("+")[0] == head.stdout.strip()


def test_outside_a_checkout_there_is_no_commit(monkeypatch, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "a" / "b" / "machine.py"))
    assert machine.commit() == ""
