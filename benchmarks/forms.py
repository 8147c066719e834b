"""The forms of the same computation that are compared, from the published way to scgenept-rt.

Each is a function that opens it on a workload and returns another, which predicts the workload's cells from host memory
to host memory. Nothing is imported before a form is opened, so that a form's memory holds no other form's packages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workload import Workload

Predict = Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class Form:
    """One way to compute the predictions.

    Attributes
    ----------
    letter
        Letter in the documentation.
    what
        Description by device; a form is timed on the devices that have one.
    precision
        By device, fp32 or fp16.
    one_cell
        Whether it runs one cell per pass: on a CPU then only one cell is timed, as the others take as long.
    screen
        Whether it predicts `SCREEN_PERTURBATIONS` perturbations of all cells on a GPU, not one.
    """

    name: str
    letter: str
    what: dict[str, str]
    precision: dict[str, str]
    open: Callable[[Workload], Predict]
    one_cell: bool = False
    screen: bool = False


SCREEN_PERTURBATIONS = 32


def cells_of(form: Form, workload: Workload) -> int:
    """Return how many cells a form predicts in one run; the first are those of the workload."""
    if workload.device == "cpu":
        return 1 if form.one_cell else workload.cells
    # On a GPU a single batch from file to file takes less time than opening and closing the files.
    return workload.cells * (SCREEN_PERTURBATIONS if form.screen else 1)


def _torch() -> Any:
    import torch

    from scgenept_rt.providers import cpu_threads

    torch.set_num_threads(cpu_threads())
    return torch


def _published(workload: Workload, *, batched: bool, fast_path: bool, empty_mask: bool = True) -> Predict:
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
                batch = (
                    ids.expand(len(values[rows]), -1),
                    torch.from_numpy(values[rows]),
                    torch.from_numpy(flags[rows]),
                )
                inputs = (part.to(workload.device) for part in batch)
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
    network = _best_network(workload)
    on_gpu = workload.device != "cpu"
    if compiled:
        network = torch.compile(network, dynamic=False, mode="max-autotune" if on_gpu else "default")
    index = torch.arange(workload.genes, device=workload.device)
    inputs = [torch.from_numpy(workload.array(name)) for name in ("values", "pert_flags")]

    def predict() -> NDArray[np.float32]:
        with torch.inference_mode(), _fast_attention() if on_gpu else nullcontext():
            return network(*(part.to(workload.device) for part in inputs), index).cpu().numpy()

    return predict


def _fast_attention() -> Any:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # PyTorch by itself takes FlashAttention-2 here, which is slower than cuDNN's on recent GPUs.
    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return sdpa_kernel(order, set_priority=True)


def _default_export(workload: Workload, *, opset: int) -> Predict:
    graph = _export_default(workload, opset)
    from scgenept_rt.providers import cpu_threads, import_onnxruntime

    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = cpu_threads()
    providers = ["CPUExecutionProvider"] if workload.device == "cpu" else ["CUDAExecutionProvider"]
    session = onnxruntime.InferenceSession(str(graph), options, providers=providers)
    assert session.get_providers()[0] == providers[0], f"{providers[0]} did not become active"
    feed = {
        "values": workload.array("values"),
        "pert_flags": workload.array("pert_flags"),
        "gene_index": np.arange(workload.genes, dtype=np.int64),
    }
    return lambda: session.run(None, feed)[0]


def _export_default(workload: Workload, opset: int) -> Path:
    """Export in another process, so that PyTorch is not in the memory of a form that runs without it."""
    import subprocess
    import sys

    graph = workload.directory / f"default_opset{opset}_{workload.device}.onnx"
    if not graph.is_file():
        command = [sys.executable, __file__, str(workload.directory), str(opset), str(graph)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"torch.onnx.export failed: {done.stderr.splitlines()[-1]}")
    return graph


def export_default(workload: Workload, opset: int, graph: Path) -> None:
    """Write what torch.onnx.export makes of attention by itself: products and softmax, or opset 23's Attention."""
    import torch

    network = _best_network(workload).cpu()
    arguments = (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64), torch.arange(3))
    batch, genes = torch.export.Dim("batch"), torch.export.Dim("n_genes")
    shapes = {"values": {0: batch, 1: genes}, "pert_flags": {0: batch, 1: genes}, "gene_index": {0: genes}}
    with torch.inference_mode():
        program = torch.onnx.export(
            network,
            arguments,
            dynamo=True,
            opset_version=opset,
            input_names=list(shapes),
            output_names=["predicted"],
            dynamic_shapes=shapes,
        )
    program.save(str(graph), external_data=False)


