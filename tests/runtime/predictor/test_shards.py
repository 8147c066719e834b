"""Parts of a run put together are the very file that one process writes."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

import scgenept_rt as sgr
from scgenept_rt.errors import ArgumentError, OutputExistsError, ShardsError
from scgenept_rt.output.work_directory import partial_path
from tests.runtime.mutations import SCALE, SEED
from tests.runtime.partial_output import n_committed

if TYPE_CHECKING:
    from tests.commands import CommandLine, CommandServer

MakeCells = Callable[..., anndata.AnnData]

FORMS: dict[str, dict[str, Any]] = {
    "mean": {"aggregate": "mean", "n_controls": 5},
    "both": {"aggregate": "both", "groupby": "cell_type"},
    "max_error": {"max_error": 0.02},
    "limited": {"n_controls_per_perturbation": 8, "groupby": "cell_type"},
    "cell_eval": {"aggregate": "cells", "for_cell_eval": True, "n_controls": 4},
}
DIVISIONS = range(1, 8) if SCALE > 1 else (3,)
ENDINGS = ("h5ad", "zarr") if SCALE > 1 else ("h5ad",)


@pytest.fixture(scope="module")
def cells(make_cells: MakeCells) -> anndata.AnnData:
    adata = make_cells(37)
    adata.obs["cell_type"] = ["B", "T", "B"] * 12 + ["T"]
    adata.obs["doublet"] = pd.array([True, None, False] * 12 + [None], dtype="boolean")
    return adata


def predict(model: sgr.Predictor, cells: anndata.AnnData, out: Path, **options: Any) -> list[Path]:
    genes = model.gene_names[:8]
    return model.predict_file(cells, out, genes, **{"batch_size": 3, **options})


def content(directory: Path, name: str) -> dict[str, bytes]:
    """The files of an output, of the cells beside it too."""
    return {
        str(file.relative_to(directory)).replace(name, "", 1): file.read_bytes()
        for path in directory.glob(f"{name}.*")
        if ".shard-" not in path.name
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_parts_make_the_very_file(
    model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path, form: str, ending: str
) -> None:
    options = FORMS[form]
    predict(model, cells, tmp_path / f"whole.{ending}", **options)
    expected = content(tmp_path, "whole")
    for count in DIVISIONS:
        out = tmp_path / f"n{count}.{ending}"
        for number in range(count, 0, -1):
            part = predict(model, cells, out, shard=f"{number}/{count}", **options)[0]
        sgr.merge_shards(out)
        assert content(tmp_path, f"n{count}") == expected, count
    # a loop that repeats a command until it succeeds must end
    assert sgr.merge_shards(out, resume=True) == predict(model, cells, out, resume=True, **options)
    adata = anndata.read_h5ad(part) if ending == "h5ad" else anndata.io.read_zarr(part)
    assert adata.uns["scgenept_rt"]["shard"]["number"] == 1


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_parts_of_many_rows_make_the_very_file(
    model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr("scgenept_rt.output.table_spec.BLOCK_ROWS", 9)
    options = {"aggregate": "cells", "n_controls": 2}
    predict(model, cells, tmp_path / f"whole.{ending}", **options)
    for number in (1, 2):
        predict(model, cells, tmp_path / f"parts.{ending}", **options, shard=f"{number}/2")
    sgr.merge_shards(tmp_path / f"parts.{ending}")
    assert content(tmp_path, "parts") == content(tmp_path, "whole")


def test_parts_are_equal_and_none_is_empty(model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path) -> None:
    out = tmp_path / "out.h5ad"
    sizes = [anndata.read_h5ad(predict(model, cells, out, shard=f"{i}/3")[0]).n_obs for i in (1, 2, 3)]
    assert sorted(sizes) == [2, 3, 3]
    with pytest.raises(ArgumentError, match="at most 8"):
        predict(model, cells, out, shard="2/9")
    for wrong in ("0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/2/3"):
        with pytest.raises(ArgumentError, match="I/N"):
            predict(model, cells, out, shard=wrong)


def test_the_automatic_batch_size_of_parts_is_fixed(
    model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def size(*_: Any, free_bytes: int | None, **__: Any) -> int:
        return 5 if free_bytes is None else 2

    monkeypatch.setattr("scgenept_rt.predictor.predictor.automatic_batch_size", size)
    for number, free in enumerate((10, 20), start=1):
        monkeypatch.setattr(model, "free_device_bytes", free)
        predict(model, cells, tmp_path / "out.h5ad", shard=f"{number}/2", batch_size="auto")
    (merged,) = sgr.merge_shards(tmp_path / "out.h5ad")
    assert anndata.read_h5ad(merged).uns["scgenept_rt"]["batch_size"] == 5


def test_missing_unfinished_and_foreign_parts_are_named(
    model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path
) -> None:
    cells = cells[:6].copy()
    out, third = tmp_path / "out.h5ad", tmp_path / "out.shard-3-of-4.h5ad"

    def refused(words: str) -> None:
        with pytest.raises(ShardsError, match=words):
            sgr.merge_shards(out)

    refused("no file")
    paths = [predict(model, cells, out, shard=f"{number}/4")[0] for number in (1, 2, 4)]
    partial_path(third).mkdir()
    paths[1].unlink()
    refused(r"2 cannot be merged: 2/4, 3/4 \(begun, not finished\)")
    predict(model, cells, out, shard="2/4", resume=True)
    predict(model, cells, out, shard="3/4", batch_size=4)
    refused(r"shard-3-of-4.h5ad is of another run than .*\n  batch_size: 3 in part 1/4, 4 in part 3/4")
    predict(model, cells[:5].copy(), out, shard="3/4", seed=1, overwrite=True)
    refused(r"(?s)control cells: sha256 .*seed: 0 in part 1/4, 1 in part 3/4")
    model.predict_file(cells, out, model.gene_names[:5], batch_size=3, shard="3/4", overwrite=True)
    refused(r"perturbations: 8 \(.*\) in part 1/4, 5 \(.*\) in part 3/4")
    shutil.copyfile(paths[0], third)
    refused("holds part 1/4")
    predict(model, cells, out, shard="3/4", overwrite=True)
    with h5py.File(third, "a") as file:
        short = file["X"][:-1]
        del file["X"]
        file["X"] = short
    refused("do not fit obs and var")
    predict(model, cells, out, shard="3/4", overwrite=True)
    with h5py.File(third, "a") as file:
        file["obs"].attrs["column-order"] = [name for name in file["obs"].attrs["column-order"] if name != "n_controls"]
    refused("shard-3-of-4.*columns of obs are not those of")
    predict(model, cells, tmp_path / "plain.h5ad")
    (tmp_path / "plain.h5ad").replace(third)
    refused("no part of a run")
    third.write_bytes(b"damaged")
    refused("shard-3-of-4.h5ad")
    predict(model, cells, out, shard="1/2")
    refused("divided by 2 and by 4")
    assert not out.exists()


def test_parts_of_which_files_were_lost_are_refused(
    model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    parts = [predict(model, cells[:6].copy(), out, shard=f"{number}/2")[0] for number in (1, 2)]
    for array in ("X", "obs/n_controls", "var/_index"):
        files = [file for file in (parts[1] / array).rglob("*") if file.is_file() and not file.name.startswith(".z")]
        kept = {file: file.read_bytes() for file in files}
        assert files
        for file in files:
            file.unlink()
        with pytest.raises(ShardsError, match=r"shard-2-of-2\.zarr.*the copy is incomplete"):
            sgr.merge_shards(out)
        for file, data in kept.items():
            file.write_bytes(data)


def test_a_finished_part_is_kept_and_a_merge_replaces_only_if_told(
    model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5ad"
    for number in (1, 2):
        predict(model, cells[:6].copy(), out, shard=f"{number}/2")
    with pytest.raises(OutputExistsError):
        predict(model, cells[:6].copy(), out, shard="1/2")
    predict(model, cells[:6].copy(), out, shard="1/2", resume=True)
    out.write_bytes(b"another file")
    with pytest.raises(OutputExistsError):
        sgr.merge_shards(out)
    assert sgr.merge_shards(out, overwrite=True) == [out]


def test_a_part_and_a_merge_that_are_killed_resume(
    command_line: CommandLine, processes: CommandServer, bundle: Path, cells: anndata.AnnData, tmp_path: Path
) -> None:
    cells.write_h5ad(tmp_path / "cells.h5ad")
    out, whole = tmp_path / "out.h5ad", tmp_path / "whole.h5ad"
    arguments = ["predict", bundle, tmp_path / "cells.h5ad", "--all-singles", "--batch-size", "1", "--threads", "1"]
    arguments += ["--no-check", "--aggregate", "cells"]
    assert command_line(*arguments, "--out", whole).returncode == 0
    rng = np.random.default_rng(SEED)  # of the steps of kills

    def run(*command: str | Path, written: Path) -> None:
        """Kill a command at several steps of its writing, and let it end."""
        for step in [*rng.integers(0, 4_000, max(1, round(SCALE))), None]:
            done = processes(*command, kill_at=None if step is None else int(step), of="open_table")
            assert done.returncode == (0 if written.exists() else -signal.SIGKILL), done.stderr
            if written.exists():
                return

    for number in (1, 2):
        part = [*arguments, "--out", out, "--shard", f"{number}/2", "--resume"]
        assert processes(*part, kill_at=0).returncode == -signal.SIGKILL
        refused = command_line("merge", out)
        assert (refused.returncode, f"{number}/2 (begun, not finished)" in refused.stderr) == (1, True)
        run(*part, written=tmp_path / f"out.shard-{number}-of-2.h5ad")
    assert processes("merge", out, kill_at=0).returncode == -signal.SIGKILL
    assert n_committed(out) > 0
    assert command_line("merge", out).returncode == 1
    run("merge", out, "--resume", written=out)
    assert out.read_bytes() == whole.read_bytes()
