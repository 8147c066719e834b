from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scgenept_rt.errors import OutputError
from scgenept_rt.genes import GenePanel
from scgenept_rt.output import layouts, partial_table
from scgenept_rt.output.cell_rows import unique_names
from scgenept_rt.output.destination import open_table
from scgenept_rt.output.row_writer import MemoryTable
from scgenept_rt.output.table_spec import cells_table, mean_table
from scgenept_rt.perturbation import Perturbation

ENDINGS = ("h5ad", "zarr")


def fill(table, rows, layers=(), block=3, counts=None, start=0):
    for first in range(start, table.n_rows, block):
        part = slice(first, min(first + block, table.n_rows))
        table.write(
            rows["X"][part], {name: rows[name][part] for name in layers}, None if counts is None else counts[part]
        )
    return table


def test_mean_table_names_every_row(perturbations, panel):
    spec = mean_table(perturbations, panel, 7, {"seed": 0})
    assert list(spec.obs.index) == ["FOSB+ctrl", "ZBTB1+SAMD1", "KLF1"]
    assert list(spec.obs["target_genes"]) == ["FOSB", "SAMD1+ZBTB1", "KLF1"]
    assert spec.obs["n_controls"].tolist() == [7, 7, 7]
    assert spec.layers == ("delta", "sem", "delta_sem")
    assert spec.var.loc["ZBTB1", "gene_id"] is np.nan
    assert not spec.var.loc["KLF1", "in_vocab"]


def test_cells_table_makes_names_of_repeated_control_cells_unique(perturbations, panel, controls):
    spec = cells_table(perturbations, controls, panel, {})
    assert list(spec.obs_rows().index[:4]) == [
        "FOSB+ctrl|AAAC-1",
        "FOSB+ctrl|AAAG-1",
        "FOSB+ctrl|AAAT-1",
        "FOSB+ctrl|AAAG-1#2",
    ]
    assert spec.obs_rows().index.is_unique
    assert list(spec.obs_rows()["control_cell"][4:8]) == controls
    assert list(spec.obs_rows()["condition"][::4]) == ["FOSB+ctrl", "ZBTB1+SAMD1", "KLF1"]


def test_cells_table_with_a_number_of_controls_each(perturbations, panel, controls):
    spec = cells_table(perturbations, controls, panel, {}, n_controls=[1, 3, 2])
    assert list(spec.obs_rows()["condition"].value_counts(sort=False)) == [1, 3, 2]
    assert list(spec.obs_rows()["control_cell"]) == [controls[0], *controls[:3], *controls[:2]]
    with pytest.raises(ValueError, match="numbers from 1 to 4"):
        cells_table(perturbations, controls, panel, {}, n_controls=[1, 5, 2])


def test_unique_names_leave_names_that_exist_alone():
    assert unique_names(["a", "a", "a#2", "a", "b", "b"]) == ["a", "a#3", "a#2", "a#4", "b", "b#2"]


def test_gene_ids_are_left_out_when_none_is_known(perturbations):
    spec = mean_table(perturbations, GenePanel(("A", "B"), (None, None), np.ones(2, bool)), 1, {})
    assert list(spec.var.columns) == ["gene_name", "in_vocab"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["mean", "cells", "clipped cells"])
def test_file_equals_memory_bit_for_bit(
    ending, kind, tmp_path, perturbations, panel, controls, random_rows, read_table, monkeypatch
):
    monkeypatch.setattr(layouts, "_CHUNK_BYTES", 4 * 5 * 2 if kind == "mean" else 2**20)
    uns = {"seed": 0, "versions": {"numpy": "2"}, "labels": ("a", "b"), "absent": None}
    if kind == "mean":
        spec = mean_table(perturbations, panel, 4, uns)
    else:
        spec = replace(cells_table(perturbations, controls, panel, uns), clip_at_zero=kind == "clipped cells")
    rows = random_rows(spec.n_rows, ("X", *spec.layers))
    rows["X"][0, 0] = -0.0
    for name in spec.layers:
        rows[name][0, 1] = np.nan
    counts = np.array([4, 2, 3]) if kind == "mean" else None
    memory = fill(MemoryTable(spec), rows, spec.layers, 5, counts).finish()
    with warnings.catch_warnings(), open_table(tmp_path / f"o.{ending}", spec, settings={}) as table:
        warnings.simplefilter("error")
        path = fill(table, rows, spec.layers, 3, counts).finish()
    stored = read_table(path)
    for ours, theirs in ((stored.obs, memory.obs), (stored.var, memory.var)):
        assert ours.astype(object).map(str).to_dict("split") == theirs.astype(object).map(str).to_dict("split")
    assert {name: values.tobytes() for name, values in stored.layers.items()} == {
        name: values.tobytes() for name, values in memory.layers.items()
    }
    assert (stored.X.tobytes(), stored.X.dtype) == (memory.X.tobytes(), np.float32)
    assert stored.uns.keys() == memory.uns.keys()
    assert list(tmp_path.iterdir()) == [path]
    assert stored.uns["scgenept_rt"]["versions"]["numpy"] == "2"
    assert "absent" not in stored.uns["scgenept_rt"]
    if kind == "mean":
        assert stored.obs["n_controls"].dtype == np.int64
        assert stored.obs["n_controls"].tolist() == [4, 2, 3]
    if kind == "clipped cells":
        np.testing.assert_array_equal(stored.X, np.maximum(rows["X"], 0))
    else:
        assert stored.X.tobytes() == rows["X"].tobytes()


