"""Files in the cell-eval format, given to `cell-eval run` together with the measured cells that they came from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

import scgenept_rt as sgr
from scgenept_rt.errors import ArgumentError
from scgenept_rt.expression import ControlCells

MakeCells = Callable[..., anndata.AnnData]
Screen = Callable[..., anndata.AnnData]
OTHER_GENES = ["OTHER1", "OTHER2", "OTHER3"]


@pytest.fixture
def screen(make_cells: MakeCells) -> Screen:
    """Return a function that makes a screen: 8 cells of each label, and genes that the model lacks among its own."""

    def make(column: str, labels: list[str], control: str) -> anndata.AnnData:
        cells = make_cells(8 * (len(labels) + 1))
        names = [*cells.var_names[:10], *OTHER_GENES, *cells.var_names[10:]][::-1]
        wide = cells.to_df().reindex(columns=names)
        wide[OTHER_GENES] = np.log1p(np.arange(3 * len(wide)).reshape(-1, 3) % 7).astype(np.float32)
        obs = pd.DataFrame({column: np.repeat([control, *labels], 8), "batch": list("ab") * (len(wide) // 2)})
        return anndata.AnnData(
            csr_matrix(wide.to_numpy(np.float32)), obs=obs.set_index(cells.obs_names), var=pd.DataFrame(index=names)
        )

    return make


@pytest.mark.parametrize(
    ("column", "labels", "control", "asked", "predicted_controls"),
    [
        ("target_gene", ["YFU19", "EKKN10"], "non-targeting", ["YFU19+ctrl", "EKKN10"], False),
        ("condition", ["YFU19+ctrl", "ctrl+YFU19", "EKKN10+YFU19"], "ctrl", ["YFU19", "YFU19+EKKN10"], True),
    ],
    ids=["Virtual Cell Challenge", "Norman"],
)
def test_cell_eval_compares_the_file_with_the_data_it_came_from(
    model: sgr.Predictor,
    screen: Screen,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    column: str,
    labels: list[str],
    control: str,
    asked: list[str],
    predicted_controls: bool,
) -> None:
    entry = pytest.importorskip(
        "cell_eval.__main__", reason="cell-eval is not installed: pip install 'scgenept-rt[eval]'"
    )
    real_path, path = tmp_path / "real.h5ad", tmp_path / "predicted.h5ad"
    screen(column, labels, control).write_h5ad(real_path)
    told: list[str] = []
    model.predict_file(
        real_path,
        path,
        asked,
        aggregate="cells",
        for_cell_eval=True,
        predicted_controls=predicted_controls,
        on_notice=told.append,
    )
    assert any("3 genes of the input are not predicted" in notice for notice in told)
    assert not any("refuses" in notice for notice in told)
    out = tmp_path / "results"
    arguments = ["-ap", path, "-ar", real_path, "--pert-col", column, "--control-pert", control, "-o", out]
    # Without differential expression, whose compilation takes most of a minute.
    skipped = ["--profile", "pds", "--skip-metrics", "clustering_agreement"]
    monkeypatch.setattr(sys, "argv", ["cell-eval", "run", *map(str, arguments), *skipped])
    entry.main()
    assert sorted(pd.read_csv(out / "results.csv")["perturbation"]) == sorted(labels)

    real, written = anndata.read_h5ad(real_path), anndata.read_h5ad(path)
    rows = [real.obs_names.get_loc(name) for name in written.obs["control_cell"]]
    own, values = real[rows].to_df(), pd.DataFrame(written.X, columns=written.var_names)
    np.testing.assert_array_equal(values[OTHER_GENES], own[OTHER_GENES])
    assert written.var_names[~written.var["predicted"]].tolist() == OTHER_GENES[::-1]
    assert written.obs["batch"].tolist() == real.obs["batch"].iloc[rows].tolist()
    in_model_order = own[model.gene_names].to_numpy()
    for label in [control, *labels]:
        at = (written.obs[column] == label).to_numpy()
        expected = in_model_order[at]
        if predicted_controls or label != control:
            expected = np.maximum(model.predict_array(expected, label.replace(control, "ctrl")), 0)
        np.testing.assert_allclose(values[model.gene_names][at], expected, rtol=1e-4, atol=2e-5)


def test_labels_that_one_side_lacks_are_named(model: sgr.Predictor, screen: Screen, tmp_path: Path) -> None:
    cells = screen("target_gene", ["YFU19", "EKKN10", "UNKNOWN"], "non-targeting")
    told: list[str] = []
    options = {"aggregate": "cells", "for_cell_eval": True, "on_notice": told.append}
    model.predict_file(cells, tmp_path / "p.zarr", ["YFU19", "SWR9"], **options)
    assert any("only reads .h5ad" in notice for notice in told)
    notice = next(notice for notice in told if "refuses" in notice)
    assert "without a prediction: EKKN10, UNKNOWN, without measured cells: SWR9" in notice
    assert "isin(predicted.obs['target_gene'])" in notice


def test_what_cell_eval_could_not_read_is_refused(
    model: sgr.Predictor, make_cells: MakeCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[ControlCells] = []
    monkeypatch.setattr(ControlCells, "close", lambda controls: closed.append(controls))
    cells = make_cells(3)
    cells.obs["batch"] = "a"

    def predict(out: str = "p.h5ad", **options: object) -> None:
        model.predict_file(cells, tmp_path / out, "YFU19", aggregate="cells", for_cell_eval=True, **options)

    with pytest.raises(ArgumentError) as raised:
        predict(var_names="ensembl")
    assert raised.value.options[0].name == "var_names"
    columns = ("batch", "control_cell", "_index", ".", "a/b", "a\0b")
    for column in columns:
        with pytest.raises(ArgumentError) as raised:
            predict(cell_eval_column=column)
        assert raised.value.options[0].name == "cell_eval_column"
    assert len(closed) == len(columns)
    assert list(tmp_path.iterdir()) == []
