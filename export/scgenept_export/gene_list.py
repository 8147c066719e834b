"""Reading the genes that a model predicts, in order."""

from __future__ import annotations

import csv
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from anndata.io import read_elem

from scgenept_export.errors import GeneListError
from scgenept_rt.errors import ScgeneptError, foreign_data, join_limited, pluralize
from scgenept_rt.expression import open_cells
from scgenept_rt.expression.count_signature import LOG1P, MAX_CELLS
from scgenept_rt.expression.stored_element import checked
from scgenept_rt.files.stores import open_store
from scgenept_rt.files.text import read_text
from scgenept_rt.genes import ensembl_id

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
        A .h5ad (its `gene_name` column, else var_names; ids from var_names or a column of
        `gene_ids`, `gene_id` and `ensembl_id` with Ensembl ids), a .csv with a
        `gene_name` column (and `gene_id`, if present; separated by commas, semicolons or tabs), or a text file or pipe
        with one name per line.

    Raises
    ------
    GeneListError
        If the file cannot be read, holds no genes, an empty name, or a name twice.
    """
    path = Path(path)
    readers = {".h5ad": _read_h5ad, ".h5": _read_h5ad, ".csv": _read_csv}
    where = f"gene list {path}"
    try:
        with foreign_data(GeneListError, where, remedy="Use a .h5ad, a .csv, or one gene name per line"):
            genes = readers.get(path.suffix.lower(), _read_text)(path)
        _check(genes)
    except GeneListError as error:
        raise GeneListError(error.problem, error.remedy, where=where) from error.__cause__
    return genes


def normalised_total(path: str | Path) -> float | None:
    """Return the total to which the cells of a .h5ad were normalised; None if genes were dropped since, or for others.

    Damaged cells are no reason to refuse a gene list.
    """
    if Path(path).suffix.lower() not in (".h5ad", ".h5"):
        return None
    with suppress(ScgeneptError), open_cells(path) as cells:
        rows = np.unique(np.linspace(0, cells.n_obs - 1, MAX_CELLS).astype(np.int64))
        every = np.arange(cells.var.n_rows, dtype=np.int64)
        signature, _ = cells.find_scale_fault(cells.sample(rows, every), None)
        if signature is not None and signature.transform is LOG1P:
            return signature.total
    return None


def _read_h5ad(path: Path) -> GeneList:
    with open_store(path) as store:
        var = read_elem(checked(store["var"])) if "var" in store else None  # var alone: the matrix may be large
    if not isinstance(var, pd.DataFrame):
        raise GeneListError("has no var table", "Use an AnnData file written by anndata 0.7 or newer")
    index = [str(name) for name in var.index]
    names = ["" if pd.isna(name) else str(name) for name in var["gene_name"]] if "gene_name" in var else index
    texts = [index, *([str(text) for text in var[column]] for column in _ID_COLUMNS if column in var)]
    ids = max(([text if ensembl_id(text) else None for text in column] for column in texts), key=_n_known)
    return GeneList(tuple(names), tuple(ids))


def _n_known(ids: list[str | None]) -> int:
    return sum(gene_id is not None for gene_id in ids)


def _read_text(path: Path) -> GeneList:
    names = tuple(filter(None, map(str.strip, read_text(path).splitlines())))
    if names and "gene_name" in re.split(r"[,;\t]", names[0]):
        raise GeneListError(f"starts with the header of a table: {names[0]!r}", "Give the file the ending .csv")
    return GeneList(names, (None,) * len(names))


def _read_csv(path: Path) -> GeneList:
    lines = read_text(path).splitlines()
    # Spreadsheets write semicolons in many countries.
    headers = {separator: next(csv.reader(lines, delimiter=separator), []) for separator in ",;\t"}
    separator = next((separator for separator, header in headers.items() if "gene_name" in header), None)
    if separator is None:
        raise GeneListError(f"has no column gene_name (its columns: {join_limited(headers[',']) or 'none'})")
    names, ids = [], []
    reader = csv.DictReader(lines, delimiter=separator)
    for row in reader:
        if any(row.get(None) or []):
            raise GeneListError(f"has more values in line {reader.line_num} than columns", "Write one gene per line")
        names.append((row["gene_name"] or "").strip())
        ids.append((row.get("gene_id") or "").strip() or None)
    return GeneList(tuple(names), tuple(ids))


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
