"""Which labels of a data set a split tests, and which it trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from scgenept_rt.errors import LabelNotFoundError, UseOption
from scgenept_rt.evaluation.measured import MeasuredCells
from scgenept_rt.evaluation.split import Split
from scgenept_rt.expression.label_matching import CONTROL, did_you_mean
from scgenept_rt.perturbation import is_control_word, is_unassigned
from scgenept_rt.wording import join_limited, pluralize


def tested_labels(measured: MeasuredCells, split: Split) -> tuple[dict[str, str], list[str]]:
    """Return the data's label of each test perturbation that can be tested, in order of subgroups, and notices."""
    labels = measured.labels
    tested_as: dict[str, str] = {}  # by the data's label
    absent, unknown = [], []
    for label in split.tested:
        in_data = labels.find(label)
        if labels.reader.genes(label) is None:
            unknown.append(label)
        elif in_data is None or in_data == CONTROL:
            absent.append(label)
        else:
            tested_as.setdefault(in_data, label)
    if not tested_as:
        wanted = pluralize(len(split.tested), "test perturbation")
        names = [name for name in labels.names if name != CONTROL]
        raise LabelNotFoundError(
            f"there are no cells of the {wanted} of the split {split.name} ({join_limited(split.tested)}); labels: "
            f"{join_limited(names) or 'none'}",
            did_you_mean(split.tested[0], names, labels.reader) or "Give the data set of the split",
            [UseOption("condition_key", "name the obs column of its labels")],
            where=measured.cells.where,
        )
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
    return {label: in_data for in_data, label in tested_as.items()}, notices


@dataclass(frozen=True)
class TrainingLabels:
    """The data's labels that were trained on, and of these the ones of a single gene, by gene.

    `conditions` are all labels of the data that are perturbations or controls; notices are about those that are
    neither, with their numbers of cells.
    """

    names: Sequence[str]
    singles: dict[str, list[str]]
    conditions: Sequence[str]
    notices: Sequence[str]


def training_labels(measured: MeasuredCells, split: Split) -> TrainingLabels:
    """Return the data's labels that were trained on.

    A test or validation perturbation is not, in any spelling. A label that is no perturbation of the model's genes is
    not either, unless the split lists it and it is none of the usual words for other cells.
    """
    labels = measured.labels
    reader = labels.reader
    held_out = {reader.spelling(label) for label in (*split.tested, *split.val)}
    trained = None if split.train is None else {reader.spelling(label) for label in split.train}
    train: list[str] = []
    singles: dict[str, list[str]] = {}
    other_cells: dict[str, int] = {}
    for name in labels.names:
        if name == CONTROL:
            continue
        genes, spelling = reader.genes(name), reader.spelling(name)
        listed = trained is not None and spelling in trained
        in_split = listed or spelling in held_out
        unclear = is_control_word(name) or any(map(is_unassigned, re.split(r"[+;,|&/]", name)))
        if genes == () or (genes is None and (unclear or not in_split)):
            other_cells[name] = labels.n_cells[name]
        elif spelling not in held_out and (trained is None or listed):
            train.append(name)
            if genes and len(genes) == 1:
                singles.setdefault(genes[0], []).append(name)
    conditions = [name for name in labels.names if name not in other_cells]
    left_out = {"no label": labels.n_without} if labels.n_without else {}
    left_out |= dict(sorted(other_cells.items(), key=lambda entry: -entry[1]))
    notices = []
    if left_out:
        cells = pluralize(sum(left_out.values()), "cell is", "cells are")
        named = join_limited([f"{name} ({count:,})" for name, count in left_out.items()])
        notices.append(f"{cells} left out, as no perturbation of the model's genes: {named}.")
    return TrainingLabels(train, singles, conditions, notices)
