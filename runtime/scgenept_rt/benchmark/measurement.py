"""Timing a bundle: first its error, then throughput, latency and memory by batch size."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.benchmark.machine import describe_machine
from scgenept_rt.benchmark.matrix_rate import MatrixProduct
from scgenept_rt.benchmark.memory import available_bytes, host_peak_bytes, reset_host_peak
from scgenept_rt.benchmark.options import BenchmarkOptionError, BenchmarkOptions
from scgenept_rt.benchmark.work import encoder_flops
from scgenept_rt.bundle import Bundle, Dimensions
from scgenept_rt.errors import InferenceFailedError, NonFinitePredictionError, pluralize
from scgenept_rt.predictor import Predictor, load
from scgenept_rt.providers import ProviderChoice, select_provider
from scgenept_rt.providers.devices import DeviceMeter
from scgenept_rt.providers.diagnosis import ORT_NAMES
from scgenept_rt.reference_check import ReferenceResult, check_reference
from scgenept_rt.session import cpu_attention_kernel, cuda_attention_kernels, open_session
from scgenept_rt.session.token_merging import merge_tokens, shares_token

Progress = Callable[[str], None]
"""Is told what begins now."""

_EXPRESSED = 0.08
"""Share of non-zero values in a cell, as in the Norman data."""
_WARM_UP_RUNS = {"cpu": 1}
_GPU_WARM_UP_RUNS = 3  # the first fills caches of plans, and the clock needs a while to rise
_END_TO_END_PERTURBATIONS = 2
# Tensors of [cells, n_genes, d_model] that a layer cannot do without: its input, queries, keys and values.
_LEAST_ALIVE_TENSORS = 4
_FP32_BYTES = 4


@dataclass(frozen=True)
class Timing:
    """One batch size on one provider in one precision; the figures are None if it did not run, and `problem` says why.

    Attributes
    ----------
    p50_ms, p95_ms
        Milliseconds a batch, from inputs to outputs in host memory, warm-up excluded.
    cells_per_second
        `batch_size` over the median.
    cpu_seconds_per_cell
        Processor time of all threads of this process.
    tokens_per_cell
        Tokens that are computed for a cell: the genes, less those that are merged as identical.
    gflops, share_of_matrix_rate
        `encoder_flops` of these tokens over the median; the same as a share of the machine's own rate of matrix
        products.
    peak_host_bytes
        Largest resident size while this batch size ran (of the whole process where the system cannot tell).
    peak_device_bytes
        Device memory more than before the bundle was opened; GPU alone.
    """

    provider: str
    precision: str
    batch_size: int
    n_genes: int
    repeats: int
    p50_ms: float | None = None
    p95_ms: float | None = None
    cells_per_second: float | None = None
    cpu_seconds_per_cell: float | None = None
    tokens_per_cell: float | None = None
    gflops: float | None = None
    share_of_matrix_rate: float | None = None
    peak_host_bytes: int | None = None
    peak_device_bytes: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class EndToEnd:
    """A prediction from an .h5ad file to an .h5ad file: opening, reading, predicting, reducing and writing.

    `cells_per_second` counts (perturbation, control cell) pairs; `share_of_session` is that over the rate of the
    network alone, on as many batches of the same size right afterwards.
    """

    provider: str
    precision: str
    n_controls: int
    n_perturbations: int
    batch_size: int
    open_seconds: float
    seconds: float
    cells_per_second: float
    share_of_session: float
    peak_host_bytes: int | None


@dataclass(frozen=True)
class PrecisionResult:
    """All figures of one precision; `matrix_gflops` is None where the machine's own rate cannot be measured."""

    reference: ReferenceResult
    choice_reason: str
    cuda_graphs: bool
    attention_kernel: str | None
    open_seconds: float
    matrix_gflops: float | None
    matrix_size: int | None
    matrix_precision: str | None
    timings: tuple[Timing, ...]
    end_to_end: EndToEnd | None


@dataclass(frozen=True)
class BenchmarkResult:
    """What `run_benchmark` measured."""

    machine: dict[str, Any]
    variant: str
    manifest_digest: str
    dimensions: Dimensions
    results: tuple[PrecisionResult, ...]

    @property
    def timings(self) -> tuple[Timing, ...]:
        """The rows of all precisions."""
        return tuple(timing for result in self.results for timing in result.timings)

    def to_json(self) -> str:
        """Return all figures as JSON."""
        return json.dumps({"kind": "scgenept-rt benchmark", **dataclasses.asdict(self)}, indent=1) + "\n"


