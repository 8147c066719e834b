"""Perturbation labels of a data set: which rows have which label, and which labels perturb the same genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import ControlCellsError, ScgeneptError, UseOption
from scgenept_rt.expression.annotation import as_text
from scgenept_rt.expression.opened_cells import OpenedCells
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import CONTROL_LABELS, parse_perturbation

CONTROL = "ctrl"
"""Name of the control cells in this package, whatever a file calls them."""


def canonical_label(label: str, panel: GenePanel, control_label: str = CONTROL) -> str | None:
    """Return the spelling that all labels of the same genes share, None if the model lacks one of the genes."""
    try:
        return parse_perturbation(label, panel, (*CONTROL_LABELS, control_label)).canonical
    except ScgeneptError:
        return None


def perturbed_genes(label: str, panel: GenePanel, control_label: str = CONTROL) -> tuple[str, ...]:
    """Return the genes that a label perturbs, none if the model lacks one of them."""
    canonical = canonical_label(label, panel, control_label)
    return () if canonical is None else parse_perturbation(canonical, panel).target_genes


def did_you_mean(label: str, known: Sequence[str], cutoff: float = 0.7) -> str:
    """Return a question that suggests up to three labels of similar spelling, empty if there are none."""
    names: dict[str, str] = {}
    for name in known:
        names.setdefault(_spelling(name), name)
    similar = [names[found] for found in get_close_matches(_spelling(label), names, n=3, cutoff=cutoff)]
    return f"Did you mean {' or '.join(similar)}?" if similar else ""


def _spelling(label: str) -> str:
    """Return the genes of a label in lower case and sorted."""
    genes = [gene.strip() for gene in label.casefold().split("+")]
    return "+".join(sorted(gene for gene in genes if gene != CONTROL)) or label


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Rows of a data set by label.

    Attributes
    ----------
    names
        Labels in the order of their first row; the control label is `CONTROL`.
    codes
        int64 [n_obs], index into `names`, -1 for a row without label.
    control_label
        Label of control cells in the data.
    condition_names
        GEARS's `condition_name` of each label, the key of lists in uns; empty if obs has no such column.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    control_label: str
    condition_names: Mapping[str, str]

    @classmethod
    def of(cls, cells: OpenedCells) -> LabelledRows:
        """Read the labels of opened cells.

        Raises
        ------
        ControlCellsError
            If control cells cannot be identified by an obs column.
        """
        control = cells.find_control_cells()
        if control.condition_key is None or control.control_label is None:
            raise ControlCellsError(
                "obs has no column with the perturbation of each cell, so there is nothing to compare with",
                options=[UseOption("condition_key", "name that column")],
                where=cells.where,
            )
        text = np.array([label.strip() for label in as_text(cells.obs.column(control.condition_key))], dtype=object)
        text[control.rows] = CONTROL
        names = tuple(dict.fromkeys(name for name in text if name))
        position = {name: index for index, name in enumerate(names)}
        codes = np.array([position.get(name, -1) for name in text], dtype=np.int64)
        condition_names: dict[str, str] = {}
        if "condition_name" in cells.obs.columns:
            full = as_text(cells.obs.column("condition_name"))
            first_rows = np.unique(codes, return_index=True)
            condition_names = {names[code]: str(full[row]) for code, row in zip(*first_rows, strict=True) if code >= 0}
        return cls(names, codes, control.control_label, condition_names)

    @property
    def perturbations(self) -> list[str]:
        """All labels but that of control cells."""
        return [name for name in self.names if name != CONTROL]

    def find(self, label: str, panel: GenePanel) -> str | None:
        """Return the label in the data with this text, else that of most cells for the same genes."""
        if label in self.names:
            return label
        wanted = canonical_label(label, panel)
        if wanted is None:
            return None
        counts = dict(zip(self.names, np.bincount(self.codes[self.codes >= 0]), strict=True))
        same = [name for name in self.names if canonical_label(name, panel, self.control_label) == wanted]
        return max(same, key=lambda name: counts[name], default=None)

    def group_of_rows(self, groups: Sequence[str]) -> NDArray[np.int64]:
        """Return int64 [n_obs], the index of each row's label in `groups`, -1 for other rows."""
        position = {label: index for index, label in enumerate(groups)}
        # The last entry serves the code -1.
        return np.array([position.get(name, -1) for name in self.names] + [-1], dtype=np.int64)[self.codes]