@pytest.mark.parametrize("ending", ENDINGS)
def test_rewind_and_resume_within_and_between_chunks(
    ending, tmp_path, perturbations, panel, controls, random_rows, read_table, monkeypatch
):
    monkeypatch.setattr(layouts, "_CHUNK_BYTES", 4 * 5 * 4)  # four rows
    spec = cells_table(perturbations, controls, panel, {})
    rows = random_rows(spec.n_rows, ("X",))
    # around the bounds of chunks, within the same chunk and into earlier ones
    for committed, back in ((4, 0), (5, 5), (12, 11)) if ending == "zarr" else ((5, 3),):
        path = tmp_path / f"{committed}.{ending}"
        with open_table(path, spec, settings={}) as table:
            table.write(rows["X"][:committed])
            table.commit()
            table.write(rows["X"][committed : committed + 1] + 1)  # lost: never committed
        with open_table(path, spec, settings={}, resume=True) as table:
            assert table.n_committed == table.n_written == committed
            table.rewind(back)
            assert table.n_committed == back
            fill(table, rows, block=5, start=back).finish()
        assert read_table(path).X.tobytes() == rows["X"].tobytes()


def test_repeated_gene_names_stay_and_do_not_warn(perturbations, tmp_path, random_rows):
    panel = GenePanel(("A", "B", "A", "C", "D"), (None,) * 5, np.ones(5, bool))
    spec = mean_table(perturbations, panel, 1, {})
    rows = random_rows(3, ("X", "delta", "sem", "delta_sem"))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*names are not unique")
        adata = fill(MemoryTable(spec), rows, spec.layers, counts=np.ones(3)).finish()
        fill(open_table(tmp_path / "o.h5ad", spec, settings={}), rows, spec.layers, counts=np.ones(3)).finish()
    assert list(adata.var_names) == ["A", "B", "A", "C", "D"]


def test_rows_of_another_shape_are_refused(perturbations, panel, tmp_path):
    spec = mean_table(perturbations, panel, 1, {})
    X = np.zeros((2, 5), np.float32)
    for table in (MemoryTable(spec), open_table(tmp_path / "o.h5ad", spec, settings={})):
        with pytest.raises(ValueError, match="sem has shape"):
            table.write(X, {"delta": X, "sem": X[:1], "delta_sem": X}, np.ones(2))
        with pytest.raises(ValueError, match="do not fit"):
            table.write(np.zeros((4, 5)), dict.fromkeys(spec.layers, np.zeros((4, 5))), np.ones(4))
        with pytest.raises(ValueError, match="cannot rewind"):
            table.rewind(1)
        with pytest.raises(RuntimeError, match="only 0 of 3"):
            table.finish()


def test_a_full_disk_keeps_what_was_committed(tmp_path, perturbations, panel, controls, random_rows, monkeypatch):
    spec = cells_table(perturbations, controls, panel, {})
    rows = random_rows(12, ("X",))
    table = open_table(tmp_path / "o.h5ad", spec, settings={}, command="predict --resume")
    table.write(rows["X"][:5])
    table.commit()

    def full(*_):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(partial_table, "_write_fully", full)
        with pytest.raises(OutputError, match=r"5 of 12 rows kept.*No space left.*predict --resume"):
            table.write(rows["X"][5:])
    table.close()
    with open_table(tmp_path / "o.h5ad", spec, settings={}, resume=True) as table:
        assert table.n_committed == 5


