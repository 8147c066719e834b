"""One run: control cells and perturbations in, rows out to memory or to files that can be continued."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import NoneType, TracebackType
from typing import Any, Self, cast

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from scgenept_rt.errors import PATH_TYPES, PredictOptionError, check_argument, pluralize
from scgenept_rt.expression import ControlCells, Sampling, check_source, read_control_cells
from scgenept_rt.genes import GenePanel
from scgenept_rt.options import ReadOptions, SamplingMode, resolve
from scgenept_rt.output import (
    MemoryTable,
    RowWriter,
    TableSpec,
    cell_eval_table,
    cells_path,
    cells_table,
    check_destination,
    finish_all,
    interrupted_settings,
    mean_table,
    open_table,
    stored_entry,
    stored_layer,
)
from scgenept_rt.output.table_spec import UNS_KEY
from scgenept_rt.perturbation import (
    CONTROL_LABELS,
    Perturbation,
    PerturbationRequest,
    parse_perturbations,
    unmeasured_target_notices,
)
from scgenept_rt.predictor.aggregation import (
    Aggregate,
    PredictedRows,
    means_to_tolerance,
    predicted_rows,
    tolerance_notice,
)
from scgenept_rt.predictor.option_checks import check_aggregate, check_options, whole_number
from scgenept_rt.predictor.schedule import BatchRunner, Notice, Progress, Schedule
from scgenept_rt.session import Session, planned_size

_BATCH_SIZE, _BATCH_SIZE_ENTRY = "batch size", "batch_size"
"""Where the batch size is kept: among the settings of a partial output, and in uns."""

_SECONDS_BETWEEN_COMMITS = 0.2
_COMMIT_SHARE = 0.02
"""Share of the time that commits may take: on a slow disk they come less often."""

_CELL_COUNTS = "a whole number from 1, or None for all control cells"


def check_outputs(
    out: str | Path, aggregate: Aggregate, *, overwrite: bool, resume: bool, cells: str | Path | AnnData
) -> None:
    """Find out whether the files of a run can be written, before its input is read; see `check_destination`."""
    check_argument("out", out, PATH_TYPES, "the path of an .h5ad or .zarr file")
    check_aggregate(aggregate)
    for name, flag in (("overwrite", overwrite), ("resume", resume)):
        check_argument(name, flag, (bool, np.bool_), "True or False")
    check_source(cells)
    input_path = None if isinstance(cells, AnnData) else cells
    for path in (out, cells_path(out)) if aggregate == "both" else (out,):
        check_destination(path, overwrite=overwrite, resume=resume, input_path=input_path)


def recorded_batch_size(out: str | Path, aggregate: Aggregate, *, overwrite: bool) -> int | None:
    """Return the batch size of the run that a resumed one continues, None if there is none.

    Where that run is finished, the file itself says it; a file that is to be replaced is another run's.
    """
    for path in (Path(out), cells_path(out)) if aggregate == "both" else (Path(out),):
        settings = interrupted_settings(path)
        found = settings.get(_BATCH_SIZE) if settings is not None else None
        if settings is None and not overwrite:
            found = stored_entry(path, _BATCH_SIZE_ENTRY)
        if isinstance(found, (int, np.integer)) and found > 0:
            return int(found)
    return None


@dataclass(frozen=True)
class Run:
    """Everything that the rows of a run depend on, read and checked. A context manager: leaving drops the cells."""

    session: Session
    panel: GenePanel
    provenance: Mapping[str, Any]
    controls: ControlCells
    schedule: Schedule
    sampling: Sampling
    aggregate: Aggregate
    tolerance: float | None
    batch_size: int
    for_cell_eval: str | None
    notices: tuple[str, ...]
    on_notice: Notice | None = None

    @classmethod
    def prepare(
        cls,
        session: Session,
        panel: GenePanel,
        provenance: Mapping[str, Any],
        cells: str | Path | AnnData,
        perturbations: str | Sequence[str | PerturbationRequest],
        *,
        aggregate: Aggregate,
        n_controls: int | None,
        seed: int,
        sampling: SamplingMode,
        tolerance: float | None,
        read: ReadOptions | None,
        batch_size: int,
        for_cell_eval: bool | str = False,
        on_notice: Notice | None = None,
    ) -> Run:
        """Check the options, parse the perturbations and read the control cells; see `Predictor.predict`.

        `provenance` is what outputs record of the model.
        """
        check_argument("on_notice", on_notice, (Callable, NoneType), "a function, or None")
        check_options(aggregate, tolerance, for_cell_eval)
        if n_controls is not None:
            n_controls = whole_number("n_controls", n_controls, _CELL_COUNTS)
        seed = whole_number("seed", seed, "a number from 0 to 4294967295")
        tolerance = None if tolerance is None else float(tolerance)
        read = resolve(ReadOptions, read)
        control_label = read["control_label"]
        control_labels = (*CONTROL_LABELS, control_label) if control_label else CONTROL_LABELS
        parsed, notices = parse_perturbations(perturbations, panel, control_labels)
        asked = [
            whole_number(f"n_controls of the perturbation {perturbation.label}", perturbation.n_controls, _CELL_COUNTS)
            for perturbation in parsed
            if perturbation.n_controls is not None
        ]
        if min(asked, default=1) < 1:
            raise PredictOptionError(f"a perturbation asks for n_controls = {min(asked)}. Expected 1 or more.")
        wanted = max(asked, default=0)
        if tolerance is not None and sampling == "all":
            # The first cells must be a random sample of all: the order of a file may follow batches or clusters.
            sampling = "random"
            notices.append(f"With a tolerance, control cells are added in random order (seed {seed}).")
        drawing = Sampling(sampling, n_controls, seed)
        controls = read_control_cells(cells, panel, options=read, sampling=drawing)
        unmeasured = unmeasured_target_notices(parsed, controls.match.columns)
        notices = [*_full_coverage(controls), *controls.notices, *notices, *unmeasured]
        try:
            if wanted > controls.n_obs:
                raise PredictOptionError(
                    f"a perturbation asks for n_controls = {wanted:,}, but the run has "
                    f"{pluralize(controls.n_obs, 'control cell')}. Lower it, or raise --n-controls."
                )
            if for_cell_eval:
                _check_labels_for_cell_eval(parsed, _label_for_cell_eval(controls))
        except PredictOptionError:
            controls.close()
            raise
        for notice in notices:
            if on_notice is not None:
                on_notice(notice)
        return cls(
            session,
            panel,
            provenance,
            controls,
            Schedule(parsed, controls.n_obs),
            drawing,
            aggregate,
            tolerance,
            batch_size,
            _column_for_cell_eval(controls, for_cell_eval),
            tuple(notices),
            on_notice,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.controls.close()

    def rows(self, progress: Progress | None = None, first_row: int = 0) -> Generator[PredictedRows, None, None]:
        """Predict from a row of the schedule on; with means, that is the first of a perturbation."""
        # No batch is larger than the run needs: a panel of a few cells would otherwise be padded to a full one.
        # With a tolerance, a batch holds cells of one perturbation alone.
        n_rows = self.schedule.n_rows if self.tolerance is None else int(self.schedule.counts.max())
        fixed = self.session.fixed_batches
        batch_size = planned_size(n_rows, self.batch_size) if fixed else min(self.batch_size, n_rows)
        runner = BatchRunner(self.session, self.panel, self.controls, batch_size)
        if self.tolerance is not None:
            yield from means_to_tolerance(
                runner,
                self.schedule,
                self.controls,
                self.tolerance,
                first_perturbation=self.schedule.perturbation_of(first_row),
                progress=progress,
            )
            return
        yield from predicted_rows(
            runner,
            self.schedule,
            self.controls,
            mean=self.aggregate in ("mean", "both"),
            cells=self.aggregate in ("cells", "both"),
            first_row=first_row,
            progress=progress,
        )

    def to_memory(self, progress: Progress | None = None) -> dict[str, AnnData]:
        """Predict everything into memory; one table for each kind."""
        writers: dict[str, RowWriter] = {kind: MemoryTable(spec) for kind, spec in self._specs().items()}
        self._write(writers, progress)
        tables = {kind: cast("AnnData", writer.finish()) for kind, writer in writers.items()}
        if self.tolerance is not None:
            notice = self._tell_tolerance_missed([tables["mean"].layers["sem"]])
            if notice is not None:
                tables["mean"].uns[UNS_KEY]["notices"] = np.asarray([*self.notices, notice])
        return tables

    def to_files(
        self, out: Path, *, overwrite: bool, resume: bool, resume_command: str, progress: Progress | None = None
    ) -> list[Path]:
        """Predict everything into files, or what an interrupted run left undone; returns their paths."""
        with ExitStack() as stack:
            writers: dict[str, RowWriter] = {}
            for kind, spec in self._specs().items():
                path = cells_path(out) if (kind, self.aggregate) == ("cells", "both") else out
                writers[kind] = stack.enter_context(
                    open_table(
                        path,
                        spec,
                        settings=self._settings(),
                        overwrite=overwrite,
                        resume=resume,
                        command=resume_command,
                    )
                )
            self._write(writers, progress)
            paths = [cast("Path", path) for path in finish_all(list(writers.values()))]
        if self.tolerance is not None:
            # From the finished file: a run that was continued has computed only some of its rows. Whoever waited for
            # the file may have taken it away by now, and the run is no less a success for that.
            with suppress(OSError, KeyError):
                self._tell_tolerance_missed(stored_layer(out, "sem"))
        return paths

    def _tell_tolerance_missed(self, sems: Iterable[NDArray[np.float32]]) -> str | None:
        assert self.tolerance is not None
        n_used, n_available = self.controls.n_obs, self.controls.n_available
        more = "Add control cells" if n_used >= n_available else f"Raise --n-controls (there are {n_available:,} cells)"
        labels = [perturbation.label for perturbation in self.schedule.perturbations]
        notice = tolerance_notice(
            self.tolerance, sems, labels, self.panel.names, next_step=f"{more}, or raise the tolerance."
        )
        if notice is not None and self.on_notice is not None:
            self.on_notice(notice)
        return notice

    def _write(self, writers: Mapping[str, RowWriter], progress: Progress | None) -> None:
        n_own_rows = self._write_control_rows(writers["cells"]) if self.for_cell_eval is not None else 0
        first_row = self._first_missing_row(writers, n_own_rows)
        if first_row == self.schedule.n_rows:
            return  # a table may be finished on disk already, and then goes back no more
        if "cells" in writers:
            writers["cells"].rewind(n_own_rows + first_row)
        if "mean" in writers:
            writers["mean"].rewind(_first_perturbation(self.schedule, first_row))
        commits = _Commits(list(writers.values()))
        # Closed before the tables and the cells are: an error in writing leaves no batch running.
        with closing(self.rows(progress, first_row)) as predicted:
            for rows in predicted:
                writer = writers[rows.aggregate]
                n_controls = None if rows.aggregate == "cells" else [rows.n_controls]
                writer.write(rows.X, rows.layers, cast("Any", n_controls))
                commits.commit_when_due()
        # All of them before the first is finished: a finished table cannot go back for rows that another one lacks.
        commits.commit()

    def _first_missing_row(self, writers: Mapping[str, RowWriter], n_own_rows: int) -> int:
        """Return the first row of the schedule that some table lacks; with means, the first of its perturbation."""
        missing = []
        if "mean" in writers:
            missing.append(int(self.schedule.starts[writers["mean"].n_committed]))
        if "cells" in writers:
            missing.append(max(writers["cells"].n_committed - n_own_rows, 0))
        row = min(missing)
        return int(self.schedule.starts[_first_perturbation(self.schedule, row)]) if "mean" in writers else row

    def _write_control_rows(self, writer: RowWriter) -> int:
        """Write the control cells themselves, as cell-eval compares predictions with them."""
        n_cells, step = self.controls.n_obs, max(1, 4_000_000 // self.controls.n_genes)
        if writer.n_committed < n_cells:
            writer.rewind(writer.n_committed)
            for begin in range(writer.n_committed, n_cells, step):
                writer.write(self.controls.dense(begin, min(begin + step, n_cells)))
            writer.commit()
        return n_cells

    def _specs(self) -> dict[str, TableSpec]:
        perturbations, panel, uns = self.schedule.perturbations, self.panel, self._uns()
        counts = [int(count) for count in self.schedule.counts]
        names = [str(name) for name in self.controls.obs_names] if self.aggregate != "mean" else []
        if self.for_cell_eval is not None:
            table = cell_eval_table(
                perturbations,
                names,
                panel,
                uns,
                control_label=_label_for_cell_eval(self.controls),
                perturbation_column=self.for_cell_eval,
                n_controls=counts,
            )
            return {"cells": table}
        specs: dict[str, TableSpec] = {}
        if self.aggregate in ("mean", "both"):
            specs["mean"] = mean_table(perturbations, panel, counts, uns)
        if self.aggregate in ("cells", "both"):
            specs["cells"] = cells_table(perturbations, names, panel, uns, n_controls=counts)
        return specs

    def _uns(self) -> dict[str, Any]:
        uns = {
            **self.provenance,
            "seed": self.sampling.seed,
            "sampling": self.sampling.mode,
            "n_controls_available": self.controls.n_available,
            _BATCH_SIZE_ENTRY: self.batch_size,
            "versions": _versions(),
        }
        if self.tolerance is not None:
            uns["tolerance"] = self.tolerance
        if self.notices:
            uns["notices"] = list(self.notices)
        return uns

    def _settings(self) -> dict[str, Any]:
        """Return what the rows depend on: a run is only continued with the same."""
        return {
            **self.provenance,
            "control cells": self.controls.fingerprint,
            "perturbations": [perturbation.label for perturbation in self.schedule.perturbations],
            "targets": [perturbation.canonical for perturbation in self.schedule.perturbations],
            "control cells a perturbation": [int(count) for count in self.schedule.counts],
            "aggregate": self.aggregate,
            "sampling": self.sampling.mode,
            "seed": self.sampling.seed,
            "tolerance": self.tolerance,
            _BATCH_SIZE: self.batch_size,
            "for cell-eval": self.for_cell_eval,
            "versions": _versions(),
        }


class _Commits:
    """Commits tables together, as often as costs little: an interrupted run loses what came after the last one."""

    def __init__(self, writers: Sequence[RowWriter]) -> None:
        self._writers = writers
        self._due = time.monotonic() + _SECONDS_BETWEEN_COMMITS

    def commit_when_due(self) -> None:
        if time.monotonic() >= self._due:
            self.commit()

    def commit(self) -> None:
        begun = time.monotonic()
        for writer in self._writers:
            writer.commit()
        ended = time.monotonic()
        self._due = ended + max(_SECONDS_BETWEEN_COMMITS, (ended - begun) / _COMMIT_SHARE)


def _first_perturbation(schedule: Schedule, row: int) -> int:
    return schedule.perturbation_of(row) if row < schedule.n_rows else len(schedule.perturbations)


def _full_coverage(controls: ControlCells) -> list[str]:
    """Say that nothing is missing, which the reader of an input does not: it tells what is."""
    match = controls.match
    if match.missing:
        return []
    return [
        f"All {match.n_found:,} genes of the model were found in the input; "
        f"{pluralize(match.n_found_in_vocab, 'of them is', 'of them are')} in its vocabulary."
    ]


def _column_for_cell_eval(controls: ControlCells, wanted: bool | str) -> str | None:
    if isinstance(wanted, str):
        return wanted or None
    return (controls.condition_key or "target") if wanted else None


def _label_for_cell_eval(controls: ControlCells) -> str:
    return controls.control_label or CONTROL_LABELS[-1]


def _check_labels_for_cell_eval(perturbations: Sequence[Perturbation], control_label: str) -> None:
    """Refuse a perturbation whose predictions would count as control cells."""
    if any(perturbation.label == control_label for perturbation in perturbations):
        raise PredictOptionError(
            f"the form for cell-eval holds the control cells as {control_label!r}, and a perturbation has that label "
            f"too. Leave the perturbation {control_label} out."
        )


def _versions() -> dict[str, str]:
    found = {}
    for package in ("scgenept-rt", "onnxruntime", "onnxruntime-gpu", "numpy", "anndata"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
