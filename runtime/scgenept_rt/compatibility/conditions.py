"""The labels of a file: which cells are controls, and which of its perturbations the model can predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.compatibility.findings import Finding, problem_from
from scgenept_rt.errors import PerturbationError, ScgeneptError, UnknownGeneError, join_limited, pluralize
from scgenept_rt.expression import ReadOptions
from scgenept_rt.expression.cells_source import Annotation
from scgenept_rt.expression.labels import CONDITION_KEYS, find_control_rows
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import CONTROL_LABELS, Perturbation, parse_perturbation

_N_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Conditions:
    """What the labels of a file say.

    Attributes
    ----------
    condition_key, control_label
        The obs column and the label of control cells; None if not found (all cells then count as controls, or the
        findings hold a problem).
    control_rows
        Rows of the control cells; None if they could not be told.
    labels
        Labels of other conditions, by number of cells.
    perturbations
        What the model can predict of these, each set of target genes once.
    n_predictable
        How many of `labels` that covers.
    unpredictable
        The other labels.
    out_of_vocab
        Target genes without a token of their own, sorted.
    """

    condition_key: str | None = None
    control_label: str | None = None
    control_rows: NDArray[np.int64] | None = None
    labels: tuple[str, ...] = ()
    perturbations: tuple[Perturbation, ...] = ()
    n_predictable: int = 0
    unpredictable: tuple[str, ...] = ()
    out_of_vocab: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = field(default=(), repr=False)


class _PanelWithoutSuggestions(GenePanel):
    """Near spellings take milliseconds a name; thousands of labels are only sorted into known and unknown here."""

    def suggestions(self, name: str, limit: int = 3) -> list[str]:  # noqa: ARG002
        return []


def examine_labels(obs: Annotation, where: str, panel: GenePanel, options: ReadOptions) -> Conditions:
    """Find the control cells as `predict` does, and sort the other labels by whether the model knows their genes."""
    findings: list[Finding] = []
    key, control_label, rows = options.condition_key, None, None
    try:
        control = find_control_rows(obs, where, options.condition_key, options.control_label)
    except ScgeneptError as error:
        findings.append(problem_from("labels", error))
        if key is None:
            key = next((name for name in CONDITION_KEYS if name in obs.columns), None)
    else:
        key, control_label, rows = control.condition_key, control.control_label, control.rows
        findings.append(_control_finding(obs, key, control_label, rows, control.notices))
    if key is None or key not in obs.columns:
        return Conditions(key, control_label, rows, findings=tuple(findings))

    controls = {*CONTROL_LABELS, *([options.control_label] if options.control_label else [])}
    try:
        labels = [label for label in _distinct_labels(obs, key) if label not in controls]
    except ScgeneptError:  # already a finding
        labels = []
    plain = _PanelWithoutSuggestions(panel.names, panel.ids, panel.in_vocab)
    by_targets: dict[tuple[int, ...], Perturbation] = {}
    unpredictable: dict[str, dict[str, tuple[str, ...]]] = {}  # the genes that the model lacks and hints, by label
    for label in labels:
        try:
            parsed = parse_perturbation(label, plain, tuple(controls))
        except UnknownGeneError as error:
            unpredictable[label] = error.unknown
            continue
        except PerturbationError:
            unpredictable[label] = {}
            continue
        if parsed.columns:
            by_targets.setdefault(tuple(sorted(parsed.columns)), parsed)
    perturbations = tuple(by_targets.values())
    out_of_vocab = sorted(
        {panel.names[column] for entry in perturbations for column in entry.columns if not panel.in_vocab[column]}
    )
    n_predictable = len(labels) - len(unpredictable)
    findings.append(_labels_finding(panel, key, len(labels), n_predictable, len(perturbations), unpredictable))
    if out_of_vocab:
        apart = "it from other such genes" if len(out_of_vocab) == 1 else "these apart"
        findings.append(
            Finding(
                "perturbations",
                "note",
                f"{pluralize(len(out_of_vocab), 'target gene is', 'target genes are')} out of the model's vocabulary "
                f"({join_limited(out_of_vocab, _N_SHOWN)}): the model cannot tell {apart} by name.",
                "Treat predictions for these targets with care; the others are not affected.",
            )
        )
    return Conditions(
        key,
        control_label,
        rows,
        tuple(labels),
        perturbations,
        n_predictable,
        tuple(unpredictable),
        tuple(out_of_vocab),
        tuple(findings),
    )


def _control_finding(
    obs: Annotation, key: str | None, label: str | None, rows: NDArray[np.int64], notices: Sequence[str]
) -> Finding:
    if key is None:
        return Finding("labels", "note", " ".join(notices), "If only some are controls: --condition-key COLUMN.")
    text = f"{pluralize(len(rows), 'control cell')} of {obs.n_rows:,}: obs column {key!r}, label {label!r}."
    if len(rows) < 32:  # as many as `--max-error` uses at least
        return Finding(
            "labels",
            "note",
            text + " Means over so few cells are noisy.",
            "Give more control cells of the same cell type if you have them.",
        )
    return Finding("labels", "ok", " ".join([text, *notices]))


def _labels_finding(
    panel: GenePanel,
    key: str,
    n_labels: int,
    n_predictable: int,
    n_distinct: int,
    unpredictable: Mapping[str, Mapping[str, Sequence[str]]],
) -> Finding:
    if not n_labels:
        return Finding("perturbations", "ok", f"obs column {key!r} names no other condition; ask for any with -p.")
    text = f"{n_predictable:,} of {pluralize(n_labels, 'other label')} can be predicted"
    if n_distinct != n_predictable:
        text += f" ({pluralize(n_distinct, 'distinct set')} of target genes)"
    if not unpredictable:
        return Finding("perturbations", "ok", f"{text}.")
    text += "."
    lacking = {gene: hints for genes in unpredictable.values() for gene, hints in genes.items()}
    if lacking:
        shown = []
        for gene, hints in islice(lacking.items(), _N_SHOWN):
            near = hints or panel.suggestions(gene, 1)
            shown.append(f"{gene} (near: {near[0]})" if near else gene)
        more = f" and {len(lacking) - _N_SHOWN:,} more" if len(lacking) > _N_SHOWN else ""
        text += f" The model lacks {pluralize(len(lacking), 'gene')} of the rest: {', '.join(shown)}{more}."
    unreadable = [label for label, genes in unpredictable.items() if not genes]
    if unreadable:
        text += f" No set of different genes: {join_limited([repr(label) for label in unreadable], _N_SHOWN)}."
    step = "Leave these out of -p; `scgenept-rt genes BUNDLE --search STR` lists the genes that the model has."
    return Finding("perturbations", "note", text, step)


def _distinct_labels(obs: Annotation, key: str) -> list[str]:
    """Return the labels of a column, stripped, most frequent first; missing values are no label."""
    import pandas as pd

    counts = pd.Series(obs.column(key)).value_counts(sort=True)
    labels = (str(label).strip() for label, count in counts.items() if count)
    return [label for label in dict.fromkeys(labels) if label]
