"""Names and annotation of predictions: those of the input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import scgenept_rt as sgr
from scgenept_rt.errors import OutputError, OutputExistsError

MakeCells = Callable[..., anndata.AnnData]


@pytest.fixture
def ensembl_cells(model: sgr.Predictor, make_cells: MakeCells) -> anndata.AnnData:
    """Control cells with Ensembl ids as var_names, where the model knows them, in another order."""
    cells = make_cells(4)
    ids = [gene_id or name for gene_id, name in zip(model.panel.ids, model.gene_names, strict=True)]
    cells.var = pd.DataFrame({"gene_name": cells.var_names.to_numpy()}, index=ids)
    return cells[:, ::-1].copy()


def test_genes_have_the_names_of_the_input(model: sgr.Predictor, ensembl_cells: anndata.AnnData) -> None:
    predicted, ids = model.predict(ensembl_cells, "YFU19"), ensembl_cells.var_names[::-1].tolist()
    assert predicted.var_names.tolist() == ids
    assert predicted.var["gene_name"].tolist() == model.gene_names
    for choice, names in (("symbol", model.gene_names), ("ensembl", ids)):
        assert model.predict(ensembl_cells, "YFU19", var_names=choice).var_names.tolist() == names
    # one that the input lacks is named as its others are
    position = next(at for at, gene_id in enumerate(model.panel.ids) if gene_id is not None)
    fewer = ensembl_cells[:, ensembl_cells.var_names != ids[position]]
    with pytest.warns(sgr.PredictionWarning):
        predicted = model.predict(fewer, "YFU19", read={"missing_genes": "zero"})
    assert predicted.var_names[position] == ids[position]


def test_gene_ids_are_left_out_where_none_is_known(
    model: sgr.Predictor, make_cells: MakeCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "panel", replace(model.panel, ids=(None,) * len(model.panel)))
    assert [*model.predict(make_cells(2), "YFU19").var] == ["gene_name", "in_vocab"]


def test_controls_and_predictions_concatenate_over_all_genes(
    model: sgr.Predictor, ensembl_cells: anndata.AnnData
) -> None:
    ensembl_cells.obs["donor"] = pd.Categorical(["d1", "d2", "d1", "d2"])
    together = anndata.concat([ensembl_cells, model.predict(ensembl_cells, ["YFU19", "EKKN10"], aggregate="cells")])
    assert together.shape == (12, len(model.gene_names))
    assert together.obs["condition"].tolist() == ["ctrl"] * 4 + ["YFU19"] * 4 + ["EKKN10"] * 4
    assert together.obs["donor"].tolist() == ["d1", "d2", "d1", "d2"] * 3


def test_cells_keep_the_obs_of_their_control_cell(model: sgr.Predictor, make_cells: MakeCells, tmp_path: Path) -> None:
    cells = make_cells(6)
    cells.obs = pd.DataFrame(
        {
            "perturbation": ["control", "YFU19", "control", "control", "EKKN10", "control"],
            "control": [1, 0, 1, 1, 0, 1],
            "dose_val": ["1", "1+1", "1", "1", "1+1", "1"],
            "n_counts": np.arange(6) * 1.5,
            "donor": pd.Categorical(["a", "b", "a", None, "b", "c"]),
            "passed": [True, False, True, True, False, False],
            "age": pd.array([50, 60, None, 50, 60, 70], dtype="Int64"),
        },
        index=cells.obs_names,
    )
    told: list[str] = []
    path = tmp_path / "out.h5ad"
    model.predict_file(cells, path, ["YFU19", "SWR9"], aggregate="cells", n_controls=3, on_notice=told.append)
    written = anndata.read_h5ad(path)
    own = cells.obs.loc[written.obs["control_cell"]]
    assert written.obs["perturbation"].tolist() == ["YFU19"] * 3 + ["SWR9"] * 3
    for column in ("n_counts", "donor", "passed", "age"):
        pd.testing.assert_series_equal(
            written.obs[column].astype(str).reset_index(drop=True), own[column].astype(str).reset_index(drop=True)
        )
    assert {"control", "dose_val"}.isdisjoint(written.obs)
    assert any("left out" in notice and "control, dose_val" in notice for notice in told)


def test_a_run_is_not_resumed_after_obs_changed(model: sgr.Predictor, make_cells: MakeCells, tmp_path: Path) -> None:
    cells, path = make_cells(3), tmp_path / "out.h5ad"
    cells.obs["donor"] = ["a", "b", "c"]
    model.predict_file(cells, path, "YFU19", aggregate="cells")
    model.predict_file(cells, path, "YFU19", aggregate="cells", resume=True)
    cells.obs["donor"] = ["a", "b", "d"]
    with pytest.raises(OutputExistsError):
        model.predict_file(cells, path, "YFU19", aggregate="cells", resume=True)


def test_names_that_no_file_can_hold_are_left_out_or_refused(
    model: sgr.Predictor, make_cells: MakeCells, tmp_path: Path
) -> None:
    cells = make_cells(3)
    for name in ("a/b", ".", "_index", "a\0b"):
        cells.obs[name] = list("abc")
    (path,) = model.predict_file(cells, tmp_path / "p.h5ad", "YFU19", aggregate="cells")
    assert [*anndata.read_h5ad(path).obs] == ["condition", "target_genes", "control_cell"]
    cells.obs_names = ["a", "b\0", "c"]
    with pytest.raises(OutputError, match="cannot be stored"):
        model.predict_file(cells, tmp_path / "q.h5ad", "YFU19", aggregate="cells")
    assert [*tmp_path.iterdir()] == [path]