def run_benchmark(
    bundle: str | Path | Bundle, options: BenchmarkOptions | None = None, *, progress: Progress | None = None
) -> BenchmarkResult:
    """Measure a bundle on this machine.

    Each precision is first compared with the eager model's outputs in the bundle: times of wrong outputs are not
    worth having. A batch size that does not fit into memory becomes a row that says so.

    Parameters
    ----------
    bundle
        Directory of a bundle, or an opened one.
    options
        What to measure.
    progress
        Is told each step.

    Raises
    ------
    BenchmarkOptionError
        If more genes are asked for than the model has, or the end-to-end mode or CUDA graphs with another number.
    ReferenceMissedError
        If outputs differ from the reference by more than the tolerance.
    ScgeneptError
        As `scgenept_rt.load`.
    """
    options, progress = options or BenchmarkOptions(), progress or (lambda _step: None)
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    dimensions = opened.manifest.dimensions
    if options.n_genes is not None and options.n_genes > dimensions.n_genes:
        # Repeated genes would be timed, of which those outside the vocabulary may merge and cost less than others.
        raise BenchmarkOptionError(
            f"n_genes is {options.n_genes:,}, but the model has {pluralize(dimensions.n_genes, 'gene')}. "
            f"Expected 1 to {dimensions.n_genes:,}; leave --n-genes out for all of them."
        )
    if options.end_to_end and options.n_genes not in (None, dimensions.n_genes):
        raise BenchmarkOptionError(
            f"end to end always predicts the model's {dimensions.n_genes:,} genes, not {options.n_genes:,}. "
            "Leave out one of --n-genes and --end-to-end."
        )
    if options.cuda_graphs and options.n_genes not in (None, dimensions.n_genes):
        raise BenchmarkOptionError(
            f"CUDA graphs are recorded for the model's {dimensions.n_genes:,} genes, not for {options.n_genes:,}. "
            "Leave out one of --n-genes and --cuda-graphs."
        )
    machine: dict[str, Any] = {}
    results = []
    for precision in options.precisions:
        result, machine = _measure_precision(opened, options, precision, progress)
        results.append(result)
    return BenchmarkResult(machine, opened.manifest.variant, opened.digest, dimensions, tuple(results))


def _measure_precision(
    bundle: Bundle, options: BenchmarkOptions, precision: Any, progress: Progress
) -> tuple[PrecisionResult, dict[str, Any]]:
    if options.provider != "torch":  # which runs no graph
        bundle.check_known_graphs()
    # The session's memory counts as in use, so the meter has to be read before it is made.
    wanted = select_provider(
        options.provider,
        precision=precision,
        graphs={(graph.precision, graph.target) for graph in bundle.graphs()},  # type: ignore[misc]
        device_id=options.device_id,
    )
    meter = DeviceMeter(wanted.device_id)
    used_before = meter.used_bytes()
    kernel = _attention_kernel(bundle, wanted, options)
    progress("opening the bundle")
    begin = time.perf_counter()
    model = load(
        bundle,
        provider=options.provider,
        precision=precision,
        device_id=options.device_id,
        threads=options.threads,
        cuda_graphs=options.cuda_graphs,
    )
    with model:
        open_seconds = time.perf_counter() - begin
        progress(f"comparing {model.provider}, {model.precision} with the reference")
        reference = check_reference(bundle, model.session)
        reference.raise_if_missed()
        product = _matrix_product(wanted, options.threads)
        progress("measuring the rate of matrix products")
        rates = [product.best_rate()] if product else []
        measured = _Timer(model, options, meter, used_before, merges=wanted.target == "merged")
        timings = []
        for batch_size in options.batch_sizes_on(model.provider):
            progress(f"timing {model.provider}, {model.precision}, batches of {batch_size:,}")
            timings.append(measured.time(batch_size))
        end_to_end = None
        ran = [timing for timing in timings if timing.cells_per_second]
        if options.end_to_end and ran:
            progress("timing from file to file")
            end_to_end = _end_to_end(bundle, model, options, ran[-1].batch_size)
        if product:  # again: a machine that others use was perhaps busy before
            progress("measuring the rate of matrix products again")
            rates.append(product.best_rate())
        best = max(rates, key=lambda rate: rate.gflops, default=None)
        result = PrecisionResult(
            reference=reference,
            choice_reason=model.choice_reason,
            cuda_graphs=options.cuda_graphs,
            attention_kernel=kernel or None,
            open_seconds=open_seconds,
            matrix_gflops=best.gflops if best else None,
            matrix_size=best.size if best else None,
            matrix_precision=best.precision if best else None,
            timings=tuple(_with_share(timing, best.gflops if best else None) for timing in timings),
            end_to_end=end_to_end,
        )
    return result, describe_machine(wanted, threads=options.threads, driver=meter.driver)


