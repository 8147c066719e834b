"""The providers torch and cpu through the command line: the same outputs from the same command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pytest

from scgenept_export.bundle_export import export_bundle

if TYPE_CHECKING:
    from tests.commands import CommandLine
    from tests.conftest import Oracle


@pytest.fixture
def predicted(command_line: CommandLine, oracle: Oracle, tmp_path: Path) -> Callable[..., anndata.AnnData]:
    """Return a function that predicts with a provider."""

    def predict(bundle: Path, provider: str, *options: str | Path) -> anndata.AnnData:
        out = tmp_path / f"{provider}.h5ad"
        perturbations = ["-p", "ctrl", "--all-singles", "--aggregate", "mean"]
        result = command_line(
            "predict", bundle, oracle.h5ad, "--out", out, *perturbations, "--provider", provider, *options
        )
        assert result.returncode == 0, result.stderr
        assert f"provider: {provider}, as asked for" in result.stderr
        return anndata.read_h5ad(out)

    return predict


@pytest.mark.parametrize("variant", ["scgenept_go_c_gpt_concat", "scgenept_ncbi+uniprot_gpt"])
def test_torch_and_cpu_write_the_same(
    variant: str, oracle: Oracle, oracle_bundle: Callable[[str], Path], predicted: Callable[..., anndata.AnnData]
) -> None:
    bundle = oracle_bundle(variant)
    # The second one keeps no weights: its source checkpoint serves.
    kept = (bundle / "reference_weights.pt").exists()
    source = [] if kept else ["--reference-checkpoint", oracle.checkpoint(variant)]
    cpu = predicted(bundle, "cpu")
    torch = predicted(bundle, "torch", *source)
    assert kept == (variant != "scgenept_ncbi+uniprot_gpt")
    for name in ("X", "delta", "sem"):
        a, b = (np.asarray(table.X if name == "X" else table.layers[name]) for table in (cpu, torch))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)
    assert cpu.obs.equals(torch.obs)
    assert cpu.var.equals(torch.var)
    provenance = [dict(table.uns["scgenept_rt"]) for table in (cpu, torch)]
    assert [facts.pop("provider") for facts in provenance] == ["cpu", "torch"]
    assert provenance[0].keys() == provenance[1].keys()


def test_a_bundle_of_fp16_alone_runs_in_pytorch_too(
    oracle: Oracle,
    copy_graphs: None,
    command_line: CommandLine,
    predicted: Callable[..., anndata.AnnData],
    tmp_path: Path,
) -> None:
    bundle, variant = tmp_path / "bundle", "scgenept_go_c_gpt_concat"
    export_bundle(
        oracle.checkpoint(variant),
        oracle.h5ad,
        variant,
        bundle,
        vocab=oracle.vocab,
        precisions=("fp16",),
        keep_reference_weights=True,
    )
    torch = predicted(bundle, "torch")
    cpu = predicted(bundle, "cpu", "--precision", "fp16")
    assert 0 < np.abs(np.asarray(cpu.X) - np.asarray(torch.X)).max() < 0.05
