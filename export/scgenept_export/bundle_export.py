"""From a trained checkpoint to a bundle directory."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from scgenept_export.activation_range import activation_range, warn_near_fp16_range
from scgenept_export.checkpoint import load_checkpoint
from scgenept_export.errors import BundleWriteError, ExportOptionError
from scgenept_export.gene_list import GeneList
from scgenept_export.gene_lists import resolve_gene_list
from scgenept_export.graph_check import GraphCheck, recorded_tolerances, tolerances
from scgenept_export.model import ReferenceModel
from scgenept_export.onnx_graph import graph_file_name, write_graph, write_merged_graph
from scgenept_export.reference_cells import reference_cells
from scgenept_export.reference_weights import write_reference_weights
from scgenept_export.vocabulary import Vocabulary, census_vocabulary, read_vocabulary
from scgenept_rt.bundle import (
    MANIFEST_NAME,
    REFERENCE_NAME,
    REFERENCE_WEIGHTS_NAME,
    Bundle,
    BundleFile,
    Dimensions,
    Manifest,
    Precision,
    SourceCheckpoint,
    Target,
)
from scgenept_rt.errors import ScgeneptError, pluralize
from scgenept_rt.files.hashing import sha256_of

Progress = Callable[[str], None]
"""Is told what begins now."""

_LEAST_SHARED = 0.02
"""Share of genes outside the vocabulary from which merging their tokens surely pays: by itself it costs 1%."""


def export_bundle(
    checkpoint: str | Path,
    genes: str | Path | GeneList,
    variant: str,
    out: str | Path,
    *,
    vocab: str | Path | Vocabulary | None = None,
    dataset: str = "unknown",
    n_heads: int = 8,
    precisions: Sequence[Precision] = ("fp32", "fp16"),
    portable: bool = False,
    keep_reference_weights: bool = False,
    synthetic: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Export one trained variant into a bundle.

    The bundle is built in a directory beside `out` and renamed when it is complete and every graph has been compared
    with the eager model: an export that fails or is killed leaves nothing under `out`.

    Parameters
    ----------
    checkpoint
        State dict in the published layout.
    genes
        The genes that the model predicts, in order: a .h5ad, .csv or text file (see `read_gene_list`), or the name of
        a data set whose list ships (``norman``, ``adamson``).
    variant
        Upstream's model type, such as ``scgenept_go_c_gpt_concat``.
    out
        Directory of the bundle.
    vocab
        scGPT's vocab.json; None for the published census vocabulary.
    dataset
        Name of the data that the variant was trained on, recorded in the manifest.
    n_heads
        Attention heads, the one size that a checkpoint does not hold.
    precisions
        Forms of the graphs.
    portable
        Write graphs of standard operators too (TensorRT and other engines).
    keep_reference_weights
        Keep the eager model's weights in the bundle, for the runtime's provider torch.
    synthetic
        Record that the weights are made up.
    overwrite
        Replace a bundle that lies at `out`.
    progress
        Is told each step.

    Raises
    ------
    ScgeneptError
        If an input is unusable (see `load_checkpoint`, `read_gene_list`, `read_vocabulary`).
    ExportedGraphError
        If a graph differs from the eager model by more than its tolerance; lists each.
    BundleWriteError
        If the bundle cannot be written: the disk is full, say.

    Warns
    -----
    ActivationRangeWarning
        If a fp16 graph is wanted of a network whose activations are near the end of fp16's range.
    """
    out, progress = Path(out), progress or (lambda _step: None)
    out = out.resolve() if out.is_symlink() else out  # what a link names is replaced, not the link
    if find_spec("onnxruntime") is None:
        raise ExportOptionError(
            "an export checks its graphs with ONNX Runtime, which is not installed: "
            "pip install 'scgenept-rt[export,cpu]' (or [export,gpu])."
        )
    _check_destination(out, overwrite)
    progress("reading the checkpoint")
    loaded = load_checkpoint(checkpoint, variant, n_heads=n_heads)
    gene_list = genes if isinstance(genes, GeneList) else resolve_gene_list(genes)
    vocabulary = vocab if isinstance(vocab, Vocabulary) else _vocabulary(vocab)
    if loaded.shape.n_tokens is not None:
        vocabulary.check_fits(loaded.shape.n_tokens)
    ids, in_vocab = vocabulary.encode(gene_list.names)
    if not any(in_vocab):
        raise ExportOptionError(
            f"--genes gives {pluralize(len(ids), 'name')}, and none is in the vocabulary ({vocabulary.source}): "
            "are they Ensembl ids? Names must be gene symbols, as in the vocabulary."
        )
    token_ids = torch.tensor(ids)
    model = ReferenceModel.from_checkpoint(loaded)

    progress("predicting reference cells with PyTorch")
    cells = reference_cells(model, token_ids, in_vocab)
    largest = activation_range(model, token_ids, cells)
    if "fp16" in precisions:
        warn_near_fp16_range(largest)  # before the check of the graphs, which it may explain
    bounds = tolerances(model, token_ids, cells, variant, precisions)
    check = GraphCheck(model, token_ids, in_vocab, cells)

    with _partial_directory(out) as partial:
        files: list[BundleFile] = []
        targets: tuple[Target, ...] = ("ort", "portable") if portable else ("ort",)
        for target in targets:
            for precision in precisions:
                path = partial / graph_file_name(precision, target)
                progress(f"tracing {path.name}")
                write_graph(model, token_ids, path, precision, target)
                progress(f"checking {path.name} against PyTorch")
                check.run(path, bounds[precision], whole_panel=(precision, target) == ("fp32", "ort"))
                files.append(_describe(path, precision, target))
            if target == "ort" and "fp32" in precisions and _merging_pays(in_vocab):
                owner = partial / graph_file_name("fp32", "ort")
                path = partial / graph_file_name("fp32", "merged")
                progress(f"tracing {path.name}")
                write_merged_graph(model, token_ids, path, owner)
                progress(f"checking {path.name} against PyTorch")
                check.run_merged(path, bounds["fp32"])
                files.append(_describe(path, "fp32", "merged"))
        loaded.raise_if_changed()  # which would explain misses
        check.raise_misses()
        cells.write(partial)
        files.append(_describe(partial / REFERENCE_NAME))
        if keep_reference_weights:
            progress(f"writing {REFERENCE_WEIGHTS_NAME}")
            write_reference_weights(loaded, token_ids, partial / REFERENCE_WEIGHTS_NAME)
            files.append(_describe(partial / REFERENCE_WEIGHTS_NAME))
        progress("writing the manifest")
        shape = loaded.shape
        manifest = Manifest(
            variant=variant,
            dataset=dataset,
            gene_names=gene_list.names,
            gene_ids=gene_list.ids,
            in_vocab=tuple(in_vocab),
            encoders=shape.encoders,
            dimensions=Dimensions(
                n_genes=len(ids),
                n_table_genes=len(ids),
                d_model=shape.d_model,
                n_layers=shape.n_layers,
                n_heads=shape.n_heads,
                d_ff=shape.d_ff,
            ),
            files=tuple(files),
            source_checkpoint=SourceCheckpoint(loaded.path.name, sha256_of(loaded.path)),
            versions=_versions(),
            tolerances=recorded_tolerances(bounds),
            synthetic=synthetic,
            activation_range=largest,
        )
        loaded.raise_if_changed()
        _write_durably(partial / MANIFEST_NAME, manifest.to_json())
        _move_into_place(partial, out)
    return Bundle.open(out)