def _runtime(workload: Workload, *, precision: str) -> Predict:
    from scgenept_rt.predictor import load

    model = load(workload.bundle, provider=workload.device, precision=precision)
    values, label = workload.array("values"), workload.perturbation
    return lambda: model.predict_array(values, label, batch_size=workload.cells)


def _runtime_unmerged(workload: Workload) -> Predict:
    from dataclasses import replace

    from scgenept_rt.bundle import Bundle
    from scgenept_rt.predictor import Predictor
    from scgenept_rt.providers import select_provider
    from scgenept_rt.session import open_session

    bundle = Bundle.open(workload.bundle)
    choice = replace(select_provider(provider=workload.device, precision="fp32"), target="ort")
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


_FP32 = {"cpu": "fp32", "cuda": "fp32"}
_HALF_ON_GPU = {"cpu": "fp32", "cuda": "fp16"}


def _published_form(name: str, letter: str, cpu: str, cuda: str = "", *, batched: bool, **options: bool) -> Form:
    return Form(
        name,
        letter,
        {"cpu": cpu, "cuda": cuda or cpu},
        _HALF_ON_GPU,
        lambda workload: _published(workload, batched=batched, **{"fast_path": True, **options}),
        one_cell=not batched,
    )


def _default_form(letter: str, opset: int, attention: str) -> Form:
    what = f"ONNX Runtime, torch.onnx.export by default: {attention}"
    return Form(
        f"default-export-opset{opset}",
        letter,
        {"cpu": what, "cuda": what},
        _HALF_ON_GPU,
        lambda workload: _default_export(workload, opset=opset),
    )


FORMS = (
    _published_form(
        "published",
        "a",
        "the published way: nn.TransformerEncoder as it comes (its fast path), one cell per pass",
        "the published way: nn.TransformerEncoder, fp16 autocast, one cell per pass",
        batched=False,
    ),
    _published_form(
        "published-no-mask",
        "a1",
        "the same, without the empty mask that the published code passes",
        batched=False,
        empty_mask=False,
    ),
    _published_form("published-batched", "b", "the published way, batched", batched=True),
    _published_form("published-no-fast-path", "c1", "the same, batched, fast path off", batched=True, fast_path=False),
    Form(
        "pytorch-best",
        "c2",
        {
            "cpu": "PyTorch at its best: folded network, fused attention, fp32",
            "cuda": "PyTorch at its best: folded network, fused attention (cuDNN first), half weights",
        },
        _HALF_ON_GPU,
        lambda workload: _best(workload, compiled=False),
    ),
    Form(
        "torch-compile",
        "d",
        {"cpu": "torch.compile of it", "cuda": "torch.compile (max-autotune) of it"},
        _HALF_ON_GPU,
        lambda workload: _best(workload, compiled=True),
    ),
    _default_form("e1", 20, "MatMul, Softmax, MatMul"),
    _default_form("e2", 23, "opset 23 Attention"),
    Form("scgenept-rt-unmerged", "f0", {"cpu": "scgenept-rt, fp32, every token computed"}, _FP32, _runtime_unmerged),
    Form(
        "scgenept-rt-fp32",
        "f1",
        {"cpu": "**scgenept-rt, fp32** (identical tokens merged)", "cuda": "**scgenept-rt, fp32** (TF32 off)"},
        _FP32,
        lambda workload: _runtime(workload, precision="fp32"),
    ),
    Form(
        "scgenept-rt-fp16",
        "f2",
        {"cpu": "scgenept-rt, fp16 (not meant for a CPU)", "cuda": "**scgenept-rt, fp16**"},
        {"cpu": "fp16", "cuda": "fp16"},
        lambda workload: _runtime(workload, precision="fp16"),
    ),
    Form(
        "scgenept-rt-files",
        "g",
        {"cpu": "**scgenept-rt, from .h5ad to .h5ad**", "cuda": "**scgenept-rt, from .h5ad to .h5ad**, fp16"},
        _HALF_ON_GPU,
        _runtime_files,
        screen=True,
    ),
)


def forms_on(device: str) -> list[Form]:
    """Return the forms that are timed on a device."""
    return [form for form in FORMS if device in form.what]


def form_named(name: str, forms: Sequence[Form] = FORMS) -> Form:
    """Return a form; exits with the known names if there is none of this name."""
    for form in forms:
        if form.name == name:
            return form
    raise SystemExit(f"unknown form {name!r}; expected some of {', '.join(form.name for form in forms)}")


if __name__ == "__main__":
    import sys

    export_default(Workload.open(Path(sys.argv[1])), int(sys.argv[2]), Path(sys.argv[3]))
