"""Which labels of a data set a split tests, and which it trained on."""

from __future__ import annotations

from collections.abc import Sequence

from scgenept_rt.errors import LabelNotFoundError, UseOption, join_limited, pluralize
from scgenept_rt.evaluation.label_matching import CONTROL, canonical_label, did_you_mean, perturbed_genes
from scgenept_rt.evaluation.measured import MeasuredCells
from scgenept_rt.evaluation.split import Split


def tested_labels(measured: MeasuredCells, split: Split) -> tuple[dict[str, str], list[str]]:
    """Return the data's label of each test perturbation that can be tested, in order of subgroups, and notices.

    Raises
    ------
    LabelNotFoundError
        If the data have cells of none of them.
    """
    tested: dict[str, str] = {}
    absent, unknown = [], []
    for label in split.tested:
        if canonical_label(label, measured.panel) is None:
            unknown.append(label)
            continue
        in_data = measured.labels.find(label, measured.panel)
        if in_data is None or in_data == CONTROL:
            absent.append(label)
        elif in_data not in tested.values():
            tested[label] = in_data
    if not tested:
        raise _none_found(measured, split)
    notices = []
    if absent:
        notices.append(
            f"Of the split's {len(split.tested):,} test perturbations, {pluralize(len(absent), 'has', 'have')} no "
            f"cells in the data: {join_limited(absent)}."
        )
    if unknown:
        notices.append(
            f"Test perturbations of genes that the model lacks are left out ({len(unknown):,}): "
            f"{join_limited(unknown)}."
        )
    return tested, notices


def _none_found(measured: MeasuredCells, split: Split) -> LabelNotFoundError:
    labels = measured.labels.perturbations
    wanted = pluralize(len(split.tested), "test perturbation")
    guesses = (did_you_mean(label, labels, cutoff=1.0) for label in split.tested)
    return LabelNotFoundError(
        f"there are no cells of the {wanted} of the split {split.name} ({join_limited(split.tested)}); labels: "
        f"{join_limited(labels) or 'none'}",
        next(filter(None, guesses), "Give the data set of the split"),
        [UseOption("condition_key", "name the obs column of its labels")],
        where=measured.cells.where,
    )


def training_labels(measured: MeasuredCells, split: Split) -> tuple[list[str], dict[str, list[str]]]:
    """Return the data's labels that were trained on, and by gene those that perturb it alone.

    Labels are compared as text and by genes: a test perturbation in another spelling is not trained on.
    """
    panel, control_label = measured.panel, measured.labels.control_label

    def spellings(labels: Sequence[str]) -> set[str | None]:
        return {*labels, *(canonical_label(label, panel) for label in labels)} - {None}

    held_out = spellings((*split.tested, *split.val, CONTROL))
    trained = None if split.train is None else spellings(split.train)
    train: list[str] = []
    singles: dict[str, list[str]] = {}
    for name in measured.labels.names:
        names = {name, canonical_label(name, panel, control_label)}
        if names & held_out or (trained is not None and not names & trained):
            continue
        train.append(name)
        genes = perturbed_genes(name, panel, control_label)
        if len(genes) == 1:
            singles.setdefault(genes[0], []).append(name)
    return train, singles