def _matrix_product(choice: ProviderChoice, threads: int | None) -> MatrixProduct | None:
    """Return a product on the provider's device, None where ONNX Runtime's own providers do not run."""
    if choice.name == "tensorrt":  # CUDA's is the same device's, without an engine to build
        choice = dataclasses.replace(choice, name="cuda", ort_provider=ORT_NAMES["cuda"])
    return MatrixProduct(choice, threads=threads) if choice.name in ("cpu", "cuda") else None


def _attention_kernel(bundle: Bundle, choice: ProviderChoice, options: BenchmarkOptions) -> str:
    if choice.name == "cpu" and choice.target is not None:
        return cpu_attention_kernel(choice.precision, choice.target)
    if choice.name != "cuda":
        return ""
    # In a session of its own: one that was told to report its kernels goes on doing so in every run.
    with cuda_attention_kernels() as kernels:
        session = open_session(bundle, choice, threads=options.threads)
        n_genes = options.n_genes or bundle.manifest.dimensions.n_genes
        gene_index = np.arange(n_genes, dtype=np.int64) % bundle.manifest.dimensions.n_table_genes
        session.run(*benchmark_cells(1, n_genes), gene_index)
        del session
    return ", ".join(kernels)


class _Timer:
    """Times batches of one predictor."""

    def __init__(
        self,
        model: Predictor,
        options: BenchmarkOptions,
        meter: DeviceMeter,
        used_before: int | None,
        *,
        merges: bool,
    ) -> None:
        self._model, self._meter, self._used_before = model, meter, used_before
        self._dimensions = model.bundle.manifest.dimensions
        self._n_genes = options.n_genes or self._dimensions.n_genes
        self._gene_index = np.arange(self._n_genes, dtype=np.int64) % self._dimensions.n_table_genes
        self._repeats = options.repeats_on(model.provider)
        self._merges = merges
        self._shared = shares_token(model.bundle.manifest)[self._gene_index] & merges

    def time(self, batch_size: int) -> Timing:
        """Time one batch size; what does not fit into memory is a row too."""
        problem, seconds, cpu_seconds = self._too_large(batch_size), [], []
        reset_host_peak()
        if not problem:
            try:
                values, flags = benchmark_cells(batch_size, self._n_genes)
                for _ in range(_WARM_UP_RUNS.get(self._model.provider, _GPU_WARM_UP_RUNS)):
                    predicted = self._model.session.run(values, flags, self._gene_index)
                if not np.isfinite(np.sum(predicted, dtype=np.float64)):
                    problem = "the outputs are not finite"
                for _ in range(0 if problem else self._repeats):
                    begin, cpu_begin = time.perf_counter(), time.process_time()
                    self._model.session.run(values, flags, self._gene_index)
                    seconds.append(time.perf_counter() - begin)
                    cpu_seconds.append(time.process_time() - cpu_begin)
            except MemoryError:
                problem = "out of memory"
            except (InferenceFailedError, NonFinitePredictionError) as error:
                problem = "out of memory" if getattr(error, "out_of_memory", False) else str(error)
        row = Timing(
            self._model.provider, self._model.precision, batch_size, self._n_genes, self._repeats, problem=problem
        )
        if problem:
            return row
        median = float(np.median(seconds))
        used = self._meter.used_bytes()
        tokens = [len(merge_tokens(*cell, self._shared).columns) for cell in zip(values, flags, strict=True)]
        work = sum(encoder_flops(self._dimensions, n_tokens) for n_tokens in tokens)
        return dataclasses.replace(
            row,
            p50_ms=median * 1e3,
            p95_ms=float(np.percentile(seconds, 95)) * 1e3,
            cells_per_second=batch_size / median,
            cpu_seconds_per_cell=float(np.median(cpu_seconds)) / batch_size,
            tokens_per_cell=float(np.mean(tokens)),
            gflops=work / median / 1e9,
            peak_host_bytes=host_peak_bytes(),
            # ONNX Runtime keeps what it has taken, so that what is in use now is the peak.
            peak_device_bytes=None if used is None or self._used_before is None else used - self._used_before,
        )

    def _too_large(self, batch_size: int) -> str:
        # Linux hands out more memory than it has and then ends the process: that cannot be caught, so it is foreseen.
        # Only what no form of the network can do without is counted, so that nothing that would run is refused.
        if self._model.provider != "cpu":
            return ""
        at_once = 1 if self._merges else batch_size  # a merged graph runs cell by cell
        least = at_once * self._n_genes * self._dimensions.d_model * _FP32_BYTES * _LEAST_ALIVE_TENSORS
        available = available_bytes()
        if available is None or least <= available:
            return ""
        return f"out of memory: it needs more than {least / 1e9:,.1f} GB, {available / 1e9:,.1f} GB are free"


