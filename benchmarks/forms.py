"""The forms of the same computation that are compared, from the published way to scgenept-rt.

Each is a function that opens it on a workload and returns another, which predicts the workload's cells from host memory
to host memory. Nothing of a form is imported before it is opened, so that its memory holds no other form's packages.

`python forms.py NAME WORKLOAD` opens one and runs it when standard input asks: `check`, `time` or `end`, one word per
line, answered by one line of JSON each. A form that waits uses no processor, so the processes of all forms take turns.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.benchmark.machine import process_bytes, reset_host_peak
from scgenept_rt.bundle import Bundle
from scgenept_rt.files.machine_limits import cpu_threads
from scgenept_rt.providers.devices import gpu_memory
from shared import in_new_process, open_graph, timed
from workload import Workload

Predict = Callable[[], NDArray[np.float32]]

SCREEN_PERTURBATIONS = 32
_LEAST_ON_GPU = 0.5
"""Seconds of runs per round: a single batch just after another process used the GPU takes up to 15% longer."""


class Form(NamedTuple):
    """One way to compute the predictions."""

    letter: str  # in the documentation
    name: str
    open: Callable[[Workload], Predict]
    cpu: str  # what it is on a CPU
    cuda: str = ""  # and on a GPU, if that is not the same
    precision: str | None = None  # None: fp32 on a CPU, fp16 on a GPU
    one_cell: bool = False  # per pass; on a CPU only one cell is timed then, as the others take as long
    merges: bool = False  # identical tokens, on a CPU
    cpu_alone: bool = False  # not timed on a GPU
    screen: bool = False  # predicts `SCREEN_PERTURBATIONS` perturbations of all cells on a GPU, not one

    def precision_on(self, device: str) -> str:
        """Return fp32 or fp16."""
        return self.precision or ("fp32" if device == "cpu" else "fp16")

    def cells_of(self, workload: Workload) -> int:
        """Return how many cells it predicts in one run; the first are those of the workload."""
        if workload.device == "cpu":
            return 1 if self.one_cell else workload.cells
        # On a GPU a single batch from file to file takes less time than opening and closing the files.
        return workload.cells * (SCREEN_PERTURBATIONS if self.screen else 1)


def _torch() -> Any:
    import torch

    torch.set_num_threads(cpu_threads())
    return torch


def _published(workload: Workload, *, batched: bool, fast_path: bool = True, empty_mask: bool = True) -> Predict:
    torch = _torch()
    from published_network import load_published

    torch.backends.mha.set_fastpath_enabled(fast_path)
    network = load_published(workload.checkpoint).to(workload.device)
    on_gpu = workload.device != "cpu"
    n_cells = workload.cells if on_gpu or batched else 1
    values, flags = (workload.array(name)[:n_cells] for name in ("values", "pert_flags"))
    ids = torch.from_numpy(workload.array("token_ids"))

    def predict() -> NDArray[np.float32]:
        predicted = []
        step = n_cells if batched else 1
        half = torch.autocast("cuda", dtype=torch.float16) if on_gpu else nullcontext()
        with torch.no_grad(), half:
            for begin in range(0, n_cells, step):
                rows = slice(begin, begin + step)
                batch = torch.from_numpy(values[rows]), torch.from_numpy(flags[rows])
                inputs = (part.to(workload.device) for part in (ids.expand(len(batch[0]), -1), *batch))
                predicted.append(network(*inputs, empty_mask=empty_mask).float().cpu().numpy())
        return np.concatenate(predicted)

    return predict


def _best_network(workload: Workload) -> Any:
    """Return the folded network in PyTorch: one gene table, no bias of keys and values, fused attention."""
    torch = _torch()
    from scgenept_export.inference_network import EagerOps, fold

    network = fold(workload.reference_model(), torch.from_numpy(workload.array("token_ids")), EagerOps())
    return (network if workload.device == "cpu" else network.half()).to(workload.device)


def _best(workload: Workload, *, compiled: bool) -> Predict:
    torch = _torch()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    network = _best_network(workload)
    on_gpu = workload.device != "cpu"
    if compiled:
        network = torch.compile(network, dynamic=False, mode="max-autotune" if on_gpu else "default")
    index = torch.arange(workload.genes, device=workload.device)
    inputs = [torch.from_numpy(workload.array(name)) for name in ("values", "pert_flags")]
    # PyTorch by itself takes FlashAttention-2 here, which is slower than cuDNN's on recent GPUs.
    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

    def predict() -> NDArray[np.float32]:
        with torch.inference_mode(), sdpa_kernel(order, set_priority=True) if on_gpu else nullcontext():
            return network(*(part.to(workload.device) for part in inputs), index).cpu().numpy()

    return predict


def _default_export(workload: Workload, *, opset: int) -> Predict:
    graph = workload.directory / f"default_opset{opset}_{workload.device}.onnx"
    if not graph.is_file():  # in another process: PyTorch would stay in the memory of this form, which runs without it
        in_new_process(export_default, workload, opset, graph)

    session = open_graph(graph, workload.device)
    feed = {name: workload.array(name) for name in ("values", "pert_flags")}
    feed["gene_index"] = np.arange(workload.genes, dtype=np.int64)
    return lambda: session.run(None, feed)[0]


def export_default(workload: Workload, opset: int, path: Path) -> None:
    """Write what torch.onnx.export makes of attention by itself: products and softmax, or opset 23's Attention."""
    from scgenept_export.onnx_graph import trace

    path.write_bytes(trace(_best_network(workload).cpu(), workload.genes, opset).SerializeToString())


