"""Columns of obs that label cells: their labels, and whether these name perturbations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import CellsFormatError
from scgenept_rt.expression.annotation import Annotation, no_lists, text_columns, text_of
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import CONTROL_LABELS
from scgenept_rt.perturbation.spellings import guide_targets, is_control_word, is_unassigned

_GUIDE_COLUMN = re.compile(
    r"perturb|guide|(?:sg|g|cr)rna|crispr|sgid|target|knock|feature_call|mixscape|nperts", re.IGNORECASE
)
# Cell types may be called by their marker genes, and donors controls.
_CELL_KIND = re.compile(
    r"cell_?(?:type|class|label|line|ontology|state)|class$|cluster|leiden|louvain|annot|lineage|marker|phase",
    re.IGNORECASE,
)
_ORIGIN = re.compile(
    r"batch|donor|patient|subject|individual|sample|library|disease|diagnosis|status|cohort|tissue|assay|stage|sex$",
    re.IGNORECASE,
)
_IS_CONTROL = re.compile(r"(?:is_?)?(?:control|ctrl)", re.IGNORECASE)
_IS_PERTURBED = re.compile(r"(?:is_?)?perturbed|n_?perts?|n_?perturbations", re.IGNORECASE)
_NO, _YES = ("0", "0.0", "False", "false"), ("1", "1.0", "True", "true")
_MOST_LABELS = 2000
"""Labels of a column that are looked at, the most frequent ones."""


class LabelColumn:
    """A column of obs: the label of each row, and what the labels say.

    `names` are the distinct labels, `codes` [n_obs] the position of each row's among them, -1 for none. Labels are
    stripped, so that two may be the same, as those of "ctrl" and "ctrl ".
    """

    def __init__(self, name: str, values: Any, panel: GenePanel | None = None) -> None:
        import pandas as pd

        series: Any = pd.Series(values)
        if isinstance(series.dtype, pd.CategoricalDtype):
            codes, distinct = series.cat.codes, series.cat.categories
        else:
            with no_lists(name):
                codes, distinct = pd.factorize(series)
        self.name, self._panel = name, panel
        self.names = tuple(text_of(value).strip() for value in distinct)
        self.codes = np.asarray(codes, dtype=np.int64)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of cells of each label, most frequent first."""
        return self.counts_in(slice(None))

    def counts_in(self, rows: NDArray[np.int64] | slice) -> dict[str, int]:
        """Return the number of cells of each label among these rows, most frequent first."""
        codes = self.codes[rows]
        n_rows = np.bincount(codes[codes >= 0], minlength=len(self.names))
        totals: dict[str, int] = {}
        for code in np.argsort(-n_rows, kind="stable"):
            if n_rows[code] and self.names[code]:
                totals[self.names[code]] = totals.get(self.names[code], 0) + int(n_rows[code])
        return totals

    def rows(self, *labels: str) -> NDArray[np.int64]:
        """Return the rows with one of the labels, in order."""
        return np.flatnonzero(np.isin(self.codes, [code for code, name in enumerate(self.names) if name in labels]))

    @cached_property
    def controls(self) -> tuple[str, ...]:
        """The labels that mark control cells."""
        if _IS_CONTROL.fullmatch(self.name):
            return tuple(label for label in self.counts if label in _YES or is_control_word(label))
        if _IS_PERTURBED.fullmatch(self.name):
            return tuple(label for label in self.counts if label in _NO)
        if _CELL_KIND.search(self.name) or _ORIGIN.search(self.name):
            return tuple(label for label in CONTROL_LABELS if label in self.counts)
        texts = self._texts
        return tuple(label for label in texts if is_control_word(texts[label]) and not self._targets.get(label))

    @cached_property
    def perturbed(self) -> tuple[str, ...]:
        """The labels that mark perturbed cells, by genes of the model or by a yes or no."""
        if _IS_CONTROL.fullmatch(self.name):
            return tuple(label for label in self.counts if label in _NO)
        if _IS_PERTURBED.fullmatch(self.name):
            return tuple(label for label in self.counts if label not in _NO and not is_unassigned(label))
        return tuple(label for label in self._frequent if self._targets.get(label))

    @property
    def names_perturbations(self) -> bool:
        """Whether the labels tell perturbed cells from others, or name what all cells are perturbed by."""
        if 0 < sum(self.counts[label] for label in self.controls) < sum(self.counts.values()):
            return True
        others = [label for label in self._frequent if label not in self.controls and not is_unassigned(label)]
        if _GUIDE_COLUMN.search(self.name):
            return bool(self.perturbed) or len(others) > 1
        return 2 * len(self.perturbed) > len(others)

    @property
    def _frequent(self) -> list[str]:
        return list(self.counts)[:_MOST_LABELS]

    @cached_property
    def _texts(self) -> Mapping[str, str]:
        """The labels, without a cell type in front where they name genes only without it: A549_KLF1+ctrl_1+1."""
        texts = {label: label for label in self._frequent}
        if self._panel is None or _CELL_KIND.search(self.name):
            return texts
        before = {text for label in texts for text in _before_control(label, self._panel)}
        shorter = {
            label: next((label.removeprefix(text) for text in before if label.startswith(text)), label)
            for label in texts
        }
        names_genes = any(guide_targets(text, self._panel) for label, text in shorter.items() if text != label)
        return shorter if names_genes else texts

    @cached_property
    def _targets(self) -> Mapping[str, tuple[str, ...]]:
        if self._panel is None or _CELL_KIND.search(self.name):
            return {}
        return {label: guide_targets(text, self._panel) for label, text in self._texts.items()}


def _before_control(label: str, panel: GenePanel) -> Iterator[str]:
    """Yield what stands before a word for control cells, as in A549_ctrl_1."""
    if is_control_word(label) or guide_targets(label, panel):
        return
    for separator in re.finditer(r"[-_|:/ ]+", label):
        if is_control_word(label[separator.end() :]):
            yield label[: separator.end()]
            return


def label_columns(obs: Annotation, panel: GenePanel | None, *, strict: bool = False) -> Iterator[LabelColumn]:
    """Yield the columns of obs that may label perturbations: those of text, and those that say yes or no.

    Columns that cannot be read are left out, or raise `CellsFormatError` if `strict`.
    """
    for name, values in text_columns(obs, strict=strict):
        with suppress(CellsFormatError):  # a column of lists or the like
            yield LabelColumn(name, values, panel)
    for name in obs.columns:
        if _IS_CONTROL.fullmatch(name) or _IS_PERTURBED.fullmatch(name):
            with suppress(*(() if strict else (CellsFormatError,))):
                column = LabelColumn(name, obs.column(name), panel)
                if set(column.counts) <= {*_NO, *_YES, *map(str, range(10))}:
                    yield column


def design_columns(obs: Annotation, panel: GenePanel) -> list[str]:
    """Return the columns named by genes or guides that hold 0 and 1, as the design matrix of a screen."""
    design = []
    for name in obs.columns:
        if guide_targets(name, panel):
            with suppress(CellsFormatError):
                values = LabelColumn(name, obs.column(name)).counts.keys()
                design += [name] if len(values) == 2 and values <= {*_NO, *_YES} else []
    return design
