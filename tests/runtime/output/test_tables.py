from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scgenept_rt.errors import OutputError
from scgenept_rt.output import layouts, partial_table
from scgenept_rt.output.destination import open_table
from scgenept_rt.output.shards import merge_shards
from scgenept_rt.output.table_spec import TableSpec, unique_names
from tests.runtime.output.tables import CONTROLS, LABELS, VAR, cells_table, mean_table, part_of, read_table, rows_of

ENDINGS = ("h5ad", "zarr")


def fill(table, rows, block=3, start=0):
    for first in range(start, table.n_rows, block):
        table.write(part_of(rows, first, first + block))
    return table


def test_names_of_repeated_control_cells_are_unique():
    obs = cells_table().obs_rows()
    assert list(obs.index[:4]) == ["FOSB+ctrl|AAAC-1", "FOSB+ctrl|AAAG-1", "FOSB+ctrl|AAAT-1", "FOSB+ctrl|AAAG-1#2"]
    assert obs.index.is_unique
    assert tuple(obs["control_cell"][4:8]) == CONTROLS
    assert tuple(obs["condition"][::4]) == LABELS


def test_a_number_of_control_cells_each():
    obs = cells_table(counts=[1, 3, 2]).obs_rows()
    assert list(obs["condition"].value_counts(sort=False)) == [1, 3, 2]
    assert tuple(obs["control_cell"]) == (CONTROLS[0], *CONTROLS[:3], *CONTROLS[:2])


def test_unique_names_leave_names_that_exist_alone():
    assert unique_names(["a", "a", "a#2", "a", "b", "b"]) == ["a", "a#3", "a#2", "a#4", "b", "b#2"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["mean", "cells", "clipped cells"])
def test_file_equals_memory_bit_for_bit(ending, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "_CHUNK_BYTES", 4 * 5 * 2 if kind == "mean" else 2**20)
    uns = {"seed": 0, "versions": {"numpy": "2"}, "labels": ("a", "b"), "absent": None}
    if kind == "mean":
        spec = mean_table(uns=uns)
    else:
        spec = replace(cells_table(uns=uns), clip_at_zero=kind == "clipped cells")
    rows = rows_of(spec)
    rows["X"][0, 0] = -0.0
    for name in spec.layers:
        rows[f"layers/{name}"][0, 1] = np.nan
    memory = spec.in_memory(rows)
    with warnings.catch_warnings(), open_table(tmp_path / f"o.{ending}", spec, settings={}) as table:
        warnings.simplefilter("error")
        path = fill(table, rows).finish()
    stored = read_table(path)
    for ours, theirs in ((stored.obs, memory.obs), (stored.var, memory.var)):
        assert ours.astype(object).map(str).to_dict("split") == theirs.astype(object).map(str).to_dict("split")
    for name in spec.layers:
        assert stored.layers[name].tobytes() == memory.layers[name].tobytes()
    assert stored.uns.keys() == memory.uns.keys()
    assert list(tmp_path.iterdir()) == [path]
    assert stored.uns["scgenept_rt"]["versions"]["numpy"] == "2"
    assert "absent" not in stored.uns["scgenept_rt"]
    if kind == "mean":
        assert stored.obs["n_controls"].dtype == np.int64
        assert stored.obs["n_controls"].tolist() == [1, 2, 3]
    if kind == "clipped cells":
        np.testing.assert_array_equal(stored.X, np.maximum(rows["X"], 0))
    else:
        assert (stored.X.tobytes(), stored.X.dtype) == (memory.X.tobytes(), np.float32)


@pytest.mark.parametrize("ending", ENDINGS)
def test_rewind_and_resume_within_and_between_chunks(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "_CHUNK_BYTES", 4 * 5 * 4)  # four rows
    spec = cells_table()
    rows = rows_of(spec)
    # around the bounds of chunks, within the same chunk and into earlier ones
    for committed, back in ((4, 0), (5, 5), (12, 11)) if ending == "zarr" else ((5, 3),):
        path = tmp_path / f"{committed}.{ending}"
        with open_table(path, spec, settings={}) as table:
            table.write(part_of(rows, 0, committed))
            table.commit()
            table.write({"X": rows["X"][committed : committed + 1] + 1})  # lost: never committed
        with open_table(path, spec, settings={}, resume=True) as table:
            assert table.n_committed == table.n_written == committed
            table.rewind(back)
            assert table.n_committed == back
            fill(table, rows, block=5, start=back).finish()
        assert read_table(path).X.tobytes() == rows["X"].tobytes()


def test_repeated_gene_names_stay_and_do_not_warn(tmp_path):
    spec = mean_table(pd.DataFrame(index=list("ABACD")))
    rows = rows_of(spec)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*names are not unique")
        adata = spec.in_memory(rows)
        fill(open_table(tmp_path / "o.h5ad", spec, settings={}), rows).finish()
    assert list(adata.var_names) == ["A", "B", "A", "C", "D"]


