"""The providers torch and cpu through the command line: the same outputs from the same command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pytest

from scgenept_export.bundle_export import export_bundle

if TYPE_CHECKING:
    from tests.conftest import Oracle


def predicted(bundle: Path, cells: Path, out: Path, *options: str | Path) -> anndata.AnnData:
    perturbations = ["-p", "ctrl", "--all-singles", "--aggregate", "mean"]
    command = [sys.executable, "-m", "scgenept_rt", "predict", bundle, cells, "--out", out, *perturbations, *options]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"provider: {options[1]}, as asked for" in result.stderr
    return anndata.read_h5ad(out)


@pytest.mark.parametrize("variant", ["scgpt", "scgenept_go_c_gpt_concat", "scgenept_ncbi+uniprot_gpt"])
def test_torch_and_cpu_write_the_same(
    variant: str, oracle: Oracle, oracle_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = oracle_bundle(variant)
    # The third one keeps no weights: its source checkpoint serves.
    kept = (bundle / "reference_weights.pt").exists()
    source = [] if kept else ["--reference-checkpoint", oracle.checkpoint(variant)]
    cpu = predicted(bundle, oracle.h5ad, tmp_path / "cpu.h5ad", "--provider", "cpu")
    torch = predicted(bundle, oracle.h5ad, tmp_path / "torch.h5ad", "--provider", "torch", *source)
    assert kept == (variant != "scgenept_ncbi+uniprot_gpt")
    for name in ("X", "delta", "sem"):
        a, b = (np.asarray(table.X if name == "X" else table.layers[name]) for table in (cpu, torch))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)
    assert cpu.obs.equals(torch.obs)
    assert cpu.var.equals(torch.var)
    provenance = [dict(table.uns["scgenept_rt"]) for table in (cpu, torch)]
    assert [facts.pop("provider") for facts in provenance] == ["cpu", "torch"]
    assert provenance[0].keys() == provenance[1].keys()


def test_a_bundle_of_fp16_alone_runs_in_pytorch_too(oracle: Oracle, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    export_bundle(
        oracle.checkpoint("scgpt"),
        oracle.h5ad,
        "scgpt",
        bundle,
        vocab=oracle.vocab,
        precisions=("fp16",),
        keep_reference_weights=True,
    )
    torch = predicted(bundle, oracle.h5ad, tmp_path / "torch.h5ad", "--provider", "torch")
    cpu = predicted(bundle, oracle.h5ad, tmp_path / "cpu.h5ad", "--provider", "cpu", "--precision", "fp16")
    assert 0 < np.abs(np.asarray(cpu.X) - np.asarray(torch.X)).max() < 0.05
    # As exported before a bundle always had the bound of fp32.
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["tolerances"]["fp32"]
    path.write_text(json.dumps(manifest))
    command = [sys.executable, "-m", "scgenept_rt", "verify", str(bundle), "--provider", "torch"]
    old = subprocess.run(command, capture_output=True, text=True, check=False)
    assert old.returncode == 1
    assert "manifest.json has no tolerance for fp32" in old.stderr
    assert "Traceback" not in old.stderr