def _runtime(workload: Workload, *, precision: str, every_token: bool = False) -> Predict:
    from scgenept_rt.predictor import Predictor
    from scgenept_rt.providers import select_provider
    from scgenept_rt.session import open_session

    bundle = Bundle.open(workload.bundle)
    choice = select_provider(bundle, provider=workload.device, precision=precision)
    if every_token:  # with the graph that a GPU runs
        choice = replace(choice, target="ort")
    model = Predictor(bundle, open_session(bundle, choice))
    values, label = workload.array("values"), workload.perturbation
    return lambda: model.predict_array(values, label, batch_size=workload.cells)


def _runtime_files(workload: Workload) -> Predict:
    import h5py

    from scgenept_rt.predictor import load

    model = load(workload.bundle, provider=workload.device)
    out = workload.directory / "predicted.h5ad"
    labels = [workload.perturbation]
    if workload.device != "cpu":
        labels += [f"{name}+ctrl" for name in workload.gene_names()[2 : SCREEN_PERTURBATIONS + 1]]

    def predict() -> NDArray[np.float32]:
        model.predict_file(workload.h5ad, out, labels, aggregate="cells", batch_size=workload.cells, overwrite=True)
        with h5py.File(out) as file:
            return np.asarray(file["X"][:], dtype=np.float32)

    return predict


FORMS = (
    Form(
        "a", "published", partial(_published, batched=False),
        "the published way: nn.TransformerEncoder as it comes (its fast path), one cell per pass",
        "the published way: nn.TransformerEncoder, fp16 autocast, one cell per pass",
        one_cell=True,
    ),
    Form(
        "a1", "published-no-mask", partial(_published, batched=False, empty_mask=False),
        "the same, without the empty mask that the published code passes",
        one_cell=True,
    ),
    Form("b", "published-batched", partial(_published, batched=True), "the published way, batched"),
    Form(
        "c1", "published-no-fast-path", partial(_published, batched=True, fast_path=False),
        "the same, batched, fast path off",
    ),
    Form(
        "c2", "pytorch-best", partial(_best, compiled=False),
        "PyTorch at its best: folded network, fused attention, fp32",
        "PyTorch at its best: folded network, fused attention (cuDNN first), half weights",
    ),
    Form(
        "d", "torch-compile", partial(_best, compiled=True),
        "torch.compile of it",
        "torch.compile (max-autotune) of it",
    ),
    Form(
        "e1", "default-export-opset20", partial(_default_export, opset=20),
        "ONNX Runtime, torch.onnx.export by default: MatMul, Softmax, MatMul",
    ),
    Form(
        "e2", "default-export-opset23", partial(_default_export, opset=23),
        "ONNX Runtime, torch.onnx.export by default: opset 23 Attention",
    ),
    Form(
        "f0", "scgenept-rt-unmerged", partial(_runtime, precision="fp32", every_token=True),
        "scgenept-rt, fp32, every token computed",
        precision="fp32", cpu_alone=True,
    ),
    Form(
        "f1", "scgenept-rt-fp32", partial(_runtime, precision="fp32"),
        "**scgenept-rt, fp32** (identical tokens merged)",
        "**scgenept-rt, fp32** (TF32 off)",
        precision="fp32", merges=True,
    ),
    Form(
        "f2", "scgenept-rt-fp16", partial(_runtime, precision="fp16"),
        "scgenept-rt, fp16 (not meant for a CPU)",
        "**scgenept-rt, fp16**",
        precision="fp16",
    ),
    Form(
        "g", "scgenept-rt-files", _runtime_files,
        "**scgenept-rt, from .h5ad to .h5ad**",
        "**scgenept-rt, from .h5ad to .h5ad**, fp16",
        merges=True, screen=True,
    ),
)  # fmt: skip


