"""`scgenept-rt benchmark`: how fast a bundle runs here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from scgenept_rt.cli.messages import check_report_paths, say, write_reports
from scgenept_rt.cli.options import BundleArgument, JsonFileOption, with_options
from scgenept_rt.files.text import json_text
from scgenept_rt.options import EngineOptions, Option
from scgenept_rt.wording import pluralize

_COLUMNS = {
    "tokens": ("tokens_per_cell", 0, 1.0),
    "p50 ms": ("p50_ms", 2, 1.0),
    "p95 ms": ("p95_ms", 2, 1.0),
    "cells/s": ("cells_per_second", 2, 1.0),
    "GFLOP/s": ("gflops", 0, 1.0),
    "host MB": ("peak_host_bytes", 0, 1e-6),
    "device MB": ("peak_device_bytes", 0, 1e-6),
}
"""Figures of a timing, their digits and scale."""


@with_options(engine=("provider", "precision", "device", "threads"))
def benchmark(
    bundle: BundleArgument,
    engine: EngineOptions,
    batch_sizes: Annotated[
        list[int] | Literal["auto"],
        Option("auto", "Cells per batch; auto: 1,8,32, on the CPU 1,4.", "auto|N,N,...", minimum=1),
    ],
    repeats: Annotated[
        int | None, Option(None, "Timed runs per batch size; default: 20, on the CPU 5.", "N", minimum=1)
    ],
    end_to_end: Annotated[bool, Option(False, "Also time a prediction from an .h5ad to an .h5ad.")],
    json_file: JsonFileOption,
) -> None:
    """Measure throughput, latency and memory by batch size, after comparing the outputs with PyTorch's.

    Times are from inputs to outputs in host memory, without warm-up runs.
    """
    from scgenept_rt.benchmark import run_benchmark

    check_report_paths((json_file,), ())
    sizes = () if batch_sizes == "auto" else batch_sizes
    result = run_benchmark(bundle, batch_sizes=sizes, repeats=repeats, end_to_end=end_to_end, progress=say, **engine)
    write_reports([(json_file, lambda: json_text(result, indent=1) + "\n")], lambda: _print(result))


def _print(result: dict[str, Any]) -> None:
    machine, sizes = result["machine"], result["dimensions"]
    processors = f"{pluralize(machine['cpus'], 'CPU')}, {pluralize(machine['threads'], 'thread')}"
    print(f"{machine['cpu']}, {processors}; {machine['system']}")
    if "gpu" in machine:
        print(f"{machine['gpu']['name']}, driver {machine['driver'] or 'unknown'} (CUDA {machine['driver_cuda']})")
    print(", ".join(f"{name} {version}" for name, version in machine["versions"].items()))
    layers, heads = pluralize(sizes["n_layers"], "layer"), pluralize(sizes["n_heads"], "head")
    weights = ", synthetic weights" if result["synthetic"] else ""
    print(f"{result['variant']}: {layers}, width {sizes['d_model']}, {heads}{weights}")
    checked, comparison = result["reference"], result["reference"]["comparison"]
    compared = f"{pluralize(checked['n_cells'], 'cell')} x {pluralize(checked['n_genes'], 'gene')}"
    print(f"\n{checked['provider']}, {checked['precision']}: {result['choice_reason']}")
    print(
        f"largest error {comparison['max_difference']:.2e}, {comparison['worst']:.2f} of the tolerance "
        f"({compared} against PyTorch eager fp32)"
    )
    kernel = f"; attention kernel: {result['attention_kernel']}" if result["attention_kernel"] else ""
    print(f"opened in {result['open_seconds']:.2f} s{kernel}")
    print("".join(f"{head:>11}" for head in ("batch", "genes", *_COLUMNS)))
    for timing in result["timings"]:
        print("".join(f"{cell:>11}" for cell in _cells(timing)))
    files = result["end_to_end"]
    if files is not None:
        print(
            f"from .h5ad to .h5ad, {pluralize(files['n_controls'], 'control cell')} x "
            f"{pluralize(files['n_perturbations'], 'perturbation')}, batches of {files['batch_size']:,}: "
            f"{files['seconds']:.2f} s, "
            f"{files['cells_per_second']:,.2f} cells/s, {files['share_of_session']:.0%} of the network alone "
            f"(and {files['open_seconds']:.2f} s to open the bundle)"
        )


def _cells(timing: dict[str, Any]) -> list[str]:
    sizes = [f"{timing['batch_size']:,}", f"{timing['n_genes']:,}"]
    if timing["problem"]:
        return [*sizes, f"  {timing['problem']}"]
    values = ((timing[name], digits, scale) for name, digits, scale in _COLUMNS.values())
    return [*sizes, *("-" if value is None else f"{value * scale:,.{digits}f}" for value, digits, scale in values)]
