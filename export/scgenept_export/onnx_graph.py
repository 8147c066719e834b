"""Tracing the inference network into an ONNX graph, and the file of that graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx.external_data_helper import set_external_data
from torch import Tensor

from scgenept_export.inference_network import PORTABLE_OPSET, InferenceNetwork, OrtOps, PortableOps, fold
from scgenept_export.model import ReferenceModel
from scgenept_rt.bundle import Precision, Target
from scgenept_rt.session.protocol import OUTPUT

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}
OPSETS: dict[Target, int] = {"ort": 20, "merged": 20, "portable": PORTABLE_OPSET}
LOG_COUNT = "log_count"

_ALIGNMENT = 16
"""Bytes: engines map weights into memory from where they lie in the file, and read several numbers at once."""
_LEAST_BYTES = 256
"""Smaller tensors are neither aligned nor shared: a reference is hardly shorter than they are."""


def graph_file_name(precision: Precision, target: Target) -> str:
    """Return the name of a graph's file in the bundle."""
    return f"{target}_{precision}.onnx"


def write_graph(
    model: ReferenceModel,
    token_ids: Tensor,
    path: Path,
    precision: Precision,
    target: Target,
    *,
    merge_biases: bool = True,
) -> None:
    """Trace a model into an ONNX file.

    Inputs `values` float32 and `pert_flags` int64 [batch, n_genes], `gene_index` int64 [n_genes]; output `predicted`
    float32 [batch, n_genes]; batch and n_genes are dynamic. In fp16 everything between the clipped input and the
    output is half precision. `merge_biases`: see `fold`.

    The graph of the target ``merged`` computes identical tokens once. It has one input more, which may be left out:
    `log_count` float32 [n_genes], the logarithm of how many tokens each stands for. Its weights are those of the graph
    of the target ``ort`` that lies beside it. Other files are self-contained.
    """
    ops = PortableOps() if target == "portable" else OrtOps()
    network = fold(model, token_ids, ops, merge_biases=merge_biases).to(DTYPES[precision])
    graph = trace(network, len(token_ids), OPSETS[target], log_count=target == "merged")
    if target != "merged":
        path.write_bytes(align_weights(graph))
        return
    (given,) = (value for value in graph.graph.input if value.name == LOG_COUNT)
    given.type.tensor_type.shape.dim[0].dim_param = "n_genes or 1"
    # The value of an input that is left out: every token stands for itself.
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), LOG_COUNT))
    # Shapes that were inferred from it say n_genes, which one number for all is not.
    del graph.graph.value_info[:]
    _share_weights(graph, path.with_name(graph_file_name(precision, "ort")))
    path.write_bytes(graph.SerializeToString(deterministic=True))


def trace(network: InferenceNetwork, n_model_genes: int, opset: int, *, log_count: bool = False) -> onnx.ModelProto:
    """Return the graph of a network, with its weights and without traces of this machine; see `write_graph`."""
    # Sizes of 2 and 3, and not of the real gene list: tracing then costs nothing and no size can be baked in unnoticed.
    n_genes = min(3, n_model_genes)
    arguments = [torch.zeros(2, n_genes), torch.zeros(2, n_genes, dtype=torch.int64), torch.arange(n_genes)]
    batch, genes = torch.export.Dim("batch"), torch.export.Dim("n_genes")
    shapes = {"values": {0: batch, 1: genes}, "pert_flags": {0: batch, 1: genes}, "gene_index": {0: genes}}
    if log_count:
        arguments.append(torch.zeros(n_genes))
        shapes[LOG_COUNT] = {0: genes}
    with _quiet_exporter(), torch.inference_mode():
        program = torch.onnx.export(
            network,
            tuple(arguments),
            dynamo=True,
            opset_version=opset,
            input_names=list(shapes),
            output_names=[OUTPUT],
            dynamic_shapes=shapes,
            optimize=True,
            verbose=False,
        )
    assert program is not None, "torch.onnx.export returns a program when no file is named"
    # Source lines of the exporting machine: they would tell its paths, and give equal graphs unequal digests.
    for part in (program.model.graph, *program.model.graph):
        part.metadata_props.clear()
    for node in program.model.graph:
        for value in node.outputs:
            value.metadata_props.clear()
    return program.model_proto


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's advice to its own developers out of the user's terminal, for the length of one trace."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def align_weights(model: onnx.ModelProto) -> bytes:
    """Serialise a graph so that the bytes of every large tensor begin at a multiple of `_ALIGNMENT`.

    A blank description before each of them fills the gap; nothing else changes.
    """
    tensors = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= _LEAST_BYTES]
    # What lies before the first tensor, then before each next one.
    fillers = [model, *tensors[:-1]]
    widths = [1] * len(fillers)
    while True:
        for filler, width in zip(fillers, widths, strict=True):
            filler.doc_string = " " * width
        data: bytes = model.SerializeToString(deterministic=True)
        # Each gap moves all that follows by as much. A length that takes another byte moves it again: hence the loop.
        moved = end = 0
        for i, tensor in enumerate(tensors):
            begin = data.index(tensor.raw_data, end)
            end = begin + len(tensor.raw_data)
            gap = -(begin + moved) % _ALIGNMENT
            widths[i] += gap
            moved += gap
        if not moved:
            return data


def _share_weights(model: onnx.ModelProto, owner: Path) -> None:
    """Let every large tensor of a graph refer to its bytes in the file of another, where that holds the same ones."""
    data = owner.read_bytes()
    for tensor in model.graph.initializer:
        offset = data.find(tensor.raw_data) if len(tensor.raw_data) >= _LEAST_BYTES else -1
        if offset < 0:
            continue
        set_external_data(tensor, owner.name, offset, len(tensor.raw_data))
        tensor.ClearField("raw_data")
