"""Which cells are control cells, and which perturbations of the cells the model can predict."""

from __future__ import annotations

from dataclasses import dataclass

from scgenept_rt.compatibility.finding import Finding
from scgenept_rt.errors import PerturbationError, UseOption, compose
from scgenept_rt.expression.labels import ControlRows
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import CONTROL_LABELS, PerturbationRequest, is_control_word, look_up
from scgenept_rt.wording import join_limited, pluralize


@dataclass(frozen=True)
class LabelSummary:
    """What the labels of cells say.

    Column and control label are None if all cells are control cells. `perturbations` are what the model can predict of
    the other labels, each set of target genes once; `unpredictable` are the labels that it cannot predict.
    """

    condition_key: str | None
    control_label: str | None
    n_control_cells: int
    n_other_labels: int = 0
    perturbations: tuple[str, ...] = ()
    unpredictable: tuple[str, ...] = ()


def check_labels(control: ControlRows, n_obs: int, panel: GenePanel) -> tuple[LabelSummary, list[Finding]]:
    """Sort the labels of cells by whether the model has their genes."""
    key, label, n_controls = control.condition_key, control.control_label, len(control.rows)
    findings = control_findings(control, n_obs)
    if key is None or label is None or control.labels is None:
        return LabelSummary(None, None, n_controls), findings
    controls = (*CONTROL_LABELS, *control.control_labels)
    others = [name for name in control.labels.counts() if name not in controls]
    others = [name for name in others if name in panel or not is_control_word(name)]
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
    facts = LabelSummary(key, label, n_controls, len(others), tuple(targets.values()), tuple(unpredictable))
    findings.append(_predictable(facts, lacking, panel))
    out_of_vocab = sorted({panel.names[at] for columns in targets for at in columns if not panel.in_vocab[at]})
    if out_of_vocab:
        genes = pluralize(len(out_of_vocab), "target gene is", "target genes are")
        text = f"{genes} out of the model's vocabulary ({join_limited(out_of_vocab)}): it cannot tell such genes apart"
        findings.append(Finding("perturbations", "note", text, "Treat predictions for these targets with care"))
    return facts, findings


def control_findings(control: ControlRows, n_obs: int) -> list[Finding]:
    """Say which cells are control cells."""
    key, n_controls = control.condition_key, len(control.rows)
    if key is None:
        name_column = UseOption("condition_key", "name the column of labels, if only some are control cells")
        return [Finding("labels", "note", " ".join(control.notices), options=(name_column,))]
    named = join_limited([repr(label) for label in control.control_labels])
    text = f"{pluralize(n_controls, 'control cell')} of {n_obs:,}: obs column {key!r}, label {named}"
    findings = [Finding("labels", "ok", text)]
    if n_controls < 32:
        findings = [Finding("labels", "note", f"{text}. Means over so few cells are noisy")]
    return findings + [Finding.from_notice("labels", notice) for notice in control.notices]


def _predictable(facts: LabelSummary, lacking: dict[str, list[str]], panel: GenePanel) -> Finding:
    if not facts.n_other_labels:
        return Finding("perturbations", "ok", "The cells have no other labels; any perturbation can be predicted")
    n_predictable = facts.n_other_labels - len(facts.unpredictable)
    text = f"{n_predictable:,} of {pluralize(facts.n_other_labels, 'other label')} can be predicted"
    if len(facts.perturbations) != n_predictable:
        text += f" ({pluralize(len(facts.perturbations), 'distinct set')} of target genes)"
    if not facts.unpredictable:
        return Finding("perturbations", "ok", text)
    if not lacking:
        return Finding("perturbations", "note", f"{text}. The others are not sets of different genes")
    error = panel.unknown_genes_error(lacking, lacking)
    return Finding("perturbations", "note", f"{text}. {compose(error.problem)}", error.remedy)
