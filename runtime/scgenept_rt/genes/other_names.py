"""Former and newer symbols of genes, from HGNC; README.md beside this file says how the table was made."""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from functools import cache
from importlib import resources


@cache
def other_names() -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    """Return all symbols of a gene, by its Ensembl id and by each of them; no symbol stands for two genes."""
    packed = resources.files(__package__).joinpath("other_names.tsv.xz").read_bytes()
    rows = (line.split("\t") for line in lzma.decompress(packed).decode("utf-8").splitlines())
    by_id = {gene_id: tuple(names) for gene_id, *names in rows}
    return by_id, {name: names for names in by_id.values() for name in names}
