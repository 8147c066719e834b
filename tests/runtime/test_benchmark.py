from __future__ import annotations

import builtins
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from scgenept_rt.benchmark import (
    BenchmarkOptionError,
    BenchmarkOptions,
    BenchmarkResult,
    PlotExtraMissingError,
    check_plot_path,
    encoder_flops,
    matrix_rate,
    measurement,
    memory,
    run_benchmark,
    write_plot,
)
from scgenept_rt.benchmark.machine import cpu_model, versions
from scgenept_rt.benchmark.matrix_rate import MatrixProduct, matrix_product_model
from scgenept_rt.benchmark.measurement import benchmark_cells
from scgenept_rt.benchmark.plot import PlotFormatError
from scgenept_rt.bundle import Dimensions
from scgenept_rt.cli import app
from scgenept_rt.errors import InferenceFailedError, ReferenceMissedError
from scgenept_rt.providers import select_provider
from scgenept_rt.session import OrtSession

QUICK = BenchmarkOptions(provider="cpu", batch_sizes=(1, 3), repeats=2, threads=1)


@pytest.fixture(autouse=True, scope="module")
def small_matrices() -> Iterator[None]:
    """Large ones take seconds, and only their rate depends on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrix_rate, "_CPU_SIZE", 256)
        patch.setattr(matrix_rate, "_MIN_SECONDS", 0.0)
        yield


def run_command(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["benchmark", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def measured(bundle: Path) -> BenchmarkResult:
    return run_benchmark(bundle, BenchmarkOptions(**(vars(QUICK) | {"end_to_end": True})))


def test_published_size_needs_816_gflop_626_of_them_in_attention():
    published = Dimensions(n_genes=5045, n_table_genes=5045, d_model=512, n_layers=12, n_heads=8, d_ff=512)
    assert encoder_flops(published, 5045) == pytest.approx(816e9, rel=1e-3)
    projections_and_feed_forward = 12 * 5045 * (8 * 512**2 + 4 * 512 * 512)
    assert encoder_flops(published, 5045) - projections_and_feed_forward == pytest.approx(626e9, rel=1e-3)


def test_work_counts_every_product_of_a_layer():
    n, d, f, heads = 7, 12, 5, 3
    done = 0

    def product(rows: int, inner: int, columns: int) -> None:
        nonlocal done
        done += 2 * rows * inner * columns

    for _ in range(2):
        for _ in ("query", "key", "value", "output"):
            product(n, d, d)
        for _ in range(heads):
            product(n, d // heads, n)
            product(n, n, d // heads)
        product(n, d, f)
        product(n, f, d)
    assert encoder_flops(Dimensions(9, 9, d, 2, heads, f), n) == done


def test_every_row_has_its_error_first_and_consistent_figures(measured: BenchmarkResult):
    (result,) = measured.results
    assert result.reference.comparison.passed
    assert result.attention_kernel == "flash (tiled)"
    assert result.matrix_gflops is not None
    assert result.matrix_gflops > 0.1
    assert [row.batch_size for row in measured.timings] == [1, 3]
    for row in measured.timings:
        assert row.problem == ""
        assert (row.provider, row.precision, row.n_genes, row.repeats) == ("cpu", "fp32", 24, 2)
        assert 0 < row.p50_ms <= row.p95_ms
        assert row.cells_per_second == pytest.approx(row.batch_size / row.p50_ms * 1e3)
        # Of the tokens that were computed: genes outside the vocabulary that are not expressed are one.
        assert row.tokens_per_cell < 24
        one_more, one_less = (encoder_flops(measured.dimensions, round(row.tokens_per_cell) + i) for i in (1, -1))
        assert one_less < row.gflops * 1e9 / row.cells_per_second < one_more
        assert row.share_of_matrix_rate == pytest.approx(row.gflops / result.matrix_gflops)
        assert row.peak_host_bytes > 10e6
        assert row.peak_device_bytes is None


def test_end_to_end_is_timed_from_file_to_file(measured: BenchmarkResult):
    end_to_end = measured.results[0].end_to_end
    assert (end_to_end.n_controls, end_to_end.n_perturbations, end_to_end.batch_size) == (3, 2, 3)
    assert end_to_end.cells_per_second == pytest.approx(6 / end_to_end.seconds)
    assert end_to_end.share_of_session > 0


def test_json_holds_every_figure_and_names_no_host(measured: BenchmarkResult):
    fields = json.loads(measured.to_json())
    assert fields["results"][0]["timings"][1]["batch_size"] == 3
    assert fields["machine"]["threads"] == 1
    assert fields["machine"]["cpu"] == cpu_model()
    assert fields["machine"]["versions"]["onnxruntime"] == onnxruntime.__version__
    assert os.uname().nodename not in measured.to_json()


def test_several_precisions_are_several_results(bundle: Path):
    result = run_benchmark(bundle, BenchmarkOptions(**(vars(QUICK) | {"precisions": ("fp32", "fp16")})))
    assert [row.precision for row in result.timings] == ["fp32", "fp32", "fp16", "fp16"]
    # The CPU provider casts fp16 graphs to fp32: that is their ceiling too.
    assert [part.matrix_precision for part in result.results] == ["fp32", "fp32"]


@pytest.mark.parametrize("n_genes", [1, 10, 100])
def test_any_number_of_genes_can_be_timed(bundle: Path, n_genes: int):
    options = BenchmarkOptions(provider="cpu", batch_sizes=(2,), repeats=1, threads=1, n_genes=n_genes)
    (row,) = run_benchmark(bundle, options).timings
    assert row.n_genes == n_genes
    assert row.cells_per_second > 0


def test_wrong_outputs_are_never_timed(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    run = OrtSession.run
    monkeypatch.setattr(OrtSession, "run", lambda self, *inputs: run(self, *inputs) + np.float32(0.1))
    with pytest.raises(ReferenceMissedError):
        run_benchmark(bundle, QUICK)


def test_a_batch_that_the_provider_cannot_hold_is_a_row_with_the_reason(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    run = OrtSession.run

    def limited(self: OrtSession, values: Any, *inputs: Any) -> Any:
        if values.shape[0] == 3:
            raise InferenceFailedError("cpu", 3, 24, "Failed to allocate memory for requested buffer of size 9")
        return run(self, values, *inputs)

    monkeypatch.setattr(OrtSession, "run", limited)
    first, second = run_benchmark(bundle, QUICK).timings
    assert first.problem == ""
    assert second.problem == "out of memory"
    assert second.p50_ms is second.cells_per_second is second.share_of_matrix_rate is None


def test_a_batch_that_cannot_fit_is_not_tried(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    # Three cells of 24 genes and width 64 hold at least four tensors of 18,432 bytes.
    monkeypatch.setattr(measurement, "available_bytes", lambda: 70_000)
    first, second = run_benchmark(bundle, QUICK).timings
    assert first.problem == ""
    assert second.problem.startswith("out of memory: it needs more than")


def test_inputs_that_cannot_be_allocated_are_a_row_too(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    def drawn(n_cells: int, n_genes: int) -> Any:
        if n_cells == 3:
            raise MemoryError
        return benchmark_cells(n_cells, n_genes)

    monkeypatch.setattr(measurement, "benchmark_cells", drawn)
    assert [row.problem for row in run_benchmark(bundle, QUICK).timings] == ["", "out of memory"]


def test_outputs_that_are_not_finite_are_a_row_with_the_reason(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    run = OrtSession.run

    def broken(self: OrtSession, values: Any, *inputs: Any) -> Any:
        return run(self, values, *inputs) * (np.float32("nan") if values.shape[0] == 3 else np.float32(1))

    monkeypatch.setattr(OrtSession, "run", broken)
    assert [row.problem for row in run_benchmark(bundle, QUICK).timings] == ["", "the outputs are not finite"]


@pytest.mark.parametrize(
    "wrong", [{"batch_sizes": (1, 0)}, {"batch_sizes": ()}, {"n_genes": 0}, {"repeats": -1}, {"precisions": ()}]
)
def test_options_without_sense_are_refused(wrong: dict[str, Any]):
    with pytest.raises(BenchmarkOptionError, match="Expected"):
        BenchmarkOptions(**wrong)


def test_defaults_depend_on_the_provider():
    options = BenchmarkOptions()
    assert (options.batch_sizes_on("cpu"), options.repeats_on("cpu")) == ((1, 4), 5)
    assert (options.batch_sizes_on("cuda"), options.repeats_on("cuda")) == ((1, 8, 32), 20)
    assert BenchmarkOptions(batch_sizes=(8, 1, 8)).batch_sizes_on("cuda") == (1, 8)


def test_end_to_end_needs_the_models_genes(bundle: Path):
    with pytest.raises(BenchmarkOptionError, match="24 genes, not 7"):
        run_benchmark(bundle, BenchmarkOptions(provider="cpu", n_genes=7, end_to_end=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_matrix_product_model_is_a_valid_onnx_model(dtype: type[np.floating]):
    onnx = pytest.importorskip("onnx")
    b = np.random.default_rng(0).standard_normal((130, 130)).astype(dtype)
    model = onnx.load_model_from_string(matrix_product_model(b))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    (weights,) = model.graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weights), b)
    kinds = {np.float32: onnx.TensorProto.FLOAT, np.float16: onnx.TensorProto.FLOAT16}
    values = [*model.graph.input, *model.graph.output]
    assert [value.name for value in values] == ["a", "c"]
    assert {value.type.tensor_type.elem_type for value in values} == {kinds[dtype]}


def test_matrix_product_multiplies():
    a, b = (np.random.default_rng(seed).standard_normal((300, 300), dtype=np.float32) for seed in (0, 1))
    session = onnxruntime.InferenceSession(matrix_product_model(b), providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"a": a})
    np.testing.assert_allclose(product, a @ b, rtol=1e-4, atol=1e-3)


def test_matrix_rate_is_work_over_time():
    rate = MatrixProduct(select_provider("cpu"), threads=1, size=64).best_rate()
    assert rate.size == 64
    assert 0.01 < rate.gflops < 1e4


# A process of its own: in one that has run hundreds of tests, memory goes back and forth for other reasons.
HOST_PEAK = """
import numpy as np
from scgenept_rt.benchmark import memory

