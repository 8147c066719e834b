from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scgenept_export.variants import RELEASED, VARIANTS
from scgenept_rt.bundle import Bundle

if TYPE_CHECKING:
    from tests.conftest import Oracle

GO_C = "scgenept_go_c_gpt_concat"
ExportCli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def options(oracle: Oracle, tmp_path: Path) -> dict[str, object]:
    return {
        "checkpoint": oracle.checkpoint(GO_C),
        "vocab": oracle.vocab,
        "genes": oracle.h5ad,
        "variant": GO_C,
        "out": tmp_path / "out",
        "precision": "fp32",
    }


def arguments(options: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def test_bundle_exports_and_says_what_it_wrote(
    options: dict[str, object], export_cli: ExportCli, copy_graphs: None
) -> None:
    ended = export_cli("bundle", *arguments(options), "--dataset", "norman", "--synthetic")
    assert ended.returncode == 0, ended.stderr
    assert f"wrote {options['out']}: {GO_C}, 24 genes (21 in the vocabulary), 3 layers" in ended.stdout
    assert "ort_fp32.onnx" in ended.stdout
    steps = ended.stderr.splitlines()
    assert steps[0].endswith("reading the checkpoint")
    assert any(step.endswith("checking ort_fp32.onnx against PyTorch") for step in steps)
    manifest = Bundle.open(Path(str(options["out"]))).manifest
    assert (manifest.dataset, manifest.synthetic, manifest.variant) == ("norman", True, GO_C)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"genes": "nowhere.txt"}, "error: gene list nowhere.txt: there is no such file"),
        ({"variant": "scgenept_go_p_gpt_concat"}, "Pass --variant scgenept_go_c_gpt_concat to name the right one"),
        ({"nhead": 5}, "error: n_heads is 5, which does not divide the model's width 64"),
    ],
)
def test_an_error_of_the_input_is_one_message_and_exit_code_1(
    changed: dict[str, object], message: str, export_cli: ExportCli, options: dict[str, object], tmp_path: Path
) -> None:
    ended = export_cli("bundle", *arguments({**options, **changed}), cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stdout == ""
    errors = [line for line in ended.stderr.splitlines() if not line.startswith("[")]  # progress: [   0.0 s] ...
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["bundle"], "--checkpoint"),
        (["bundle", "--no-such-option"], "--no-such-option"),
        (["no-such-command"], "no-such-command"),
        (["triton", "demo", "--out", "x", "--max-batch", "0"], "--max-batch"),
        (["bundle", "--precision", "fp8"], "'fp32,fp16', 'fp16,fp32'"),
        (["bundle", "--nhead", "x"], "--nhead"),
    ],
)
def test_wrong_usage_is_exit_code_2(given: list[str], named: str, export_cli: ExportCli, tmp_path: Path) -> None:
    ended = export_cli(*given, cwd=tmp_path)
    assert ended.returncode == 2
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_lists_the_options_without_importing_pytorch() -> None:
    code = (
        "import sys\nfrom scgenept_export.cli import main\n"
        "try:\n    main()\nfinally:\n    print('imported:', sorted({'torch', 'onnx', 'anndata'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "bundle", "--help"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0
    for option in ("--checkpoint", "--vocab", "--genes", "--variant", "--out", "--nhead", "--precision", "--portable"):
        assert option in ended.stdout
    assert ended.stdout.rstrip().endswith("imported: []")


def test_variants_lists_every_name(export_cli: ExportCli) -> None:
    ended = export_cli("variants")
    assert ended.returncode == 0
    rows = {line.split()[0]: line for line in ended.stdout.splitlines()}
    assert set(rows) == set(VARIANTS)
    assert {name for name, row in rows.items() if " released " in row} == set(RELEASED)
    assert rows[GO_C].endswith("encoder, value_encoder, gopt_encoder_c")


def test_an_interrupted_export_exits_with_130_and_leaves_nothing(options: dict[str, object], tmp_path: Path) -> None:
    # As at a keyboard: what a script starts in the background is started with SIGINT ignored, and hands that on.
    code = (
        "import signal\nfrom scgenept_export.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nmain()"
    )
    command = [sys.executable, "-c", code, "bundle", *arguments(options)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("tracing" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []
