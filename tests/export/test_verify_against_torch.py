"""`verify` against PyTorch itself, on fresh cells, and of the provider torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scgenept_rt.bundle import Bundle
from scgenept_rt.verification import verify_bundle

if TYPE_CHECKING:
    from tests.commands import CommandLine
    from tests.conftest import Oracle

VARIANT = "scgenept_go_c_gpt_concat"


def test_fresh_cells_against_pytorch(oracle_bundle: Callable[[str], Path], command_line: CommandLine) -> None:
    options = ["--provider", "cpu", "--against", "torch", "--precision", "fp32", "--cells", "3", "--json"]
    result = command_line("verify", oracle_bundle(VARIANT), *options)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert [(each["graph"], each["against"]) for each in figures] == [
        (graph, against)
        for graph in ("ort_fp32.onnx", "merged_fp32.onnx", "portable_fp32.onnx")
        for against in ("reference.npz", "torch")
    ]
    assert figures[1]["cells"] == "3 fresh cells x 24 genes"
    assert all(each["passed"] and 0 <= each["times_tolerance"] < 1 for each in figures)


def test_the_provider_torch_verifies_itself_against_the_kept_outputs(
    oracle_bundle: Callable[[str], Path], command_line: CommandLine
) -> None:
    (verified,) = verify_bundle(Bundle.open(oracle_bundle(VARIANT)), provider="torch")
    assert (verified["graph"], verified["provider"]) == ("eager model", "torch")
    assert verified["max_difference"] < 1e-5
    result = command_line("verify", oracle_bundle(VARIANT), "--provider", "torch", "--against", "torch")
    assert result.returncode == 1
    assert "PyTorch would be compared with itself" in result.stderr


def test_without_weights_pytorch_needs_the_source_checkpoint(oracle: Oracle, bundle: Path) -> None:
    opened, options = Bundle.open(bundle), {"provider": "cpu", "precision": "fp32", "against_torch": True}
    with pytest.raises(ValueError, match="keeps no weights for PyTorch"):
        list(verify_bundle(opened, **options))
    results = list(verify_bundle(opened, **options, reference_checkpoint=oracle.checkpoint(VARIANT)))
    assert {result["graph"] for result in results} >= {"ort_fp32.onnx", "merged_fp32.onnx"}
    assert all(result["passed"] for result in results)


def test_large_panels_take_one_whole_cell_and_subsets(
    oracle_bundle: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scgenept_rt.verification.MAX_WHOLE_GENES", 10)
    bundle = Bundle.open(oracle_bundle(VARIANT))
    for n_cells, words in ((4, "1 fresh cell x 24 genes and 3 fresh cells x 10 genes"), (1, "1 fresh cell x 24 genes")):
        results = list(verify_bundle(bundle, provider="cpu", precision="fp32", against_torch=True, n_cells=n_cells))
        assert results[1]["cells"] == words
        assert results[1]["passed"]
    one, again, other = (
        list(verify_bundle(bundle, provider="cpu", precision="fp32", against_torch=True, seed=seed))[1]
        for seed in (0, 0, 1)
    )
    assert one == again != other
