"""The published size, with fewer layers: 60,697 tokens, 512 wide, and Norman's 5,045 genes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from scgenept_export.graph_check import FP32
from scgenept_export.synthetic import synthetic_state_dict
from scgenept_rt.bundle import Bundle

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
    options = [
        "--checkpoint",
        checkpoint,
        "--genes",
        "norman",
        "--variant",
        VARIANT,
        "--out",
        out,
        "--precision",
        "fp32",
    ]
    with log.open("w") as stream:
        process = subprocess.Popen([*CLI, "bundle", *map(str, options)], stdout=stream, stderr=stream)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, log.read_text()
    assert usage.ru_maxrss * 1024 < 6 * GIB  # ru_maxrss is in KiB on Linux

    bundle = Bundle.open(out)
    manifest = bundle.manifest
    assert (manifest.dimensions.n_genes, sum(manifest.in_vocab)) == (5045, 4547)
    assert (manifest.dimensions.d_model, manifest.dimensions.n_layers, manifest.dimensions.n_heads) == (
        512,
        N_LAYERS,
        8,
    )
    sizes = {(graph.target, graph.precision): graph.size for graph in bundle.graphs()}
    assert sizes["ort", "fp32"] < 100e6
    assert sizes["merged", "fp32"] < 0.2e6

    graph = bundle.graph("fp32", "ort")
    nodes = onnx.load(bundle.path(graph)).graph.node
    assert Counter(node.op_type for node in nodes)["MultiHeadAttention"] == N_LAYERS
    for node in nodes:
        if node.op_type == "MultiHeadAttention":
            assert len([name for name in node.input if name]) == 3, "no bias, no mask"

    session = onnxruntime.InferenceSession(str(bundle.path(graph)), providers=["CPUExecutionProvider"])
    with np.load(out / "reference.npz") as reference:
        inputs = {name: reference[name] for name in ("values", "pert_flags", "gene_index")}
        assert FP32.compare(session.run(None, inputs)[0], reference["predicted"]).passed

    check_that_weights_are_shared(bundle)


def check_that_weights_are_shared(bundle: Bundle) -> None:
    """Check that the merged graph holds references to the other graph's weights, aligned, and none of its own."""
    plain, merged = (bundle.path(bundle.graph("fp32", target)) for target in ("ort", "merged"))
    owner = plain.read_bytes()
    weights = {tensor.name: tensor for tensor in onnx.load_model_from_string(owner).graph.initializer}
    n_shared = 0
    for tensor in onnx.load(merged, load_external_data=False).graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            where = {entry.key: entry.value for entry in tensor.external_data}
            begin, length = int(where["offset"]), int(where["length"])
            assert where["location"] == plain.name
            assert begin % 16 == 0
            assert owner[begin : begin + length] == weights[tensor.name].raw_data
            n_shared += length
    assert n_shared > 0.99 * sum(len(tensor.raw_data) for tensor in weights.values())
