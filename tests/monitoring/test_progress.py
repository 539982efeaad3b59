"""One live line on a terminal; plain lines elsewhere; messages never run into it."""

import io
import logging
import os

import pytest

from jaxformer.monitoring import console
from jaxformer.monitoring.progress import Progress, duration, time_shares


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clean_logging():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    console.set_live(None)


def test_where_there_is_no_terminal_each_log_is_a_plain_line():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(1000, stream=stream, clock=clock)
    progress.update(1)
    clock.now = 10.0
    progress.log(101, {
        "train/loss": 2.5, "train/tokens_per_second": 12_345.0, "train/padding_efficiency": 0.951, "train/x": 3.0
    })
    progress.close()
    (line,) = stream.getvalue().splitlines()
    # 100 steps took 10 s, so 899 take 89.9 s.
    assert line.startswith("step 101/1,000  ETA 1 min 30 s  loss 2.500  12.3k tok/s  padding efficiency 0.95  memory ")
    assert line.endswith(" GiB")
    assert "\x1b" not in line


def test_steps_that_float16_skipped_are_said_and_no_old_loss_is_shown():
    progress = Progress(1000, stream=io.StringIO(), clock=Clock())
    progress.log(50, {"train/loss": 2.5, "train/skipped": 0.0})
    assert "loss 2.500" in progress.line()
    assert "skipped" not in progress.line()
    progress.log(100, {"train/loss": 2.25, "train/skipped": 0.5})
    assert "loss 2.250  skipped 50% of steps" in progress.line()
    progress.log(150, {"train/skipped": 1.0})
    assert "loss" not in progress.line()
    assert "skipped 100% of steps" in progress.line()


def test_the_estimate_leaves_out_what_the_measured_speed_leaves_out():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(1000, stream=stream, clock=clock)
    progress.update(1)
    clock.now = 500.0  # compiling
    for step, speed in ((100, 4.0), (200, 6.0)):
        progress.log(step, {"train/steps_per_second": speed})
    # 800 steps at a mean of 5 a second.
    assert progress.remaining() == 160.0


def test_scores_get_a_line_of_their_own():
    stream = io.StringIO()
    progress = Progress(1000, stream=stream)
    progress.log(500, {"validation/bleu": 31.2345, "validation/loss": 1.5, "validation/signature": "nrefs:1"})
    assert stream.getvalue() == "step 500: validation/bleu 31.23, validation/loss 1.5\n"


def test_on_a_terminal_the_line_is_redrawn_in_place_and_not_too_often(monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((120, 24)))
    stream, clock = Terminal(), Clock()
    progress = Progress(4, stream=stream, clock=clock)
    for step in (1, 2, 3, 4):
        progress.update(step)
        clock.now += 0.06  # drawn at 0.00 and 0.12
    assert stream.getvalue().count("\r\x1b[2K") == 2
    assert "[#########...] step 3/4  ETA 0 s" in stream.getvalue()
    assert "\n" not in stream.getvalue()
    progress.close()
    assert stream.getvalue().endswith("\r\x1b[2K")


def test_the_line_never_wraps(monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((30, 24)))
    stream = Terminal()
    progress = Progress(1000, stream=stream)
    progress.log(1, {"train/loss": 2.0, "train/tokens_per_second": 1e4})
    progress.close()
    assert max(len(line) for line in stream.getvalue().split("\r\x1b[2K")) == 29


def test_a_live_line_can_be_switched_off():
    stream = Terminal()
    progress = Progress(10, enabled=False, stream=stream)
    progress.log(5, {"train/loss": 2.0})
    assert stream.getvalue().startswith("step 5/10  loss 2.000")
    assert "\x1b" not in stream.getvalue()


def test_a_message_clears_the_live_line_first(monkeypatch, clean_logging):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    console.log_to_stderr()
    progress = Progress(10)
    progress.log(5, {"train/loss": 2.0})
    logging.getLogger().warning("something happened")
    progress.close()
    line, message = stream.getvalue().split("\r\x1b[2K")[1:3]
    assert "step 5/10" in line
    assert message.endswith("warning: something happened\n")


def test_messages_are_ours_or_warnings(monkeypatch, clean_logging):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    console.log_to_stderr()

    def say(level, text, path):
        record = logging.LogRecord("any", level, path, 1, text, (), None)
        logging.getLogger().handle(record)

    say(logging.INFO, "orbax tells its story", "/site-packages/orbax/checkpoint.py")
    say(logging.WARNING, "orbax warns", "/site-packages/orbax/checkpoint.py")
    say(logging.INFO, "cleaning kept 7 pairs", console.__file__)
    shown = [line.partition(" ")[2] for line in stream.getvalue().splitlines()]
    assert shown == ["warning: orbax warns", "cleaning kept 7 pairs"]


def test_absl_messages_are_shown_once(monkeypatch, clean_logging):
    from absl import logging as absl_logging

    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    console.log_to_stderr()
    console.log_to_stderr()
    absl_logging.warning("from absl")
    assert stream.getvalue().count("from absl") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (185, "3 min 05 s"), (3723, "1 h 02 min"), (200000, "2 d 07 h")],
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


def test_the_time_of_a_run_is_told_by_its_parts_the_largest_first():
    speed = {"seconds/step": 90.0, "seconds/data_wait": 1.0, "seconds/compile": 29.0, "seconds/wall": 120.0}
    assert time_shares(speed | {"train/mfu": 0.5}) == "step 75.0%, compile 24.2%, data wait 0.8% of 2 min 00 s"
