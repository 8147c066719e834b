"""From a trained checkpoint, or one of the release, to a bundle directory."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from scgenept_export import graph_check
from scgenept_export.checkpoint import load_checkpoint
from scgenept_export.errors import ExportedGraphError, ExportWarning, VocabularyError
from scgenept_export.gene_list import GeneList, normalised_total, read_gene_list
from scgenept_export.model import ReferenceModel
from scgenept_export.new_directory import check_destination, replaced_directory
from scgenept_export.onnx_graph import graph_file_name, write_graph
from scgenept_export.torch_backend import write_reference_weights
from scgenept_export.vocabulary import Vocabulary, census_vocabulary, read_vocabulary
from scgenept_rt import bundle as bundles
from scgenept_rt.bundle import Bundle, Precision, Target
from scgenept_rt.bundle.manifest import TRAINING_PERTURBATIONS
from scgenept_rt.download import DownloadDirectory, select
from scgenept_rt.download.catalogue import MODEL_TYPES
from scgenept_rt.errors import ArgumentError, MissingPackageError
from scgenept_rt.files.durable import write_durably
from scgenept_rt.files.hashing import sha256_of
from scgenept_rt.genes import panel_warnings
from scgenept_rt.installing import installed_versions
from scgenept_rt.wording import pluralize

_MERGED_SHARE = 0.02
"""Share of genes outside the vocabulary from which merging their tokens pays: merging itself costs 1%."""

_PACKAGES = ("scgenept-rt", "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu")


def export_bundle(
    checkpoint: str | Path,
    genes: str | Path | GeneList,
    variant: str,
    out: str | Path,
    *,
    vocab: str | Path | Vocabulary | None = None,
    dataset: str = "unknown",
    training_total: float | None = None,
    n_heads: int = 8,
    precisions: Sequence[Precision] = ("fp32", "fp16"),
    portable: bool = False,
    keep_reference_weights: bool = False,
    synthetic: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _step: None,
    on_notice: Callable[[str], None] | None = None,
) -> Bundle:
    """Export one trained variant into a bundle.

    The bundle is built in a directory beside `out` and renamed when it is complete and every graph has been compared
    with the eager model: an export that fails or is killed leaves nothing under `out`.

    Parameters
    ----------
    checkpoint
        State dict in the published layout.
    genes
        The genes that the model predicts, in order: a .h5ad, .csv or text file (see `read_gene_list`), or ``norman``
        or ``adamson`` for the lists that ship with the package.
    variant
        Upstream's model type, such as ``scgenept_go_c_gpt_concat``.
    vocab
        scGPT's vocab.json; None for the published census vocabulary.
    dataset
        Name of the data that the variant was trained on, recorded in the manifest.
    training_total
        Total per cell to which these were normalised, recorded too. None: that of the cells of `genes`, if it is a
        .h5ad that shows one and the data are not the published ones (these were normalised to the median of their cells
        before genes were dropped, which is not known).
    n_heads
        Attention heads, the one size that a checkpoint does not hold.
    portable
        Also write graphs of standard operators (for TensorRT and other engines).
    keep_reference_weights
        Keep the eager model's weights in the bundle, for the runtime's provider torch.
    synthetic
        Record that the weights are made up.
    progress
        Called with the name of each step as it begins.
    on_notice
        Called with each warning message. None: `warnings.warn` with category `ExportWarning`.

    Raises
    ------
    CheckpointError, GeneListError, VocabularyError
        If an input is unusable (see `load_checkpoint`, `read_gene_list`, `read_vocabulary`).
    ExportedGraphError
        If graphs differ from the eager model by more than their tolerance; lists each.
    OutputError
        If the bundle cannot be written, or exists and is not to be replaced.
    """
    out = Path(os.path.realpath(out) if Path(out).is_symlink() else out)  # what a link names is replaced, not the link
    on_notice = on_notice or (lambda message: warnings.warn(message, ExportWarning, stacklevel=3))
    if find_spec("onnxruntime") is None:
        raise MissingPackageError("onnxruntime", "an export, which checks its graphs with ONNX Runtime,", "export,cpu")
    check_destination(out, "bundle", bundles.MANIFEST_NAME, overwrite=overwrite)
    progress("reading the checkpoint")
    loaded = load_checkpoint(checkpoint, variant, n_heads=n_heads)
    gene_list = genes if isinstance(genes, GeneList) else read_gene_list(genes)
    vocabulary = census_vocabulary() if vocab is None else vocab
    if not isinstance(vocabulary, Vocabulary):
        vocabulary = read_vocabulary(vocabulary)
    if loaded.shape.n_tokens is not None:
        vocabulary.check_fits(loaded.shape.n_tokens)
    ids, in_vocab = vocabulary.encode(gene_list.names)
    if not any(in_vocab):
        problem = f"none of the {pluralize(len(ids), 'model gene')} is in it"
        remedy = "Gene lists hold gene symbols, as the vocabulary does: are these Ensembl ids?"
        raise VocabularyError(problem, remedy, where=f"vocabulary {vocabulary.source}")
    for warning in panel_warnings(dataset, gene_list.names, in_vocab):
        on_notice(warning)
    token_ids = torch.tensor(ids)
    model = ReferenceModel.from_checkpoint(loaded)

    progress("predicting reference cells with PyTorch")
    cells = graph_check.reference_cells(model, token_ids, in_vocab)
    largest = graph_check.activation_range(model, token_ids, cells)
    if "fp16" in precisions and (range_problem := graph_check.range_problem(largest)):
        # Before the check of the graphs, which it may explain.
        on_notice(range_problem)
    bounds = graph_check.tolerances(model, token_ids, cells, variant, precisions)
    check = graph_check.GraphCheck(model, token_ids, in_vocab, cells)
    graphs: list[tuple[Target, Precision]] = [("ort", precision) for precision in precisions]
    if "fp32" in precisions and _merging_pays(in_vocab):
        graphs.append(("merged", "fp32"))
    if portable:
        graphs += [("portable", precision) for precision in precisions]

    with replaced_directory(out, "bundle") as partial:
        files: list[bundles.BundleFile] = []
        misses: list[str] = []
        for target, precision in graphs:
            path = partial / graph_file_name(precision, target)
            progress(f"tracing {path.name}")
            write_graph(model, token_ids, path, precision, target)
            progress(f"checking {path.name} against PyTorch")
            found = check.misses(path, precision, target, bounds[precision])
            if found and precision == "fp16":
                progress(f"tracing {path.name} with separate biases")
                write_graph(model, token_ids, path, precision, target, merge_biases=False)
                found = check.misses(path, precision, target, bounds[precision])
            misses += found
            files.append(_describe(path, precision, target))
        loaded.raise_if_changed()  # which would explain misses
        if misses:
            count = f"{len(misses)} exported output(s) differ from the eager model by more than the tolerance"
            raise ExportedGraphError("\n  ".join([f"{count}; no bundle was written:", *misses]))
        checksums = bundles.checksums_of_genes(gene_list.names, gene_list.ids, in_vocab)
        replace(cells, gene_checksums=checksums).write(partial)
        files.append(_describe(partial / bundles.REFERENCE_NAME))
        if keep_reference_weights:
            progress(f"writing {bundles.REFERENCE_WEIGHTS_NAME}")
            write_reference_weights(loaded, token_ids, partial / bundles.REFERENCE_WEIGHTS_NAME)
            files.append(_describe(partial / bundles.REFERENCE_WEIGHTS_NAME))
        progress("writing the manifest")
        if training_total is None and dataset not in TRAINING_PERTURBATIONS and not isinstance(genes, GeneList):
            training_total = normalised_total(genes)
        shape = loaded.shape
        manifest = bundles.Manifest(
            variant=variant,
            dataset=dataset,
            gene_names=gene_list.names,
            gene_ids=gene_list.ids,
            in_vocab=tuple(in_vocab),
            encoders=shape.encoders,
            dimensions=bundles.Dimensions(
                n_genes=len(ids),
                n_table_genes=len(ids),
                d_model=shape.d_model,
                n_layers=shape.n_layers,
                n_heads=shape.n_heads,
                d_ff=shape.d_ff,
            ),
            files=tuple(files),
            source_checkpoint=bundles.SourceCheckpoint(loaded.path.name, sha256_of(loaded.path)),
            versions={"python": platform.python_version(), **installed_versions(*_PACKAGES)},
            tolerances=graph_check.recorded_tolerances(bounds),
            synthetic=synthetic,
            activation_range=largest,
            training_total=training_total,
        )
        loaded.raise_if_changed()
        write_durably(partial / bundles.MANIFEST_NAME, manifest.to_json().encode())
    return Bundle.open(out)


def export_release(
    variant: str,
    dataset: str,
    out: str | Path | None,
    *,
    downloads: DownloadDirectory,
    genes: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None],
    **options: Any,
) -> Bundle:
    """Export a released variant into a bundle; what is not downloaded yet is downloaded first.

    The variant is a directory of the release (``scgenept_go_c``) or upstream's model type, the data set ``norman`` or
    ``adamson``. Without `out` it is ``bundles/VARIANT_DATASET``, without `genes` the list of the data set that ships
    with the package. The others are those of `export_bundle`.

    Raises `DownloadError` if a file cannot be downloaded, or differs from its known checksum; else as `export_bundle`.
    """
    checkpoint, *others = select([variant], dataset)
    if others or checkpoint.name not in MODEL_TYPES:
        raise ArgumentError(f"variant is {variant!r}, expected one of the release: {', '.join(MODEL_TYPES)}")
    (vocabulary,) = select(["vocab"], dataset)
    out = Path(out or f"bundles/{checkpoint.name}_{dataset}")
    check_destination(out, "bundle", bundles.MANIFEST_NAME, overwrite=overwrite)  # the download takes minutes
    progress(f"downloading or checking {checkpoint.name} ({dataset}) and the vocabulary")
    vocabulary_path = downloads.fetch(vocabulary).path
    return export_bundle(
        downloads.fetch(checkpoint).path,
        genes or dataset,
        MODEL_TYPES[checkpoint.name],
        out,
        vocab=vocabulary_path,
        dataset=dataset,
        overwrite=overwrite,
        progress=progress,
        **options,
    )


def _merging_pays(in_vocab: Sequence[bool]) -> bool:
    return in_vocab.count(False) >= max(_MERGED_SHARE * len(in_vocab), 2)


def _describe(path: Path, precision: Precision | None = None, target: Target | None = None) -> bundles.BundleFile:
    return bundles.BundleFile(path.name, sha256_of(path), path.stat().st_size, precision, target)
