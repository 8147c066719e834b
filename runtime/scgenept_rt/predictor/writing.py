"""Writing a run: to memory, or to files that an interrupted run can be resumed from."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from scgenept_rt.errors import Caution, Notice, PartialOutputError, UseOption, warn_caller
from scgenept_rt.expression import check_source
from scgenept_rt.genes import ensembl_id
from scgenept_rt.options import PredictFileOptions, PredictOptions, declared_options
from scgenept_rt.output import destination, table_spec
from scgenept_rt.output.partial_table import PartialTable, finish_all
from scgenept_rt.output.shards import Shard
from scgenept_rt.output.table_spec import TableSpec
from scgenept_rt.output.work_directory import digests_of_lists, run_digest
from scgenept_rt.predictor import cell_eval
from scgenept_rt.predictor.batches import Progress
from scgenept_rt.predictor.run import PredictedRows, Run
from scgenept_rt.wording import pluralize

_OTHERS = ("aggregate", "n_controls", "var_names")
_OPTIONS = [option.name for option in declared_options(PredictOptions) if option.name not in _OTHERS]
"""Options that are kept among the settings of a partial output, and in uns; the others show in the table itself."""

_SECONDS_BETWEEN_COMMITS = 0.2
_HIDDEN_SECONDS = 0.1
"""What a commit may take without a cost: the devices have batches meanwhile."""
_COMMIT_SHARE = 0.05
"""Share of the time that commits may take beyond that; where even the fastest takes longer, they come less often."""


def check_outputs(out: str | Path, options: PredictFileOptions, *, cells: str | Path | AnnData) -> None:
    """Check that the files of a run can be written, before its input is read; see `check_destination`."""
    check_source(cells)
    input_path = None if isinstance(cells, AnnData) else cells
    for path in _paths(out, options).values():
        destination.check_destination(
            path, overwrite=options["overwrite"], resume=options["resume"], input_path=input_path
        )


def recorded_batch_size(out: str | Path, options: PredictFileOptions) -> int | None:
    """Return the batch size of the run to resume, None if there is none.

    It is kept beside a partial output, and in a finished one that is not to be replaced.
    """
    for path in _paths(out, options).values():
        left = found = None
        with suppress(PartialOutputError):  # which is raised when the output is opened
            left = destination.find_unfinished(path)
        if left is not None:
            found = left[0].settings.get("batch_size")
        elif not options["overwrite"]:
            found = destination.stored_entry(path, "batch_size")
        if isinstance(found, (int, np.integer)) and found > 0:
            return int(found)
    return None


def to_memory(run: Run, progress: Progress | None = None) -> dict[str, AnnData]:
    """Predict everything into memory; return one table per kind."""
    specs = _specs(run)
    values = {
        kind: {name: np.empty(spec.n_rows, dtype) for name, dtype in spec.arrays.items()}
        for kind, spec in specs.items()
    }
    n_written = dict.fromkeys(specs, 0)
    with closing(run.rows(progress)) as predicted:
        for rows in predicted:
            begin = n_written[rows.aggregate]
            n_written[rows.aggregate] = end = begin + len(rows.X)
            given = _arrays(rows)
            for name, array in values[rows.aggregate].items():
                array[begin:end] = given[name]
    assert all(n_written[kind] == spec.n_rows for kind, spec in specs.items())
    tables = {kind: spec.in_memory(values[kind]) for kind, spec in specs.items()}
    if run.options["max_error"] is not None:
        missed = _warn_of_missed_error(run, [tables["mean"].layers["sampling_error"]], run.means())
        if missed:
            tables["mean"].uns[table_spec.UNS_KEY]["notices"] = np.asarray([*run.notices, *missed])
    return tables


def to_files(run: Run, out: Path, options: PredictFileOptions, progress: Progress | None = None) -> list[Path]:
    """Predict everything into files, or what an interrupted run left undone; return their paths."""
    if run.label_column is not None and out.suffix.lower() != ".h5ad" and run.on_notice is not None:
        remedy = f"Write the file for it: `anndata.io.read_zarr({str(out)!r}).write_h5ad(NEW)`"
        run.on_notice(Notice("cell-eval only reads .h5ad files", remedy))
    paths = _paths(out, options)
    settings, specs = _settings(run), _specs(run)
    shard = None if options["shard"] is None else Shard.parse(options["shard"])
    means = run.means(shard)
    if shard is not None:
        specs = {kind: _part(run, spec, shard, settings) for kind, spec in specs.items()}
        settings["shard"] = str(shard)
    with ExitStack() as stack:
        writers: dict[str, PartialTable] = {}
        for kind, spec in specs.items():
            table = destination.open_table(
                paths[kind],
                spec,
                settings=settings,
                overwrite=options["overwrite"],
                resume=options["resume"],
                command=options["resume_command"],
                on_notice=run.on_notice,
            )
            writers[kind] = stack.enter_context(table)
        _write(run, writers, progress, means)
        finished = finish_all(list(writers.values()))
    if run.options["max_error"] is not None:
        # Read from the finished file, as a resumed run has computed only some of its rows. Whoever waited for the file
        # may have moved it by now.
        with suppress(OSError, KeyError):
            _warn_of_missed_error(run, destination.stored_layer(paths["mean"], "sampling_error"), means)
    return finished


def _paths(out: str | Path, options: PredictFileOptions) -> dict[str, Path]:
    path, aggregate = Path(out), options["aggregate"]
    if options["shard"] is not None:
        path = Shard.parse(options["shard"]).path(path)
    return {"mean": path, "cells": destination.cells_path(path)} if aggregate == "both" else {aggregate: path}


def _part(run: Run, whole: TableSpec, shard: Shard, settings: Mapping[str, Any]) -> TableSpec:
    """Return the table of a part, which knows of the whole one what `merge_shards` needs."""
    means = run.means(shard)
    entries = np.arange(means.start, means.stop)
    n_control_rows = cell_eval.n_own_rows(run)
    if n_control_rows:
        entries = np.append(0, entries + 1)
    entry = {
        "number": shard.number,
        "count": shard.count,
        "aggregate": run.options["aggregate"],
        "n_control_rows": n_control_rows,
        table_spec.RUN_DIGEST: run_digest(settings, whole.fingerprint()),
        "settings": digests_of_lists(settings),
    }
    return whole.part(entries, entry)


def _write(run: Run, writers: Mapping[str, PartialTable], progress: Progress | None, means: range) -> None:
    schedule, n_own_rows = run.schedule, cell_eval.n_own_rows(run)
    if n_own_rows:
        _write_control_rows(run, writers["cells"])
    # A table that has all of its rows may be finished on disk already, and cannot be rewound then.
    writers = {kind: writer for kind, writer in writers.items() if writer.n_committed < writer.n_rows}
    begin_row, missing = int(schedule.starts[means.start]), []
    if "mean" in writers:
        missing.append(int(schedule.starts[means.start + writers["mean"].n_committed]))
    if "cells" in writers:
        missing.append(begin_row + max(writers["cells"].n_committed - n_own_rows, 0))
    if not missing:
        return
    first_row = min(missing)
    if "mean" in writers:
        # A mean needs all rows of its perturbation.
        index = schedule.perturbation_at(first_row)
        first_row = int(schedule.starts[index])
        writers["mean"].rewind(index - means.start)
    if "cells" in writers:
        writers["cells"].rewind(n_own_rows + first_row - begin_row)
    fastest, commit_at = math.inf, time.monotonic() + _SECONDS_BETWEEN_COMMITS
    # Closed before the tables and the cells are: an error in writing leaves no batch running.
    with closing(run.rows(progress, first_row, means)) as predicted:
        for rows in predicted:
            if rows.aggregate in writers:
                arrays = _arrays(rows)
                if run.label_column is not None:
                    arrays["X"] = run.controls.over_input(rows.first_cell, rows.X)
                writers[rows.aggregate].write(arrays)
            begun = time.monotonic()
            if begun >= commit_at:
                for writer in writers.values():
                    writer.commit()
                ended = time.monotonic()
                # Not the last one: had that much to write, the next would have even more.
                fastest = min(fastest, ended - begun)
                commit_at = ended + max(_SECONDS_BETWEEN_COMMITS, (fastest - _HIDDEN_SECONDS) / _COMMIT_SHARE)
    # All of them before the first is finished: a finished table cannot be rewound for rows that another one lacks.
    for writer in writers.values():
        writer.commit()


def _arrays(rows: PredictedRows) -> dict[str, NDArray[Any]]:
    """Return rows by the names of `TableSpec.arrays`, with counts that a table of cells does not use."""
    layers = {f"layers/{name}": values for name, values in rows.layers.items()}
    return {"X": rows.X, **layers, table_spec.COUNTS: np.array([rows.n_controls])}


def _write_control_rows(run: Run, writer: PartialTable) -> None:
    """Write the control cells themselves, which cell-eval compares predictions with."""
    controls = run.controls
    n_cells, step = controls.n_obs, max(1, 4_000_000 // len(controls.annotation.var_names))
    if writer.n_committed < n_cells:
        writer.rewind(writer.n_committed)
        for begin in range(writer.n_committed, n_cells, step):
            own_values = controls.values.dense(begin, min(begin + step, n_cells))
            writer.write({"X": controls.over_input(begin, own_values)})
        writer.commit()


def _warn_of_missed_error(run: Run, sampling_errors: Iterable[NDArray[np.float32]], means: range) -> list[Caution]:
    """Warn of means whose sampling error stayed above `max_error`, for which the number of cells was limited."""
    max_error = cast("float", run.options["max_error"])
    errors = np.array([of_genes.max() for of_genes in chain.from_iterable(sampling_errors)])
    # Rounded as the layer is, so that an error that was just reached does not count as missed. A single cell gives NaN.
    missed = np.flatnonzero(~(errors <= np.float32(max_error)))
    if not len(missed):
        return []
    worst = missed[np.argmax(errors[missed])]
    index = means[worst]
    group = run.group(index)
    notice = Caution(
        f"{len(missed):,} of {pluralize(len(means), 'mean' if group else 'perturbation')} missed max_error "
        f"{max_error:g} with the control cells that they were limited to. The largest sampling error is "
        f"{errors[worst]:.3g}, for {run.schedule.perturbations[index].label}{f' in {group}' if group else ''}",
        "Raise n_controls of these perturbations" if run.options["n_controls_per_perturbation"] is None else "",
        [
            UseOption("n_controls_per_perturbation", "allow more control cells"),
            UseOption("max_error", "accept a larger error"),
        ],
    )
    warn_caller([notice], run.on_notice)
    return [notice]


def _specs(run: Run) -> dict[str, TableSpec]:
    schedule, controls, aggregate = run.schedule, run.controls, run.options["aggregate"]
    uns = {
        **run.predictor.provenance(),
        **{name: value for name, value in _options(run).items() if value is not None},
        "n_controls_available": controls.n_available,
        "versions": run.predictor.versions(),
    }
    if run.notices:
        uns["notices"] = [str(notice) for notice in run.notices]
    if run.label_column is not None:
        return {"cells": cell_eval.table(run, uns, run.label_column)}
    labels = [perturbation.label for perturbation in schedule.perturbations]
    targets = [perturbation.canonical for perturbation in schedule.perturbations]
    sizes, var, specs = np.diff(controls.groups.bounds), _var(run), dict[str, TableSpec]()
    if aggregate != "cells":
        group = _group_column(run, np.full(len(sizes), len(run.perturbations)))
        texts = {"condition": pd.Series(labels, dtype=object), "target_genes": pd.Series(targets, dtype=object)}
        means = pd.DataFrame({**texts, **group, table_spec.N_CONTROLS: schedule.counts})  # as many as these may be
        row_names = table_spec.unique_names("|".join(parts) for parts in zip(labels, *group.values(), strict=True))
        specs["mean"] = TableSpec("mean", means.set_axis(pd.Index(row_names, dtype=object)), var, run.layers, uns)
    if aggregate != "mean":
        condition = table_spec.by_perturbation(labels)
        columns = {"condition": condition, controls.condition_key or "condition": condition}
        columns["target_genes"] = table_spec.by_perturbation(targets)
        names = [str(name) for name in controls.obs_names]
        annotation = {**controls.annotation.obs, **_group_column(run, sizes)}
        cells = table_spec.CellRows(columns, labels, names, annotation, schedule.counts, schedule.first_cells)
        specs["cells"] = TableSpec("cells", cells, var, (), uns)
    return specs


def _var(run: Run) -> pd.DataFrame:
    """Return var, with the names that the output gives the model's genes as its index."""
    panel, match, wanted = run.predictor.panel, run.controls.match, run.options["var_names"]
    found = match.columns >= 0
    names_of_input = run.controls.annotation.var_names[match.columns]
    by_id = wanted == "ensembl" or (wanted == "input" and any(map(ensembl_id, names_of_input[found])))
    names = [gene_id or name if by_id else name for gene_id, name in zip(panel.ids, panel.names, strict=True)]
    if wanted == "input":
        names = np.where(found, names_of_input, names).tolist()
    var = pd.DataFrame({"gene_name": pd.Series(panel.names, dtype=object)})
    if None not in panel.ids:
        var["gene_id"] = pd.Series(panel.ids, dtype=object)
    elif any(panel.ids):
        # a categorical is the one string column that holds missing values in every anndata format
        known = pd.Index([gene_id for gene_id in dict.fromkeys(panel.ids) if gene_id is not None], dtype=object)
        var["gene_id"] = pd.Categorical(panel.ids, categories=known)
    var["in_vocab"] = np.asarray(panel.in_vocab, dtype=bool)
    return var.set_axis(pd.Index(names, dtype=object))


