"""The public face of a loaded bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, Unpack, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scgenept_rt.bundle import Bundle, Precision
from scgenept_rt.errors import ArgumentError, warn_caller
from scgenept_rt.expression.scale import unlike_log1p
from scgenept_rt.expression.values_array import from_array
from scgenept_rt.genes import GenePanel
from scgenept_rt.installing import RUNTIME_PACKAGES, installed_versions
from scgenept_rt.options import PredictFileOptions, PredictOptions, ReadOptions, SharedPredictOptions, resolve
from scgenept_rt.perturbation import PerturbationRequest, parse_perturbation, parse_perturbations
from scgenept_rt.predictor.batches import BatchLoop, OnNotice, Progress, Schedule
from scgenept_rt.predictor.run import PredictedRows, Run
from scgenept_rt.session import Session, automatic_batch_size, devices_of
from scgenept_rt.wording import pluralize

if TYPE_CHECKING:
    from anndata import AnnData


Labels = str | Sequence[str | PerturbationRequest]


class MeanAndCells(NamedTuple):
    """Both aggregates, as `Predictor.predict` returns them."""

    mean: AnnData
    cells: AnnData


class Predictor:
    """Predicts post-perturbation expression with one variant of scGenePT.

    Any number of threads may predict with one predictor at once. It is not picklable: it holds native memory, so
    load the bundle in each process. As a context manager it closes itself.

    Attributes
    ----------
    bundle
        The opened bundle.
    panel
        The model's genes.
    choice_reason
        Why this provider was chosen, in one line.
    free_device_bytes
        Free memory of the GPU after loading, the least of several; None on the CPU and where it is not known.
    gpu
        Model name of the GPUs; None on the CPU and where it is not known.
    """

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        *,
        choice_reason: str = "",
        free_device_bytes: int | None = None,
        gpu: str | None = None,
    ) -> None:
        self.bundle = bundle
        self.panel = GenePanel.from_manifest(bundle.manifest)
        self.choice_reason = choice_reason
        self.free_device_bytes = free_device_bytes
        self.gpu = gpu
        self._session: Session | None = session

    @property
    def session(self) -> Session:
        """The session that runs the network.

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
    def precision(self) -> Precision:
        """Precision in use: fp32 or fp16."""
        return self.session.precision

    def close(self) -> None:
        """Free the session and its memory; predicting afterwards raises RuntimeError."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        dimensions = self.bundle.manifest.dimensions
        state = "closed" if self._session is None else f"{self.provider}, {self.precision}"
        layers = pluralize(dimensions.n_layers, "layer")
        return f"<Predictor of {self.variant}: {pluralize(dimensions.n_genes, 'gene')}, {layers}, {state}>"

    def automatic_batch_size(self, *, by_memory: bool = True) -> int:
        """Return the cells per batch that bound memory and keep the provider busy.

        On a GPU it follows the memory that was free after loading. Where less is free later, batches are run in parts.
        Without `by_memory` it is the same on every machine with the provider.
        """
        return automatic_batch_size(
            self.provider,
            len(self.panel),
            precision=self.session.precision,
            d_model=self.bundle.manifest.dimensions.d_model,
            free_bytes=self.free_device_bytes if by_memory else None,
        )

    def warm_up(self, n_cells: Sequence[int] = (1,)) -> None:
        """Predict cells without expression on every device, so that no later call pays for first-time work.

        A GPU plans every batch size when it first runs.

        Parameters
        ----------
        n_cells
            Numbers of cells that later calls will predict at once, such as ``(1, model.automatic_batch_size())``.
        """
        for session in devices_of(self.session).values():
            one = Predictor(self.bundle, session, free_device_bytes=self.free_device_bytes)
            for n_rows in n_cells:
                one.predict_array(np.zeros((n_rows, len(self.panel)), dtype=np.float32), "ctrl")

    def predict_array(
        self,
        values: ArrayLike,
        perturbation: str | Sequence[str],
        *,
        batch_size: int | Literal["auto"] = "auto",
    ) -> NDArray[np.float32]:
        """Predict exactly the given cells, in order.

        Mirrors upstream's `pred_perturb`. Needs only NumPy and ONNX Runtime; thread-safe.

        Parameters
        ----------
        values
            (n_cells, n_genes) in model gene order: log1p-normalised expression of control cells. Counts, values
            below 0 and above 20 give a `PredictionWarning`; other scales are not noticed here (`predict` does).
        perturbation
            Label such as ``FOSB+ctrl`` or ``SAMD1+ZBTB1``, or one label per cell.
        batch_size
            Cells per batch.

        Returns
        -------
        ndarray
            (n_cells, n_genes) float32: predicted log1p-normalised expression, not clipped at 0.

        Raises
        ------
        ArgumentError
            If shapes, or numbers of labels and cells, do not fit.
        ExpressionValueError
            If the values hold NaN or infinity.
        PerturbationError
            If a perturbation is not one of this model.
        NonFinitePredictionError
            If the network returned NaN or infinity.
        BundleFileError
            If the bundle was changed meanwhile.
        """
        cells = from_array(values, self.panel)
        whole = bool(np.array_equal(cells[:32], np.rint(cells[:32])))
        warn_caller(unlike_log1p(float(cells.min(initial=0)), float(cells.max(initial=0)), all_whole=whole))
        schedule = self._schedule(perturbation, len(cells))
        size = resolve(PredictOptions, {"batch_size": batch_size})["batch_size"]
        loop = BatchLoop(
            self,
            n_rows=len(cells),
            batch_size=self.automatic_batch_size() if size == "auto" else size,
            read_cells=lambda begin, end: cells[begin:end],
            cell_name=lambda cell: f"row {cell}",
        )
        predicted = np.empty(cells.shape, dtype=np.float32)
        for batch, rows in loop.run(loop.full_batches(schedule), threaded=False):
            begin = batch.parts[0].first_cell
            predicted[begin : begin + len(rows)] = rows
        return predicted

    def _schedule(self, labels: str | Sequence[str], n_cells: int) -> Schedule:
        """Return the cells in order, those of one label that follow each other together."""
        if isinstance(labels, str) or not hasattr(labels, "__len__"):  # the latter is refused
            return Schedule([parse_perturbation(cast("str", labels), self.panel)], [n_cells])
        if len(labels) != n_cells:
            raise ArgumentError(
                f"{pluralize(len(labels), 'label')} for {pluralize(n_cells, 'cell')}",
                "Give one label for all cells, or one for each",
            )
        parsed = {label: parse_perturbation(label, self.panel) for label in dict.fromkeys(labels)}
        runs = [(label, len(list(same))) for label, same in groupby(labels)]
        counts = [count for _, count in runs]
        first_cells = np.cumsum([0, *counts])[:-1]
        return Schedule([parsed[label] for label, _ in runs], counts, first_cells)

    @overload
    def predict(
        self,
        adata: AnnData,
        perturbations: Labels,
        *,
        aggregate: Literal["both"],
        read: ReadOptions | None = None,
        progress: Progress | None = None,
        on_notice: OnNotice | None = None,
        **options: Unpack[SharedPredictOptions],
    ) -> MeanAndCells: ...

    @overload
    def predict(
        self,
        adata: AnnData,
        perturbations: Labels,
        *,
        read: ReadOptions | None = None,
        progress: Progress | None = None,
        on_notice: OnNotice | None = None,
        **options: Unpack[PredictOptions],
    ) -> AnnData: ...

    def predict(
        self,
        adata: AnnData,
        perturbations: Labels,
        *,
        read: ReadOptions | None = None,
        progress: Progress | None = None,
        on_notice: OnNotice | None = None,
        **options: Unpack[PredictOptions],
    ) -> AnnData | MeanAndCells:
        """Predict perturbations of the control cells of an AnnData, in memory.

        Parameters
        ----------
        adata
            Control cells with log1p-normalised expression; genes are matched by name, in any order.
        perturbations
            Labels; the same control cells serve all of them.
        read
            `scgenept_rt.ReadOptions`: where labels and values are in `adata`, and what to accept.
        progress
            Called with the (perturbation, control cell) pairs that are done, and their total.
        on_notice
            Called with each warning message; they are in ``uns["scgenept_rt"]["notices"]`` too.
        **options
            `scgenept_rt.options.PredictOptions`: aggregate, n_controls, seed, sampling, groupby, max_error,
            n_controls_per_perturbation, batch_size, var_names.

        Returns
        -------
        AnnData or MeanAndCells
            X float32, log1p scale, not clipped; see `docs/output.md`. `MeanAndCells` for the aggregate "both".

        Raises
        ------
        ScgeneptError
            If labels, genes or values do not fit the model (see `read_control_cells`, `parse_perturbations`).
        """
        from scgenept_rt.predictor.writing import to_memory

        resolved = resolve(PredictOptions, options)
        run = Run.prepare(self, adata, perturbations, resolved, read=read, on_notice=on_notice)
        with run.controls:
            tables = to_memory(run, progress)
        return MeanAndCells(**tables) if resolved["aggregate"] == "both" else tables[resolved["aggregate"]]

    def predict_file(
        self,
        cells: str | Path | AnnData,
        out: str | Path,
        perturbations: Labels,
        *,
        read: ReadOptions | None = None,
        progress: Progress | None = None,
        on_notice: OnNotice | None = None,
        **options: Unpack[PredictFileOptions],
    ) -> list[Path]:
        """Predict from a file into a file; memory does not grow with the number of cells or perturbations.

        Parameters
        ----------
        cells
            An .h5ad or .zarr file of control cells (or an AnnData).
        out
            The .h5ad or .zarr file to write. For the aggregate "both" it holds the means, and the cells are beside it
            (``OUT.cells.h5ad``).
        perturbations, read, progress, on_notice
            As in `predict`.
        **options
            `scgenept_rt.options.PredictFileOptions`: those of `predict`, and overwrite, resume, resume_command,
            for_cell_eval, predicted_controls, cell_eval_column, shard. A resumed run keeps its automatic batch size,
            and all parts of a run have the same.

        Returns
        -------
        list of Path
            The files written.

        Raises
        ------
        OutputError
            If the output cannot be written: found before anything is computed. Else as `predict`.
        """
        from scgenept_rt.predictor.writing import check_outputs, recorded_batch_size, to_files

        resolved = resolve(PredictFileOptions, options)
        check_outputs(out, resolved, cells=cells)
        if resolved["batch_size"] == "auto":
            # Rows are only the same in the same batches, and another size may be automatic by now or elsewhere.
            if resolved["shard"] is not None:
                resolved["batch_size"] = self.automatic_batch_size(by_memory=False)
            elif resolved["resume"]:
                resolved["batch_size"] = recorded_batch_size(out, resolved) or "auto"
        run = Run.prepare(self, cells, perturbations, resolved, read=read, on_notice=on_notice)
        with run.controls:
            return to_files(run, Path(out), resolved, progress)

    def iter_predict(
        self,
        cells: str | Path | AnnData,
        perturbations: Labels,
        *,
        read: ReadOptions | None = None,
        progress: Progress | None = None,
        on_notice: OnNotice | None = None,
        **options: Unpack[PredictOptions],
    ) -> Iterator[PredictedRows]:
        """Predict as `predict` does, and yield the rows as they are computed, for callers who write elsewhere.

        Cells and options are read and checked at once, the network runs as rows are taken. Columns are the model's
        genes, whatever `var_names` says.

        Yields
        ------
        PredictedRows
            For "mean" one row per perturbation (and group); for "cells" batches of consecutive control cells of one
            perturbation.
        """
        resolved = resolve(PredictOptions, options)
        if resolved["aggregate"] == "both":
            raise ArgumentError("aggregate is 'both', expected one of 'mean', 'cells'")
        return _rows_of(Run.prepare(self, cells, perturbations, resolved, read=read, on_notice=on_notice), progress)

    def parse(self, perturbations: Labels) -> tuple[list[Any], list[str]]:
        """Parse labels for this model; see `parse_perturbations`."""
        return parse_perturbations(perturbations, self.panel)

    def provenance(self) -> Mapping[str, Any]:
        """Return what outputs record of the model, under ``uns["scgenept_rt"]``."""
        manifest = self.bundle.manifest
        return {
            "manifest_digest": self.bundle.digest,
            "variant": manifest.variant,
            "dataset": manifest.dataset,
            "training_perturbations": manifest.training_perturbations,
            "synthetic": manifest.synthetic,
            "provider": self.provider,
            "precision": self.precision,
            "gpu": self.gpu,
        }

    def versions(self) -> dict[str, str]:
        """Return the versions of packages that outputs record."""
        return installed_versions("scgenept-rt", *RUNTIME_PACKAGES, "numpy", "anndata")


def _rows_of(run: Run, progress: Progress | None) -> Iterator[PredictedRows]:
    with run.controls:
        yield from run.rows(progress)