def test_rows_of_another_shape_are_refused(tmp_path):
    spec = mean_table()
    rows = rows_of(spec)
    with open_table(tmp_path / "o.h5ad", spec, settings={}) as table:
        with pytest.raises(ValueError, match="sem has shape"):
            table.write({**rows, "layers/sem": rows["X"][:1]})
        with pytest.raises(ValueError, match="do not fit"):
            table.write({"X": np.zeros((4, 5))})
        with pytest.raises(ValueError, match="cannot rewind"):
            table.rewind(1)
        with pytest.raises(RuntimeError, match="only 0 of 3"):
            table.finish()


def test_a_full_disk_keeps_what_was_committed(tmp_path, monkeypatch):
    spec = cells_table()
    rows = rows_of(spec)
    table = open_table(tmp_path / "o.h5ad", spec, settings={}, command="predict --resume")
    table.write(part_of(rows, 0, 5))
    table.commit()

    def full(*_):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(partial_table, "_write_fully", full)
        with pytest.raises(OutputError, match=r"5 of 12 rows kept.*No space left.*predict --resume"):
            table.write(part_of(rows, 5, 12))
    table.close()
    with open_table(tmp_path / "o.h5ad", spec, settings={}, resume=True) as table:
        assert table.n_committed == 5


_LIMITED = """
import resource, sys
import pandas as pd
from scgenept_rt.errors import OutputError
from scgenept_rt.output.destination import open_table
from scgenept_rt.output.table_spec import TableSpec

var = pd.DataFrame(index=[f"GENE{i}" for i in range(3000)])
spec = TableSpec("mean", pd.DataFrame({"n_controls": 4}, index=list("ABCDEFGHI")), var, ("delta", "sem", "delta_sem"))
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
def test_rows_that_are_named_block_by_block_are_those_of_one_block(ending, tmp_path, monkeypatch):
    annotation = {
        "batch": pd.Categorical(["b1", None, "b2", "b1"], categories=["b1", "b2", "nowhere"]),
        "n_counts": pd.array([1, 2, 3, 4], dtype="int64"),
        "doublet": pd.array([True, None, False, True], dtype="boolean"),
    }
    labels, controls = [*LABELS, "KLF1|AAAC-1", "KLF1"], [*CONTROLS, "AAAC-1|AAAC-1"]
    annotation = {name: values[[0, 1, 2, 3, 0]] for name, values in annotation.items()}
    found = []
    for size in (65_536, 4):
        monkeypatch.setattr("scgenept_rt.output.table_spec.BLOCK_ROWS", size)
        spec = cells_table(labels, controls, [5, 2, 5, 1, 5], annotation)
        path = tmp_path / f"{size}.{ending}"
        with open_table(path, spec, settings={}) as table:
            table.write({"X": np.zeros((18, 5), np.float32)})
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
import pandas as pd
from scgenept_rt.output.destination import open_table
from scgenept_rt.output.table_spec import CellRows, TableSpec, by_perturbation

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
labels, cells = [f"GENE{i}+ctrl" for i in range(1000)], [f"ACGTACGTACGT{i:06}-1" for i in range(300)]
obs = CellRows({"condition": by_perturbation(labels)}, labels, cells, {}, np.full(1000, 300), np.zeros(1000, int))
spec = TableSpec("cells", obs, pd.DataFrame(index=list("ABCDEFGH")), ())
block = np.ones((10_000, 8), np.float32)
with open_table(sys.argv[1], spec, settings={}) as table:
    for _ in range(30):
        table.write({"X": block})
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


def test_merging_takes_no_memory_for_texts_of_categories(tmp_path):
    n_rows, columns = 5_000, [f"column {number}" for number in range(60)]
    for number in (1, 2):
        names = pd.Index([f"{number} {row}" for row in range(n_rows)])
        obs = pd.DataFrame(dict.fromkeys(columns, pd.Categorical([f"part {number}"] * n_rows)), names)
        shard = {"number": number, "count": 2, "aggregate": "cells", "n_control_rows": 0, "run_digest": ""}
        part = TableSpec("cells", obs, VAR, ()).part(np.arange(n_rows), shard)
        with open_table(tmp_path / f"o.shard-{number}-of-2.h5ad", part, settings={}) as table:
            table.write({"X": np.zeros((n_rows, len(VAR)))})
            table.finish()
    tracemalloc.start()
    merge_shards(tmp_path / "o.h5ad")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * n_rows * len(columns) * 8  # a pointer for each
    assert read_table(tmp_path / "o.h5ad").obs["column 59"].tolist() == ["part 1"] * n_rows + ["part 2"] * n_rows