def _group_column(run: Run, n_rows: NDArray[np.int64]) -> dict[str, pd.Categorical]:
    """Return the column of obs that names the group, with this many rows of each."""
    groups = run.controls.groups
    if groups.column is None:
        return {}
    codes = np.repeat(np.arange(len(groups.names)), n_rows)
    return {groups.column: pd.Categorical.from_codes(codes, categories=pd.Index(groups.names, dtype=object))}


def _options(run: Run) -> dict[str, Any]:
    options: Mapping[str, Any] = run.options
    return {name: options[name] for name in _OPTIONS}


def _settings(run: Run) -> dict[str, Any]:
    """Return what the rows depend on: a run is only resumed with the same."""
    groups = run.controls.groups
    return {
        **run.predictor.provenance(),
        "control cells": run.controls.fingerprint,
        "perturbations": [perturbation.label for perturbation in run.perturbations],
        "targets": [perturbation.canonical for perturbation in run.perturbations],
        **_options(run),
        "groups": None if groups.column is None else dict(zip(groups.names, np.diff(groups.bounds), strict=True)),
        "control cells per perturbation": run.schedule.counts.tolist(),
        "aggregate": run.options["aggregate"],
        "cell-eval column": run.label_column,
        "obs": _digest(run.controls.annotation.obs),
        "versions": run.predictor.versions(),
    }


def _digest(obs: Mapping[str, Any]) -> str:
    frame = pd.DataFrame(dict(obs), dtype=object if not obs else None)
    return hashlib.sha256(repr(list(obs)).encode() + pd.util.hash_pandas_object(frame).to_numpy().tobytes()).hexdigest()
