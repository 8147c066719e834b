"""The form for cell-eval, given to cell-eval itself."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

from scgenept_rt.output import cell_eval_table, open_table

cell_eval = pytest.importorskip(
    "cell_eval", reason="cell-eval is not installed (it brings scanpy and numba: pip install 'scgenept-rt[eval]')"
)


def test_cell_eval_accepts_the_file(tmp_path, perturbations, panel):
    controls = [f"cell{i}" for i in range(30)]
    spec = cell_eval_table(
        perturbations, controls, panel, {"seed": 0}, control_label="ctrl", perturbation_column="condition"
    )
    rng = np.random.default_rng(0)
    with open_table(tmp_path / "pred.h5ad", spec, settings={}) as table:
        table.write(np.abs(rng.normal(1, 1, size=(30, 5))))
        table.write(rng.normal(1, 1, size=(90, 5)))
        path = table.finish()
    predicted = anndata.read_h5ad(path)
    real = predicted.copy()
    real.X = np.abs(rng.normal(1, 1, size=real.shape)).astype(np.float32)
    real_path = tmp_path / "real.h5ad"
    real.write_h5ad(real_path)

    evaluator = cell_eval.MetricsEvaluator(
        adata_pred=str(path),
        adata_real=str(real_path),
        control_pert="ctrl",
        pert_col="condition",
        num_threads=1,
        outdir=str(tmp_path / "eval"),
        skip_de=True,
    )
    # log1p was recognised: cell-eval would otherwise normalise the predictions again
    np.testing.assert_array_equal(np.asarray(evaluator.anndata_pair.pred.X), predicted.X)
    results, _ = evaluator.compute(profile="anndata", skip_metrics=["clustering_agreement"], write_csv=False)
    assert sorted(results["perturbation"]) == sorted(perturbation.label for perturbation in perturbations)
    assert np.isfinite(results["mae"].to_numpy()).all()
