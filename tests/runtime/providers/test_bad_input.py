"""Providers, precisions and devices that cannot be had, through the command line: one sentence and exit code 1.

All commands open a model in the same way; `verify` takes the least time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtime.providers.skips import linux

if TYPE_CHECKING:
    from tests.runtime.providers.conftest import Machine

pytestmark = linux

CLI = "from scgenept_rt.cli import main; main()"


def refused(machine: Machine, bundle: Path, *options: str, **environment: str) -> str:
    """Run a command that must fail; return its message."""
    result = machine.run(CLI, "verify", str(bundle), *options, **environment)
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, "one message, no traceback"
    return result.stderr.removeprefix("error: ").strip()


@pytest.fixture
def bundle(fp32_bundle: Path) -> Path:
    return fp32_bundle


@pytest.mark.parametrize(
    ("options", "problem", "remedy"),
    [
        ("--provider gpu", "unknown provider 'gpu', expected one of auto, cpu, cuda, ", "scgenept-rt providers"),
        (
            "--provider tensorrt",
            "holds no fp16 graph for the target 'portable' (it holds: fp32 ort, fp32 merged)",
            "Export it again with the precision fp16 and portable graphs",
        ),
        (
            "--provider cuda --precision fp16",
            "holds no fp16 graph for the target 'ort' (it holds: fp32 ort, fp32 merged)",
            "Export it again with the precision fp16",
        ),
        (
            "--precision fp16",
            "cuda: the bundle has no fp16 graph for it; cpu: the bundle has no fp16 graph for it",
            "Export the bundle again with a graph for it",
        ),
        ("--provider cuda --device 7", "there is no device 7 for the provider cuda", "Choose one of these"),
    ],
)
def test_what_the_machine_or_the_bundle_lacks(
    gpu_machine: Machine, bundle: Path, options: str, problem: str, remedy: str
) -> None:
    gpu_machine.add_library("libnvinfer.so.10")
    message = refused(gpu_machine, bundle, *options.split())
    assert problem in message
    assert remedy in message


def test_no_gpu_is_visible(gpu_machine: Machine, bundle: Path) -> None:
    message = refused(gpu_machine, bundle, "--provider", "cuda", CUDA_VISIBLE_DEVICES="")
    assert "CUDA_VISIBLE_DEVICES is '', which hides every GPU" in message
    assert "Unset CUDA_VISIBLE_DEVICES" in message


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "tensorrt-rtx", "torch"])
def test_provider_that_is_not_installed(provider: str, machine: Machine, bundle: Path) -> None:
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    message = refused(machine, bundle, "--provider", provider)
    assert message.startswith(f"provider {provider}: ")
    assert "pip install" in message


def test_wrong_usage_is_exit_code_2(machine: Machine, bundle: Path) -> None:
    for options in (["--precision", "fp8"], ["--device", "first"], ["--against", "upstream"]):
        assert machine.run(CLI, "verify", str(bundle), *options).returncode == 2
