"""The public face of a loaded bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scgenept_rt.bundle import Bundle
from scgenept_rt.errors import NonFinitePredictionError, PredictOptionError, check_argument, pluralize
from scgenept_rt.expression.values_array import from_array
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import PerturbationRequest, parse_perturbation, parse_perturbations
from scgenept_rt.predictor.memory_backoff import MemoryBackoff
from scgenept_rt.predictor.option_checks import whole_number
from scgenept_rt.session import Session, automatic_batch_size, planned_size

if TYPE_CHECKING:
    from anndata import AnnData

    from scgenept_rt.expression import ReadOptions
    from scgenept_rt.options import SamplingMode
    from scgenept_rt.predictor.aggregation import Aggregate, PredictedRows
    from scgenept_rt.predictor.run import Run
    from scgenept_rt.predictor.schedule import Notice, Progress


_BATCH_SIZES = "1 or more, or auto"


class MeanAndCells(NamedTuple):
    """What `Predictor.predict` returns for the aggregate "both"."""

    mean: AnnData
    cells: AnnData


class Predictor:
    """Predicts post-perturbation expression with one variant of scGenePT.

    Any number of threads may predict with one predictor at once. It is not picklable: it holds native memory, so
    open the bundle again in each process. As a context manager it lets go of the session on leaving.

    Attributes
    ----------
    bundle
        The opened bundle.
    panel
        The model's genes.
    choice_reason
        One line: why this provider was chosen.
    free_device_bytes
        Memory that was free on the GPU once the session was made; None on the CPU, and where it is not known.
    """

    def __init__(
        self, bundle: Bundle, session: Session, *, choice_reason: str = "", free_device_bytes: int | None = None
    ) -> None:
        self.bundle = bundle
        self.panel = GenePanel.from_manifest(bundle.manifest)
        self.choice_reason = choice_reason
        self.free_device_bytes = free_device_bytes
        self._session: Session | None = session

    @property
    def session(self) -> Session:
        """What runs the network.

        Raises
        ------
        RuntimeError
            If the predictor was closed.
        """
        if self._session is None:
            raise RuntimeError("this predictor is closed; load the bundle again")
        return self._session

    @property
    def gene_names(self) -> list[str]:
        """The model's genes, in the order of the columns of every prediction."""
        return list(self.panel.names)

    @property
    def variant(self) -> str:
        """Upstream's model type, such as ``scgenept_go_c_gpt_concat``."""
        return self.bundle.manifest.variant

    @property
    def provider(self) -> str:
        """Name of the execution provider in use."""
        return self.session.provider

    @property
    def precision(self) -> str:
        """Precision in use: fp32 or fp16."""
        return self.session.precision

    def close(self) -> None:
        """Let go of the session and its memory; predicting afterwards is an error."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        """Refuse: see the class."""
        raise TypeError(
            "a Predictor cannot be pickled: it holds native memory. Send the bundle's path and load it in each process."
        )

    def __repr__(self) -> str:
        dimensions = self.bundle.manifest.dimensions
        state = "closed" if self._session is None else f"{self.provider}, {self.precision}"
        layers = pluralize(dimensions.n_layers, "layer")
        return f"<Predictor of {self.variant}: {pluralize(dimensions.n_genes, 'gene')}, {layers}, {state}>"

    def automatic_batch_size(self) -> int:
        """Return the number of cells a batch that bounds memory and keeps the provider busy: always the same.

        On a GPU the memory that was free when the bundle was loaded counts. Where others have taken it since, batches
        are run in parts.
        """
        return automatic_batch_size(
            self.provider,
            len(self.panel),
            precision=self.session.precision,
            d_model=self.bundle.manifest.dimensions.d_model,
            free_bytes=self.free_device_bytes,
        )

    def warm_up(self, n_cells: Sequence[int] = (1,)) -> None:
        """Predict cells without expression and drop the result, so that no later call pays for what a first one costs.

        On a GPU every size of a batch is planned when it first runs, and CUDA graphs are recorded then.

        Parameters
        ----------
        n_cells
            How many cells later calls will predict at once, such as ``(1, model.automatic_batch_size())``.

        Raises
        ------
        PredictOptionError
            If one is no whole number from 1 on.
        NonFinitePredictionError
            If the network gives NaN or infinity.
        """
        check_argument("n_cells", n_cells, (Iterable,), "numbers of cells, such as (1, 32)")
        sizes = [whole_number("n_cells", number, "whole numbers from 1 on") for number in n_cells]
        if any(size < 1 for size in sizes):
            raise PredictOptionError(f"n_cells is {min(sizes)}. Expected whole numbers from 1 on.")
        for n_rows in sizes:
            self.predict_array(np.zeros((n_rows, len(self.panel)), dtype=np.float32), "ctrl")

    def predict_array(
        self, values: ArrayLike, perturbation: str, *, batch_size: int | Literal["auto"] = "auto"
    ) -> NDArray[np.float32]:
        """Predict exactly the given cells, in order.

        Mirrors upstream's `pred_perturb` for one perturbation. Needs NumPy and ONNX Runtime alone; safe to call from
        many threads at once.

        Parameters
        ----------
        values
            (n_cells, n_genes) in model gene order: log1p-normalised expression of control cells. Only shape and
            finiteness are checked: values of another scale give numbers that mean nothing.
        perturbation
            Label such as ``FOSB+ctrl`` or ``SAMD1+ZBTB1``.
        batch_size
            Cells a batch.

        Returns
        -------
        ndarray
            (n_cells, n_genes) float32: predicted log1p-normalised expression, not clipped at 0.

        Raises
        ------
        ValuesShapeError, NonFiniteValueError
            If the values are not of that shape, or hold NaN or infinity.
        PerturbationError
            If the perturbation is not one of this model.
        NonFinitePredictionError
            If the network gave NaN or infinity.
        """
        session = self.session
        parsed = parse_perturbation(perturbation, self.panel)
        cells = from_array(values, self.panel)
        size = self._batch_size(batch_size)
        flags = np.zeros((planned_size(len(cells), size), len(self.panel)), dtype=np.int64)
        flags[:, list(parsed.columns)] = 1
        gene_index = np.arange(len(self.panel), dtype=np.int64)
        predicted = np.empty(cells.shape, dtype=np.float32)
        backoff = MemoryBackoff(session)
        for begin in range(0, len(cells), size):
            block = cells[begin : begin + size]
            n_rows = len(block)
            if session.fixed_batches:
                block = _padded(block, planned_size(n_rows, size))
            predicted[begin : begin + n_rows] = backoff.run(block, flags[: len(block)], gene_index)[:n_rows]
        if not np.isfinite(np.sum(predicted, dtype=np.float64)):
            row, gene = (int(i) for i in np.argwhere(~np.isfinite(predicted))[0])
            raise NonFinitePredictionError(
                parsed.label,
                f"row {row}",
                self.panel.names[gene],
                float(predicted[row, gene]),
                self.provider,
                self.precision,
            )
        return predicted

    @overload
    def predict(
        self,
        adata: AnnData,
        perturbations: str | Sequence[str | PerturbationRequest],
        *,
        aggregate: Literal["mean", "cells"] = "mean",
        n_controls: int | None = None,
        seed: int = 0,
        sampling: SamplingMode = "all",
        tolerance: float | None = None,
        read: ReadOptions | None = None,
        batch_size: int | Literal["auto"] = "auto",
        progress: Progress | None = None,
        on_notice: Notice | None = None,
    ) -> AnnData: ...

    @overload
    def predict(
        self,
        adata: AnnData,
        perturbations: str | Sequence[str | PerturbationRequest],
        *,
        aggregate: Literal["both"],
        n_controls: int | None = None,
        seed: int = 0,
        sampling: SamplingMode = "all",
        tolerance: float | None = None,
        read: ReadOptions | None = None,
        batch_size: int | Literal["auto"] = "auto",
        progress: Progress | None = None,
        on_notice: Notice | None = None,
    ) -> MeanAndCells: ...

    def predict(
        self,
        adata: AnnData,
        perturbations: str | Sequence[str | PerturbationRequest],
        *,
        aggregate: Aggregate = "mean",
        n_controls: int | None = None,
        seed: int = 0,
        sampling: SamplingMode = "all",
        tolerance: float | None = None,
        read: ReadOptions | None = None,
        batch_size: int | Literal["auto"] = "auto",
        progress: Progress | None = None,
        on_notice: Notice | None = None,
    ) -> AnnData | MeanAndCells:
        """Predict perturbations of the control cells of an AnnData, in memory.

        Parameters
        ----------
        adata
            Holds control cells with log1p-normalised expression; genes are matched by name, in any order.
        perturbations
            Labels; the same control cells serve all of them.
        aggregate
            "mean": one row a perturbation, with layers `delta` and `sem`; "cells": one row a (perturbation, control
            cell); "both": the two, as `MeanAndCells`.
        n_controls, seed, sampling
            Which control cells: see `scgenept_rt.expression.Sampling`.
        tolerance
            Add control cells, in random order, until the standard error of every gene's mean is at most this (and
            at least 32 are used). For the aggregate "mean" alone.
        read
            Where labels and values lie in `adata`, and what to accept.
        batch_size
            Cells a batch.
        progress
            Is told the (perturbation, control cell) pairs done, and their number.
        on_notice
            Is told what the user should know; the sentences are in ``uns["scgenept_rt"]["notices"]`` too.

        Returns
        -------
        AnnData or MeanAndCells
            X float32, log1p scale, not clipped; see `docs/output.md`.

        Raises
        ------
        ScgeneptError
            If labels, genes or values do not fit the model (see `read_control_cells`, `parse_perturbations`).
        """
        from scgenept_rt.predictor.run import Run

        check_argument("progress", progress, (Callable, NoneType), "a function, or None")
        with Run.prepare(
            self.session,
            self.panel,
            self.provenance(),
            adata,
            perturbations,
            aggregate=aggregate,
            n_controls=n_controls,
            seed=seed,
            sampling=sampling,
            tolerance=tolerance,
            read=read,
            batch_size=self._batch_size(batch_size),
            on_notice=on_notice,
        ) as run:
            tables = run.to_memory(progress)
        return MeanAndCells(tables["mean"], tables["cells"]) if aggregate == "both" else tables[aggregate]

    def predict_file(
        self,
        cells: str | Path | AnnData,
        out: str | Path,
        perturbations: str | Sequence[str | PerturbationRequest],
        *,
        aggregate: Aggregate = "mean",
        n_controls: int | None = None,
        seed: int = 0,
        sampling: SamplingMode = "all",
        tolerance: float | None = None,
        read: ReadOptions | None = None,
        batch_size: int | Literal["auto"] = "auto",
        overwrite: bool = False,
        resume: bool = False,
        resume_command: str = "",
        for_cell_eval: bool | str = False,
        progress: Progress | None = None,
        on_notice: Notice | None = None,
    ) -> list[Path]:
        """Predict from a file into a file; memory does not grow with cells or perturbations.

        Parameters are those of `predict`, and:

        Parameters
        ----------
        cells
            An .h5ad or .zarr file of control cells (or an AnnData).
        out
            The .h5ad or .zarr file to write. For "both" it holds the means, and the cells lie beside it
            (``OUT.cells.h5ad``).
        overwrite
            Replace an output that exists.
        resume
            Continue an interrupted run of the same settings; an automatic batch size is the one that it had.
        resume_command
            The command that continues this run, for messages.
        for_cell_eval
            Write the form that cell-eval 0.8 accepts: cells, with the control cells themselves, clipped at 0. The
            name of the column of perturbations, or True for the one that the input has (else ``target``,
            cell-eval's own default).

        Returns
        -------
        list of Path
            The files written.

        Raises
        ------
        OutputError
            If the output cannot be written: found before anything is computed.
        ScgeneptError
            As `predict`.
        """
        from scgenept_rt.predictor.run import Run, check_outputs, recorded_batch_size

        check_argument("progress", progress, (Callable, NoneType), "a function, or None")
        check_outputs(out, aggregate, overwrite=overwrite, resume=resume, cells=cells)
        size = self._batch_size(batch_size)
        if resume and batch_size == "auto":
            # What was free on the GPU then need not be free now, and rows are only the same in the same batches.
            size = recorded_batch_size(out, aggregate, overwrite=overwrite) or size
        with Run.prepare(
            self.session,
            self.panel,
            self.provenance(),
            cells,
            perturbations,
            aggregate=aggregate,
            n_controls=n_controls,
            seed=seed,
            sampling=sampling,
            tolerance=tolerance,
            read=read,
            batch_size=size,
            for_cell_eval=for_cell_eval,
            on_notice=on_notice,
        ) as run:
            return run.to_files(
                Path(out), overwrite=overwrite, resume=resume, resume_command=resume_command, progress=progress
            )

    def iter_predict(
        self,
        cells: str | Path | AnnData,
        perturbations: str | Sequence[str | PerturbationRequest],
        *,
        aggregate: Literal["mean", "cells"] = "mean",
        n_controls: int | None = None,
        seed: int = 0,
        sampling: SamplingMode = "all",
        tolerance: float | None = None,
        read: ReadOptions | None = None,
        batch_size: int | Literal["auto"] = "auto",
        on_notice: Notice | None = None,
    ) -> Iterator[PredictedRows]:
        """Predict as `predict` does, and hand out the rows as they are computed, for callers who write elsewhere.

        Cells and options are read and checked at once, the network runs as rows are taken.

        Yields
        ------
        PredictedRows
            For "mean" one row a perturbation; for "cells" blocks of consecutive control cells of one perturbation.

        Raises
        ------
        ScgeneptError
            As `predict`.
        """
        from scgenept_rt.predictor.run import Run

        check_argument("aggregate", aggregate, (str,), "mean or cells")
        if aggregate not in ("mean", "cells"):
            raise PredictOptionError(f"aggregate is {aggregate!r}. Expected mean or cells.")
        run = Run.prepare(
            self.session,
            self.panel,
            self.provenance(),
            cells,
            perturbations,
            aggregate=aggregate,
            n_controls=n_controls,
            seed=seed,
            sampling=sampling,
            tolerance=tolerance,
            read=read,
            batch_size=self._batch_size(batch_size),
            on_notice=on_notice,
        )
        return _rows_of(run)

    def parse(self, perturbations: str | Sequence[str | PerturbationRequest]) -> tuple[list[Any], list[str]]:
        """Parse labels for this model; see `parse_perturbations`."""
        return parse_perturbations(perturbations, self.panel)

    def _batch_size(self, batch_size: int | Literal["auto"]) -> int:
        if isinstance(batch_size, str) and batch_size == "auto":
            return self.automatic_batch_size()
        size = whole_number("batch_size", batch_size, _BATCH_SIZES)
        if size < 1:
            raise PredictOptionError(f"batch_size is {size}. Expected {_BATCH_SIZES}.")
        return size

    def provenance(self) -> Mapping[str, Any]:
        """Return what outputs record of the model, under ``uns["scgenept_rt"]``."""
        manifest = self.bundle.manifest
        return {
            "manifest_digest": self.bundle.digest,
            "variant": manifest.variant,
            "dataset": manifest.dataset,
            "synthetic": manifest.synthetic,
            "provider": self.provider,
            "precision": self.precision,
        }


def _rows_of(run: Run) -> Iterator[PredictedRows]:
    with run:
        yield from run.rows()


def _padded(cells: NDArray[np.float32], n_rows: int) -> NDArray[np.float32]:
    """Return the cells, followed by empty ones up to `n_rows`."""
    return np.concatenate([cells, np.zeros((n_rows - len(cells), cells.shape[1]), dtype=cells.dtype)])
