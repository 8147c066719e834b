"""A signature of genes, matched to those of predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError, Caution
from scgenept_rt.genes import GenePanel
from scgenept_rt.wording import join_limited, pluralize


def signature_weights(
    panel: GenePanel, up: Iterable[str], down: Iterable[str], weights: Mapping[str, float]
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the weight of every gene of the predictions, 0 for those that are not in the signature, and notices.

    Genes are found by symbol, Ensembl id, or another symbol that HGNC lists.
    """
    named = [*((gene, 1.0) for gene in up), *((gene, -1.0) for gene in down), *weights.items()]
    found: dict[int, tuple[str, float]] = {}
    missing: list[str] = []
    renamed: list[str] = []
    for gene, weight in named:
        if not np.isfinite(weight):
            raise ArgumentError(f"the weight of {gene} in the signature is {weight}, expected a finite number")
        if gene not in panel:
            missing.append(gene)
            continue
        position = panel.position(gene)
        name = panel.names[position]
        first, before = found.setdefault(position, (gene, weight))
        if before != weight:
            spelled = "" if first == gene else f", as {first} and as {gene}"
            raise ArgumentError(
                f"{name} is in the signature with two weights, {before:g} and {weight:g}{spelled}",
                "Leave it out, or give it one weight",
            )
        if gene != name and panel.position_by_id.get(gene.partition(".")[0]) != position:
            renamed.append(f"{gene} is {name}")
    if not found:
        raise panel.unknown_genes_error(missing)
    if not any(weight for _, weight in found.values()):
        raise ArgumentError("all weights of the signature are 0, expected some that are not")
    values = np.zeros(len(panel))
    for position, (_, weight) in found.items():
        values[position] = weight
    notices: list[str] = []
    if missing:
        missing = list(dict.fromkeys(missing))
        notices.append(
            Caution(
                f"{len(missing):,} of {pluralize(len(missing) + len(found), 'gene')} of the signature are not among "
                f"the predictions and are left out: {join_limited(missing)}."
            )
        )
    if renamed:
        notices.append(f"Genes of the signature were found by another name: {join_limited(renamed)}.")
    return values, notices