if not memory.reset_host_peak():
    raise SystemExit("cannot reset")
before = memory.host_peak_bytes()
block = np.ones(64 * 2**20, dtype=np.uint8)
with_block = memory.host_peak_bytes() - before
del block
memory.reset_host_peak()
print(with_block, memory.host_peak_bytes() - before)
"""


def test_host_peak_is_counted_anew():
    done = subprocess.run([sys.executable, "-c", HOST_PEAK], capture_output=True, text=True, check=False)
    if "cannot reset" in done.stderr:
        pytest.skip("this system cannot reset the peak")
    assert done.returncode == 0, done.stderr
    with_block, without = map(int, done.stdout.split())
    assert with_block > 48 * 2**20
    assert without < 32 * 2**20


def test_no_gpu_has_no_device_memory():
    meter = memory.DeviceMeter(None)
    assert meter.driver is None
    assert meter.used_bytes() is None


def test_cells_look_like_log_normalised_expression():
    values, flags = benchmark_cells(50, 400)
    assert values.dtype == np.float32
    assert flags.dtype == np.int64
    assert 0.07 < (values > 0).mean() < 0.09
    assert values.min() >= 0
    assert 1 < values.max() < 10
    assert (flags.sum(axis=1) == 1).all()


def test_versions_are_those_installed():
    assert versions()["numpy"] == np.__version__


def test_plot_is_written(measured: BenchmarkResult, tmp_path: Path):
    pytest.importorskip("matplotlib")
    write_plot(measured, tmp_path / "throughput.png")
    assert (tmp_path / "throughput.png").read_bytes().startswith(b"\x89PNG")


def test_plot_of_rows_that_all_failed_is_written(measured: BenchmarkResult, tmp_path: Path):
    pytest.importorskip("matplotlib")
    empty = BenchmarkResult(measured.machine, "scgpt", "", measured.dimensions, ())
    write_plot(empty, tmp_path / "throughput.svg")
    assert (tmp_path / "throughput.svg").stat().st_size > 0


def test_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch, bundle: Path, tmp_path: Path):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "scgenept_rt.benchmark.plot.find_spec", lambda name: None if name == "matplotlib" else find_spec(name)
    )
    with pytest.raises(PlotExtraMissingError, match=r"pip install 'scgenept-rt\[plot\]'"):
        check_plot_path(tmp_path / "throughput.png")
    # Before anything is measured.
    monkeypatch.setattr(measurement, "load", lambda *_args, **_options: pytest.fail("measured all the same"))
    with pytest.raises(PlotExtraMissingError):
        run_command(bundle, "--provider", "cpu", "--plot", tmp_path / "throughput.png")


def test_plot_of_another_ending_is_refused(tmp_path: Path):
    pytest.importorskip("matplotlib")
    with pytest.raises(PlotFormatError, match=r"\.png"):
        check_plot_path(tmp_path / "throughput.xlsx")


def test_command_prints_error_and_figures_and_writes_both_files(bundle: Path, tmp_path: Path):
    pytest.importorskip("matplotlib")
    json_file, plot_file = tmp_path / "figures.json", tmp_path / "throughput.png"
    options = ("--provider", "cpu", "--batch-sizes", "1,2", "--repeats", 1, "--threads", 1, "--end-to-end")
    code, output = run_command(bundle, *options, "--json", json_file, "--plot", plot_file)
    assert code == 0, output
    assert output.index("largest error") < output.index("p50 ms"), "the error first"
    for expected in (cpu_model(), "onnxruntime", "GFLOP/s", "from .h5ad to .h5ad", "attention kernel"):
        assert expected in output
    assert len(json.loads(json_file.read_text())["results"][0]["timings"]) == 2
    assert plot_file.is_file()


@pytest.mark.parametrize("wrong", ["0", "1,x", "", "1,,2", "-3", "1.5"])
def test_unknown_batch_sizes_are_wrong_usage(bundle: Path, wrong: str):
    code, output = run_command(bundle, "--batch-sizes", wrong)
    assert code == 2
    assert "--batch-sizes" in output


def test_unknown_precision_is_wrong_usage(bundle: Path):
    code, output = run_command(bundle, "--precision", "fp32,int8")
    assert code == 2
    assert "--precision" in output


def test_errors_of_the_command_are_found_before_measuring(
    bundle: Path, tmp_path: Path, command_line: Callable[..., Any]
):
    done = command_line("benchmark", bundle, "--provider", "cpu", "--json", tmp_path / "none" / "figures.json")
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr
    assert "timing" not in done.stderr


def test_nothing_here_imports_matplotlib_unasked(monkeypatch: pytest.MonkeyPatch, bundle: Path):
    real = builtins.__import__

    def guarded(name: str, *args: Any, **options: Any) -> Any:
        assert not name.startswith("matplotlib")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", guarded)
    run_benchmark(bundle, BenchmarkOptions(provider="cpu", batch_sizes=(1,), repeats=1, threads=1))
