"""Which reading options would make a file work that does not work as asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scgenept_rt.expression import ReadOptions

if TYPE_CHECKING:
    from anndata import AnnData

_MAX_LAYERS = 8


def working_options(
    source: str | Path | AnnData,
    options: ReadOptions,
    n_genes: int,
    try_options: Callable[[ReadOptions], int | None],
) -> ReadOptions | None:
    """Try the file's other matrices, and --missing-genes zero, and return what works and finds most model genes.

    Parameters
    ----------
    source, options
        The input, and the options that do not work.
    n_genes
        How many genes the model has: nothing better is looked for than a matrix with all of them.
    try_options
        Returns how many model genes are found with some options, or None if these do not work either.
    """
    best: tuple[int, ReadOptions] | None = None
    for matrix in _matrices(source, options):
        for missing_genes in dict.fromkeys((options.missing_genes, "zero")):
            candidate = replace(matrix, missing_genes=missing_genes)
            if candidate == options:
                continue
            n_found = try_options(candidate)
            if n_found is not None:
                if best is None or n_found > best[0]:
                    best = (n_found, candidate)
                break
        if best is not None and best[0] == n_genes:
            break
    return None if best is None else best[1]


def option_arguments(options: ReadOptions) -> list[str]:
    """Return reading options as the command line takes them."""
    arguments: list[str] = []
    for name, value in (
        ("--layer", options.layer),
        ("--gene-key", options.gene_key),
        ("--condition-key", options.condition_key),
        ("--control-label", options.control_label),
        ("--missing-genes", None if options.missing_genes == "error" else options.missing_genes),
    ):
        if value is not None:
            arguments += [name, value]
    arguments += ["--use-raw"] if options.use_raw else []
    arguments += ["--allow-unnormalized"] if options.allow_unnormalized else []
    return arguments


def _matrices(source: str | Path | AnnData, options: ReadOptions) -> Iterator[ReadOptions]:
    """Yield the options for each matrix of the file, the one asked for first."""
    yield options
    plain = replace(options, layer=None, use_raw=False)
    yield plain
    yield replace(plain, use_raw=True)
    for name in layer_names(source)[:_MAX_LAYERS]:
        yield replace(plain, layer=name)


def layer_names(source: str | Path | AnnData) -> list[str]:
    """Return the layers of a file, none if it cannot be read."""
    if not isinstance(source, (str, Path)):
        return sorted(str(name) for name in source.layers if name is not None)  # anndata 0.13 holds X under None
    try:
        if Path(source).suffix.lower() == ".zarr":
            import zarr

            group = zarr.open_group(str(source), mode="r")
            return sorted(group["layers"].keys()) if "layers" in group else []
        import h5py

        with h5py.File(source, "r") as file:
            return sorted(file["layers"]) if "layers" in file else []
    except Exception:  # the file cannot be read, which the check has reported by now
        return []
