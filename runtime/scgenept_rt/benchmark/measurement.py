"""Timing a bundle: first its error, then throughput, latency and memory by batch size."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.benchmark.machine import describe_machine, host_peak_bytes, reset_host_peak
from scgenept_rt.bundle import Bundle, Dimensions
from scgenept_rt.errors import ArgumentError, InferenceError, UseOption
from scgenept_rt.options import MOST_CELLS_PER_BATCH, EngineOptions, resolve
from scgenept_rt.predictor import Predictor, load
from scgenept_rt.providers import ProviderChoice, select_provider
from scgenept_rt.providers.devices import GpuMemory, gpu_memory
from scgenept_rt.session import attention_kernels, open_session
from scgenept_rt.session.token_merging import merge_tokens, shares_token
from scgenept_rt.verification import check_reference

_EXPRESSED = 0.08
"""Share of non-zero values in a cell, as in the Norman data."""
# On the CPU, on GPUs. The first runs on a GPU fill caches of plans, and its clock takes a while to rise.
_BATCH_SIZES = ((1, 4), (1, 8, 32))
_REPEATS = (5, 20)
_RUNS_FOR_P95 = 20
"""Of fewer runs the 95th percentile is about the slowest one."""
_WARM_UP_RUNS = (1, 3)
_FIGURES = (
    *("p50_ms", "p95_ms", "cells_per_second", "cpu_seconds_per_cell"),
    *("tokens_per_cell", "gflops", "peak_host_bytes", "peak_device_bytes"),
)
# From file to file, at least two perturbations and so many cells: fewer on a GPU would time start and end.
_END_TO_END_CELLS = (1, 1_024)


def run_benchmark(
    bundle: str | Path | Bundle,
    *,
    batch_sizes: Sequence[int] = (),
    repeats: int | None = None,
    end_to_end: bool = False,
    progress: Callable[[str], None] = lambda _step: None,
    **options: Unpack[EngineOptions],
) -> dict[str, Any]:
    """Measure a bundle on this machine.

    Outputs are first compared with the eager model's in the bundle: times of wrong outputs are useless. A batch size
    that does not fit into memory gives a timing with the reason.

    Parameters
    ----------
    batch_sizes
        Cells per batch; by default 1, 8 and 32 on GPUs, 1 and 4 on the CPU.
    repeats
        Timed runs of each batch size; None for 20 on GPUs, 5 on the CPU.
    end_to_end
        Also time a prediction from an .h5ad file to an .h5ad file.
    progress
        Called with the name of each step.
    **options
        See `scgenept_rt.options.EngineOptions`.

    Returns
    -------
    dict
        All figures, fit for JSON. In ``timings``, one entry per batch size; if it did not run, its ``problem`` is the
        reason. Times are per batch, from inputs to outputs in host memory, without warm-up; p95 of 20 or more runs.
        Tokens are the genes less those merged as identical, ``gflops`` is `encoder_flops` of these over the median, and
        ``peak_device_bytes`` is beyond what was in use before the bundle was opened. In ``end_to_end``, cells are
        (perturbation, control cell) pairs, and ``share_of_session`` is their share of the rate of the network alone.

    Raises
    ------
    ArgumentError
        If a number is below 1, or several devices are given.
    ReferenceMismatchError
        If outputs differ from the reference by more than the tolerance.
    ScgeneptError
        As `scgenept_rt.load`.
    """
    engine = resolve(EngineOptions, options)
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    for name, number in [*(("batch_sizes", number) for number in batch_sizes), ("repeats", repeats)]:
        if number is not None and not 1 <= number <= MOST_CELLS_PER_BATCH:
            raise ArgumentError(f"{name} has {number}, expected numbers from 1 to {MOST_CELLS_PER_BATCH:,}")
    choice = select_provider(opened, **engine)
    if len(choice.device_ids) > 1:
        one = UseOption("device", "choose it", choice.device_ids[0])
        raise ArgumentError("one device is measured at a time", options=(one,))
    manifest, on_gpu = opened.manifest, choice.traits.on_gpu
    memory_before = gpu_memory(choice.device_id)
    repeats = repeats or _REPEATS[on_gpu]
    # In a session of its own: one that prints its kernels does so in every run.
    with attention_kernels(printed=choice.traits.is_cuda) as kernels:
        if choice.traits.is_cuda:
            n_genes = manifest.dimensions.n_genes
            open_session(opened, choice).run(*benchmark_cells(1, n_genes), np.arange(n_genes))
    progress("opening the bundle")
    begin = time.perf_counter()
    engine = {**choice.engine, "provider": choice.name}
    with load(opened, **engine) as model:
        open_seconds = time.perf_counter() - begin
        name = f"{model.provider}, {model.precision}"
        progress(f"comparing {name} with the reference")
        reference = check_reference(opened, model.session)
        reference.raise_if_missed()
        timings = []
        for batch_size in sorted(set(batch_sizes or _BATCH_SIZES[on_gpu])):
            progress(f"timing {name}, batches of {batch_size:,}")
            timings.append(_time(model, choice, batch_size, repeats, memory_before))
        files = None
        ran = [timing for timing in timings if timing["cells_per_second"]]
        if end_to_end and ran:
            progress("timing from file to file")
            files = _end_to_end(model, engine, ran[-1], _END_TO_END_CELLS[on_gpu])
        return {
            "kind": "scgenept-rt benchmark",
            "machine": describe_machine(choice),
            "variant": manifest.variant,
            "synthetic": manifest.synthetic,
            "manifest_digest": opened.digest,
            "dimensions": dataclasses.asdict(manifest.dimensions),
            "reference": dataclasses.asdict(reference),
            "choice_reason": choice.reason,
            "attention_kernel": ", ".join(kernels) or None,
            "open_seconds": open_seconds,
            "repeats": repeats,
            "timings": timings,
            "end_to_end": files,
        }


def _time(
    model: Predictor, choice: ProviderChoice, batch_size: int, repeats: int, memory_before: GpuMemory | None
) -> dict[str, Any]:
    """Time one batch size; `memory_before` is that of the GPU before the model was opened."""
    n_genes = model.bundle.manifest.dimensions.n_genes
    gene_index = np.arange(n_genes, dtype=np.int64)
    problem, seconds, cpu_seconds = "", [], []
    reset_host_peak()
    try:
        values, flags = benchmark_cells(batch_size, n_genes)
        for _ in range(_WARM_UP_RUNS[choice.traits.on_gpu]):
            predicted = model.session.run(values, flags, gene_index)
        if not np.isfinite(np.sum(predicted, dtype=np.float64)):
            problem = "the outputs are not finite"
        for _ in range(0 if problem else repeats):
            begin, cpu_begin = time.perf_counter(), time.process_time()
            model.session.run(values, flags, gene_index)
            seconds.append(time.perf_counter() - begin)
            cpu_seconds.append(time.process_time() - cpu_begin)
    except MemoryError:  # DeviceMemoryError too
        problem = "out of memory"
    except InferenceError as error:
        problem = str(error)
    row = {"batch_size": batch_size, "n_genes": n_genes, **dict.fromkeys(_FIGURES), "problem": problem}
    if problem:
        return row
    median, memory = float(np.median(seconds)), gpu_memory(choice.device_id)
    shared = shares_token(model.bundle.manifest) & (choice.target == "merged")
    tokens = [len(merge_tokens(*cell, shared)[0]) for cell in zip(values, flags, strict=True)]
    work = sum(encoder_flops(model.bundle.manifest.dimensions, n_tokens) for n_tokens in tokens)
    return row | {
        "p50_ms": median * 1e3,
        "p95_ms": float(np.percentile(seconds, 95)) * 1e3 if len(seconds) >= _RUNS_FOR_P95 else None,
        "cells_per_second": batch_size / median,
        "cpu_seconds_per_cell": float(np.median(cpu_seconds)) / batch_size,
        "tokens_per_cell": float(np.mean(tokens)),
        "gflops": work / median / 1e9,
        "peak_host_bytes": host_peak_bytes(),
        # ONNX Runtime keeps what it has taken, so the memory in use now is the peak.
        "peak_device_bytes": memory.used - memory_before.used if memory and memory_before else None,
    }


def encoder_flops(dimensions: Dimensions, n_genes: int) -> int:
    """Return the floating-point operations of the transformer layers for one cell (a multiply-add counts as two).

    Counted are the matrix products: of a layer with n genes, width d and feed-forward width f, the four projections of
    attention (8 n d^2), queries with keys and weights with values (4 n^2 d), and the feed-forward block (4 n d f). The
    published size, 12 layers of 512 over 5,045 genes, needs 816e9, 626e9 of them in attention. The embedding, the
    decoder, norms and softmax are left out (about 1% at that size), so that rates are not flattered.
    """
    n, d, f = n_genes, dimensions.d_model, dimensions.d_ff
    return dimensions.n_layers * (8 * n * d * d + 4 * n * n * d + 4 * n * d * f)


def benchmark_cells(
    n_cells: int, n_genes: int, *, expressed: float = _EXPRESSED
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw log1p-like values, a share `expressed` of them non-zero, and flags of one perturbed gene per cell."""
    rng = np.random.default_rng(0)
    values = np.log1p(rng.gamma(1.0, 3.0, (n_cells, n_genes))) * (rng.random((n_cells, n_genes)) < expressed)
    flags = np.zeros((n_cells, n_genes), dtype=np.int64)
    flags[np.arange(n_cells), np.arange(n_cells) % n_genes] = 1
    return values.astype(np.float32), flags


