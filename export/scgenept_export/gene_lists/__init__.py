"""The genes of the released models, in model order; see README.md beside this file."""

from __future__ import annotations

import csv
import lzma
from importlib import resources
from pathlib import Path

from scgenept_export.gene_list import GeneList, read_gene_list

SHIPPED = ("norman", "adamson")
"""Data sets whose gene lists ship with the package."""


def shipped_gene_list(dataset: str) -> GeneList:
    """Return the genes of the models trained on a data set of `SHIPPED`."""
    packed = resources.files(__package__).joinpath(f"{dataset}_genes.csv.xz").read_bytes()
    rows = list(csv.DictReader(lzma.decompress(packed).decode("utf-8").splitlines()))
    return GeneList(tuple(row["gene_name"] for row in rows), tuple(row["gene_id"] for row in rows))


def resolve_gene_list(genes: str | Path) -> GeneList:
    """Return the gene list of a file (see `read_gene_list`), or the shipped one of a data set of `SHIPPED`."""
    if str(genes) in SHIPPED and not Path(genes).is_file():
        return shipped_gene_list(str(genes))
    return read_gene_list(genes)
