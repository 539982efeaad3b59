"""Translators in processes: the translations of one, in its order; cores divided; processes that end or should."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import pytest

from jaxformer.config import DecodingConfig
from jaxformer.tasks.translator import Translator
from jaxformer.tasks.translator_pool import TranslatorPool
from tests.tasks.test_translator import BEAM, WordTokenizer, lines, make_model


@pytest.fixture(scope="module")
def translator():
    return Translator(make_model(), WordTokenizer(), BEAM, 40)


@pytest.fixture(scope="module")
def pool(translator):
    with TranslatorPool(translator, 2) as pool:
        yield pool


@pytest.mark.parametrize("settings", [{}, {"position": "rotary", "num_kv_heads": 1, "scan_layers": True}])
def test_a_translator_can_be_sent(settings):
    translator = Translator(make_model(**settings), WordTokenizer(), DecodingConfig(beam_size=1), 40)
    sent, text = pickle.loads(pickle.dumps(translator)), lines(3)
    assert sent.translate(text) == translator.translate(text)


def _near(found, wanted):
    assert [one.text for one in found] == [one.text for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert [candidate.tokens for candidate in one.n_best] == [candidate.tokens for candidate in other.n_best]
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.full == other.full


def test_translates_as_one_process_does_and_in_order(translator, pool):
    texts = [*lines(9, longest=12), "", *lines(4, longest=12, seed=1)]
    wanted = translator.translate(texts)
    _near(pool.translate(texts), wanted)
    assert pool.translate([]) == list(pool.translate_stream([])) == []
    _near(list(pool.translate_stream(iter(texts), chunk=2)), wanted)
    prefixes = ["w11", "", "w12 w13"]
    _near(pool.translate(texts[:3], prefixes), translator.translate(texts[:3], prefixes))
    with pytest.raises(ValueError, match="3 lines but 1 prefixes"):
        pool.translate(texts[:3], ["w4"])


def test_a_stream_is_read_as_it_is_needed_and_names_lines_by_their_numbers(pool, caplog):
    read = []

    def numbered():
        for line in itertools.cycle(lines(5)):
            read.append(line)
            yield line

    stream = pool.translate_stream(numbered(), chunk=1)
    with caplog.at_level(logging.WARNING):
        found = [next(stream) for _ in range(8)]
    stream.close()
    assert len(read) <= 8 + 2 * 4
    full = [str(number) for number, one in enumerate(found, 1) if one.full]
    assert full
    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == full


def test_one_text_that_is_not_in_a_list_is_refused(pool):
    for call in (pool.translate, lambda text: next(pool.translate_stream(text))):
        with pytest.raises(ValueError, match=r"got one str: write \[text\]"):
            call("w5")
        with pytest.raises(ValueError, match="line 2 must be a string, got NoneType"):
            call(iter(["", None]))
    with pytest.raises(ValueError, match="chunk must be 1 or greater, got 0"):
        next(pool.translate_stream([], chunk=0))


def test_a_process_that_ends_is_told(translator):
    with TranslatorPool(translator, 1) as pool:
        pool.translate(["w5"])
        (process,) = pool._executor._processes
        os.kill(process, signal.SIGKILL)
        with pytest.raises(OSError, match="has ended, as for lack of memory: ask for fewer with --"):
            pool.translate(lines(3))


def _script(translator, folder, before):
    """Runs a program without a guard that translates in a process, with a network larger than a pipe holds."""
    with open(folder / "translator", "wb") as file:
        pickle.dump(translator, file)
    (folder / "script.py").write_text(
        f"""
import pickle
import jaxformer as jf
{before}
with open("translator", "rb") as file:
    translator = pickle.load(file)
with jf.TranslatorPool(translator, processes=1) as pool:
    try:
        print([one.text for one in pool.translate(["w5 w6"])])
    except OSError as error:
        print(error)
"""
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
        "TMPDIR": str(folder / "tmp"),
    }
    (folder / "tmp").mkdir()
    done = subprocess.run([sys.executable, "script.py"], cwd=folder, env=environment, capture_output=True, text=True,
                          timeout=120)  # fmt: skip
    assert not done.returncode, done.stderr
    assert not list((folder / "tmp").iterdir())
    return done.stdout.strip()


@pytest.fixture(scope="module")
def large():
    translator = Translator(make_model(d_model=64, d_ff=256), WordTokenizer(), BEAM, 40)
    assert len(pickle.dumps(translator)) > 2**18
    return translator


def test_a_script_needs_no_guard(large, tmp_path):
    assert _script(large, tmp_path, "") == str([one.text for one in large.translate(["w5 w6"])])


def test_a_process_that_cannot_begin_is_told_too(large, tmp_path):
    told = _script(large, tmp_path, 'import os\nos.environ["PYTHONHOME"] = "/nowhere"  # no Python starts with that')
    assert "has ended, as for lack of memory" in told
    assert "what it wrote to standard error says why" in told


def test_parts_of_the_main_module_and_a_full_disk_are_refused(translator, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ValueError, match=r"cannot be sent to other processes .*define its parts in a module"):
        TranslatorPool(translator, 1, begin=lambda: None)
    monkeypatch.setattr(pickle, "dump", lambda one, file: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
    with pytest.raises(OSError, match=r"cannot write a copy of .* \(No space left on device\): set TMPDIR to a folder"):
        TranslatorPool(translator, 1)
    assert not list(tmp_path.iterdir())


def test_what_ends_it_too_early_ends_the_processes_at_once(translator):
    processes = {}

    def interrupted():
        with TranslatorPool(translator, 1) as pool:
            pool.translate(["w5"])
            processes.update(pool._executor._processes)
            busy = pool._executor.submit(time.sleep, 600)
            while not busy.running():
                time.sleep(0.01)
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        interrupted()
    assert [process.exitcode for process in processes.values()] == [1]


def test_refuses_other_devices_and_no_process(translator, monkeypatch):
    with pytest.raises(ValueError, match="must be 1 or more, got 0"):
        TranslatorPool(translator, 0)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(ValueError, match=r"processes=2 is for CPUs, and one process keeps this device \(gpu\) busy"):
        TranslatorPool(translator, 2)