def benchmark_cells(
    n_cells: int, n_genes: int, *, expressed: float = _EXPRESSED, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw control cells and flags, each [n_cells, n_genes]: log1p-like values, `expressed` of them non-zero, and one
    perturbed gene a cell.
    """  # noqa: D205
    rng = np.random.default_rng(seed)
    values = np.log1p(rng.gamma(1.0, 3.0, (n_cells, n_genes))) * (rng.random((n_cells, n_genes)) < expressed)
    flags = np.zeros((n_cells, n_genes), dtype=np.int64)
    flags[np.arange(n_cells), np.arange(n_cells) % n_genes] = 1
    return values.astype(np.float32), flags


def _end_to_end(bundle: Bundle, model: Predictor, options: BenchmarkOptions, batch_size: int) -> EndToEnd:
    import anndata
    import pandas as pd
    from scipy.sparse import csr_matrix

    labels = _single_gene_labels(model)
    values, flags = benchmark_cells(batch_size, len(model.panel))
    obs = pd.DataFrame({"condition": ["ctrl"] * batch_size}, index=[f"cell{i}" for i in range(batch_size)])
    cells = anndata.AnnData(csr_matrix(values), obs=obs, var=pd.DataFrame(index=model.gene_names))
    with tempfile.TemporaryDirectory(prefix="scgenept-rt-benchmark-") as directory:
        source, out = Path(directory) / "cells.h5ad", Path(directory) / "predicted.h5ad"
        cells.write_h5ad(source)
        reset_host_peak()
        begin = time.perf_counter()
        with load(
            bundle.directory,
            provider=options.provider,
            precision=model.precision,
            device_id=options.device_id,
            threads=options.threads,
        ) as fresh:
            opened = time.perf_counter()
            fresh.predict_file(source, out, labels, batch_size=batch_size)
            written = time.perf_counter()
            peak = host_peak_bytes()
            # Against the network alone right now: rows timed earlier had perhaps another load beside them.
            gene_index = np.arange(len(model.panel), dtype=np.int64)
            for _ in labels:
                fresh.session.run(values, flags, gene_index)
            alone = time.perf_counter() - written
    seconds = written - opened
    return EndToEnd(
        provider=model.provider,
        precision=model.precision,
        n_controls=batch_size,
        n_perturbations=len(labels),
        batch_size=batch_size,
        open_seconds=opened - begin,
        seconds=seconds,
        cells_per_second=batch_size * len(labels) / seconds,
        share_of_session=alone / seconds,
        peak_host_bytes=peak,
    )


def _single_gene_labels(model: Predictor) -> list[str]:
    names = [name for name in dict.fromkeys(model.panel.names) if "+" not in name and name.lower() != "ctrl"]
    return [f"{name}+ctrl" for name in names[:_END_TO_END_PERTURBATIONS]]


def _with_share(timing: Timing, matrix_gflops: float | None) -> Timing:
    if timing.gflops is None or matrix_gflops is None:
        return timing
    return dataclasses.replace(timing, share_of_matrix_rate=timing.gflops / matrix_gflops)
