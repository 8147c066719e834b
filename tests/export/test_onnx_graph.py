from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from scgenept_export.checkpoint import Checkpoint
from scgenept_export.graph_check import FP32, example_cells, open_on_cpu, predict_eager
from scgenept_export.model import ReferenceModel
from scgenept_export.onnx_graph import graph_file_name, write_graph
from scgenept_rt.bundle import Precision, Target

GO_C = "scgenept_go_c_gpt_concat"
GRAPHS: list[tuple[Target, Precision]] = [
    ("ort", "fp32"),
    ("ort", "fp16"),
    ("portable", "fp32"),
    ("portable", "fp16"),
]
TOKENS = torch.tensor([7, 2, 2, 11, 9, 0])


def graph_of(directory: Path, target: Target, precision: Precision) -> onnx.ModelProto:
    model = onnx.load(directory / graph_file_name(precision, target))
    onnx.checker.check_model(model)
    return model


def shape_of(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize(("target", "precision"), GRAPHS)
def test_values_are_cast_at_the_borders_alone(
    target: Target, precision: Precision, oracle_bundle: Callable[[str], Path]
) -> None:
    model = graph_of(oracle_bundle(GO_C), target, precision)
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    if precision == "fp32":
        assert casts == []
        return
    assert [cast.attribute[0].i for cast in casts] == [onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT]
    assert casts[-1].output[0] == model.graph.output[0].name
    first_attention = next(i for i, node in enumerate(model.graph.node) if "Attention" in node.op_type)
    assert list(model.graph.node).index(casts[0]) < first_attention
    # The bound on values is applied in float32, before the cast: 65,504 is the largest half.
    before = [node.op_type for node in model.graph.node if casts[0].input[0] in node.output]
    assert before in (["Clip"], ["Min"])


@pytest.mark.parametrize(("target", "precision"), GRAPHS)
def test_inputs_and_outputs_are_the_contracts(
    target: Target, precision: Precision, oracle_bundle: Callable[[str], Path]
) -> None:
    graph = graph_of(oracle_bundle(GO_C), target, precision).graph
    described = {
        value.name: (value.type.tensor_type.elem_type, shape_of(value)) for value in (*graph.input, *graph.output)
    }
    assert [value.name for value in graph.input] == ["values", "pert_flags", "gene_index"]
    assert [value.name for value in graph.output] == ["predicted"]
    assert described == {
        "values": (onnx.TensorProto.FLOAT, ["batch", "n_genes"]),
        "pert_flags": (onnx.TensorProto.INT64, ["batch", "n_genes"]),
        "gene_index": (onnx.TensorProto.INT64, ["n_genes"]),
        "predicted": (onnx.TensorProto.FLOAT, ["batch", "n_genes"]),
    }


@pytest.mark.parametrize(("target", "precision"), GRAPHS)
def test_batch_and_genes_are_dynamic(
    target: Target, precision: Precision, oracle_bundle: Callable[[str], Path]
) -> None:
    predict = open_on_cpu(oracle_bundle(GO_C) / graph_file_name(precision, target))
    for batch, n_genes in ((1, 1), (1, 24), (7, 1), (33, 17)):
        values, flags = example_cells(np.random.default_rng(0), batch, n_genes)
        predicted = predict({"values": values, "pert_flags": flags, "gene_index": np.arange(n_genes)})
        assert predicted.shape == (batch, n_genes)
        assert predicted.dtype == np.float32
        assert np.isfinite(predicted).all()


# Kinds that the oracle has not: without gene-level encoder, and without value encoder besides; of one gene alone.
@pytest.mark.parametrize(
    ("variant", "target", "most_genes"), [("scgpt_counts", "portable", 6), ("scgpt_tokens", "ort", 1)]
)
def test_variants_that_lack_encoders_have_the_same_contract_and_tracing_prints_nothing(
    variant: str,
    target: Target,
    most_genes: int,
    small_checkpoint: Callable[..., Checkpoint],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model, tokens = ReferenceModel.from_checkpoint(small_checkpoint(variant)), TOKENS[:most_genes]
    path = tmp_path / "graph.onnx"
    write_graph(model, tokens, path, "fp32", target)
    assert capfd.readouterr() == ("", "")
    assert [(value.name, shape_of(value)) for value in onnx.load(path).graph.input] == [
        ("values", ["batch", "n_genes"]),
        ("pert_flags", ["batch", "n_genes"]),
        ("gene_index", ["n_genes"]),
    ]
    predict = open_on_cpu(path)
    for batch, n_genes in ((1, 1), (4, most_genes)):
        values, flags = example_cells(np.random.default_rng(1), batch, n_genes)
        flags[:, 0] = 1
        index = np.arange(n_genes)[::-1].copy()
        predicted = predict({"values": values, "pert_flags": flags, "gene_index": index})
        expected = predict_eager(model, tokens[torch.from_numpy(index)], values, flags)
        bound = max(1.0, float(np.abs(expected).max()))
        assert FP32.compare(predicted / bound, expected / bound).passed
