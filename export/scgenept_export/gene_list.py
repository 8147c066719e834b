"""Reading the genes that a model predicts, in order."""

from __future__ import annotations

import csv
import lzma
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from scgenept_export.errors import GeneListError
from scgenept_rt.errors import CellsError, PerturbationFileError, ScgeneptError
from scgenept_rt.expression import open_cells
from scgenept_rt.expression.annotation import as_text
from scgenept_rt.expression.count_signature import LOG1P
from scgenept_rt.expression.scale import judge_scale
from scgenept_rt.genes import ensembl_id
from scgenept_rt.perturbation.files import read_entries
from scgenept_rt.wording import join_limited, pluralize

SHIPPED = ("norman", "adamson")
"""Data sets whose models' gene lists ship with the package, in `gene_lists`."""

_ANNOTATED = (".h5ad", ".zarr")
_ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id")


@dataclass(frozen=True)
class GeneList:
    """Gene names in model order, and the Ensembl id of each where it is known."""

    names: tuple[str, ...]
    ids: tuple[str | None, ...]


def read_gene_list(path: str | Path) -> GeneList:
    """Read a gene list.

    Parameters
    ----------
    path
        A .h5ad or .zarr (its `gene_name` column, else var_names; ids from var_names or a column of
        `gene_ids`, `gene_id` and `ensembl_id` with Ensembl ids), a .csv or .tsv with a
        `gene_name` column (and `gene_id`, if present), or a text file or pipe with one name per line; or a data set of
        `SHIPPED`, if there is no such file.

    Raises `GeneListError` if the file cannot be read, holds no genes, an empty name, or a name twice.
    """
    path = Path(path)
    if str(path) in SHIPPED and not path.is_file():
        return _shipped(str(path))
    try:
        genes = _read_annotated(path) if path.suffix.lower() in _ANNOTATED else _read_list(path)
        _check(genes)
    except (CellsError, PerturbationFileError, GeneListError) as error:
        where = f"gene list {error.where or path}"
        raise GeneListError(error.problem, error.remedy, where=where) from error.__cause__
    return genes


def normalised_total(path: str | Path) -> float | None:
    """Return the total to which the cells of a .h5ad were normalised; None if genes were dropped since, or for others.

    Damaged cells are no reason to refuse a gene list.
    """
    if Path(path).suffix.lower() not in _ANNOTATED:
        return None
    with suppress(ScgeneptError), open_cells(path) as cells:
        signature, _ = judge_scale(cells, np.arange(cells.n_obs), np.arange(cells.var.n_rows), None)
        if signature is not None and signature.transform is LOG1P:
            return signature.total
    return None


def _shipped(dataset: str) -> GeneList:
    packed = resources.files(__package__).joinpath("gene_lists", f"{dataset}_genes.csv.xz").read_bytes()
    rows = list(csv.DictReader(lzma.decompress(packed).decode("utf-8").splitlines()))
    return GeneList(tuple(row["gene_name"] for row in rows), tuple(row["gene_id"] for row in rows))


def _read_annotated(path: Path) -> GeneList:
    with open_cells(path) as cells:
        var = cells.var
        index = var.index.tolist()
        names = as_text(var.column("gene_name")).tolist() if "gene_name" in var.columns else index
        texts = [index, *(as_text(var.column(column)).tolist() for column in _ID_COLUMNS if column in var.columns)]
    ids: list[list[str | None]] = [[text if ensembl_id(text) else None for text in column] for column in texts]
    best = min(ids, key=lambda column: column.count(None))
    return GeneList(tuple(names), tuple(best))


def _read_list(path: Path) -> GeneList:
    entries = list(read_entries(path, ("gene_name",), ("gene_id",)))
    ids = tuple(entry.others.get("gene_id") or None for entry in entries)
    return GeneList(tuple(entry.label for entry in entries), ids)


def _check(genes: GeneList) -> None:
    remedy = "Use the list that the model was trained on, in order"
    if not genes.names:
        raise GeneListError("holds no genes", remedy)
    if "" in genes.names:
        raise GeneListError(f"has no name for gene number {genes.names.index('') + 1}", "Fill it in")
    repeated = [name for name, count in Counter(genes.names).items() if count > 1]
    if repeated:
        found = f"has {pluralize(len(repeated), 'name')} more than once: {join_limited(repeated)}"
        raise GeneListError(found, remedy)