def forms_on(device: str, names: str = "") -> list[Form]:
    """Return the forms that are timed on a device: all, or those of these names, separated by commas."""
    known = {form.name: form for form in FORMS if device == "cpu" or not form.cpu_alone}
    chosen = names.split(",") if names else list(known)
    for name in chosen:
        if name not in known:
            raise SystemExit(f"unknown form {name!r}; expected some of {', '.join(known)}")
    return [known[name] for name in chosen]


def run(name: str, workload: Workload) -> Iterator[dict[str, Any]]:
    """Open a form, and yield an answer to each line of standard input."""
    (form,) = forms_on(workload.device, name)
    gpu = None if workload.device == "cpu" else 0
    memory_before = gpu_memory(gpu)
    try:
        with timed() as opening:
            predict = form.open(workload)
        opened, open_peak = process_bytes("VmRSS"), process_bytes("VmHWM")
        # Opening may take more than a run does: from here on the peak is that of runs.
        reset_host_peak()
        for line in sys.stdin:
            match line.strip():
                case "check":
                    with timed() as first:
                        predicted = predict()
                    memory = gpu_memory(gpu)
                    yield {
                        "open_seconds": opening["seconds"],
                        "opened_bytes": opened,
                        "open_peak_bytes": open_peak,
                        "first_seconds": first["seconds"],
                        **compare(form, workload, predicted),
                        "device_bytes": memory.used - memory_before.used if memory and memory_before else None,
                    }
                case "time":
                    begin, runs = time.perf_counter(), 0
                    with timed() as seconds_of:
                        while not runs or (gpu is not None and time.perf_counter() < begin + _LEAST_ON_GPU):
                            predict()
                            runs += 1
                    yield {name: value / runs for name, value in seconds_of.items()}
                case "end":
                    # Not getrusage's: that begins with the peak of the process that started this one.
                    run_peak = process_bytes("VmHWM")
                    yield {"run_peak_bytes": run_peak, "peak_bytes": max(run_peak or 0, open_peak or 0) or None}
                    return
    except Exception as error:  # whatever a form raises is its result
        yield {"problem": f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"}


def compare(form: Form, workload: Workload, predicted: NDArray[np.float32]) -> dict[str, Any]:
    """Compare with the fp32 reference, with the tolerance of the form's precision in the bundle."""
    tolerance = Bundle.open(workload.bundle, check_files=False).manifest.tolerances[form.precision_on(workload.device)]
    expected = workload.array("expected")[: form.cells_of(workload)]
    comparison = tolerance.compare(predicted[: len(expected)], expected)
    return {
        "max_difference": comparison.max_difference,
        "max_relative": comparison.max_relative,
        "times_tolerance": comparison.worst,
        "passed": bool(comparison.passed),
    }


if __name__ == "__main__":
    # Libraries print to standard output as they like: answers go to a copy of it.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for answer in run(sys.argv[1], Workload.open(Path(sys.argv[2]))):
        print(json.dumps(answer), file=answers, flush=True)