_LIMITED = """
import resource, sys
import numpy as np
from scgenept_rt.errors import OutputError
from scgenept_rt.genes import GenePanel
from scgenept_rt.output.destination import open_table
from scgenept_rt.output.table_spec import mean_table
from scgenept_rt.perturbation import Perturbation

panel = GenePanel(tuple(f"GENE{i}" for i in range(3000)), (None,) * 3000, np.ones(3000, dtype=bool))
spec = mean_table([Perturbation("GENE1+ctrl", ("GENE1",), (1,))] * 9, panel, 4, {})
for limit in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        open_table(sys.argv[1], spec, settings={}, command="predict --resume")
    except OutputError as error:
        print(error)
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_may_not_grow_is_one_line_and_leaves_nothing(ending, tmp_path):
    limits = ("1", "5000", "20000", "300000") if ending == "h5ad" else ("1", "1000")
    result = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path / f"o.{ending}"), *limits],
        capture_output=True,
        text=True,
        check=True,
    )
    message = "writing failed, with 0 of 9 rows kept (File too large). Fix this, then continue with: predict --resume."
    assert result.stdout.splitlines() == [f"{tmp_path / f'o.{ending}'}: {message}"] * len(limits)
    assert result.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_rows_that_are_named_block_by_block_are_those_of_one_block(
    ending, perturbations, panel, controls, tmp_path, read_table, monkeypatch
):
    annotation = {
        "batch": pd.Categorical(["b1", None, "b2", "b1"], categories=["b1", "b2", "nowhere"]),
        "n_counts": pd.array([1, 2, 3, 4], dtype="int64"),
        "doublet": pd.array([True, None, False, True], dtype="boolean"),
    }
    labels = [*perturbations, Perturbation("KLF1|AAAC-1", ("KLF1",), (3,)), Perturbation("KLF1", ("KLF1",), (3,))]
    controls = [*controls, "AAAC-1|AAAC-1"]
    annotation = {name: values[[0, 1, 2, 3, 0]] for name, values in annotation.items()}
    found = []
    for size in (65_536, 4):
        for module in ("cell_rows", "table_spec"):
            monkeypatch.setattr(f"scgenept_rt.output.{module}.BLOCK_ROWS", size)
        spec = cells_table(labels, controls, panel, {}, n_controls=[5, 2, 5, 1, 5], annotation=annotation)
        path = tmp_path / f"{size}.{ending}"
        with open_table(path, spec, settings={}) as table:
            table.write(np.zeros((18, len(panel)), np.float32))
            table.finish()
        found.append((read_table(path).obs, spec.fingerprint(), spec.part(np.array([1, 4]), {}).obs_rows()))
    (whole, digest, part), (in_blocks, same, same_part) = found
    pd.testing.assert_frame_equal(in_blocks, whole)
    pd.testing.assert_frame_equal(same_part, part)
    assert digest == same
    assert whole.index.is_unique
    assert {"KLF1/AAAC-1|AAAC-1", "KLF1#2/AAAC-1|AAAC-1", "KLF1|AAAC-1/AAAC-1"} < set(whole.index)
    assert list(whole["batch"].cat.categories) == ["b1", "b2"]
    assert list(part.index) == list(whole.index[[5, 6, *range(13, 18)]])


_MANY_ROWS = """
import resource, sys
import numpy as np
from scgenept_rt.genes import GenePanel
from scgenept_rt.output.destination import open_table
from scgenept_rt.output.table_spec import cells_table
from scgenept_rt.perturbation import Perturbation

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
panel = GenePanel(tuple("ABCDEFGH"), (None,) * 8, np.ones(8, dtype=bool))
spec = cells_table(
    [Perturbation(f"GENE{i}+ctrl", (f"GENE{i}",), (0,)) for i in range(1000)],
    [f"ACGTACGTACGT{i:06}-1" for i in range(300)], panel, {},
)
block = np.ones((10_000, 8), np.float32)
with open_table(sys.argv[1], spec, settings={}) as table:
    for _ in range(30):
        table.write(block)
    table.commit()
    table.finish()
unit = 1 if sys.platform == "darwin" else 1024
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit)
"""


@pytest.mark.slow
def test_many_rows_need_little_memory(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", _MANY_ROWS, str(tmp_path / "o.h5ad")], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < 80e6
