"""The perturbations that flags ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from scgenept_rt.genes import GenePanel
    from scgenept_rt.perturbation import PerturbationRequest


def requested(
    perturbation: list[str] | None, perturbations: Path | None, singles: bool, pairs_of: Path | None
) -> Callable[[GenePanel], list[str | PerturbationRequest]]:
    """Read the files of perturbations and genes; what is returned lists all labels for the genes of a model."""
    if not (perturbation or perturbations or singles or pairs_of):
        raise typer.BadParameter("give perturbations with -p, --perturbations, --all-singles or --pairs-of")
    from scgenept_rt import perturbation as labels

    listed = labels.read_perturbation_file(perturbations) if perturbations is not None else []
    pairs = labels.pairs_of(labels.read_gene_list(pairs_of)) if pairs_of is not None else []
    return lambda panel: [*(perturbation or []), *listed, *(labels.all_singles(panel) if singles else []), *pairs]
