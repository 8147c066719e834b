"""Perturbation labels of a data set: which rows have which label, and which labels perturb the same genes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import ControlCellsError, PerturbationError, UseOption
from scgenept_rt.expression.annotation import as_text
from scgenept_rt.expression.groups import rows_with
from scgenept_rt.expression.labels import find_control_rows
from scgenept_rt.expression.opened_cells import OpenedCells, open_cells
from scgenept_rt.genes import GenePanel
from scgenept_rt.options import ReadOptions
from scgenept_rt.perturbation import CONTROL_LABELS, PerturbationRequest, look_up
from scgenept_rt.perturbation.spellings import guide_targets, is_control_word, is_unassigned

if TYPE_CHECKING:
    from anndata import AnnData

CONTROL = "ctrl"
"""Name of the control cells in this package, whatever a file calls them."""


class LabelReader:
    """Reads labels as genes of a panel, in the spellings of public data sets; each label once.

    `control_labels` are those of the data, besides `CONTROL_LABELS`.
    """

    def __init__(self, panel: GenePanel, control_labels: Iterable[str] = ()) -> None:
        self._panel = panel
        self._controls = tuple(dict.fromkeys([*CONTROL_LABELS, *control_labels]))
        self._read: dict[str, tuple[str, ...] | None] = {}

    def genes(self, label: str) -> tuple[str, ...] | None:
        """Return the perturbed genes, sorted; none for a control, None if the label cannot be read."""
        if label not in self._read:
            self._read[label] = self._genes(label)
        return self._read[label]

    def canonical(self, label: str) -> str | None:
        """Return the spelling that all labels of the same genes share, None if the label cannot be read."""
        genes = self.genes(label)
        return None if genes is None else "+".join(genes) or CONTROL

    def condition(self, label: str) -> str:
        """Return one spelling per condition of GEARS: `A+ctrl` and `ctrl+A` are two."""
        genes = self.genes(label)
        if not genes:
            return label
        if len(genes) == 1:
            first, *others = label.split("+")
            return f"{CONTROL}+{genes[0]}" if others and first.strip() in self._controls else f"{genes[0]}+{CONTROL}"
        return "+".join(genes)

    def spelling(self, label: str) -> str:
        """Return what all spellings of a label share, in any case and also if the label cannot be read."""
        canonical = self.canonical(label)
        parts = re.split(r"[_+;,|:&/\s]+", label) if canonical is None else canonical.split("+")
        folded = {part.casefold() for part in parts if not (is_control_word(part) or is_unassigned(part))}
        return "+".join(sorted(folded)) or label.casefold()

    def _genes(self, label: str) -> tuple[str, ...] | None:
        try:
            perturbation, unknown = look_up(PerturbationRequest(label), self._panel, self._controls)
        except PerturbationError:  # a gene named twice, or an empty part
            pass
        else:
            if not unknown:
                return perturbation.target_genes
        if is_control_word(label):
            return ()
        halves = {guide_targets(half, self._panel, self._controls) for half in label.split("__")}
        return (halves.pop() or None) if len(halves) == 1 else None


def did_you_mean(label: str, known: Sequence[str], reader: LabelReader) -> str:
    """Return a question that suggests up to three labels of similar spelling, empty if there are none."""
    names: dict[str, str] = {}
    for name in known:
        names.setdefault(reader.spelling(name), name)
    similar = [names[found] for found in get_close_matches(reader.spelling(label), names, n=3, cutoff=0.7)]
    return f"Did you mean {' or '.join(similar)}?" if similar else ""


def measured_perturbations(
    source: str | Path | AnnData, panel: GenePanel, read: ReadOptions | None = None
) -> tuple[list[str], list[str]]:
    """Return the labels of cells that are read as genes of a model, and those that are not; see `LabelledRows.of`."""
    with open_cells(source, read) as cells:
        labels = LabelledRows.of(cells, panel)
    others = {CONTROL, *labels.perturbations}
    return list(labels.perturbations), [name for name in labels.names if name not in others]


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Rows of a data set by label; spellings of one condition are one label."""

    names: tuple[str, ...]  # in the order and spelling of their first row; `CONTROL` for control cells
    codes: NDArray[np.int64]  # [n_obs], index into `names`, -1 for a row without label
    n_without: int
    reader: LabelReader
    condition_names: Mapping[str, str]  # GEARS's name of each label, the key of lists in uns, where obs has it
    notices: tuple[str, ...] = ()  # about the labels of control cells

    @classmethod
    def of(cls, cells: OpenedCells, panel: GenePanel, group: tuple[str, str] | None = None) -> LabelledRows:
        """Read the labels of opened cells, or of those alone that have a value of an obs column.

        Raises a `CellsError` if control cells cannot be identified by an obs column, or there are none in the group.
        """
        control = find_control_rows(cells, panel)
        if control.labels is None:
            raise ControlCellsError(
                "obs has no column with the perturbation of each cell, so there is nothing to compare with",
                options=[UseOption("condition_key", "name that column")],
            )
        text = control.labels.names
        reader = LabelReader(panel, {text[code] for code in np.unique(control.labels.codes[control.rows])})
        code_of_row = control.labels.codes.copy()
        code_of_row[control.rows] = len(text)
        rows, notices = np.arange(cells.n_obs), control.notices
        if group is not None:
            remedy = "Name column and groups as in the predictions, or predict without groups"
            rows, of_group = rows_with(cells, *group, remedy=remedy)
            notices = (*notices, *of_group)
        raw = np.full(cells.n_obs, -1)
        raw[rows] = code_of_row[rows]
        places: dict[str, tuple[int, str]] = {}  # by condition, the place and the spelling of its label
        index_of_code = np.full(len(text) + 2, -1, dtype=np.int64)  # the last entry serves the code -1
        condition_names: dict[str, str] = {}
        gears = as_text(cells.obs.column("condition_name")) if "condition_name" in cells.obs.columns else None
        for row in np.sort(np.unique(raw, return_index=True)[1]):
            code = int(raw[row])
            label = CONTROL if code == len(text) else text[code] if code >= 0 else ""
            if not label:
                continue
            condition = reader.condition(label)
            index_of_code[code], name = places.setdefault(condition, (len(places), label))
            if gears is not None:
                condition_names.setdefault(name, str(gears[row]))
        if CONTROL not in places:
            assert group is not None, "without control cells, find_control_rows raises"
            raise ControlCellsError(f"no control cell has {' = '.join(group)}")
        codes = index_of_code[raw]
        n_without = int((codes[rows] < 0).sum())
        names = tuple(name for _, name in places.values())
        return cls(names, codes, n_without, reader, condition_names, notices)

    @cached_property
    def n_cells(self) -> Mapping[str, int]:
        """Number of cells of each label."""
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))

    @cached_property
    def perturbations(self) -> tuple[str, ...]:
        """The labels that are read as one or more genes."""
        return tuple(name for name in self.names if name != CONTROL and self.reader.genes(name))

    @cached_property
    def _name_of(self) -> Mapping[str, str]:
        """The label of each condition, and for each set of genes the label of most cells."""
        names: dict[str, str] = {}
        for name in sorted(self.perturbations, key=lambda name: -self.n_cells[name]):
            names.setdefault(self.reader.canonical(name) or name, name)
        return names | {self.reader.condition(name): name for name in self.names}

    def find(self, label: str) -> str | None:
        """Return the label in the data for the same condition, else that of most cells for the same genes."""
        canonical = self.reader.canonical(label)
        if canonical == CONTROL:
            return CONTROL
        return self._name_of.get(self.reader.condition(label)) or self._name_of.get(canonical or label)

    def group_of_rows(self, groups: Sequence[str]) -> NDArray[np.int64]:
        """Return int64 [n_obs], the index of each row's label in `groups`, -1 for other rows."""
        position = {label: index for index, label in enumerate(groups)}
        # The last entry serves the code -1.
        return np.array([position.get(name, -1) for name in self.names] + [-1], dtype=np.int64)[self.codes]
