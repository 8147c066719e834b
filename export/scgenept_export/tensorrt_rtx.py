"""TensorRT-RTX engines, built ahead of time from a bundle's portable graph on a machine that needs no GPU.

An engine is for one compute capability. It is built strongly typed: the precision is the graph's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from scgenept_export.errors import EngineBuildError
from scgenept_rt.bundle import Bundle, BundleFile, Precision
from scgenept_rt.errors import ArgumentError, MissingPackageError, OutputExistsError, UseOption
from scgenept_rt.files.durable import write_durably
from scgenept_rt.files.failures import failed_writes

COMPUTE_CAPABILITIES = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""What TensorRT-RTX 1.7 builds for."""


def build_engines(
    bundle: Bundle,
    compute_capabilities: Sequence[str],
    out: Path,
    *,
    precision: Precision = "fp16",
    max_batch: int = 32,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _step: None,
) -> list[Path]:
    """Build an engine for each compute capability and return their files.

    Writes ``<variant>_<precision>_<sm>.engine`` and, when that is complete, a ``.json`` beside it with the digests of
    what it was built from, its shapes and the versions. It runs batches of up to `max_batch` cells, of 1 gene to all of
    the bundle. TensorRT-RTX has fused attention for fp16 alone.

    Raises `ArgumentError` for an unknown compute capability, `MissingPackageError` without TensorRT-RTX,
    `GraphNotInBundleError` without a portable graph of the precision, `OutputError` if an engine exists or cannot be
    written, and `EngineBuildError`, with the reason, if TensorRT-RTX cannot read every node or build the engine.
    """
    unknown = [name for name in compute_capabilities if name not in COMPUTE_CAPABILITIES]
    if unknown:
        problem = f"compute_capability is {unknown[0]!r}, expected one of {', '.join(COMPUTE_CAPABILITIES)}"
        raise ArgumentError(problem, "For GPUs of data centres (sm90, sm100), use the provider cuda")
    graph = bundle.graph(precision, "portable")
    try:
        trt = import_module("tensorrt_rtx_bindings")
    except (ImportError, OSError) as error:  # OSError: the bindings without their libraries
        raise MissingPackageError("TensorRT-RTX", "building engines", "tensorrt-rtx-build") from error
    engines = {name: out / f"{bundle.manifest.variant}_{precision}_{name}.engine" for name in compute_capabilities}
    existing = [path for path in engines.values() if path.exists()]
    if existing and not overwrite:
        options = [UseOption("out", "choose another directory"), UseOption("overwrite", "replace it", True)]
        raise OutputExistsError("exists", options=options, where=existing[0])
    with failed_writes(out, "it cannot be made", "Choose another directory"):
        out.mkdir(parents=True, exist_ok=True)
    for name, path in engines.items():
        progress(f"building {path.name}")
        _build(trt, bundle, graph, name, path, max_batch)
    return list(engines.values())


def _build(trt: Any, bundle: Bundle, graph: BundleFile, name: str, path: Path, max_batch: int) -> None:
    class Errors(trt.ILogger):  # type: ignore[misc]
        """Keeps errors for our own message instead of printing everything."""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                reasons.append(message.strip())

    reasons: list[str] = []
    log = Errors()
    builder = trt.Builder(log)
    model = bundle.path(graph).read_bytes()
    # Asking what is supported fills the network, so another one is parsed into. A parser does not keep its network.
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    asked, built = builder.create_network(typed), builder.create_network(typed)
    parser = trt.OnnxParser(asked, log)
    whole, n_parts = parser.supports_model_v2(model), parser.num_subgraphs
    readable = whole and n_parts == 1 and parser.is_subgraph_supported(0)
    if not readable or not trt.OnnxParser(built, log).parse(model):
        raise _build_error(f"read every node of {graph.path}", reasons)
    n_nodes = len(parser.get_subgraph_nodes(0))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), 0)
    n_genes = bundle.manifest.dimensions.n_genes
    cells = ((1, 1), (max_batch, n_genes), (max_batch, n_genes))
    shapes = {"values": cells, "pert_flags": cells, "gene_index": ((1,), (n_genes,), (n_genes,))}
    profile = builder.create_optimization_profile()
    for tensor, (smallest, best, largest) in shapes.items():
        profile.set_shape(tensor, smallest, best, largest)
    config.add_optimization_profile(profile)
    serialized = builder.build_serialized_network(built, config)
    if serialized is None:
        raise _build_error(f"build an engine for {name} of {graph.path}", reasons)
    content = bytes(serialized)
    description = path.with_suffix(".json")
    facts = {
        "engine": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "compute_capability": name,
        "precision": graph.precision,
        "variant": bundle.manifest.variant,
        "bundle_digest": bundle.digest,
        "graph": {"path": graph.path, "sha256": graph.sha256},
        "n_nodes": n_nodes,
        "n_layers": built.num_layers,
        "shapes": {tensor: dict(zip(("min", "opt", "max"), sizes, strict=True)) for tensor, sizes in shapes.items()},
        "versions": {"tensorrt-rtx": trt.__version__, "scgenept-rt": metadata.version("scgenept-rt")},
    }
    with failed_writes(path, "it cannot be written", "Choose another directory"):
        description.unlink(missing_ok=True)  # so that an engine never has the description of another
        write_durably(path, content)
        write_durably(description, (json.dumps(facts, indent=2) + "\n").encode())


def _build_error(what: str, reasons: Sequence[str]) -> EngineBuildError:
    reason = reasons[0].split("\n")[0][:300] if reasons else "no reason given"
    remedy = "It has kernels for fp16 and heads of 64, as the published models have"
    return EngineBuildError(f"TensorRT-RTX cannot {what}: {reason}", remedy)
