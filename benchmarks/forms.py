"""The forms of the same computation that are compared, from the published way to scgenept-rt.

Each is a function that opens it on a workload and returns another, which predicts the workload's cells from host memory
to host memory. Nothing is imported before a form is opened, so that a form's memory holds no other form's packages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared import in_new_process
from workload import Workload

Predict = Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class Form:
    """One way to compute the predictions.

    Attributes
    ----------
    letter
        Letter in the documentation.
    cpu, cuda
        Description on the device; it is timed on those where it has one.
    precision
        fp32 or fp16 on every device; None for fp32 on a CPU and fp16 on a GPU.
    one_cell
        Whether it runs one cell per pass: on a CPU then only one cell is timed, as the others take as long.
    screen
        Whether it predicts `SCREEN_PERTURBATIONS` perturbations of all cells on a GPU, not one.
    """

    name: str
    letter: str
    cpu: str
    cuda: str
    open: Callable[[Workload], Predict]
    precision: str | None = None
    one_cell: bool = False
    screen: bool = False

    def precision_on(self, device: str) -> str:
        """Return fp32 or fp16."""
        return self.precision or ("fp32" if device == "cpu" else "fp16")


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
    from scgenept_rt.providers import cpu_threads, import_onnxruntime

    graph = workload.directory / f"default_opset{opset}_{workload.device}.onnx"
    if not graph.is_file():  # in another process: PyTorch would stay in the memory of this form, which runs without it
        in_new_process(export_default, workload, opset, graph)

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


def export_default(workload: Workload, opset: int, path: Path) -> None:
    """Write what torch.onnx.export makes of attention by itself: products and softmax, or opset 23's Attention."""
    from scgenept_export.onnx_graph import trace

    path.write_bytes(trace(_best_network(workload).cpu(), workload.genes, opset).SerializeToString())


def _runtime(workload: Workload, *, precision: str) -> Predict:
    from scgenept_rt.predictor import load

    model = load(workload.bundle, provider=workload.device, precision=precision)
    values, label = workload.array("values"), workload.perturbation
    return lambda: model.predict_array(values, label, batch_size=workload.cells)


def _runtime_unmerged(workload: Workload) -> Predict:
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


_DEFAULT_EXPORT = "ONNX Runtime, torch.onnx.export by default: {}".format
_E1, _E2 = _DEFAULT_EXPORT("MatMul, Softmax, MatMul"), _DEFAULT_EXPORT("opset 23 Attention")
_NO_MASK = "the same, without the empty mask that the published code passes"
_BATCHED, _NO_FAST_PATH = "the published way, batched", "the same, batched, fast path off"

FORMS = (
    Form(
        "published",
        "a",
        "the published way: nn.TransformerEncoder as it comes (its fast path), one cell per pass",
        "the published way: nn.TransformerEncoder, fp16 autocast, one cell per pass",
        partial(_published, batched=False),
        one_cell=True,
    ),
    Form(
        "published-no-mask",
        "a1",
        _NO_MASK,
        _NO_MASK,
        partial(_published, batched=False, empty_mask=False),
        one_cell=True,
    ),
    Form("published-batched", "b", _BATCHED, _BATCHED, partial(_published, batched=True)),
    Form(
        "published-no-fast-path",
        "c1",
        _NO_FAST_PATH,
        _NO_FAST_PATH,
        partial(_published, batched=True, fast_path=False),
    ),
    Form(
        "pytorch-best",
        "c2",
        "PyTorch at its best: folded network, fused attention, fp32",
        "PyTorch at its best: folded network, fused attention (cuDNN first), half weights",
        partial(_best, compiled=False),
    ),
    Form(
        "torch-compile",
        "d",
        "torch.compile of it",
        "torch.compile (max-autotune) of it",
        partial(_best, compiled=True),
    ),
    Form("default-export-opset20", "e1", _E1, _E1, partial(_default_export, opset=20)),
    Form("default-export-opset23", "e2", _E2, _E2, partial(_default_export, opset=23)),
    Form("scgenept-rt-unmerged", "f0", "scgenept-rt, fp32, every token computed", "", _runtime_unmerged, "fp32"),
    Form(
        "scgenept-rt-fp32",
        "f1",
        "**scgenept-rt, fp32** (identical tokens merged)",
        "**scgenept-rt, fp32** (TF32 off)",
        partial(_runtime, precision="fp32"),
        "fp32",
    ),
    Form(
        "scgenept-rt-fp16",
        "f2",
        "scgenept-rt, fp16 (not meant for a CPU)",
        "**scgenept-rt, fp16**",
        partial(_runtime, precision="fp16"),
        "fp16",
    ),
    Form(
        "scgenept-rt-files",
        "g",
        "**scgenept-rt, from .h5ad to .h5ad**",
        "**scgenept-rt, from .h5ad to .h5ad**, fp16",
        _runtime_files,
        screen=True,
    ),
)


def forms_on(device: str) -> list[Form]:
    """Return the forms that are timed on a device."""
    return [form for form in FORMS if getattr(form, device)]


def form_named(name: str, forms: Sequence[Form] = FORMS) -> Form:
    """Return a form; exits with the known names if there is none of this name."""
    for form in forms:
        if form.name == name:
            return form
    raise SystemExit(f"unknown form {name!r}; expected some of {', '.join(form.name for form in forms)}")
