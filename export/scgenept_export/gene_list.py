"""Reading the genes that a model predicts, in order, from the file that `--genes` names."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import h5py
import pandas as pd
from anndata.io import read_elem

from scgenept_export.errors import GeneListError
from scgenept_rt.errors import join_limited, pluralize

_ENSEMBL_ID = re.compile(r"^ENS[A-Z]*G\d{6,}(\.\d+)?$")


@dataclass(frozen=True)
class GeneList:
    """Gene names in model order, with the Ensembl id where the file tells it."""

    names: tuple[str, ...]
    ids: tuple[str | None, ...]


def read_gene_list(path: str | Path) -> GeneList:
    """Read a gene list.

    Parameters
    ----------
    path
        A .h5ad (its `gene_name` column, else var_names; ids from var_names when they are Ensembl ids), a .csv with a
        `gene_name` column (and `gene_id`, when there; commas between cells, or semicolons or tabs where the header
        shows these), or a text file or pipe of one name a line.

    Raises
    ------
    GeneListError
        If the file cannot be read, holds no genes, an empty name, or a name twice.
    """
    path = Path(path)
    if not path.exists():
        raise GeneListError(path, "there is no such file", "Check the path of --genes.")
    if path.is_dir():
        raise GeneListError(path, "it is a directory", "Give a file to --genes.")
    try:
        match path.suffix.lower():
            case ".h5ad" | ".h5":
                genes = _from_h5ad(path)
            case ".csv":
                genes = _from_csv(path)
            case _:
                genes = _from_text(path)
    except UnicodeDecodeError as error:
        raise GeneListError(path, "it is not a text file", "Give a .h5ad, a .csv or one gene name a line.") from error
    except OSError as error:
        raise GeneListError(path, f"it cannot be read ({error})", "It may be truncated; copy it again.") from error
    _check(genes, path)
    return genes


def _from_h5ad(path: Path) -> GeneList:
    with h5py.File(path, "r") as file:
        if "var" not in file:
            raise GeneListError(path, "it has no var table", "Give an AnnData file.")
        var = read_elem(file["var"])  # var alone: the matrix may be of any size
    if not isinstance(var, pd.DataFrame):
        raise GeneListError(path, "its var is not a table", "Give an AnnData file written by anndata 0.7 or newer.")
    index = [str(name) for name in var.index]
    names = index
    if "gene_name" in var.columns:
        names = ["" if pd.isna(name) else str(name) for name in var["gene_name"]]
    ids = [name if _ENSEMBL_ID.match(name) else None for name in index]
    return GeneList(tuple(names), tuple(ids))


def _from_text(path: Path) -> GeneList:
    lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    names = tuple(line for line in lines if line)
    if names and "gene_name" in re.split(r"[,;\t]", names[0]):
        raise GeneListError(
            path,
            f"its first line is the header of a table ({names[0]!r}), and only the name of a .csv says that it is one",
            "Name the file .csv; of a table in a pipe, pass on the column gene_name without its header.",
        )
    return GeneList(names, (None,) * len(names))


def _from_csv(path: Path) -> GeneList:
    text = path.read_bytes().decode("utf-8-sig")
    # Spreadsheets write semicolons in many countries.
    headers = {separator: next(csv.reader(io.StringIO(text), delimiter=separator), []) for separator in ",;\t"}
    separator = next((separator for separator, header in headers.items() if "gene_name" in header), None)
    if separator is None:
        found = join_limited(headers[","]) or "none"
        raise GeneListError(path, f"it has no column gene_name (its columns: {found})", "Name the column so.")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    rows = []
    for row in reader:
        if any(row.get(None) or []):  # what stands beyond the header
            n_columns = pluralize(len(headers[separator]), "column")
            raise GeneListError(
                path,
                f"line {reader.line_num} has more cells than the header, which has {n_columns}",
                "Write one gene a line, and name every column.",
            )
        rows.append(row)
    names = tuple((row["gene_name"] or "").strip() for row in rows)
    return GeneList(names, tuple((row.get("gene_id") or "").strip() or None for row in rows))


def _check(genes: GeneList, path: Path) -> None:
    if not genes.names:
        raise GeneListError(path, "it holds no genes", "Give the genes that the model was trained on, in order.")
    empty = [i for i, name in enumerate(genes.names) if not name]
    if empty:
        raise GeneListError(path, f"the name of gene number {empty[0] + 1} is empty", "Fill it in.")
    repeated = [name for name, count in Counter(genes.names).items() if count > 1]
    if repeated:
        raise GeneListError(
            path,
            f"{pluralize(len(repeated), 'name occurs', 'names occur')} more than once ({join_limited(repeated)})",
            "Give the list that the model was trained on; its names are unique.",
        )
