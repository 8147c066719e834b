"""Files that change while they are used: no row is computed from two versions of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import pytest

import scgenept_rt as sgr
from scgenept_rt.errors import BundleFileError, CellsFormatError, PartialOutputError, ShardsError
from scgenept_rt.expression.opened_cells import OpenedCells
from tests.runtime.bundle_changes import change_weight

MakeCells = Callable[..., anndata.AnnData]
OPTIONS = {"aggregate": "cells", "batch_size": 4}


@pytest.fixture
def cells(make_cells: MakeCells) -> anndata.AnnData:
    return make_cells(20)


def test_weights_that_are_overwritten_end_the_run_before_a_row_of_theirs_is_kept(
    model: sgr.Predictor, bundle: Path, bundle_copy: Path, cells: anndata.AnnData, tmp_path: Path
) -> None:
    changing = sgr.load(bundle_copy, provider="cpu", threads=1)
    labels, out = model.gene_names[:6], tmp_path / "out.h5ad"
    graph = bundle_copy / changing.bundle.graph("fp32", "ort").path

    def overwrite(done: int, _: int) -> None:
        if done == 40:
            change_weight(graph, "gene_table", lambda table: table * 2)

    with pytest.raises(BundleFileError, match=graph.name):
        changing.predict_file(cells, out, labels, progress=overwrite, **OPTIONS)
    assert not out.exists()
    with pytest.raises(BundleFileError):
        changing.predict_array(cells.X[:1], "ctrl")
    shutil.copytree(bundle, bundle_copy, dirs_exist_ok=True)
    again = sgr.load(bundle_copy, provider="cpu", threads=1)
    again.predict_file(cells, out, labels, resume=True, **OPTIONS)
    (whole,) = model.predict_file(cells, tmp_path / "whole.h5ad", labels, **OPTIONS)
    assert out.read_bytes() == whole.read_bytes()


def test_a_bundle_that_is_copied_again_or_removed_ends_no_run(
    bundle_copy: Path, cells: anndata.AnnData, tmp_path: Path
) -> None:
    model = sgr.load(bundle_copy, provider="cpu", threads=1)
    for path in bundle_copy.iterdir():
        os.utime(path, (0, 0))
    model.predict(cells, "YFU19")
    shutil.rmtree(bundle_copy)
    model.predict(cells, "YFU19")


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_cells_that_are_overwritten_while_they_are_read(
    model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    path, out = tmp_path / f"cells.{ending}", tmp_path / "out.h5ad"
    cells.write_h5ad(path) if ending == "h5ad" else cells.write_zarr(path)
    values = OpenedCells.values

    def change(self: OpenedCells, *arguments: object) -> object:
        yield from values(self, *arguments)  # type: ignore[arg-type]
        file = next(file for file in ([path] if path.is_file() else path.rglob("X/*")) if file.is_file())
        file.write_bytes(file.read_bytes()[::-1])

    monkeypatch.setattr(OpenedCells, "values", change)
    with pytest.raises(CellsFormatError, match="changed while it was read"):
        model.predict_file(path, out, "YFU19")
    assert not out.exists()


def test_parts_that_are_replaced_during_a_merge_or_before_it_goes_on(
    model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path
) -> None:
    out, labels = tmp_path / "out.h5ad", model.gene_names[:6]

    def predict(number: int, seed: int) -> Path:
        (path,) = model.predict_file(
            cells, out, labels, shard=f"{number}/2", overwrite=True, sampling="random", seed=seed, **OPTIONS
        )
        return path

    def replace(done: int, _: int) -> None:
        predict(2, 1)

    predict(1, 0), predict(2, 0)
    with pytest.raises(ShardsError, match=r"shard-2-of-2\.h5ad was changed"):
        sgr.merge_shards(out, progress=replace)
    assert not out.exists()
    predict(2, 0)

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sgr.merge_shards(out, progress=stop)
    predict(1, 1), predict(2, 1)
    with pytest.raises(PartialOutputError, match="run"):
        sgr.merge_shards(out, resume=True)
