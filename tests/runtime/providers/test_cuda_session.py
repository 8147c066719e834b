"""CUDA graphs are for one provider alone; what that one does is tested on the real one, in `tests/cuda`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtime.providers.skips import linux

if TYPE_CHECKING:
    from tests.runtime.providers.conftest import Machine


@linux
@pytest.mark.parametrize("provider", ["tensorrt", "cpu"])
def test_another_provider_is_refused(gpu_machine: Machine, bundle: Path, tmp_path: Path, provider: str) -> None:
    gpu_machine.add_library("libnvinfer.so.10")
    command = ["verify", str(bundle), "--provider", provider, "--cuda-graphs"]
    done = gpu_machine.run("from scgenept_rt.cli import main; main()", *command, SCGENEPT_RT_CACHE=str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert f"not for {provider}" in done.stderr
    assert "Traceback" not in done.stderr
