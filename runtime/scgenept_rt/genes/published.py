"""Whether a model's genes are those of the data set that is named as its training data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_MIN_IN_VOCAB = 0.75
"""Of Norman's genes 90% are in the census vocabulary, of Adamson's 87%."""

# Number of genes, and sha256 of their names in order, one per line with a trailing newline.
_PUBLISHED = {
    "norman": (5045, "03ca7b42bb5dbbce7c8e8445fa83db72faa5a9ba681bc23c1c3989bf54456f2d"),
    "adamson": (5060, "3cc30a2a25a514406cc5625c16b1f4a5d0328d890b391b4bca39f216cbfe3331"),
}


def panel_warnings(dataset: str, gene_names: Sequence[str], in_vocab: Sequence[bool]) -> list[str]:
    """Return warnings where a model would predict other genes than those that it was trained on."""
    warnings = []
    if dataset in _PUBLISHED:
        n_genes, digest = _PUBLISHED[dataset]
        if hashlib.sha256("".join(f"{name}\n" for name in gene_names).encode()).hexdigest() != digest:
            warnings.append(
                f"The model's {len(gene_names):,} genes are not the {n_genes:,} of the {dataset.capitalize()} data in "
                f"their order: a model trained on these data is only right with their genes. Export with the gene list "
                f"{dataset}, which ships with the package; the cells to predict from may have other genes."
            )
    n_in_vocab = sum(in_vocab)
    if n_in_vocab < _MIN_IN_VOCAB * len(gene_names):
        warnings.append(
            f"Only {n_in_vocab:,} of the model's {len(gene_names):,} genes are in the vocabulary; the others share one "
            "token, and the model cannot tell them apart by name. Gene lists hold the symbols of the training data."
        )
    return warnings
