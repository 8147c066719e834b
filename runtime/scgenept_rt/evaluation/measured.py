"""Measured cells by perturbation, and their mean expression; read by rows, never as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import LabelNotFoundError
from scgenept_rt.expression.label_matching import CONTROL, LabelledRows, did_you_mean
from scgenept_rt.expression.missing_genes import accept_blanked
from scgenept_rt.expression.opened_cells import OpenedCells
from scgenept_rt.genes import GenePanel
from scgenept_rt.wording import join_limited


@dataclass(frozen=True, eq=False)
class GroupMoments:
    """Number of cells, sums and sums of squares of groups of cells, `index` by name; squares are of the first ones."""

    index: Mapping[str, int]
    n_cells: NDArray[np.int64]  # [n_groups]
    sums: NDArray[np.float64]  # [n_groups, n_genes]
    squares: NDArray[np.float64]  # [at most n_groups, n_genes]

    def n(self, name: str) -> int:
        """Return the number of cells of a group."""
        return int(self.n_cells[self.index[name]])

    def mean(self, *names: str) -> NDArray[np.float64]:
        """Return the mean expression (n_genes,) over the cells of one or more groups."""
        rows = [self.index[name] for name in names]
        return np.asarray(self.sums[rows].sum(axis=0) / self.n_cells[rows].sum())

    @property
    def control(self) -> NDArray[np.float64]:
        """Mean expression (n_genes,) of all control cells."""
        return self.mean(CONTROL)

    def variance(self, name: str) -> NDArray[np.float64]:
        """Return the sample variance (n_genes,) of a group of at least two cells."""
        row, n = self.index[name], self.n(name)
        return np.asarray(np.maximum((self.squares[row] - np.square(self.sums[row]) / n) / (n - 1), 0.0))

    def std_of_means(self) -> NDArray[np.float64]:
        """Return the standard deviation (n_genes,) of mean expression between groups."""
        return np.asarray(np.std(self.sums / self.n_cells[:, None], axis=0))


def sum_by_group(batch: Any, group: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
    """Add the rows of a sparse batch to the sums [n_groups, n_genes] of their groups [n_rows]."""
    from scipy.sparse import csr_array

    present, place = np.unique(group, return_inverse=True)
    pick = csr_array((np.ones(len(group)), (place, np.arange(len(group)))), shape=(len(present), len(group)))
    sums[present] += (pick @ batch.astype(np.float64)).toarray()


def measured_label(labels: LabelledRows, perturbation: str, where: str) -> str:
    """Return the label of the data for a perturbation; raise `LabelNotFoundError` if no perturbed cell has it."""
    found = labels.find(perturbation)
    if found is None or found == CONTROL:
        raise LabelNotFoundError(
            f"no perturbed cell is labelled {perturbation} (labels: {join_limited(labels.perturbations) or 'none'})",
            did_you_mean(perturbation, labels.perturbations, labels.reader)
            or "Choose a perturbation that was measured",
            where=where,
        )
    return found


class MeasuredCells:
    """Opened cells with their labels, matched to a model's genes.

    `group` is the obs column and the value of the cells that are taken, None for all; `match` says which columns hold
    the genes of the panel, `labels` which rows have which label.
    """

    def __init__(self, cells: OpenedCells, panel: GenePanel, group: tuple[str, str] | None = None) -> None:
        self.cells, self.panel, self.group = cells, panel, group
        self.match = cells.require_genes(panel)
        self.labels = LabelledRows.of(cells, panel, group)
        self._of_values: list[str] = []

    @property
    def notices(self) -> list[str]:
        """Messages about genes and labels and, once they were read, about values."""
        return [*self.match.notices, *self.labels.notices, *dict.fromkeys(self._of_values)]

    def expression(self, genes: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.float32]]:
        """Return expression of each label's genes (positions in the model) in its cells, each (n_cells, n)."""
        every = np.unique(np.concatenate(list(genes.values())))
        places = [np.searchsorted(every, chosen) for chosen in genes.values()]
        parts: list[list[NDArray[np.float32]]] = [[] for _ in genes]
        for batch, group in self._batches(list(genes), every):
            for index in np.unique(group):
                parts[index].append(batch[np.flatnonzero(group == index)].toarray()[:, places[index]])
        return {label: np.concatenate(part) for label, part in zip(genes, parts, strict=True)}

    def moments(self, labels: Sequence[str], others: Sequence[str] = ()) -> GroupMoments:
        """Return means and variances of control cells and labels, and means of other labels."""
        with_variance = list(dict.fromkeys([CONTROL, *labels]))
        groups = list(dict.fromkeys([*with_variance, *others]))
        n_cells = np.zeros(len(groups), dtype=np.int64)
        sums, squares = np.zeros((len(groups), len(self.panel))), np.zeros((len(with_variance), len(self.panel)))
        for batch, group in self._batches(groups):
            n_cells += np.bincount(group, minlength=len(groups))
            sum_by_group(batch, group, sums)
            squared = group < len(squares)
            sum_by_group(batch[squared].astype(np.float64).power(2), group[squared], squares)
        rows = np.flatnonzero(self.labels.group_of_rows(groups) >= 0)
        self.match = accept_blanked(self.cells, self.match, rows, np.any(sums != 0, axis=0))
        return GroupMoments({name: index for index, name in enumerate(groups)}, n_cells, sums, squares)

    def _batches(
        self, groups: Sequence[str], genes: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[Any, NDArray[np.int64]]]:
        """Yield sparse batches of the cells of these labels, and the index of each cell's label."""
        group_of_rows = self.labels.group_of_rows(groups)
        rows = np.flatnonzero(group_of_rows >= 0).astype(np.int64)
        if genes is None:
            batches = self.cells.values(self.match, rows, self._of_values)
        else:  # values of single genes say nothing about the scale
            batches = self.cells.matrix.batches(rows, self.match.columns[genes])
        done = 0
        for batch in batches:
            yield batch, group_of_rows[rows[done : done + batch.shape[0]]]
            done += batch.shape[0]
