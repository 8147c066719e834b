"""Checks of labels and values, the findings that a check reports, and what cells hold without a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from scgenept_rt.bundle import Manifest
from scgenept_rt.errors import Notice, PerturbationError, ScgeneptError, UseOption, compose
from scgenept_rt.expression import OpenedCells, Sampling
from scgenept_rt.expression.annotation import Annotation
from scgenept_rt.expression.count_signature import ALIKE_WITHIN, LOG1P
from scgenept_rt.expression.groups import mixed_notices
from scgenept_rt.expression.label_columns import label_columns
from scgenept_rt.expression.labels import ControlRows, find_control_rows
from scgenept_rt.expression.matrix_rows import CompressedColumns
from scgenept_rt.expression.scale import MAX_LOG1P, ScaleCheck, judge_scale
from scgenept_rt.genes import GeneMatch, GenePanel
from scgenept_rt.perturbation import CONTROL_LABELS, PerturbationRequest, look_up
from scgenept_rt.perturbation.spellings import is_control_word, is_unassigned
from scgenept_rt.wording import join_limited, pluralize

MAX_CELLS = 256
_FEW_CONTROLS, _N_EXAMPLES = 32, 3

Topic = Literal["file", "labels", "perturbations", "genes", "vocabulary", "scale", "provider", "run"]


@dataclass(frozen=True)
class Finding:
    """One thing found; of a problem, text, remedy and options are those of the error that `predict` would raise."""

    topic: Topic
    status: Literal["ok", "note", "problem"]  # "problem" stops `predict`, "note" is to be looked at
    text: str
    remedy: str = ""
    options: tuple[UseOption, ...] = ()

    def step(self, flags: Mapping[str, str] | None = None) -> str:
        """Return remedy and options in words; see `compose` for `flags`. Empty where nothing needs doing."""
        return compose("", self.remedy, self.options, flags=flags)

    def to_json(self, flags: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return it as plain values; see `compose` for `flags`."""
        return {"topic": self.topic, "status": self.status, "text": self.text, "step": self.step(flags)}


class Findings(list[Finding]):
    """What a check found, in order."""

    def add(self, topic: Topic, text: str, *, note: bool = False, remedy: str = "", options: Any = ()) -> None:
        """Add what is as it should be, or is a note."""
        self.append(Finding(topic, "note" if note else "ok", text, remedy, tuple(options)))

    def add_notices(self, topic: Topic, notices: Iterable[str]) -> None:
        """Add notices of `predict` as notes."""
        for notice in notices:
            parts = (notice.problem, notice.remedy, notice.options) if isinstance(notice, Notice) else (notice,)
            self.append(Finding(topic, "note", *parts))

    @contextmanager
    def problems(self, topic: Topic) -> Iterator[None]:
        """Add what the context raises as a problem, which `predict` would report."""
        try:
            yield
        except ScgeneptError as error:
            self.append(Finding(topic, "problem", error.problem, error.remedy, error.options))


def check_controls(control: ControlRows, obs: Annotation, findings: Findings) -> None:
    """Add which cells are control cells, and in what these differ."""
    if control.condition_key is None:
        name_column = UseOption("condition_key", "name the column of labels, if only some are control cells")
        findings.add("labels", " ".join(control.notices), note=True, options=[name_column])
    else:
        named = join_limited([repr(label) for label in control.control_labels])
        n_controls = pluralize(len(control.rows), "control cell")
        text = f"{n_controls} of {obs.n_rows:,}: obs column {control.condition_key!r}, label {named}"
        few = len(control.rows) < _FEW_CONTROLS
        findings.add("labels", f"{text}. Means over so few cells are noisy" if few else text, note=few)
        findings.add_notices("labels", control.notices)
    findings.add_notices("labels", mixed_notices(obs, control.rows))


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


