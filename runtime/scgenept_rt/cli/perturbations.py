"""The perturbations that flags ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from scgenept_rt.cli.messages import note
from scgenept_rt.options import ReadOptions
from scgenept_rt.wording import join_limited, pluralize

if TYPE_CHECKING:
    from scgenept_rt.genes import GenePanel
    from scgenept_rt.perturbation import PerturbationRequest


def requested(
    perturbation: list[str] | None,
    perturbations: Path | None,
    singles: bool,
    pairs_of: Path | None,
    measured: tuple[Path, ReadOptions] | None = None,
) -> Callable[[GenePanel], list[str | PerturbationRequest]]:
    """Read the files of perturbations and genes, and return a function that lists the labels for a model's genes.

    `measured`: cells whose perturbations are all wanted.
    """
    if not (perturbation or perturbations or singles or pairs_of or measured):
        raise typer.BadParameter("give perturbations with -p, --perturbations, --all-singles or --pairs-of")
    from scgenept_rt import perturbation as labels

    listed = labels.read_perturbation_file(perturbations) if perturbations is not None else []
    genes = labels.read_gene_list(pairs_of) if pairs_of is not None else []

    def pairs(panel: GenePanel) -> list[str]:
        if genes:
            labels.parse_perturbations(genes, panel)  # what the model lacks, before there are millions of pairs
        return labels.pairs_of(genes)

    return lambda panel: [
        *(perturbation or []),
        *listed,
        *(labels.all_singles(panel) if singles else []),
        *pairs(panel),
        *(_measured(*measured, panel) if measured else []),
    ]


def _measured(cells: Path, read: ReadOptions, panel: GenePanel) -> list[str]:
    """Return the labels of cells that the model can read, and print the others."""
    from scgenept_rt.expression.label_matching import measured_perturbations

    labels, others = measured_perturbations(cells, panel, read)
    if others:
        unread = pluralize(len(others), "label")
        note(f"{unread} of the cells cannot be read as genes of the model: {join_limited(others)}.")
    return labels
