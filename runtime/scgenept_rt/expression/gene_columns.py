"""Columns of var: which hold the names of genes, and which rows are genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.expression.annotation import Annotation, as_text, usual_columns

VAR_NAMES = "var_names"
# Columns that hold gene names or Ensembl ids in public data sets, in lower case and without separators.
_GENE_COLUMNS = (
    *("genename", "featurename", "genesymbols", "genesymbol", "symbol", "geneshortname", "hgncsymbol", "features"),
    *("genenames", "gene", "genes", "symbols", "externalgenename", "originalgenesymbols", "hgnc", "name", "index"),
    *("geneids", "geneid", "ensemblid", "ensemblids", "ensembl", "ensemblgeneid", "featureid", "id", "accession"),
)
_FEATURE_COLUMNS = ("feature_types", "feature_type", "modality")
_GENES = ("gene expression", "rna")


def gene_names(var: Annotation, gene_key: str | None) -> Mapping[str, Sequence[str]]:
    """Return the names that genes have, by source: "var_names", the columns that usually hold them, and `gene_key`."""
    names: dict[str, Sequence[str]] = {VAR_NAMES: var.index.tolist()}
    for column in dict.fromkeys([*usual_columns(var, _GENE_COLUMNS), *([gene_key] if gene_key else [])]):
        if column in var.columns:
            names[column] = as_text(var.column(column)).tolist()
        elif column == gene_key == var.index_name:
            names[column] = names[VAR_NAMES]
    return names


def is_gene(var: Annotation) -> NDArray[np.bool_]:
    """Return which rows of var are genes, not antibodies, guides or peaks (10x's feature_types)."""
    for column in filter(var.columns.__contains__, _FEATURE_COLUMNS):
        genes = np.isin([text.casefold() for text in as_text(var.column(column))], _GENES)
        if genes.any():
            return genes
    return np.ones(var.n_rows, dtype=np.bool_)
