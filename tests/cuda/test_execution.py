"""What the CUDA provider does with a bundle's graphs: placement, kernels, memory, batch sizes, devices."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scgenept_rt as sgr
from scgenept_rt.bundle import Bundle
from scgenept_rt.providers import select_provider
from tests.cuda.conftest import Run

PREDICT = """
import sys
import numpy as np
import scgenept_rt as sgr
from tests.cuda.test_execution import predict
bundle, precision, *cells = sys.argv[1:]
model = sgr.load(bundle, provider="cuda", precision=precision)
for n_cells in map(int, cells):
    predict(model, n_cells)
"""
N_LAYERS = 3


def predict(model: sgr.Predictor, n_cells: int, **options: Any) -> np.ndarray:
    values = np.random.default_rng(n_cells).random((n_cells, len(model.gene_names)), dtype=np.float32)
    predicted = model.predict_array(values, f"{model.gene_names[3]}+ctrl", **options)
    assert predicted.shape == values.shape
    assert np.isfinite(predicted).all()
    return predicted


def batches(run: Run) -> Counter[int]:
    """Count the batches of each size that were run, by the rows of the decoder's last product."""
    rows = [int(line.split(" n ")[1].split()[0]) for line in run.calls("cublas") if " m 1 n " in line]
    return Counter(n // 24 for n in rows)


def planned(run: Run) -> int:
    """Count the parts of cuDNN's plans that were made: an execution makes one more, of its own."""
    return len(run.calls("cudnnBackendFinalize")) - len(run.calls("cudnnBackendExecute"))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_node_is_placed_on_cuda(bundle: Path, tmp_path: Path, precision: str) -> None:
    import onnxruntime  # not in processes of other tests: who imports it first decides on its log

    opened = Bundle.open(bundle)
    choice = select_provider(provider="cuda", precision=precision)  # type: ignore[arg-type]
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    graph = opened.path(opened.graph(precision, "ort"))  # type: ignore[arg-type]
    session = onnxruntime.InferenceSession(str(graph), options, providers=[(choice.ort_provider, choice.ort_options)])
    feed = {
        "values": np.ones((2, 24), dtype=np.float32),
        "pert_flags": np.zeros((2, 24), dtype=np.int64),
        "gene_index": np.arange(24),
    }
    session.run(None, feed)
    events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event["args"] for event in events if event.get("cat") == "Node" and "provider" in event["args"]]
    assert len(nodes) > 40
    assert {node["provider"] for node in nodes} == {"CUDAExecutionProvider"}
    assert not any("Memcpy" in node["op_name"] for node in nodes)


def test_fp16_runs_attention_of_cudnn_without_transposes(run: Callable[..., Run], bundle: Path) -> None:
    done = run(bundle, "fp16", "4", code=PREDICT)
    assert done.code == 0, done.stderr
    assert len(done.calls("cudnnBackendExecute")) == N_LAYERS
    assert len(done.kernels("SkipLayerNorm")) == 2 * N_LAYERS + 1
    assert not done.kernels("Transpose")
    assert not done.kernels("oftmax")
    # Of float only what comes in and goes out.
    assert {line.split(" math ")[0].rsplit(" ", 1)[1] for line in done.calls("cublasGemm")} == {"2"}


def test_fp32_computes_without_tf32(run: Callable[..., Run], bundle: Path) -> None:
    done = run(bundle, "fp32", "4", code=PREDICT)
    assert done.code == 0, done.stderr
    assert len(done.kernels("oftmax")) == N_LAYERS
    assert not done.calls("cudnnBackendExecute")
    products = done.calls("cublas")
    assert products
    tf32 = 3  # CUBLAS_TF32_TENSOR_OP_MATH
    assert not any(f"math {tf32}" in line for line in products)


def test_warming_up_plans_the_sizes_that_will_be_needed(run: Callable[..., Run], bundle: Path) -> None:
    code = PREDICT.replace("for n_cells", "model.warm_up([1, 3, 40])\nfor n_cells")
    warmed, ran = run(bundle, "fp16", code=code), run(bundle, "fp16", "1", "3", "40", code=code)
    assert set(batches(warmed)) == {1, 4, 64}
    assert planned(warmed) == planned(ran) > 0


def test_few_batch_sizes_are_planned(run: Callable[..., Run], bundle: Path) -> None:
    cells = [1, 2, 3, 5, 6, 7, 9, 15, 16, 17, 31, 33]
    done = run(bundle, "fp16", *map(str, cells), code=PREDICT)
    assert done.code == 0, done.stderr
    assert set(batches(done)) == {1, 2, 4, 8, 16, 32, 64}
    again = run(bundle, "fp16", *map(str, cells), *map(str, cells), code=PREDICT)
    assert planned(again) == planned(done) > 0


def test_a_size_that_ran_before_allocates_nothing(run: Callable[..., Run], bundle: Path) -> None:
    def allocations(*cells: str) -> int:
        done = run(bundle, "fp16", *cells, code=PREDICT)
        assert done.code == 0, done.stderr
        return len(done.calls("cudaMalloc"))

    assert allocations(*["8"] * 9) == allocations(*["8"] * 3)


