"""Perturbation labels: what they mean for a model."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError, Caution, PerturbationError
from scgenept_rt.genes import GenePanel, at_line
from scgenept_rt.perturbation.spellings import guide_targets, is_control_word
from scgenept_rt.wording import join_limited, pluralize

# Case matters: CTRL is a human gene (chymotrypsin like), ctrl is not.
CONTROL_LABELS = ("ctrl", "control", "non-targeting")
# GEARS's condition_name, `A549_FOSB+ctrl_1+1`: a cell type, a condition, and a dose for each of its parts. What follows
# each underscore may be the condition: names of cell types and genes may hold one.
_CONDITION = re.compile(r"_(?=(.+)_1(?:\+1)*$)")
_EXPECTED = "expected gene names such as FOSB, FOSB+ctrl or SAMD1+ZBTB1, or ctrl for none"


@dataclass(frozen=True)
class Perturbation:
    """Genes perturbed together."""

    label: str  # the user's spelling, stripped of surrounding spaces
    target_genes: tuple[str, ...]  # the model's names, sorted; none for the control
    columns: tuple[int, ...]  # their positions in the model, in that order: where `pert_flags` is 1
    n_controls: int | None = None  # control cells to predict from, None for the run's setting

    @property
    def canonical(self) -> str:
        """The one spelling of this set of genes: sorted names joined by "+", "ctrl" for none."""
        return "+".join(self.target_genes) or "ctrl"


@dataclass(frozen=True)
class PerturbationRequest:
    """A label as it was given."""

    label: str
    n_controls: int | None = None  # as `Perturbation` has it
    place: tuple[Path, int] | None = field(default=None, compare=False, repr=False)  # file and line, for messages


def parse_perturbation(label: str, panel: GenePanel) -> Perturbation:
    """Read one label: `A`, `A+ctrl`, `ctrl+A`, `A+B`, `A_B`, `A;B`, or `ctrl` alone (the control, no gene perturbed).

    Genes are given by symbol or Ensembl id. `A_B`, `A;B`, `A|B` and `A:B` are split only if the whole is not a gene and
    all parts are. Unlike upstream's `create_pert_flags`, which takes `A+A` for `A`, a repeated gene is an error.

    Raises `ArgumentError` if the label is not a string, `PerturbationError` if it or a part of it is empty, or a gene
    occurs twice, and `UnknownGeneError` if the model lacks a gene.
    """
    if not isinstance(label, str):
        raise _not_a_label("perturbation", label, "one label such as FOSB+ctrl")
    perturbation, unknown = look_up(PerturbationRequest(label), panel)
    if unknown:
        raise panel.unknown_genes_error(unknown, unknown)
    return perturbation


def parse_perturbations(
    labels: str | Sequence[str | PerturbationRequest],
    panel: GenePanel,
    control_labels: Sequence[str] = CONTROL_LABELS,
) -> tuple[list[Perturbation], list[str]]:
    """Read labels or requests, in order; those that mean the same genes are kept once, in the first spelling.

    Returns perturbations, and notices about repeats, three or more genes at once, and targets out of the model's
    vocabulary. Raises what `parse_perturbation` raises, about all unknown genes at once, `ArgumentError` also if
    `labels` is not a list of labels, and `PerturbationError` if it is empty.
    """
    if isinstance(labels, str):
        labels = [labels]
    try:
        entries = list(labels)
    except TypeError:
        raise _not_a_label("perturbations", labels, "a label such as FOSB+ctrl, or a list of labels") from None
    requests = [entry if isinstance(entry, PerturbationRequest) else PerturbationRequest(entry) for entry in entries]
    for number, request in enumerate(requests):
        if not isinstance(request.label, str):
            remedy = ""
            if str(request.label) in ("None", "nan", "<NA>", "NaT"):
                remedy = "Leave out entries that are none (of a pandas column: .dropna())"
            elif isinstance(request.label, (list, tuple, np.ndarray)) and all(
                isinstance(gene, str) for gene in request.label
            ):
                remedy = f"Join genes that are perturbed together by a plus: {'+'.join(request.label)!r}"
            raise _not_a_label(f"perturbations[{number}]", request.label, "a label such as FOSB+ctrl", remedy)
    if not requests:
        raise PerturbationError(f"no perturbation was given, {_EXPECTED}")

    kept: dict[tuple[int, ...], Perturbation] = {}
    repeats: list[str] = []
    conflicts: list[str] = []
    hints: dict[str, list[str]] = {}
    places: dict[str, tuple[Path, int]] = {}
    for request in requests:
        perturbation, unknown = look_up(request, panel, control_labels)
        for name, meant in unknown.items():
            hints[name] = meant or hints.get(name, [])
            if request.place is not None:
                places.setdefault(name, request.place)
        first = kept.setdefault(perturbation.columns, perturbation)
        if first is not perturbation:
            repeats.append(f"{perturbation.label} (as {first.label})")
            if first.n_controls != perturbation.n_controls:
                conflicts.append(first.label)
    if hints:
        raise panel.unknown_genes_error(hints, hints, places)
    notices: list[str] = []
    if repeats:
        repeat = pluralize(len(repeats), "perturbation repeats another and is", "perturbations repeat others and are")
        notices.append(f"{repeat} predicted once: {join_limited(repeats)}.")
    if conflicts:
        notices.append(f"Repeats ask for different n_controls; that of the first is used: {join_limited(conflicts)}.")
    perturbations = list(kept.values())
    return perturbations, [*notices, *_target_notices(perturbations, panel)]


def all_singles(panel: GenePanel) -> list[str]:
    """Return a label for each gene of the model perturbed alone, in model order; a repeated name comes once."""
    # A name that holds a plus is read as a gene only when it stands alone.
    return [name if "+" in name else f"{name}+ctrl" for name in dict.fromkeys(panel.names)]


def pairs_of(genes: Sequence[str]) -> list[str]:
    """Return a label `A+B` for each unordered pair of different genes, in the order given."""
    return [f"{first}+{second}" for first, second in combinations(dict.fromkeys(genes), 2)]


def look_up(
    request: PerturbationRequest, panel: GenePanel, control_labels: Sequence[str] = CONTROL_LABELS
) -> tuple[Perturbation, dict[str, list[str]]]:
    """Return what a label means, and the names in it that the model lacks with what may have been meant.

    Near spellings are left to `GenePanel.suggestions`, which takes milliseconds per name. Raises `PerturbationError` if
    the label or a part of it is empty, or a gene occurs twice.
    """
    label = request.label.strip()
    genes = [part for part in _parts(request, label, panel, control_labels) if part not in control_labels]
    spelling_of: dict[int, str] = {}
    unknown: dict[str, list[str]] = {}
    for gene in genes:
        if gene not in panel:
            unknown[gene] = _hints(gene, label, panel, control_labels)
            continue
        position = panel.position(gene)
        if position in spelling_of:
            name = panel.names[position]
            written = " and ".join(dict.fromkeys([spelling_of[position], gene]))
            detail = f" (written {written})" if written != name else ""
            raise PerturbationError(
                f"perturbation {label!r} names the gene {name} twice{detail}",
                f"Name each gene once: {name} or {name}+ctrl",
                where=_place(request),
            )
        spelling_of[position] = gene
    if unknown:
        conditions = [name for name in _CONDITION.findall(label) if _are_known(name.split("+"), panel, control_labels)]
        unknown = {label: conditions} if conditions else unknown  # near spellings of its parts would mislead
    columns = sorted(spelling_of, key=lambda position: (panel.names[position], position))
    names = tuple(panel.names[column] for column in columns)
    return Perturbation(label, names, tuple(columns), request.n_controls), unknown


def _not_a_label(argument: str, value: object, expected: str, remedy: str = "") -> ArgumentError:
    return ArgumentError(f"{argument} is {reprlib.repr(value)} ({type(value).__name__}), expected {expected}", remedy)


def _place(request: PerturbationRequest) -> str:
    return "" if request.place is None else at_line(*request.place)


def _parts(request: PerturbationRequest, label: str, panel: GenePanel, control_labels: Sequence[str]) -> Sequence[str]:
    if label in panel or label in control_labels:
        return [label]
    parts = [part.strip() for part in label.split("+")]
    if not all(parts):
        problem = f"perturbation {request.label!r} " + ("has an empty part" if label else "is empty")
        raise PerturbationError(f"{problem}, {_EXPECTED}", where=_place(request))
    if len(parts) > 1:
        return parts
    separated = [part.strip() for part in re.split(r"[;|:]", label)]  # commas and blanks may separate perturbations
    if _are_known(separated, panel, control_labels):
        return separated
    halves = _known_halves(label, panel, control_labels)
    return halves[0] if len(halves) == 1 else parts


def _known_halves(
    label: str, panel: GenePanel, control_labels: Sequence[str], separators: str = "_"
) -> list[tuple[str, str]]:
    """Return every way to split `label` at one separator into two genes, or a gene and a control label."""
    splits = [(label[:at].strip(), label[at + 1 :].strip()) for at, letter in enumerate(label) if letter in separators]
    return [halves for halves in splits if _are_known(halves, panel, control_labels)]


def _are_known(parts: Sequence[str], panel: GenePanel, control_labels: Sequence[str]) -> bool:
    """Return whether all parts of a label are genes or control labels, and one is a gene."""
    return any(part in panel for part in parts) and all(part in panel or part in control_labels for part in parts)


def _hints(part: str, label: str, panel: GenePanel, control_labels: Sequence[str]) -> list[str]:
    """Return what a part of a label may have been meant to be, where spelling distance would not find it."""
    joined = [gene for gene in re.split(r"[,;&/|\s]+", label) if gene] if part == label else []
    if len(joined) > 1 and all(gene in panel for gene in joined):
        return ["+".join(joined)]
    same_word = [word for word in control_labels if word.casefold() == part.casefold()]
    if is_control_word(part):
        return same_word or ["ctrl"]
    targets = guide_targets(part, panel)
    if targets:
        return ["+".join(targets)]
    return same_word or [f"{first}+{second}" for first, second in _known_halves(part, panel, control_labels, "_-.")]


def _target_notices(perturbations: Sequence[Perturbation], panel: GenePanel) -> Iterator[Caution]:
    many = [entry.label for entry in perturbations if len(entry.target_genes) > 2]
    if many:
        yield Caution(
            f"Three or more genes at once ({join_limited(many)}): "
            "the published model was never evaluated on more than two."
        )
    unnamed = _targets(perturbations, ~panel.in_vocab)
    if unnamed:
        targets = pluralize(len(unnamed), "target gene is", "target genes are")
        yield Caution(
            f"{targets} not in the model's vocabulary ({join_limited(unnamed)}): "
            "the model cannot tell such genes apart by name."
        )


def unmeasured_target_notices(perturbations: Sequence[Perturbation], columns: NDArray[np.int64]) -> list[Caution]:
    """Return a notice about the target genes that an input lacks, if there are any.

    `columns` int64 [n_genes] is the input's column of each gene of the model, -1 where the input lacks it.
    """
    missing = _targets(perturbations, columns < 0)
    targets = pluralize(len(missing), "target gene is", "target genes are")
    problem = f"{targets} not in the input ({join_limited(missing)})"
    return [Caution(f"{problem}: expression in the control cells is taken as zero.")] if missing else []


def _targets(perturbations: Sequence[Perturbation], chosen: NDArray[np.bool_]) -> list[str]:
    """Return the names of the target genes at the chosen positions, sorted."""
    pairs = chain.from_iterable(zip(entry.target_genes, entry.columns, strict=True) for entry in perturbations)
    return sorted({gene for gene, column in pairs if chosen[column]})
