"""Which cells are control cells, and which perturbations of the cells the model can predict."""

from __future__ import annotations

from typing import Any

from scgenept_rt.compatibility.finding import Findings
from scgenept_rt.errors import PerturbationError, UseOption, compose
from scgenept_rt.expression.labels import ControlRows
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import CONTROL_LABELS, PerturbationRequest, is_control_word, look_up
from scgenept_rt.wording import join_limited, pluralize

_FEW_CONTROLS = 32


def check_controls(control: ControlRows, n_obs: int, findings: Findings) -> None:
    """Add which cells are control cells."""
    if control.condition_key is None:
        name_column = UseOption("condition_key", "name the column of labels, if only some are control cells")
        findings.add("labels", " ".join(control.notices), note=True, options=[name_column])
        return
    n_controls, named = len(control.rows), join_limited([repr(label) for label in control.control_labels])
    text = f"{pluralize(n_controls, 'control cell')} of {n_obs:,}: obs column {control.condition_key!r}, label {named}"
    few = n_controls < _FEW_CONTROLS
    findings.add("labels", f"{text}. Means over so few cells are noisy" if few else text, note=few)
    findings.add_notices("labels", control.notices)


def check_labels(control: ControlRows, panel: GenePanel, findings: Findings) -> dict[str, Any]:
    """Sort the labels of cells by whether the model has their genes.

    Returns plain values. Column and label of control cells are None if all cells are control cells; `perturbations` are
    what the model can predict of the other labels, each set of target genes once.
    """
    counts = {} if control.labels is None else control.labels.counts
    controls = (*CONTROL_LABELS, *control.control_labels)
    others = [name for name in counts if name not in controls and (name in panel or not is_control_word(name))]
    targets: dict[tuple[int, ...], str] = {}
    unpredictable: list[str] = []
    lacking: dict[str, list[str]] = {}  # genes that the model lacks, with what may have been meant
    for name in others:
        try:
            parsed, unknown = look_up(PerturbationRequest(name), panel, controls)
        except PerturbationError:  # not a set of different genes
            unpredictable.append(name)
            continue
        if unknown:
            unpredictable.append(name)
            lacking |= unknown
        elif parsed.columns:
            targets[parsed.columns] = parsed.canonical
    n_predictable = len(others) - len(unpredictable)
    text, remedy = f"{n_predictable:,} of {pluralize(len(others), 'other label')} can be predicted", ""
    if len(targets) != n_predictable:
        text += f" ({pluralize(len(targets), 'distinct set')} of target genes)"
    if lacking:
        error = panel.unknown_genes_error(lacking, lacking)
        text, remedy = f"{text}. {compose(error.problem)}", error.remedy
    elif unpredictable:
        text += ". The others are not sets of different genes"
    elif not others:
        text = "The cells have no other labels; any perturbation can be predicted"
    findings.add("perturbations", text, note=bool(unpredictable), remedy=remedy)
    out_of_vocab = sorted({panel.names[at] for columns in targets for at in columns if not panel.in_vocab[at]})
    if out_of_vocab:
        genes = pluralize(len(out_of_vocab), "target gene is", "target genes are")
        text = f"{genes} not in the vocabulary ({join_limited(out_of_vocab)}): the model cannot tell these apart"
        findings.add("perturbations", text, note=True, remedy="Treat predictions for these targets with care")
    return {
        "condition_key": control.condition_key,
        "control_label": control.control_label,
        "n_control_cells": len(control.rows),
        "n_other_labels": len(others),
        "perturbations": tuple(targets.values()),
        "unpredictable": tuple(unpredictable),
    }