def test_two_devices_run_at_once_and_write_the_file_of_one(
    run: Callable[..., Run], bundle: Path, cells: Path, genes: tuple[str, ...], tmp_path: Path
) -> None:
    labels = [argument for gene in genes[:8] for argument in ("-p", gene)]
    written = []
    for devices in ("1", "0,1", "all"):
        out = tmp_path / f"{devices}.h5ad"
        options = ("--batch-size", "4", "--device", devices, "--provider", "cuda", "--aggregate", "cells")
        done = run("predict", bundle, cells, "--out", out, *labels, *options, STANDIN_GPUS="2")
        assert done.code == 0, done.stderr
        executing = {t for line, t in zip(done.log, done.threads, strict=True) if line == "cudnnBackendExecute"}
        assert len(executing) == (1 if devices == "1" else 2)
        written.append(out.read_bytes())
        taken = {line.split(" device ")[1].split()[0] for line in done.calls("cudaMalloc")}
        assert taken == ({"1"} if devices == "1" else {"0", "1"})
    assert len(set(written)) == 1


def test_memory_that_runs_out_on_two_devices_halves_the_batch(run: Callable[..., Run], bundle: Path) -> None:
    code = PREDICT.replace("precision=precision", "precision=precision, device='all'")
    code = code.replace("predict(model, n_cells)", "predict(model, n_cells, batch_size=32)")
    done = run(bundle, "fp16", "128", code=code, STANDIN_CUBLAS_ROWS=str(9 * 24), STANDIN_GPUS="2")
    assert (done.code, done.stderr) == (0, "")
    assert batches(done) == {8: 16}


SIZES = """
import os, sys
import scgenept_rt as sgr
for precision in ("fp16", "fp32"):
    model = sgr.load(sys.argv[1], provider="cuda", precision=precision)
    print(model.automatic_batch_size())
os.environ["STANDIN_OTHERS"] = os.environ["STANDIN_MEMORY"]  # what is taken later changes nothing
print(model.automatic_batch_size())
"""


def test_automatic_batch_size_goes_by_what_was_free_at_loading(run: Callable[..., Run], bundle: Path) -> None:
    def sizes(others: int) -> list[int]:
        done = run(bundle, code=SIZES, STANDIN_MEMORY=str(80 * 2**30), STANDIN_OTHERS=str(others))
        assert done.code == 0, done.stderr
        return [int(size) for size in done.stdout.split()]

    assert sizes(0) == [1024, 1024, 1024]
    dimensions = Bundle.open(bundle).manifest.dimensions
    a_cell = dimensions.n_genes * (8 * dimensions.d_model * 2 / 0.8 + 2 * (4 + 8 + 4))
    # Room for 512 cells and what the session itself takes, beside the reserve of 1 GiB.
    assert sizes(79 * 2**30 - int(700 * a_cell)) == [512, 256, 256]


def test_running_out_of_memory_halves_the_batch(run: Callable[..., Run], bundle: Path) -> None:
    code = PREDICT.replace("predict(model, n_cells)", "predict(model, n_cells, batch_size=n_cells)")
    done = run(bundle, "fp16", "8192", code=code, STANDIN_MEMORY=str(100 * 2**20))
    assert done.code == 0, done.stderr
    assert [line for line in done.calls("cudaMalloc") if "FAILED" in line]
    sizes = batches(done)
    assert max(sizes) < 8192
    assert sum(size * n for size, n in sizes.items()) == 8192


def test_a_batch_beyond_32_bit_indices_is_split(run: Callable[..., Run], bundle: Path) -> None:
    code = "import scgenept_rt.session.batch as batch\nbatch._INDEX_LIMIT = 10 * 24 * 64\n" + PREDICT
    code = code.replace("predict(model, n_cells)", "predict(model, n_cells, batch_size=n_cells)")
    done = run(bundle, "fp16", "25", code=code)
    assert done.code == 0, done.stderr
    assert batches(done) == {10: 2, 5: 1}


def test_a_library_of_a_wheel_elsewhere_on_the_path_is_found(
    run: Callable[..., Run], bundle: Path, tmp_path: Path
) -> None:
    """As in an environment on top of another, whose packages are not beside ONNX Runtime."""
    known, wheel = tmp_path / "known", tmp_path / "packages" / "nvidia" / "cudnn" / "lib"
    for directory in (known, wheel):
        directory.mkdir(parents=True)
    for library in Path(os.environ["LD_LIBRARY_PATH"]).glob("lib*.so*"):
        ((wheel if "cudnn" in library.name else known) / library.name).symlink_to(library)
    without = run("verify", bundle, "--provider", "cuda", LD_LIBRARY_PATH=str(known))
    assert without.code == 1
    assert "libcudnn.so.9" in without.stderr
    assert "`pip install 'onnxruntime-gpu[cuda,cudnn]'`" in without.stderr
    path = os.pathsep.join([str(tmp_path / "packages"), os.environ.get("PYTHONPATH", "")])
    done = run("verify", bundle, "--provider", "cuda", LD_LIBRARY_PATH=str(known), PYTHONPATH=path)
    assert done.code == 0, done.stderr
    assert "CUDNN_FLASH_ATTENTION" in done.stdout