def _merging_pays(in_vocab: Sequence[bool]) -> bool:
    return list(in_vocab).count(False) >= max(_LEAST_SHARED * len(in_vocab), 2)


def _vocabulary(path: str | Path | None) -> Vocabulary:
    return census_vocabulary() if path is None else read_vocabulary(path)


def _check_destination(out: Path, overwrite: bool) -> None:
    if out.name in ("", ".."):
        raise ExportOptionError(f"--out {out} gives the bundle no name of its own. Give one, such as {out / 'bundle'}.")
    if out.exists():
        if not out.is_dir():
            raise ExportOptionError(f"--out {out} is a file; a bundle is a directory. Choose another path.")
        occupied = any(out.iterdir())
        if occupied and not overwrite:
            raise ExportOptionError(f"--out {out} exists and is not empty. Add --overwrite, or choose another path.")
        if occupied and not (out / MANIFEST_NAME).is_file():
            # --overwrite replaces bundles, never a directory of something else.
            raise ExportOptionError(
                f"--out {out} holds files but no {MANIFEST_NAME}: it is not a bundle, so not replaced."
            )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportOptionError(f"--out {out} cannot be made ({error.strerror}). Choose another path.") from error
    if not os.access(out.parent, os.W_OK):
        raise ExportOptionError(f"--out {out} cannot be made: {out.parent} is not writable. Choose another path.")


@contextmanager
def _partial_directory(out: Path) -> Iterator[Path]:
    """Make the directory beside `out` that becomes the bundle; whatever fails leaves none of it."""
    partial = _beside(out, "partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by an export that was killed
    try:
        partial.mkdir()
        yield partial
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, ScgeneptError):
            raise BundleWriteError(out, error) from error
        raise


def _move_into_place(partial: Path, out: Path) -> None:
    retired = _beside(out, "replaced")
    if out.exists():
        shutil.rmtree(retired, ignore_errors=True)
        out.rename(retired)
    partial.rename(out)
    if retired.exists():  # also after an export that was killed between the renames
        shutil.rmtree(retired, ignore_errors=True)


def _beside(out: Path, what: str) -> Path:
    # Hidden: `bundles/*` never lists one.
    return out.with_name(f".{out.name}.{what}")


def _describe(path: Path, precision: Precision | None = None, target: Target | None = None) -> BundleFile:
    return BundleFile(path.name, sha256_of(path), path.stat().st_size, precision, target)


def _write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("scgenept-rt", "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
