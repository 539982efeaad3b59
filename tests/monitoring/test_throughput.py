"""Phases sum to the wall time, and tokens are divided by training time alone."""

import pytest

from jaxformer.monitoring.throughput import PhaseClock, Throughput, host_memory, host_peak_memory, memory_metrics


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_each_second_belongs_to_one_phase():
    clock = Clock()
    phases = PhaseClock(clock)
    clock.now += 1  # other
    with phases.phase("data_wait"):
        clock.now += 2
    with phases.phase("step"):
        clock.now += 3
        with phases.phase("checkpoint"):  # pauses the step
            clock.now += 4
        clock.now += 5
    clock.now += 6  # other
    assert phases.seconds() == {"other": 7.0, "data_wait": 2.0, "step": 8.0, "checkpoint": 4.0}
    assert phases.wall() == 21.0 == sum(phases.seconds().values())
    assert phases.goodput() == pytest.approx(8 / 21)


def test_a_phase_ends_with_an_error_too():
    clock = Clock()
    phases = PhaseClock(clock)

    def fail_after_two_seconds():
        with phases.phase("step"):
            clock.now += 2
            raise KeyError

    with pytest.raises(KeyError):
        fail_after_two_seconds()
    clock.now += 1
    assert phases.seconds() == {"other": 1.0, "step": 2.0}


def test_no_time_is_no_goodput():
    assert PhaseClock(Clock()).goodput() == 0.0


def test_rates_leave_out_evaluation_checkpoints_and_compilation():
    clock = Clock()
    phases = PhaseClock(clock)
    throughput = Throughput(phases)
    with phases.phase("compile"):
        clock.now += 30
    for _ in range(2):
        with phases.phase("data_wait"):
            clock.now += 0.5
        with phases.phase("step"):
            clock.now += 1.5
        throughput.update(source_tokens=300, target_tokens=500, slots=1000)
    with phases.phase("evaluation"):
        clock.now += 60
    window = throughput.window()
    assert window["train/source_tokens_per_second"] == 150.0
    assert window["train/target_tokens_per_second"] == 250.0
    assert window["train/tokens_per_second"] == 400.0
    assert window["train/steps_per_second"] == 0.5
    assert window["train/padding_efficiency"] == 0.8


def test_a_window_starts_anew_and_the_total_goes_on():
    clock = Clock()
    phases = PhaseClock(clock)
    throughput = Throughput(phases)
    for tokens in (100, 300):
        with phases.phase("step"):
            clock.now += 1
        throughput.update(source_tokens=tokens, target_tokens=0, slots=400)
        window = throughput.window()
    assert window["train/source_tokens_per_second"] == 300.0
    total = throughput.total()
    assert total["train/source_tokens_per_second"] == 200.0
    assert total["train/padding_efficiency"] == 0.5
    assert total["train/goodput"] == 1.0
    assert total["seconds/wall"] == total["seconds/step"] == 2.0


def test_a_window_without_a_counted_step_has_no_rates_and_no_efficiency():
    clock = Clock()
    phases = PhaseClock(clock)
    throughput = Throughput(phases)
    with phases.phase("compile"):
        clock.now += 2
    clock.now += 1  # other
    for found in (throughput.window(), throughput.total()):
        assert not {name for name in found if name.endswith(("per_second", "efficiency", "data_wait"))}


def test_memory_is_in_bytes_and_the_peak_is_no_less_than_now():
    block = bytearray(64 * 1024**2)
    assert 64 * 1024**2 < host_memory() <= host_peak_memory() * 1.05 < 1024**5
    del block
    metrics = memory_metrics()
    assert set(metrics) >= {"memory/host", "memory/host_peak"}


def test_mfu_is_model_flops_over_time_and_peak_and_waiting_has_its_share():
    clock = Clock()
    phases = PhaseClock(clock)
    throughput = Throughput(phases, peak=1000.0)
    for wait, work, flops in ((1.0, 3.0, 400), (0.0, 4.0, 3600)):
        with phases.phase("data_wait"):
            clock.now += wait
        with phases.phase("step"):
            clock.now += work
        throughput.update(source_tokens=1, target_tokens=1, slots=4, flops=flops)
        window = throughput.window()
        assert window["train/mfu"] == flops / 4 / 1000
        assert window["train/data_wait"] == wait / 4
    total = throughput.total()
    assert total["train/flops_per_second"] == 500.0
    assert total["train/mfu"] == 0.5
    assert total["train/data_wait"] == 1 / 8


def test_without_a_known_peak_there_is_no_mfu():
    clock = Clock()
    phases = PhaseClock(clock)
    throughput = Throughput(phases)
    clock.now += 2
    throughput.update(source_tokens=1, target_tokens=1, slots=2, flops=10)
    window = throughput.window()
    assert window["train/flops_per_second"] == 5.0
    assert "train/mfu" not in window


def test_imbalance_is_a_mean_over_the_steps_that_devices_shared():
    throughput = Throughput(PhaseClock(Clock()))
    counts = {"source_tokens": 1, "target_tokens": 1, "slots": 2}
    throughput.update(**counts, imbalance=0.01)
    throughput.update(**counts, imbalance=0.03)
    assert throughput.window()["train/imbalance"] == pytest.approx(0.02)
    throughput.update(**counts)
    assert "train/imbalance" not in throughput.window(), "one device has nobody to be compared with"
    assert throughput.total()["train/imbalance"] == pytest.approx(0.02)
    throughput.update(**counts)
    throughput.update(**counts, imbalance=0.05)
    assert throughput.window()["train/imbalance"] == pytest.approx(0.05), "a step that was not shared has no part in it"
    assert throughput.total()["train/imbalance"] == pytest.approx(0.03)
