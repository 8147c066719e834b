"""Which cells are control cells, and which perturbations of the cells the model can predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.compatibility.finding import Finding
from scgenept_rt.errors.core import PerturbationError, ScgeneptError, UseOption, join_limited, pluralize
from scgenept_rt.expression import OpenedCells
from scgenept_rt.expression.labels import ControlRows
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import CONTROL_LABELS, Perturbation, PerturbationRequest, look_up

_N_SHOWN = 5
_FEW_CONTROLS = 32


@dataclass(frozen=True, eq=False)
class Labels:
    """What the labels of cells say.

    Attributes
    ----------
    condition_key, control_label
        The obs column and the label of control cells; None if not found.
    control_rows
        Rows of the control cells; None if they could not be identified.
    labels
        Labels of other conditions, by number of cells.
    perturbations
        What the model can predict of these, each set of target genes once.
    unpredictable
        The labels that it cannot predict.
    out_of_vocab
        Target genes without a token of their own, sorted.
    """

    condition_key: str | None = None
    control_label: str | None = None
    control_rows: NDArray[np.int64] | None = None
    labels: tuple[str, ...] = ()
    perturbations: tuple[Perturbation, ...] = ()
    unpredictable: tuple[str, ...] = ()
    out_of_vocab: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = field(default=(), repr=False)

    @property
    def n_control_cells(self) -> int | None:
        """Number of control cells, None if they could not be identified."""
        return None if self.control_rows is None else len(self.control_rows)


def check_labels(cells: OpenedCells, panel: GenePanel) -> Labels:
    """Find the control cells as `predict` does, and sort the other labels by whether the model has their genes."""
    try:
        control = cells.find_control_cells()
    except ScgeneptError as error:
        return Labels(findings=(Finding.from_error("labels", error),))
    findings = [_control_finding(cells, control)]
    if control.labels is None:
        return Labels(control_rows=control.rows, findings=tuple(findings))

    controls = (*CONTROL_LABELS, str(control.control_label))
    labels = [label for label in control.labels.counts() if label not in controls]
    by_targets: dict[tuple[int, ...], Perturbation] = {}
    unpredictable: list[str] = []
    lacking: dict[str, list[str]] = {}  # genes that the model lacks, with what may have been meant
    for label in labels:
        try:
            parsed, unknown = look_up(PerturbationRequest(label), panel, controls)
        except PerturbationError:
            unpredictable.append(label)
            continue
        if unknown:
            unpredictable.append(label)
            lacking |= unknown
        elif parsed.columns:
            by_targets.setdefault(parsed.columns, parsed)
    perturbations = tuple(by_targets.values())
    out_of_vocab = sorted(
        {panel.names[column] for entry in perturbations for column in entry.columns if not panel.in_vocab[column]}
    )
    findings.append(_labels_finding(panel, len(labels), len(labels) - len(unpredictable), len(perturbations), lacking))
    if out_of_vocab:
        genes = pluralize(len(out_of_vocab), "target gene is", "target genes are")
        text = (
            f"{genes} out of the model's vocabulary ({join_limited(out_of_vocab, _N_SHOWN)}): the model cannot tell "
            "such genes apart by name"
        )
        findings.append(Finding("perturbations", "note", text, "Treat predictions for these targets with care"))
    return Labels(
        control.condition_key,
        control.control_label,
        control.rows,
        tuple(labels),
        perturbations,
        tuple(unpredictable),
        tuple(out_of_vocab),
        tuple(findings),
    )


def _control_finding(cells: OpenedCells, control: ControlRows) -> Finding:
    if control.condition_key is None:
        name_column = UseOption("condition_key", "name the column of labels, if only some are control cells")
        return Finding("labels", "note", " ".join(control.notices), options=(name_column,))
    text = (
        f"{pluralize(len(control.rows), 'control cell')} of {cells.n_obs:,}: "
        f"obs column {control.condition_key!r}, label {control.control_label!r}"
    )
    if len(control.rows) < _FEW_CONTROLS:
        return Finding("labels", "note", f"{text}. Means over so few cells are noisy", "Add control cells if you can")
    return Finding("labels", "ok", text)


def _labels_finding(
    panel: GenePanel, n_labels: int, n_predictable: int, n_distinct: int, lacking: Mapping[str, list[str]]
) -> Finding:
    if not n_labels:
        return Finding("perturbations", "ok", "The cells have no other labels; any perturbation can be predicted")
    text = f"{n_predictable:,} of {pluralize(n_labels, 'other label')} can be predicted"
    if n_distinct != n_predictable:
        text += f" ({pluralize(n_distinct, 'distinct set')} of target genes)"
    if n_predictable == n_labels:
        return Finding("perturbations", "ok", text)
    if lacking:
        shown = []
        for gene in list(lacking)[:_N_SHOWN]:
            near = lacking[gene] or panel.suggestions(gene, 1)
            shown.append(f"{gene} (near: {near[0]})" if near else gene)
        shown += list(lacking)[_N_SHOWN:]
        text += f". The model lacks {pluralize(len(lacking), 'gene')} of the others: {join_limited(shown, _N_SHOWN)}"
    else:
        text += ". The others are not sets of different genes"
    return Finding("perturbations", "note", text, "`scgenept-rt genes BUNDLE` lists the genes that the model has")
