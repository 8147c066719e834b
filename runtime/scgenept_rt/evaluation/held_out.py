"""Which labels of a data file a split tests, and which it trained on."""

from __future__ import annotations

from collections.abc import Sequence

from scgenept_rt.errors import join_limited, pluralize
from scgenept_rt.evaluation.errors import NoTestPerturbationsError
from scgenept_rt.evaluation.observed import CONTROL, OpenData, canonical_label
from scgenept_rt.evaluation.split import Split
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import parse_perturbation


def tested_labels(opened: OpenData, split: Split) -> tuple[dict[str, str], list[str]]:
    """Return the file's label of each test perturbation that can be tested, in order of subgroups."""
    tested: dict[str, str] = {}
    absent, unknown = [], []
    for label in split.tested:
        if canonical_label(label, opened.panel) is None:
            unknown.append(label)
            continue
        in_file = opened.labels.find(label, opened.panel)
        if in_file is None or in_file == CONTROL:
            absent.append(label)
        elif in_file not in tested.values():
            tested[label] = in_file
    if not tested:
        found = [name for name in opened.labels.names if name != CONTROL]
        raise NoTestPerturbationsError(opened.cells.where, split.name, split.tested, found)
    notices = []
    if absent:
        notices.append(
            f"Of the split's {len(split.tested):,} test perturbations, {pluralize(len(absent), 'has', 'have')} no cells "
            f"in the data: {join_limited(absent)}."
        )
    if unknown:
        notices.append(
            f"Test perturbations of genes that the model lacks are left out ({len(unknown):,}): {join_limited(unknown)}."
        )
    return tested, notices


def training_labels(opened: OpenData, split: Split) -> tuple[list[str], dict[str, list[str]]]:
    """Return the file's labels that were trained on, and by gene those of them that perturb it alone.

    Labels are compared by text and by genes: a test perturbation in another spelling is no training cell.
    """

    def both(labels: Sequence[str]) -> set[str | None]:
        return {*labels, *(canonical_label(label, opened.panel) for label in labels)} - {None}

    held_out = both((*split.tested, *split.val, CONTROL))
    trained = None if split.train is None else both(split.train)
    train: list[str] = []
    singles: dict[str, list[str]] = {}
    for name in opened.labels.names:
        names = {name, canonical_label(name, opened.panel, opened.labels.control_label)}
        if names & held_out or (trained is not None and not names & trained):
            continue
        train.append(name)
        genes = genes_of(name, opened.panel, opened.labels.control_label)
        if len(genes) == 1:
            singles.setdefault(genes[0], []).append(name)
    return train, singles


def genes_of(label: str, panel: GenePanel, control_label: str = CONTROL) -> tuple[str, ...]:
    """Return the genes that a label perturbs, none if the model lacks one of them."""
    canonical = canonical_label(label, panel, control_label)
    return () if canonical is None else parse_perturbation(canonical, panel).target_genes
