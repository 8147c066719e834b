from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from scgenept_rt.errors import ProviderUnavailableError
from scgenept_rt.providers import diagnose_provider, select_provider, verify_active
from tests.runtime.providers.skips import linux

if TYPE_CHECKING:
    from tests.runtime.providers.conftest import Machine


def test_the_installed_onnxruntime_is_usable_on_the_cpu() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    status = diagnose_provider("cpu")
    assert status.usable
    assert onnxruntime.__version__ in status.reason
    choice = select_provider(provider="cpu")
    assert (choice.ort_provider, choice.ort_options) == ("CPUExecutionProvider", {})
    verify_active(["CPUExecutionProvider"], choice)
    with pytest.raises(ProviderUnavailableError):
        verify_active([], choice)


@linux
def test_torch_is_looked_for_but_not_imported(machine: Machine) -> None:
    machine.add_wheel("torch", "2.13.0")
    (machine.site / "torch.py").write_text("raise SystemExit('imported')")
    status = machine.statuses()["torch"]
    assert status["usable"]
    assert "PyTorch 2.13.0" in status["reason"]


@linux
def test_command_prints_a_line_a_provider_and_json(machine: Machine) -> None:
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    code = "from scgenept_rt.cli import main; main()"
    table = machine.run(code, "providers")
    assert (table.returncode, table.stderr) == (0, "")
    lines = table.stdout.splitlines()
    rows = [line.split(maxsplit=2) for line in lines if not line.startswith(" ")]
    assert [(name, usable) for name, usable, _ in rows] == [
        ("cpu", "yes"), ("cuda", "no"), ("tensorrt", "no"), ("tensorrt-rtx", "no"), ("torch", "no")
    ]  # fmt: skip
    assert len({line.index(row[2]) for line, row in zip((x for x in lines if x[0] != " "), rows, strict=True)}) == 1
    assert "pip install 'scgenept-rt[gpu]'" in lines[2]
    as_json = machine.run(code, "providers", "--json")
    assert as_json.returncode == 0
    assert list(json.loads(as_json.stdout)[0]) == ["name", "usable", "reason", "remedy", "details"]
