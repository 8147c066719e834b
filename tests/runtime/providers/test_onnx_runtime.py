"""ONNX Runtime is imported in one place, and reports nothing from there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.providers.conftest import Machine

ROOT = Path(__file__).parents[3]
ONLY_PLACE = ROOT / "runtime" / "scgenept_rt" / "providers" / "onnx_runtime.py"


def test_it_is_imported_in_one_place() -> None:
    imports = re.compile(r"^\s*(import|from) onnxruntime\b|import_module\(.onnxruntime.\)", re.MULTILINE)
    files = (path for folder in ("runtime", "export", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
    assert [path for path in files if imports.search(path.read_text("utf-8"))] == [ONLY_PLACE]


def test_nothing_is_kept_below_the_home_directory(tmp_path: Path) -> None:
    """The wheels with telemetry keep a device id and a queue of events there."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    command = [sys.executable, "-m", "scgenept_rt", "verify", "demo", "--provider", "cpu"]
    subprocess.run(command, env=kept | {"HOME": str(tmp_path)}, capture_output=True, check=True)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("given", "found"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
def test_a_users_own_setting_holds(gpu_machine: Machine, given: dict[str, str], found: str) -> None:
    module = gpu_machine.site / "onnxruntime" / "__init__.py"
    module.write_text(
        "import os\nprint('imported with', os.environ.get('ORT_DISABLE_TELEMETRY'))\n" + module.read_text()
    )
    done = gpu_machine.run("from scgenept_rt.providers import diagnose; diagnose()", **given)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"imported with {found}\n"
