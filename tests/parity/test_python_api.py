"""What a Python caller gets, against the outputs of the published code for the same cells and perturbations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pytest
from numpy.typing import NDArray

import scgenept_rt as sgr

if TYPE_CHECKING:
    from tests.conftest import Oracle

UPSTREAM_SEED = 123
"""`np.random.seed(123)` was called before each `pred_perturb_from_ctrl`."""


def assert_close(predicted: NDArray[Any], expected: NDArray[Any]) -> None:
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=2e-5)


@pytest.fixture(scope="module")
def model(oracle_bundle: Callable[[str], Path], oracle_variant: str) -> sgr.Predictor:
    return sgr.load(oracle_bundle(oracle_variant), provider="cpu", threads=1)


@pytest.fixture(scope="module")
def golden(oracle: Oracle, oracle_variant: str) -> dict[str, NDArray[Any]]:
    return oracle.golden(oracle_variant)


@pytest.fixture(scope="module")
def adata(oracle: Oracle) -> anndata.AnnData:
    return anndata.read_h5ad(oracle.h5ad)


def test_load_says_what_was_loaded(model: sgr.Predictor, golden: dict[str, NDArray[Any]], oracle_variant: str) -> None:
    assert model.gene_names == golden["gene_names"].tolist()
    assert (model.variant, model.provider, model.precision) == (oracle_variant, "cpu", "fp32")


def test_predict_array_gives_every_cell_as_upstream(model: sgr.Predictor, golden: dict[str, NDArray[Any]]) -> None:
    predicted = np.stack([model.predict_array(golden["X"], str(label)) for label in golden["perts"]])
    assert predicted.dtype == np.float32
    assert_close(predicted, golden["fwd"])


def test_cells_are_upstreams_for_every_perturbation_and_control_cell(
    model: sgr.Predictor, golden: dict[str, NDArray[Any]], adata: anndata.AnnData
) -> None:
    labels = golden["perts"].tolist()
    predicted = model.predict(adata, labels, aggregate="cells")
    assert_close(predicted.X, golden["fwd"].reshape(-1, len(model.gene_names)))
    controls = adata.obs_names[adata.obs["condition"] == "ctrl"].tolist()
    assert predicted.obs["condition"].tolist() == [label for label in labels for _ in controls]
    assert predicted.obs["control_cell"].tolist() == controls * len(labels)


def test_mean_delta_and_sem_are_those_of_upstreams_cells(
    model: sgr.Predictor, golden: dict[str, NDArray[Any]], adata: anndata.AnnData
) -> None:
    predicted = model.predict(adata, golden["perts"].tolist())
    cells = golden["fwd64"]
    assert predicted.obs["condition"].tolist() == golden["perts"].tolist()
    assert predicted.obs["n_controls"].tolist() == [6] * len(cells)
    assert_close(predicted.X, cells.mean(axis=1))
    assert_close(predicted.layers["delta"], cells.mean(axis=1) - golden["X"].mean(axis=0, dtype=np.float64))
    assert np.all(predicted.layers["sem"] >= cells.std(axis=1, ddof=1) / np.sqrt(6) - 1e-4)


@pytest.mark.parametrize("n_controls", [None, 5])
def test_upstream_sampling_reproduces_pred_perturb_from_ctrl(
    model: sgr.Predictor, golden: dict[str, NDArray[Any]], adata: anndata.AnnData, n_controls: int | None
) -> None:
    key = "none" if n_controls is None else str(n_controls)
    drawn = golden[f"pfc_idx_{key}"]
    labels = golden["perts"].tolist()
    both = model.predict(
        adata, labels, aggregate="both", sampling="upstream", seed=UPSTREAM_SEED, n_controls=n_controls
    )
    means = np.concatenate([golden[f"pfc_mean_{key}_{index}"] for index in range(len(labels))])
    lists = np.concatenate([golden[f"pfc_list_{key}_{index}"][:, 0] for index in range(len(labels))])
    assert_close(both.mean.X, means)
    assert_close(both.cells.X, lists)
    assert_close(both.mean.layers["delta"], means - golden["X"][drawn].mean(axis=0, dtype=np.float64))
    controls = adata.obs_names[adata.obs["condition"] == "ctrl"]
    assert both.cells.obs["control_cell"].tolist() == controls[drawn].tolist() * len(labels)


def test_iter_predict_gives_every_cell_as_upstream(
    model: sgr.Predictor, golden: dict[str, NDArray[Any]], adata: anndata.AnnData
) -> None:
    blocks = list(model.iter_predict(adata, golden["perts"].tolist(), aggregate="cells", batch_size=5))
    assert_close(np.concatenate([block.X for block in blocks]), golden["fwd"].reshape(-1, len(model.gene_names)))
