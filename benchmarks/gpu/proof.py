"""Steps that show whether it works: the bundle, outputs against PyTorch, interruption, lack of memory."""

from __future__ import annotations

import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import BIAS_FORMS, CONTROLS, DEVICE, GPU, LABELS, NAMES, PRECISION, WORK, WORKLOAD, feed, note, tried

from shared import timed


def prepare() -> None:
    """Make the checkpoint, its bundle and other graphs, PyTorch's predictions, and cells and labels of the screens."""
    import torch

    from scgenept_export.onnx_graph import write_graph
    from workload import control_cells

    begin = time.monotonic()
    WORKLOAD.prepare()
    ids = torch.from_numpy(WORKLOAD.array("token_ids"))
    for form, graph in BIAS_FORMS.items():
        write_graph(WORKLOAD.reference_model(), ids, graph, PRECISION, "ort", merge_biases=form == "merged biases")
    controls = control_cells(NAMES, CONTROLS, seed=1)
    controls.write_h5ad(WORK / "controls.h5ad")
    (WORK / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    np.save(WORK / "controls.npy", controls.X.toarray())
    note("prepare", seconds=time.monotonic() - begin, bundle=[p.name for p in sorted(WORKLOAD.bundle.iterdir())])


def compare(*predicted_files: str) -> None:
    """Compare predicted cells with PyTorch in fp32, beside the error of the published code's autocast to fp16."""
    import anndata
    import torch

    values = np.load(WORK / "controls.npy")
    columns = [[NAMES.index(part) for part in label.split("+") if part != "ctrl"] for label in LABELS]
    ids = torch.from_numpy(WORKLOAD.array("token_ids")).to(DEVICE)
    model = WORKLOAD.reference_model().to(DEVICE)

    def predict(network: Any) -> np.ndarray:
        outputs = []
        with torch.inference_mode():
            for perturbed in columns:
                for row in range(0, len(values), 8):
                    batch = torch.from_numpy(values[row : row + 8]).to(DEVICE)
                    flags = torch.zeros(batch.shape, dtype=torch.int64, device=DEVICE)
                    flags[:, perturbed] = 1
                    outputs.append(network(batch, flags).float().cpu().numpy())
        return np.concatenate(outputs).astype(np.float64)

    with timed() as run:
        expected = predict(lambda batch, flags: model(ids, batch, flags))
    note("compare", what="PyTorch fp32", rows=len(expected), seconds=run["seconds"])

    def autocast_error() -> float:
        from published_network import load_published

        published = load_published(WORKLOAD.checkpoint).to(DEVICE)
        with torch.autocast(DEVICE, dtype=torch.float16 if GPU else torch.bfloat16):
            got = predict(lambda batch, flags: published(ids.expand(len(batch), -1), batch, flags, empty_mask=False))
        return float(np.abs(got - expected).max())

    autocast = tried("compare", "autocast", autocast_error)
    for file in predicted_files:
        found = anndata.read_h5ad(file)
        assert list(found.var_names) == list(NAMES), "genes of the output are not those of the model"
        rows = [f"{label} cell{i}" for label in LABELS for i in range(len(values))]
        assert [f"{row.condition} {row.control_cell}" for row in found.obs.itertuples()] == rows
        got = np.asarray(found.X, dtype=np.float64)
        error = np.abs(got - expected)
        note(
            "compare",
            what=Path(file).name,
            rows=len(got),
            max_error=error.max(),
            mean_error=error.mean(),
            largest_output=np.abs(expected).max(),
            times_fp32_tolerance=(error / (2e-5 + 1e-4 * np.abs(expected))).max(),
            autocast_error=autocast,
            of_autocast=error.max() / autocast if autocast else None,
            correlation=float(np.corrcoef(got.ravel(), expected.ravel())[0, 1]),
        )


def latency() -> None:
    """Time what a service waits for: opening, the first and later batches of a size; then call from 8 threads."""
    import scgenept_rt as sgr

    with timed() as opening:
        model = sgr.load(WORKLOAD.bundle, provider=DEVICE, precision=PRECISION)
    values, label = feed(max(WORKLOAD.cells, 4))["values"], LABELS[0]
    found: dict[str, Any] = {}
    for size in (WORKLOAD.cells, 1):
        times = []
        for _ in range(4):
            with timed() as call:
                model.predict_array(values[:size], label, batch_size=WORKLOAD.cells)
            times.append(round(call["seconds"] * 1e3, 2))
        found[f"ms, {size} cells, first to fourth call"] = times
    note("latency", open_seconds=opening["seconds"], automatic_batch=model.automatic_batch_size(), **found)
    expected = [model.predict_array(values[i : i + 1], label) for i in range(4)]

    def difference(call: int) -> float:
        i = call % 4
        return float(np.abs(model.predict_array(values[i : i + 1], label) - expected[i]).max())

    with ThreadPoolExecutor(8) as pool:
        note("latency", what="24 calls from 8 threads", largest_difference=max(pool.map(difference, range(24))))


def big() -> None:
    """Run batches beyond what 32-bit indices reach and beyond the memory: they must be split, with the same result."""
    import scgenept_rt as sgr

    model = sgr.load(WORKLOAD.bundle, provider=DEVICE, precision=PRECISION)
    limit = (2**31 - 1) // (WORKLOAD.genes * 512)
    for cells in (limit, limit + 9, 2048) if GPU else (8, 16):

        def predict(cells: int = cells) -> None:
            two = feed(2)["values"]
            with timed() as run:
                got = model.predict_array(np.resize(two, (cells, WORKLOAD.genes)), LABELS[0], batch_size=cells)
            alone = model.predict_array(two, LABELS[0], batch_size=2)
            ends = [float(np.abs(got[i : i + 2] - alone).max()) for i in (0, (cells - 2) // 2 * 2)]
            note("big", cells=cells, seconds=run["seconds"], first_and_last_rows_differ_by=ends)

        tried("big", f"{cells} cells", predict)


def crowded(*command: str) -> None:
    """Run a command on a GPU of which another process has taken nearly all memory."""
    import torch

    for left in (3.0, 1.2, 0.35) if GPU else ():
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        # The command's CUDA context takes its share of what is left too.
        taken = torch.empty(max(0, free - int(left * 1e9)), dtype=torch.uint8, device="cuda")
        with timed() as run:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        last = [line[:300] for line in (done.stdout + done.stderr).strip().splitlines()[-4:]]
        note("crowded", left_gb=left, rc=done.returncode, seconds=run["seconds"], last_lines=last)
        del taken


def killed(*command: str) -> None:
    """Kill a screen after three quarters of its time, resume it, and compare with an uninterrupted one."""
    import anndata

    with tempfile.TemporaryDirectory() as directory:
        whole, broken = Path(directory) / "whole.h5ad", Path(directory) / "broken.h5ad"
        with timed() as first:
            subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True)
        process = subprocess.Popen(
            [*command, "--out", str(broken)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(first["seconds"] * 0.75)
        process.kill()
        process.wait()
        resume = [*command, "--out", str(broken), "--resume"]
        with timed() as again:
            done = subprocess.run(resume, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        a, b = anndata.read_h5ad(whole).X, anndata.read_h5ad(broken).X
        difference = float(np.abs(a - b).max()) if a.shape == b.shape else None
        note("killed", seconds=first["seconds"], resumed_seconds=again["seconds"], largest_difference=difference)
