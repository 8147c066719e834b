"""Drivers and GPUs that cannot be used, on machines that are built out of real files, see conftest.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runtime.providers.skips import linux

if TYPE_CHECKING:
    from tests.runtime.providers.conftest import Machine


@linux
@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus(gpu_machine: Machine, visible: str) -> None:
    status = gpu_machine.statuses(CUDA_VISIBLE_DEVICES=visible)["cuda"]
    assert "CUDA_VISIBLE_DEVICES" in status["reason"]
    assert "hides every GPU" in status["reason"]
    assert status["remedy"].startswith("Unset CUDA_VISIBLE_DEVICES")


@linux
@pytest.mark.parametrize(
    ("driver", "reason", "remedy"),
    [
        ({}, "the NVIDIA driver finds no GPU", "nvidia-smi"),
        ({"init": 100}, "the NVIDIA driver finds no GPU", "nvidia-smi"),
        ({"init": 802}, "fabric manager", "nvidia-fabricmanager"),
        ({"init": 803}, "differ in version", "Restart"),
        ({"init": 999}, "CUDA error 999", "nvidia-smi"),
    ],
)
def test_driver_without_a_gpu(gpu_machine: Machine, driver: dict[str, int], reason: str, remedy: str) -> None:
    gpu_machine.add_driver(**driver)
    status = gpu_machine.statuses()["cuda"]
    assert reason in status["reason"]
    assert remedy in status["remedy"]


@linux
def test_number_of_a_gpu_that_does_not_exist_in_the_environment(gpu_machine: Machine) -> None:
    gpu_machine.add_driver()
    assert "CUDA_VISIBLE_DEVICES is '7', which" in gpu_machine.statuses(CUDA_VISIBLE_DEVICES="7")["cuda"]["reason"]
