"""From the release to a bundle: download a variant's checkpoint and the vocabulary, then export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scgenept_export.bundle_export import check_bundle_destination, export_bundle
from scgenept_export.gene_list import GeneList, read_gene_list
from scgenept_export.gene_lists import SHIPPED, resolve_gene_list
from scgenept_rt.bundle import Bundle
from scgenept_rt.download import DATASETS, DownloadDirectory, Item, select
from scgenept_rt.download.catalogue import MODEL_TYPES
from scgenept_rt.errors import ArgumentError


def export_release(
    variant: str,
    dataset: str,
    out: str | Path,
    *,
    downloads: DownloadDirectory,
    genes: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Bundle:
    """Export a released variant into a bundle; what is not downloaded yet is downloaded first.

    Parameters
    ----------
    variant
        Directory of the release (``scgenept_go_c``) or upstream's model type (``scgenept_go_c_gpt_concat``).
    dataset
        Data that it was trained on: ``norman`` or ``adamson``.
    genes
        ``norman`` or ``adamson`` for the lists that ship with the package, or a file (see `read_gene_list`). None: the
        data set's own .h5ad if it was downloaded, else the list that ships.
    out, overwrite, progress, options
        As for `export_bundle`.

    Raises
    ------
    DownloadError
        If a file cannot be downloaded, or differs from its known checksum.
    ScgeneptError
        As `export_bundle`.
    """
    out, progress = Path(out), progress or (lambda _step: None)
    checkpoint = released_checkpoint(variant, dataset)
    check_bundle_destination(out, overwrite)  # before the download, which takes minutes
    gene_list = _gene_list(genes, dataset, downloads, progress)
    (vocabulary,) = select(["vocab"], dataset)
    progress(f"downloading or checking {checkpoint.name} ({dataset}) and the vocabulary")
    vocabulary_path = downloads.fetch(vocabulary).path
    checkpoint_path = downloads.fetch(checkpoint).path
    return export_bundle(
        checkpoint_path,
        gene_list,
        MODEL_TYPES[checkpoint.name],
        out,
        vocab=vocabulary_path,
        dataset=dataset,
        overwrite=overwrite,
        progress=progress,
        **options,
    )


def released_checkpoint(variant: str, dataset: str) -> Item:
    """Return the item of a released variant; raises `ArgumentError` if it is not one of the release."""
    chosen = select([variant], dataset)
    if len(chosen) != 1 or chosen[0].kind != "checkpoint":
        raise ArgumentError(f"variant is {variant!r}, expected one of the release: {', '.join(MODEL_TYPES)}")
    return chosen[0]


def _gene_list(
    genes: str | None, dataset: str, downloads: DownloadDirectory, progress: Callable[[str], None]
) -> GeneList:
    item = DATASETS[dataset]
    if genes is None and downloads.find(item) is not None:
        path = downloads.fetch(item).path
        progress(f"taking the genes of {path}")
        return read_gene_list(path)
    genes = genes or dataset
    if genes in SHIPPED and not Path(genes).is_file():
        progress(f"taking the gene list of {genes} that ships with this package")
    return resolve_gene_list(genes)
