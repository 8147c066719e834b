"""Perturbation labels: what they mean for a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import (
    EmptyPerturbationError,
    PerturbationTypeError,
    RepeatedGeneError,
    join_limited,
)
from scgenept_rt.genes import GenePanel

# Case matters: CTRL is a human gene (chymotrypsin like), ctrl is not.
CONTROL_LABELS = ("ctrl", "control", "non-targeting")
MAX_EVALUATED_TARGETS = 2
# The end of GEARS's condition_name, `A549_FOSB+ctrl_1+1`: a cell type, a condition, and a dose for each of its parts.
_DOSES = re.compile(r"_1(?:\+1)*$")


@dataclass(frozen=True)
class Perturbation:
    """Genes perturbed together.

    Attributes
    ----------
    label
        The user's spelling, stripped of surrounding spaces.
    target_genes
        The model's names of the perturbed genes, sorted; empty for the control.
    columns
        Their positions in the model, in the order of `target_genes`: where `pert_flags` is 1.
    n_controls
        How many control cells to predict from, None for the run's setting.
    """

    label: str
    target_genes: tuple[str, ...]
    columns: tuple[int, ...]
    n_controls: int | None = None

    @property
    def canonical(self) -> str:
        """The one spelling of this set of genes: sorted names joined by "+", "ctrl" for none."""
        return "+".join(self.target_genes) or "ctrl"


@dataclass(frozen=True)
class PerturbationRequest:
    """A perturbation as asked for: its label, and how many control cells to use (None for the run's setting).

    `file` and `line` say where it was read, for messages; two requests are equal wherever they stand.
    """

    label: str
    n_controls: int | None = None
    file: Path | None = field(default=None, compare=False, repr=False)
    line: int | None = field(default=None, compare=False, repr=False)

    @property
    def place(self) -> tuple[Path, int] | None:
        """File and line that it was read from, None if it was not read from a file."""
        return None if self.file is None or self.line is None else (self.file, self.line)


def parse_perturbation(label: str, panel: GenePanel, control_labels: Sequence[str] = CONTROL_LABELS) -> Perturbation:
    """Read one label: `A`, `A+ctrl`, `ctrl+A`, `A+B`, `A_B`, or `ctrl` alone (the control, no gene perturbed).

    Genes are given by symbol or Ensembl id. `A_B` is split only if the whole is not a gene and both halves are.
    Unlike upstream's `create_pert_flags`, which takes `A+A` for `A`, a repeated gene is an error.

    Raises
    ------
    PerturbationTypeError
        If the label is no string.
    EmptyPerturbationError
        If the label or a part of it is empty.
    UnknownGeneError
        If the model lacks a gene.
    RepeatedGeneError
        If a gene occurs twice, in one spelling or two.
    """
    if not isinstance(label, str):
        raise PerturbationTypeError("perturbation", label)
    unknown = _UnknownGenes(panel)
    perturbation = _resolve(PerturbationRequest(label), panel, control_labels, unknown)
    unknown.raise_if_any()
    return perturbation


def parse_perturbations(
    labels: str | Sequence[str | PerturbationRequest],
    panel: GenePanel,
    control_labels: Sequence[str] = CONTROL_LABELS,
) -> tuple[list[Perturbation], list[str]]:
    """Read labels or requests, in order; those that mean the same genes are kept once, in the first spelling.

    Returns
    -------
    perturbations, notices
        Notices are one-line sentences on repeated perturbations, on three or more genes at once, and on targets that
        are out of the model's vocabulary.

    Raises
    ------
    PerturbationTypeError
        If a label is no string, or `labels` is no list of labels.
    EmptyPerturbationError
        If there is no label, or one is empty.
    UnknownGeneError
        If the model lacks a gene; all unknown genes of all labels are reported at once.
    RepeatedGeneError
        If a label names a gene twice.
    """
    if isinstance(labels, str):
        labels = [labels]
    try:
        entries = None if isinstance(labels, (bytes, bytearray)) else list(labels)  # those are lists of numbers
    except TypeError:
        entries = None
    if entries is None:
        raise PerturbationTypeError("perturbations", labels, several=True)
    requests = [entry if isinstance(entry, PerturbationRequest) else PerturbationRequest(entry) for entry in entries]
    for number, request in enumerate(requests):
        if not isinstance(request.label, str):
            raise PerturbationTypeError(f"perturbations[{number}]", request.label)
    if not requests:
        raise EmptyPerturbationError
    unknown = _UnknownGenes(panel)
    parsed = [_resolve(request, panel, control_labels, unknown) for request in requests]
    unknown.raise_if_any()

    kept: dict[tuple[int, ...], Perturbation] = {}
    repeats: list[str] = []
    conflicts: list[str] = []
    for perturbation in parsed:
        key = tuple(sorted(perturbation.columns))
        first = kept.setdefault(key, perturbation)
        if first is not perturbation:
            repeats.append(f"{perturbation.label} (as {first.label})")
            if first.n_controls != perturbation.n_controls:
                conflicts.append(first.label)
    perturbations = list(kept.values())
    return perturbations, [*_repeat_notices(repeats, conflicts), *_target_notices(perturbations, panel)]


def all_singles(panel: GenePanel, in_vocab_only: bool = False) -> list[str]:
    """Return a label for each gene of the model perturbed alone, in model order; a repeated name comes once."""
    names = [name for name, known in zip(panel.names, panel.in_vocab, strict=True) if known or not in_vocab_only]
    # A name that holds a plus is read as a gene only when it stands alone.
    return [name if "+" in name else f"{name}+ctrl" for name in dict.fromkeys(names)]


def pairs_of(genes: Sequence[str]) -> list[str]:
    """Return a label `A+B` for each unordered pair of different genes, in the order given."""
    return [f"{first}+{second}" for first, second in combinations(dict.fromkeys(genes), 2)]


class _UnknownGenes:
    """Names met that the model lacks, gathered so that one error reports them all."""

    def __init__(self, panel: GenePanel) -> None:
        self.panel = panel
        self.names: list[str] = []
        self.hints: dict[str, list[str]] = {}
        self.places: dict[str, tuple[Path, int]] = {}

    def add(self, name: str, hints: list[str], place: tuple[Path, int] | None) -> None:
        if place is not None:
            self.places.setdefault(name, place)
        self.names.append(name)
        if hints:
            self.hints[name] = hints

    def raise_if_any(self) -> None:
        if self.names:
            raise self.panel.unknown_genes_error(self.names, self.hints, self.places)


def _resolve(
    request: PerturbationRequest, panel: GenePanel, control_labels: Sequence[str], unknown: _UnknownGenes
) -> Perturbation:
    label = request.label.strip()
    spelling_of: dict[int, str] = {}
    parts = _parts(request, label, panel, control_labels)
    genes = [part for part in parts if part not in control_labels]
    if any(gene not in panel for gene in genes):
        conditions = _conditions_named(label, panel, control_labels)
        if conditions:  # its parts are no names of genes, and near spellings of them would lead astray
            unknown.add(label, conditions, request.place)
            return Perturbation(label, (), (), request.n_controls)
    for gene in genes:
        if gene not in panel:
            joined = _joined(gene, panel) if gene == label else []
            unknown.add(gene, joined or _hints(gene, panel, control_labels), request.place)
            continue
        position = panel.position(gene)
        if position in spelling_of:
            raise RepeatedGeneError(label, panel.names[position], [spelling_of[position], gene], request.place)
        spelling_of[position] = gene
    columns = sorted(spelling_of, key=lambda position: (panel.names[position], position))
    return Perturbation(label, tuple(panel.names[column] for column in columns), tuple(columns), request.n_controls)


def _parts(request: PerturbationRequest, label: str, panel: GenePanel, control_labels: Sequence[str]) -> list[str]:
    if label in panel or label in control_labels:
        return [label]
    if "+" in label:
        parts = [part.strip() for part in label.split("+")]
        if not all(parts):
            raise EmptyPerturbationError(request.label, request.place)
        return parts
    if not label:
        raise EmptyPerturbationError(request.label, request.place)
    halves = _known_halves(label, panel, control_labels)
    return list(halves[0]) if len(halves) == 1 else [label]


def _known_halves(label: str, panel: GenePanel, control_labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return every way to split `label` at one underscore into two genes, or a gene and a control word."""
    splits = [(label[:at].strip(), label[at + 1 :].strip()) for at, letter in enumerate(label) if letter == "_"]
    return [
        (first, second)
        for first, second in splits
        if (first in panel or first in control_labels)
        and (second in panel or second in control_labels)
        and (first in panel or second in panel)
    ]


def _hints(part: str, panel: GenePanel, control_labels: Sequence[str]) -> list[str]:
    """Return what `part` may have been meant to be, where spelling distance would not find it."""
    same_word = [word for word in control_labels if word.casefold() == part.casefold()]
    halves = _known_halves(part, panel, control_labels)
    return same_word or [f"{first}+{second}" for first, second in halves]


def _joined(label: str, panel: GenePanel) -> list[str]:
    """Return genes that are set apart by commas or the like as they are to be joined, if the model has them all."""
    genes = [gene for gene in re.split(r"[,;&/|\s]+", label) if gene]
    return ["+".join(genes)] if len(genes) > 1 and all(gene in panel for gene in genes) else []


def _conditions_named(label: str, panel: GenePanel, control_labels: Sequence[str]) -> list[str]:
    """Return the condition in a label of GEARS's column condition_name, if all its genes are known."""
    doses = _DOSES.search(label)
    if doses is None:
        return []
    # A cell type may hold underscores, as a gene may.
    conditions = [label[at + 1 : doses.start()] for at in range(doses.start()) if label[at] == "_"]
    return [
        condition
        for condition in conditions
        if all(part in panel or part in control_labels for part in condition.split("+"))
    ]


def _repeat_notices(repeats: Sequence[str], conflicts: Sequence[str]) -> Iterator[str]:
    if len(repeats) == 1:
        yield f"1 perturbation repeats another and is predicted once: {repeats[0]}."
    elif repeats:
        yield f"{len(repeats):,} perturbations repeat others and are predicted once: {join_limited(repeats)}."
    if conflicts:
        yield f"Repeats ask for different n_controls; that of the first is used: {join_limited(conflicts)}."


def _target_notices(perturbations: Sequence[Perturbation], panel: GenePanel) -> Iterator[str]:
    many = [entry.label for entry in perturbations if len(entry.target_genes) > MAX_EVALUATED_TARGETS]
    if many:
        yield (
            f"Warning: three or more genes at once ({join_limited(many)}): "
            "the published model was never evaluated on more than two."
        )
    unnamed = sorted(
        {
            gene
            for entry in perturbations
            for gene, column in zip(entry.target_genes, entry.columns, strict=True)
            if not panel.in_vocab[column]
        }
    )
    if len(unnamed) == 1:
        yield (
            f"1 target gene is not in the model's vocabulary ({unnamed[0]}): "
            "the model cannot tell it by name from other such genes."
        )
    elif unnamed:
        yield (
            f"{len(unnamed):,} target genes are not in the model's vocabulary ({join_limited(unnamed)}): "
            "the model cannot tell these apart by name."
        )


def unmeasured_target_notices(perturbations: Sequence[Perturbation], columns: NDArray[np.int64]) -> list[str]:
    """Return a sentence on the target genes that an input lacks, if there are any.

    Parameters
    ----------
    perturbations
        What is to be predicted.
    columns
        int64 [n_genes], the input's column of each gene of the model, -1 where the input lacks it.
    """
    targets = sorted(
        {
            gene
            for entry in perturbations
            for gene, column in zip(entry.target_genes, entry.columns, strict=True)
            if columns[column] < 0
        }
    )
    if not targets:
        return []
    if len(targets) == 1:
        return [
            f"Warning: 1 target gene is not in the input ({targets[0]}): "
            "its expression in the control cells is taken as zero."
        ]
    return [
        f"Warning: {len(targets):,} target genes are not in the input ({join_limited(targets)}): "
        "their expression in the control cells is taken as zero."
    ]
