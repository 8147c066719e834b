"""From the release to a bundle: download a variant's checkpoint and the vocabulary, then export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scgenept_export.bundle_export import export_bundle
from scgenept_export.new_directory import check_destination
from scgenept_rt.bundle import MANIFEST_NAME, Bundle
from scgenept_rt.download import DownloadDirectory, select
from scgenept_rt.download.catalogue import MODEL_TYPES
from scgenept_rt.errors import ArgumentError


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

    Parameters
    ----------
    variant
        Directory of the release (``scgenept_go_c``) or upstream's model type (``scgenept_go_c_gpt_concat``).
    dataset
        Data that it was trained on: ``norman`` or ``adamson``.
    out
        Directory of the bundle; None for ``bundles/VARIANT_DATASET``.
    genes
        A file (see `read_gene_list`); None for the list of the data set that ships with the package.
    overwrite, progress, options
        As for `export_bundle`.

    Raises
    ------
    DownloadError
        If a file cannot be downloaded, or differs from its known checksum.
    ScgeneptError
        As `export_bundle`.
    """
    chosen = select([variant], dataset)
    if len(chosen) != 1 or chosen[0].name not in MODEL_TYPES:
        raise ArgumentError(f"variant is {variant!r}, expected one of the release: {', '.join(MODEL_TYPES)}")
    (checkpoint,), (vocabulary,) = chosen, select(["vocab"], dataset)
    out = Path(out or f"bundles/{checkpoint.name}_{dataset}")
    # Before the download, which takes minutes.
    check_destination(out, "bundle", MANIFEST_NAME, overwrite=overwrite)
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
