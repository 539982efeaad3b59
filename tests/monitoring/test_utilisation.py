"""Shares of cores and GPUs in use, with an NVML made for the test."""

import time

import jax
import pytest

from jaxformer.monitoring.utilisation import Utilisation, physical_gpus, watch


class Rates:
    def __init__(self, gpu):
        self.gpu = gpu


class Nvml:
    """Two GPUs, one busy for 80 % of the time and one idle; or a driver that refuses."""

    class NVMLError(Exception):
        pass

    def __init__(self, refuses=False):
        self.refuses, self.looks, self.shut = refuses, 0, False

    def nvmlInit(self):
        if self.refuses:
            raise self.NVMLError("driver not loaded")

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return {"GPU-a": 0, "GPU-b": 1}[uuid]

    def nvmlDeviceGetUtilizationRates(self, handle):
        self.looks += 1
        return Rates([80, 0][handle])

    def nvmlShutdown(self):
        self.shut = True


def _wait_for_looks(nvml, count):
    end = time.monotonic() + 20
    while nvml.looks < count and time.monotonic() < end:
        time.sleep(0.005)
    assert nvml.looks >= count


@pytest.mark.parametrize("gpus", [[0, 1], ["GPU-a", "GPU-b"]])
def test_gpus_are_asked_again_and_again_and_averaged(gpus):
    nvml = Nvml()
    utilisation = Utilisation(gpus, 2, nvml=nvml, interval=0.001)
    _wait_for_looks(nvml, 6)
    assert utilisation.window()["utilisation/gpu"] == pytest.approx(0.4)
    utilisation.close()
    utilisation.close()
    assert nvml.shut


def test_without_nvml_or_gpus_only_the_cores_are_told():
    for utilisation in (Utilisation([], 2, nvml=Nvml()), Utilisation([0], 2), Utilisation([0], 2, nvml=Nvml(True))):
        assert set(utilisation.window()) <= {"utilisation/cpu"}
        utilisation.close()


def test_the_time_of_this_process_is_divided_by_that_of_its_cores():
    clock = [0.0]
    utilisation = Utilisation([], 4, clock=lambda: clock[0])
    start = time.process_time()
    while time.process_time() - start < 0.2:
        sum(range(1000))
    clock[0] = 1.0  # as if 1 s had passed: 0.2 s of work in the time of 4 cores
    assert 0.2 / 4 <= utilisation.window()["utilisation/cpu"] < 0.4 / 4
    assert utilisation.window() == {}  # no time has passed


def test_a_cpu_run_watches_no_gpu():
    utilisation = watch(jax.local_devices())
    assert "utilisation/gpu" not in utilisation.window()
    utilisation.close()


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", [0, 1]), ("3,5", [3, 5]), ("GPU-b, GPU-a", ["GPU-b", "GPU-a"]), ("7", [7, 1])],
)
def test_gpus_are_named_as_the_machine_names_them(value, expected):
    assert physical_gpus([0, 1], {"CUDA_VISIBLE_DEVICES": value}) == expected