def _end_to_end(model: Predictor, engine: EngineOptions, timing: dict[str, Any], n_cells: int) -> dict[str, Any]:
    """Time a prediction from an .h5ad to an .h5ad: opening, reading, predicting, reducing and writing."""
    import anndata
    import pandas as pd
    from scipy.sparse import csr_matrix

    batch_size = timing["batch_size"]
    n_perturbations = max(2, -(-n_cells // batch_size))
    names = [name for name in dict.fromkeys(model.panel.names) if "+" not in name and name.lower() != "ctrl"]
    labels = [f"{name}+ctrl" for name in names[:n_perturbations]]
    values, _ = benchmark_cells(batch_size, len(model.panel))
    obs = pd.DataFrame({"condition": ["ctrl"] * batch_size}, index=[f"cell{i}" for i in range(batch_size)])
    cells = anndata.AnnData(csr_matrix(values), obs=obs, var=pd.DataFrame(index=model.gene_names))
    with tempfile.TemporaryDirectory(prefix="scgenept-rt-benchmark-") as directory:
        source, out = Path(directory) / "cells.h5ad", Path(directory) / "predicted.h5ad"
        cells.write_h5ad(source)
        reset_host_peak()
        begin = time.perf_counter()
        with load(model.bundle.directory, **engine) as fresh:
            opened = time.perf_counter()
            fresh.predict_file(source, out, labels, batch_size=batch_size)
            written = time.perf_counter()
            peak = host_peak_bytes()
    seconds = written - opened
    rate = batch_size * len(labels) / seconds
    return {
        "n_controls": batch_size,
        "n_perturbations": len(labels),
        "batch_size": batch_size,
        "open_seconds": opened - begin,
        "seconds": seconds,
        "cells_per_second": rate,
        "share_of_session": rate / timing["cells_per_second"],
        "peak_host_bytes": peak,
    }