def check_values(
    cells: OpenedCells,
    candidates: NDArray[np.int64],
    findings: Findings,
    match: GeneMatch | None = None,
    manifest: Manifest | None = None,
) -> tuple[dict[str, Any], NDArray[np.int64], Any]:
    """Check the values of up to `MAX_CELLS` of the candidates, the same in every check.

    Returns plain values, the rows of these cells (int64 [n_cells]), and the sample (`csr_array` [n_cells, n_genes]).
    The plain values are over the model's genes (over all if none was found). `totals` are minimum, median and maximum
    over cells of the sum of expm1 over all genes (over the model's if the others cost too much to read), None if values
    are not log1p.
    """
    rows = candidates[Sampling("all", min(MAX_CELLS, len(candidates))).draw(len(candidates))]
    names, columns = cells.var.index.tolist(), np.arange(cells.var.n_rows, dtype=np.int64)
    if match is not None and match.n_found:
        names, columns = list(match.panel.names), match.columns
    sample = csr_array(vstack(list(cells.matrix.batches(rows, columns)), format="csr"))
    signature, fault = judge_scale(cells, candidates, columns, None if manifest is None else manifest.training_total)
    finite = sample.data[np.isfinite(sample.data)].astype(np.float64)
    has_zeros = sample.nnz < len(rows) * np.count_nonzero(columns >= 0) or not finite.size
    bounds = np.append(finite, 0.0) if has_zeros else finite
    low, high, totals = float(bounds.min()), float(bounds.max()), None
    if signature is not None and signature.transform in (LOG1P, None) and high <= MAX_LOG1P:
        totals = tuple(float(figure(signature.totals)) for figure in (np.min, np.median, np.max))
    check = ScaleCheck(cells, names, rows, fault)
    text = f"Values from {low:.3g} to {high:.3g} ({len(rows):,} of {pluralize(len(candidates), 'cell')} looked at)"
    with findings.problems("scale"):
        check.check(sample)
        notices = Findings()
        notices.add_notices("scale", check.finish())
        if notices:
            first = next((each for each in notices if each.remedy or each.options), notices[0])
            texts = (compose(each.text) for each in notices)
            findings.append(replace(first, text=" ".join([f"{text}.", *texts])))
        elif totals is None or signature is None or signature.transform is None:
            text += ", too few to tell whether they are log1p of normalised counts"
            findings.add("scale", text, note=True)
        else:
            is_norman = manifest is not None and manifest.dataset == "norman"
            findings.add("scale", f"{text}, log1p{_totals_in_words(signature.totals, is_norman=is_norman)}")
    values = {"n_cells": len(rows), "n_candidates": len(candidates), "minimum": low, "maximum": high, "totals": totals}
    return values, rows, sample


def _totals_in_words(of_cells: NDArray[np.float64], *, is_norman: bool) -> str:
    low, median, high = of_cells.min(), np.median(of_cells), of_cells.max()
    if len(of_cells) == 1:
        return f"; expm1 sums to {median:,.0f}"
    if high - low > ALIKE_WITHIN * median:
        several = f"; expm1 sums to {low:,.0f} to {high:,.0f} per cell, not to one total"
        return f"{several}, as where genes were dropped after normalising"
    text = f", normalised to a total of {median:,.0f} per cell"
    if is_norman and abs(median - 1e4) <= ALIKE_WITHIN * 1e4:
        text += ". The Norman training data were normalised to the median total of their cells, not to 10,000"
    return text


def summarize_cells(cells: OpenedCells) -> dict[str, Any]:
    """Return what opened cells hold as plain values, and the `findings` of `check` that need no model.

    Of X a sample of rows is read. Columns of text in `obs` have the number of values, and the most frequent ones.
    """
    findings = Findings()
    control: ControlRows | None = None
    values: dict[str, Any] | None = None
    with findings.problems("labels"):
        control = find_control_rows(cells)
        check_controls(control, cells.obs, findings)
    with findings.problems("file"):
        if isinstance(cells.matrix, CompressedColumns):
            by_gene = "Values are stored by gene (CSC), so that a few cells cannot be read alone"
            findings.add("scale", f"{by_gene}; `scgenept-rt check` looks at them", note=True)
        else:
            candidates = np.arange(cells.n_obs) if control is None else control.rows
            values, *_ = check_values(cells, candidates, findings)
    known = control.labels.counts if control is not None and control.labels is not None else {}
    controls = control.control_labels if control is not None else ()
    texts = {column.name: column.counts for column in label_columns(cells.obs, None)}
    columns = [(name, texts.get(name, {})) for name in cells.obs.columns]
    return {
        "path": cells.where,
        "n_obs": cells.n_obs,
        "n_vars": cells.var.n_rows,
        "layers": cells.layer_names,
        "has_raw": cells.has_raw,
        "gene_names": {source: list(names[:_N_EXAMPLES]) for source, names in cells.gene_names.items()},
        "obs": [
            {"name": name, "n_values": len(counts) or None, "examples": dict(list(counts.items())[:_N_EXAMPLES])}
            for name, counts in columns
        ],
        "condition_key": None if control is None else control.condition_key,
        "control_labels": controls,
        "n_control_cells": None if control is None else len(control.rows),
        "labels": [name for name in known if not (name in controls or is_control_word(name) or is_unassigned(name))],
        "values": values,
        "findings": findings,
    }
