"""The published size, with fewer layers: 60,697 tokens, 512 wide, and Norman's 5,045 genes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch

from scgenept_export.graph_check import FP32, open_on_cpu
from scgenept_export.synthetic import synthetic_state_dict
from scgenept_rt.bundle import Bundle, Reference
from tests.export.conftest import share_of_weights

CLI = (sys.executable, "-c", "from scgenept_export.cli import main; main()")
VARIANT = "scgenept_go_c_gpt_concat"
N_LAYERS = 1  # of 12: most of the file is embedding tables, most of the time is layers
GIB = 2**30


@pytest.fixture
def checkpoint(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "published_size.pt"
    torch.save(synthetic_state_dict(VARIANT, n_layers=N_LAYERS), path)
    yield path
    path.unlink(missing_ok=True)  # about 0.9 GB


@pytest.mark.slow
def test_a_checkpoint_of_the_published_width_exports_in_bounded_memory(checkpoint: Path, tmp_path: Path) -> None:
    assert checkpoint.stat().st_size > 0.8 * GIB
    out, log = tmp_path / "out", tmp_path / "log.txt"
    options = {"checkpoint": checkpoint, "genes": "norman", "variant": VARIANT, "out": out, "precision": "fp32"}
    (home := tmp_path / "home").mkdir()
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    with log.open("w") as stream:
        command = [*CLI, "bundle", *(f"--{name}={value}" for name, value in options.items())]
        process = subprocess.Popen(command, env=environment | {"HOME": str(home)}, stdout=stream, stderr=stream)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, log.read_text()
    assert usage.ru_maxrss * 1024 < 6 * GIB  # ru_maxrss is in KiB on Linux

    assert "Warning" not in log.read_text()
    assert list(home.rglob("*onnxruntime*")) == [], "telemetry of ONNX Runtime"

    bundle = Bundle.open(out)
    found = bundle.manifest.dimensions
    assert (found.n_genes, sum(bundle.manifest.in_vocab)) == (5045, 4547)
    assert (found.d_model, found.n_layers, found.n_heads) == (512, N_LAYERS, 8)
    sizes = {(graph.target, graph.precision): graph.size for graph in bundle.graphs()}
    assert sizes["ort", "fp32"] < 100e6
    assert sizes["merged", "fp32"] < 0.2e6

    graph = bundle.graph("fp32", "ort")
    nodes = onnx.load(bundle.path(graph)).graph.node
    assert Counter(node.op_type for node in nodes)["MultiHeadAttention"] == N_LAYERS
    for node in nodes:
        if node.op_type == "MultiHeadAttention":
            assert len([name for name in node.input if name]) == 3, "no bias, no mask"

    reference = Reference.read(out)
    assert FP32.compare(open_on_cpu(bundle.path(graph))(reference.inputs()), reference.predicted).passed
    assert share_of_weights(bundle.path(graph), bundle.path(bundle.graph("fp32", "merged"))) > 0.99
