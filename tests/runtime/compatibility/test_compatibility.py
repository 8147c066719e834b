"""What `check` says of a file agrees with what `predict` does with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
import scipy.sparse

from scgenept_rt.bundle import Bundle
from scgenept_rt.compatibility import check_cells
from scgenept_rt.options import ReadOptions
from scgenept_rt.predictor import Predictor
from tests.runtime.compatibility.cells import (
    N_CONTROL,
    cells_of,
    finding,
    predict_works,
    problems,
    scaled,
    with_conditions,
    with_layer,
    with_raw,
    with_value,
    with_var,
    with_x,
    written,
)

GOOD: dict[str, tuple[Callable[[anndata.AnnData], anndata.AnnData | None], dict[str, object]]] = {}
BAD: dict[str, tuple[Callable[[anndata.AnnData], anndata.AnnData | None], dict[str, object]]] = {}
BAD_TOPICS: dict[str, set[str]] = {}


def good(name: str, **options: object) -> Callable:
    return lambda change: GOOD.__setitem__(name, (change, options))


def bad(name: str, topics: str, **options: object) -> Callable:
    def register(change: Callable) -> None:
        BAD[name] = (change, options)
        BAD_TOPICS[name] = set(topics.split())

    return register


good("dense")(lambda adata: adata)
good("csr")(lambda adata: with_x(adata, scipy.sparse.csr_matrix(adata.X)))
good("csc")(lambda adata: with_x(adata, scipy.sparse.csc_matrix(adata.X)))
good("genes in another order, with others")(
    lambda adata: anndata.concat(
        [adata[:, ::-1], with_var(adata, [f"OTHER{at}" for at in range(adata.n_vars)])], axis=1, merge="first"
    )
)
good("names in a column")(
    lambda adata: with_var(adata, [f"g{at}" for at in range(adata.n_vars)], gene_name=list(adata.var_names))
)
good("layer", layer="lognorm")(lambda adata: with_layer(adata, scaled(adata.X), lognorm=adata.X))
good("raw", use_raw=True)(with_raw)
good("another control label", control_label="DMSO")(
    lambda adata: with_conditions(adata, ["DMSO" if label == "ctrl" else label for label in adata.obs["condition"]])
)
good("another column", condition_key="guide", control_label="none")(
    lambda adata: with_conditions(adata, ["none"] * 50 + ["A"] * 10, "guide")
)
good("only controls, in a column of another name")(
    lambda adata: with_conditions(adata, ["non-targeting"] * 60, "guide")
)
good("no conditions")(lambda adata: anndata.AnnData(adata.X, var=adata.var))
good("unknown labels beside controls")(lambda adata: with_conditions(adata, ["ctrl"] * 30 + ["what+ever", "A+A"] * 15))
good("missing genes as zero", missing_genes="zero")(lambda adata: adata[:, 6:].copy())
good("accepted counts", allow_unnormalized=True)(lambda adata: with_x(adata, np.expm1(adata.X).round()))
good("small whole numbers")(lambda adata: with_x(adata, (adata.X > 3).astype(np.int8)))
good("all zero")(lambda adata: with_x(adata, np.zeros_like(adata.X)))
good("NaN in a cell that is no control")(lambda adata: with_value(adata, N_CONTROL + 3, 2, np.nan))
good("NaN in a gene that the model lacks")(
    lambda adata: with_value(
        anndata.concat([adata, with_var(adata, [f"OTHER{at}" for at in range(adata.n_vars)])], axis=1, merge="first"),
        3,
        adata.n_vars + 1,
        np.nan,
    )
)

bad("no such layer", "file", layer="counts")(lambda adata: adata)
bad("no raw", "file", use_raw=True)(lambda adata: adata)
bad("layer and raw", "file", layer="lognorm", use_raw=True)(
    lambda adata: with_layer(with_raw(adata), adata.X, lognorm=adata.X)
)
bad("no X", "file")(lambda adata: anndata.AnnData(None, obs=adata.obs, var=adata.var, layers={"lognorm": adata.X}))
bad("no cells", "file")(lambda adata: adata[:0].copy())
bad("truth values", "file")(lambda adata: with_x(adata, adata.X > 2))
bad("no such column", "labels", condition_key="guide")(lambda adata: adata)
bad("controls in a column of another name", "labels")(
    lambda adata: with_conditions(adata, ["non-targeting"] * 30 + ["A"] * 30, "guide")
)
bad("two control labels", "labels")(lambda adata: with_conditions(adata, ["ctrl"] * 30 + ["control"] * 30))
bad("no control", "labels")(lambda adata: with_conditions(adata, ["A+ctrl"] * 60))
bad("control label without a column", "labels", control_label="ctrl")(
    lambda adata: anndata.AnnData(adata.X, var=adata.var)
)
bad("missing genes", "genes")(lambda adata: adata[:, 6:].copy())
bad("no gene found", "genes")(lambda adata: with_var(adata, [f"g{at}" for at in range(adata.n_vars)]))
bad("no such gene key", "genes", gene_key="symbol")(lambda adata: adata)
bad("a gene twice", "genes")(lambda adata: with_var(adata, [adata.var_names[1], *adata.var_names[1:]]))
bad("NaN", "scale")(lambda adata: with_value(adata, 3, 2, np.nan))
bad("infinity", "scale", allow_unnormalized=True)(lambda adata: with_value(adata, 3, 2, np.inf))
bad("negative", "scale")(lambda adata: with_x(adata, scaled(adata.X)))
bad("counts", "scale")(lambda adata: with_x(adata, np.expm1(adata.X).round()))
bad("everything at once", "labels genes scale")(
    lambda adata: with_conditions(with_x(adata, scaled(adata.X)), ["control", "ctrl"] * 30)[:, 6:].copy()
)


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_check_agrees_with_predict(name: str, bundle: Bundle, predictor: Predictor, tmp_path: Path):
    change, chosen = (GOOD | BAD)[name]
    options = ReadOptions(**chosen)
    path = written(change(cells_of(bundle)), tmp_path)
    report = check_cells(bundle, path, read=options, provider="cpu")
    assert (not report.problems) == predict_works(predictor, path, options, tmp_path) == (name in GOOD)
    assert problems(report) == BAD_TOPICS.get(name, set())
    for entry in report.findings:
        assert entry.status != "problem" or entry.step() or "expected" in entry.text, entry
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize("damage", ["no file", "not HDF5", "cut", "obs/condition", "X/indices"])
def test_damaged_files_are_one_problem(damage: str, bundle: Bundle, predictor: Predictor, tmp_path: Path):
    path = written(cells_of(bundle, scipy.sparse.csr_matrix(cells_of(bundle).X)), tmp_path)
    if damage == "no file":
        path.unlink()
    elif damage in ("not HDF5", "cut"):
        path.write_bytes(b"text" if damage == "not HDF5" else path.read_bytes()[:3000])
    else:
        with h5py.File(path, "a") as file:
            if damage == "X/indices":
                file[damage][5] = -3
            else:
                del file[damage]
    report = check_cells(bundle, path, provider="cpu")
    assert not predict_works(predictor, path, ReadOptions(), tmp_path)
    assert problems(report) == {"labels" if damage == "obs/condition" else "file"}
    assert finding(report, "provider").status == "ok"  # looked at all the same
    assert (report.labels is None) == (damage != "X/indices")
    json.dumps(report.to_json())


def test_zarr_and_objects_in_memory_give_the_same_facts(bundle: Bundle, tmp_path: Path):
    adata = cells_of(bundle)
    facts = []
    sources = [adata, written(adata, tmp_path)]
    if pytest.importorskip("zarr"):
        sources.append(written(adata, tmp_path, "cells.zarr"))
    for source in sources:
        report = check_cells(bundle, source, provider="cpu").to_json()
        assert report["works"]
        facts.append({key: report[key] for key in ("labels", "genes", "values")})
    assert all(fact == facts[0] for fact in facts)
