"""A model repository of Triton Inference Server from a bundle, for its ONNX Runtime backend."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx

from scgenept_export.errors import ExportedGraphError
from scgenept_export.graph_check import SEED, example_cells, open_on_cpu
from scgenept_export.new_directory import check_destination, replaced_directory
from scgenept_export.onnx_graph import align_weights
from scgenept_rt.bundle import Bundle, Precision
from scgenept_rt.errors import ArgumentError
from scgenept_rt.files.durable import write_durably
from scgenept_rt.session.batch import largest_batch
from scgenept_rt.session.protocol import OUTPUT, Feed

_CONFIG = "config.pbtxt"
_INDEX = "gene_index"


def write_triton_model(
    bundle: Bundle, repository: Path, *, precision: Precision = "fp32", max_batch: int = 32, overwrite: bool = False
) -> Path:
    """Write a bundle as one model of a Triton model repository, which may hold others, and return its directory.

    That is named after variant and data set, and holds ``config.pbtxt``, ``genes.txt`` and ``1/model.onnx``.
    ``gene_index``, which has no batch dimension, becomes a constant of the graph: all genes of the model, in order. The
    graph is compared with that of the bundle before it appears. Triton runs up to `max_batch` cells at once.

    Raises `ArgumentError` if a GPU cannot run so many cells at once, `GraphNotInBundleError` without a graph of the
    precision for ONNX Runtime, `ExportedGraphError` if the graph differs from the bundle's by more than the tolerance,
    and `OutputError` if the model exists or cannot be written.
    """
    graph, manifest = bundle.graph(precision, "ort"), bundle.manifest
    sizes = manifest.dimensions
    most = largest_batch(sizes.n_genes, max(sizes.d_model, sizes.d_ff))
    if max_batch > most:
        raise ArgumentError(f"max_batch is {max_batch:,}, expected up to {most:,}: more do not fit a GPU's indices")
    # Triton takes the directory's name into addresses.
    out = repository / re.sub(r"[^A-Za-z0-9_.-]", "_", f"{manifest.variant}_{manifest.dataset}")
    check_destination(out, "model of Triton", _CONFIG, overwrite=overwrite)
    bundle.check_graph(graph)
    with replaced_directory(out, "model of Triton") as partial:
        (partial / "1").mkdir()
        served = partial / "1" / "model.onnx"
        served.write_bytes(align_weights(_with_constant_genes(onnx.load(bundle.path(graph)), sizes.n_genes)))
        _check(bundle, bundle.path(graph), served, precision)
        (partial / "genes.txt").write_text("".join(f"{gene}\n" for gene in manifest.gene_names), "utf-8")
        write_durably(partial / _CONFIG, _config(bundle, out.name, max_batch).encode())
    return out


def _with_constant_genes(model: onnx.ModelProto, n_genes: int) -> onnx.ModelProto:
    graph = model.graph
    graph.input.remove(next(value for value in graph.input if value.name == _INDEX))
    graph.initializer.append(onnx.numpy_helper.from_array(np.arange(n_genes), _INDEX))
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == "n_genes":
                dimension.dim_value = n_genes
    return model


def _check(bundle: Bundle, original: Path, served: Path, precision: Precision) -> None:
    """Compare the graphs on two cells, one of them perturbed."""
    n_genes = bundle.manifest.dimensions.n_genes
    values, pert_flags = example_cells(np.random.default_rng(SEED), 2, n_genes, expressed=0.1)
    pert_flags[1, -1] = 1
    feed: Feed = {"values": values, "pert_flags": pert_flags}
    expected = open_on_cpu(original)({**feed, _INDEX: np.arange(n_genes)})
    found = bundle.tolerance(precision).compare(open_on_cpu(served)(feed), expected)
    if not found.passed:
        by = f"{found.max_difference:.3g}, {found.worst:.3g} times the tolerance"
        problem = f"the graph for Triton differs from the bundle's by {by}; no model was written"
        raise ExportedGraphError(problem, where=bundle.directory)


def _config(bundle: Bundle, name: str, max_batch: int) -> str:
    """Return the text of config.pbtxt, a `ModelConfig` of Triton's model_config.proto."""
    manifest = bundle.manifest
    n_genes = manifest.dimensions.n_genes
    tensors = {"values": "TYPE_FP32", "pert_flags": "TYPE_INT64"}
    inputs = ", ".join(f'{{ name: "{key}", data_type: {kind}, dims: [{n_genes}] }}' for key, kind in tensors.items())
    zeros = " ".join(
        f'inputs {{ key: "{key}" value {{ data_type: {kind}, dims: [{n_genes}], zero_data: true }} }}'
        for key, kind in tensors.items()
    )
    facts = {
        "manifest_digest": json.dumps(bundle.digest),
        "training_data": json.dumps(manifest.training_data, ensure_ascii=False),
        "synthetic": '"true"' if manifest.synthetic else '"false"',
    }
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {max_batch}",
        f"input [{inputs}]",
        f'output [{{ name: "{OUTPUT}", data_type: TYPE_FP32, dims: [{n_genes}] }}]',
        "dynamic_batching { max_queue_delay_microseconds: 2000 }",
        "# One instance per GPU, or one on the CPU where there is none.",
        "instance_group [{ count: 1, kind: KIND_AUTO }]",
        "# On by default, and then fp32 products have 10 bits of mantissa.",
        'optimization { execution_accelerators { gpu_execution_accelerator [{ name: "cuda"',
        '  parameters { key: "use_tf32" value: "0" } }] } }',
        "# Triton does not pad batches, and on a GPU each size is planned when it first runs.",
        *(f'model_warmup {{ name: "{size}", batch_size: {size} {zeros} }}' for size in range(1, max_batch + 1)),
        *(f'parameters {{ key: "scgenept_rt.{key}" value {{ string_value: {text} }} }}' for key, text in facts.items()),
    ]
    return "\n".join(lines) + "\n"
