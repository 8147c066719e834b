"""What perturbations are ranked by: the size of their effect, a signature of genes, or a state of measured cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, get_args

import numpy as np

from scgenept_rt.errors import ArgumentError, Caution, UseOption
from scgenept_rt.genes import GenePanel
from scgenept_rt.options import Metric, ReadOptions
from scgenept_rt.ranking.scores import EffectSize, Score, SignatureScore
from scgenept_rt.ranking.target_state import read_target_state
from scgenept_rt.wording import describe, join_limited, pluralize

if TYPE_CHECKING:
    from anndata import AnnData


class RankBy(TypedDict, total=False):
    """What perturbations are ranked by; the size of their effect if nothing is given."""

    up: Sequence[str] | None
    down: Sequence[str] | None
    weights: Mapping[str, float] | None
    toward: str | Path | AnnData | None
    group: str | None
    start: str | None
    metric: Metric | None


def open_question(panel: GenePanel, by: RankBy, read: ReadOptions | None) -> tuple[Score, list[str]]:
    """Return the score to rank by, matched to the genes of predictions, and notices.

    Raises `ArgumentError` if options exclude each other or a signature cannot be used.
    """
    given = {name: value for name, value in by.items() if value is not None}
    signature = [name for name in ("up", "down", "weights") if name in given]
    state = [name for name in ("toward", "group", "start", "metric") if name in given]
    if signature and state:
        raise ArgumentError(
            f"both a signature ({', '.join(signature)}) and a state ({', '.join(state)}) were given", "Choose one"
        )
    if signature:
        return _signature(panel, by.get("up") or (), by.get("down") or (), by.get("weights") or {})
    if not state:
        return EffectSize(), []
    toward, group, metric = by.get("toward"), by.get("group"), by.get("metric") or "cosine"
    if toward is None:
        raise ArgumentError(
            f"{state[0]} is given without measured cells", options=[UseOption("toward", "name their file")]
        )
    if group is None:
        raise ArgumentError(
            "toward is given without a group of its cells",
            options=[UseOption("group", "name one, as COLUMN=VALUE or as the label of a perturbation")],
        )
    if metric not in get_args(Metric):
        raise ArgumentError(f"metric is {describe(metric)}, expected one of {', '.join(get_args(Metric))}")
    return read_target_state(toward, panel, group, by.get("start"), metric, read)


def _signature(
    panel: GenePanel, up: Sequence[str], down: Sequence[str], weights: Mapping[str, float]
) -> tuple[SignatureScore, list[str]]:
    """Return the score and notices; genes are found by symbol, Ensembl id, or another symbol that HGNC lists."""
    if weights and (up or down):
        raise ArgumentError("a signature is given as weights and as genes up or down", "Choose one: weights have signs")
    named = [*((gene, 1.0) for gene in up), *((gene, -1.0) for gene in down), *weights.items()]
    if not named:
        raise ArgumentError("the signature holds no gene, expected one or more")
    found: dict[int, float] = {}
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
        before = found.setdefault(position, weight)
        if before != weight:
            raise ArgumentError(
                f"{gene} is in the signature with two weights, {before:g} and {weight:g}",
                "Leave it out, or give it one weight",
            )
        if gene != name and panel.position_by_id.get(gene.partition(".")[0]) != position:
            renamed.append(f"{gene} is {name}")
    if not found:
        raise panel.unknown_genes_error(missing)
    if not any(found.values()):
        raise ArgumentError("all weights of the signature are 0, expected some that are not")
    values = np.zeros(len(panel))
    values[list(found)] = list(found.values())
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
    return SignatureScore(values), notices
