"""Models for Triton: the configuration as Triton's own protobuf reads it, the graph as ONNX Runtime runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import scgenept_rt as sgr
from scgenept_export import triton
from scgenept_export.errors import ExportedGraphError
from scgenept_export.triton import write_triton_model
from scgenept_rt.bundle import Bundle
from scgenept_rt.errors import ArgumentError, GraphNotInBundleError, OutputExistsError


@pytest.fixture(scope="module")
def opened(bundle: Path) -> Bundle:
    return Bundle.open(bundle)


def read_config(model: Path) -> Any:
    protobuf = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="the extra dev has Triton's protobuf")
    from google.protobuf import text_format

    return text_format.Parse((model / "config.pbtxt").read_text("utf-8"), protobuf.ModelConfig())


def test_triton_reads_the_configuration(opened: Bundle, tmp_path: Path) -> None:
    model = write_triton_model(opened, tmp_path, max_batch=5)
    config, genes = read_config(model), opened.manifest.gene_names
    assert (config.name, config.backend, config.max_batch_size) == (model.name, "onnxruntime", 5)
    assert config.HasField("dynamic_batching")
    (group,) = config.instance_group
    assert (group.Kind.Name(group.kind), group.count) == ("KIND_AUTO", 1)
    declared = {tensor.name: list(tensor.dims) for tensor in config.input}
    assert declared == {"values": [len(genes)], "pert_flags": [len(genes)]}
    assert [warm_up.batch_size for warm_up in config.model_warmup] == [1, 2, 3, 4, 5]
    for warm_up in config.model_warmup:
        given = {name: (tensor.data_type, list(tensor.dims)) for name, tensor in warm_up.inputs.items()}
        assert given == {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in config.input}
    assert config.parameters["scgenept_rt.manifest_digest"].string_value == opened.digest
    assert (model / "genes.txt").read_text("utf-8").splitlines() == list(genes)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_graph_predicts_as_the_bundle_does(opened: Bundle, precision: Any, tmp_path: Path) -> None:
    served = write_triton_model(opened, tmp_path, precision=precision) / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(str(served), providers=["CPUExecutionProvider"])
    genes = opened.manifest.gene_names
    assert {given.name: given.shape[1] for given in session.get_inputs()} == dict.fromkeys(
        ("values", "pert_flags"), len(genes)
    )
    rng = np.random.default_rng(3)
    with sgr.load(opened, provider="cpu", precision=precision, threads=1) as model:
        for n_cells in (1, 3, 8):
            values = rng.gamma(1.0, 1.0, (n_cells, len(genes))).astype(np.float32)
            perturbed = rng.integers(len(genes), size=n_cells)
            pert_flags = np.zeros(values.shape, np.int64)
            pert_flags[np.arange(n_cells), perturbed] = 1
            expected = model.predict_array(values, [f"{genes[gene]}+ctrl" for gene in perturbed])
            (predicted,) = session.run(None, {"values": values, "pert_flags": pert_flags})
            assert opened.tolerance(precision).compare(predicted, expected).passed


def test_a_graph_that_predicts_otherwise_is_not_written(
    opened: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold: Callable[..., Any] = triton._with_constant_genes

    def fold_into_one_gene(model: Any, n_genes: int) -> Any:
        folded = fold(model, n_genes)
        folded.graph.initializer[-1].raw_data = bytes(8 * n_genes)
        return folded

    monkeypatch.setattr(triton, "_with_constant_genes", fold_into_one_gene)
    with pytest.raises(ExportedGraphError, match="no model was written"):
        write_triton_model(opened, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused(opened: Bundle, tmp_path: Path) -> None:
    with pytest.raises(GraphNotInBundleError, match="no fp16 graph"):
        write_triton_model(Bundle.open("demo"), tmp_path, precision="fp16")
    with pytest.raises(ArgumentError, match="expected up to"):
        write_triton_model(opened, tmp_path, max_batch=10**9)
    assert list(tmp_path.iterdir()) == []
    model = write_triton_model(opened, tmp_path, max_batch=1)
    with pytest.raises(OutputExistsError, match="not empty") as exists:
        write_triton_model(opened, tmp_path)
    assert [option.name for option in exists.value.options] == ["overwrite"]
    write_triton_model(opened, tmp_path, max_batch=2, overwrite=True)
    assert "max_batch_size: 2" in (model / "config.pbtxt").read_text()
    (model / "config.pbtxt").rename(model / "mine.txt")
    with pytest.raises(OutputExistsError, match="is not replaced"):
        write_triton_model(opened, tmp_path, overwrite=True)
