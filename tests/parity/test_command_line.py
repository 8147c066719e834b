"""The command `predict`, from .h5ad to .h5ad, against the outputs of the published code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tests.commands import CommandLine
    from tests.conftest import Oracle


def assert_close(predicted: NDArray[Any], expected: NDArray[Any]) -> None:
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=2e-5)


def test_predict_writes_upstreams_means_and_cells(
    oracle: Oracle, oracle_bundle: Callable[[str], Path], command_line: CommandLine, tmp_path: Path
) -> None:
    variant, out = "scgenept_go_c_gpt_concat", tmp_path / "out.h5ad"
    golden = oracle.golden(variant)
    labels = [word for label in oracle.perturbations for word in ("-p", label)]
    done = command_line("predict", oracle_bundle(variant), oracle.h5ad, "--out", out, *labels, "--aggregate", "both")
    assert done.returncode == 0, done.stderr
    mean, cells = anndata.read_h5ad(out), anndata.read_h5ad(tmp_path / "out.cells.h5ad")
    expected = golden["fwd64"]
    assert_close(cells.X, expected.reshape(-1, expected.shape[-1]))
    assert_close(mean.X, expected.mean(axis=1))
    assert_close(mean.layers["delta"], expected.mean(axis=1) - golden["X"].mean(axis=0, dtype=np.float64))
    assert mean.obs["condition"].tolist() == list(oracle.perturbations)
    assert mean.var["gene_name"].tolist() == golden["gene_names"].tolist()
    assert mean.var["in_vocab"].tolist() == (golden["in_vocab"] == 1).tolist()
    assert mean.uns["scgenept_rt"]["variant"] == variant


def test_predict_draws_as_pred_perturb_from_ctrl(
    oracle: Oracle, oracle_bundle: Callable[[str], Path], command_line: CommandLine, tmp_path: Path
) -> None:
    variant, out = "scgenept_ncbi_gpt", tmp_path / "out.h5ad"
    labels = [word for label in oracle.perturbations for word in ("-p", label)]
    draw = ["--sampling", "upstream", "--seed", "123", "--n-controls", "5"]
    done = command_line("predict", oracle_bundle(variant), oracle.h5ad, "-o", out, *labels, *draw)
    assert done.returncode == 0, done.stderr
    golden = oracle.golden(variant)
    means = np.concatenate([golden[f"pfc_mean_5_{index}"] for index in range(len(oracle.perturbations))])
    assert_close(anndata.read_h5ad(out).X, means)
