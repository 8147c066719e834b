"""The providers torch and cpu through the command line: the same outputs from the same command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pytest

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
