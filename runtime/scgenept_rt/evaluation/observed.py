"""What a data file shows: cells by perturbation, and their mean expression, read by rows and never as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors.core import ControlCellsError, ScgeneptError
from scgenept_rt.evaluation.errors import PerturbationNotObservedError
from scgenept_rt.expression import OpenedCells, open_cells
from scgenept_rt.expression.annotation import as_text
from scgenept_rt.genes import GeneMatch, GenePanel
from scgenept_rt.options import ReadOptions
from scgenept_rt.perturbation import CONTROL_LABELS, parse_perturbation

if TYPE_CHECKING:
    from anndata import AnnData

CONTROL = "ctrl"
"""Name of the control cells here, whatever a file calls them."""


def canonical_label(label: str, panel: GenePanel, control_label: str = CONTROL) -> str | None:
    """Return the spelling that all labels of the same genes share, None if the model lacks one of them."""
    try:
        return parse_perturbation(label, panel, (*CONTROL_LABELS, control_label)).canonical
    except ScgeneptError:
        return None


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Rows of a data file by their label.

    Attributes
    ----------
    names
        Labels in the order of their first row; the control label is `CONTROL`.
    codes
        int64 [n_obs]: index into `names`, -1 for a row without label.
    control_label
        What the file itself calls its control cells.
    condition_key
        The obs column of the labels.
    condition_names
        GEARS's `condition_name` of each label, by which lists in uns are filed; empty where obs has no such column.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    control_label: str
    condition_key: str
    condition_names: Mapping[str, str]

    @classmethod
    def of(cls, cells: OpenedCells) -> LabelledRows:
        """Read the labels of an open input.

        Raises
        ------
        ControlCellsError, FieldNotFoundError
            If control cells cannot be told; without an obs column that tells them there is nothing to compare with.
        """
        control = cells.find_control_cells()
        if control.condition_key is None or control.control_label is None:
            raise ControlCellsError("obs has no column with the labels of cells", where=cells.where)
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
        return cls(names, codes, control.control_label, control.condition_key, condition_names)

    def counts(self) -> dict[str, int]:
        """Return how many rows carry each label."""
        numbers = np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))
        return {name: int(number) for name, number in zip(self.names, numbers, strict=True)}

    def rows(self, label: str) -> NDArray[np.int64]:
        """Return the rows of one label, in order."""
        return np.flatnonzero(self.codes == self.names.index(label)).astype(np.int64)

    def find(self, label: str, panel: GenePanel) -> str | None:
        """Return the file's label for a perturbation: the same text, else the one of most cells for the same genes."""
        if label in self.names:
            return label
        wanted = canonical_label(label, panel)
        if wanted is None:
            return None
        counts = self.counts()
        same = [name for name in self.names if canonical_label(name, panel, self.control_label) == wanted]
        return max(same, key=lambda name: counts[name], default=None)


@dataclass(eq=False)
class GroupMoments:
    """Cells, sums and sums of squares of groups of cells, float64 [n_groups, n_genes]."""

    names: tuple[str, ...]
    n_cells: NDArray[np.int64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]
    _index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._index = {name: index for index, name in enumerate(self.names)}

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def n(self, name: str) -> int:
        """Return the number of cells of a group."""
        return int(self.n_cells[self._index[name]])

    def mean(self, *names: str) -> NDArray[np.float64]:
        """Return the mean expression (n_genes,) over the cells of one or more groups."""
        rows = [self._index[name] for name in names]
        mean: NDArray[np.float64] = self.sums[rows].sum(axis=0) / self.n_cells[rows].sum()
        return mean

    def variance(self, name: str) -> NDArray[np.float64]:
        """Return the sample variance (n_genes,) of a group; NaN for a single cell."""
        row, n = self._index[name], self.n(name)
        if n < 2:
            return np.full(self.sums.shape[1], np.nan)
        variance: NDArray[np.float64] = (self.squares[row] - np.square(self.sums[row]) / n) / (n - 1)
        return np.maximum(variance, 0.0)


@dataclass(frozen=True, eq=False)
class Observed:
    """What was measured, by perturbation.

    Attributes
    ----------
    where
        The input, for messages.
    labels
        Rows by label.
    match
        Which columns hold the model's genes.
    var_names
        Names by which lists in uns may call genes: the index of var, and the source of the match.
    moments
        Means and variances of `CONTROL` and of the labels asked for.
    pooled
        The mean (n_genes,) of each group of labels that was asked for.
    condition_std
        (n_genes,) standard deviation of the mean over all conditions, the control among them; None if not asked for.
    notices
        One-line sentences worth telling the user.
    """

    where: str
    labels: LabelledRows
    match: GeneMatch
    var_names: tuple[tuple[str, ...], ...]
    moments: GroupMoments
    pooled: Mapping[str, NDArray[np.float64]]
    condition_std: NDArray[np.float64] | None
    notices: tuple[str, ...]

    @property
    def control(self) -> NDArray[np.float64]:
        """Mean expression (n_genes,) of all control cells."""
        return self.moments.mean(CONTROL)


@dataclass(frozen=True, eq=False)
class OpenData:
    """A data file opened for a model's genes."""

    cells: OpenedCells
    panel: GenePanel
    labels: LabelledRows
    match: GeneMatch
    var_names: tuple[tuple[str, ...], ...]
    notices: tuple[str, ...]

    @classmethod
    def of(cls, cells: OpenedCells, panel: GenePanel) -> OpenData:
        """Match genes and read labels; see `read_control_cells` for what is raised."""
        match = cells.require_genes(panel)
        labels = LabelledRows.of(cells)
        var_names = tuple(tuple(names) for names in cells.gene_names.values())
        return cls(cells, panel, labels, match, var_names, match.notices)

    def pieces(self, rows: NDArray[np.int64], columns: NDArray[np.int64] | None = None) -> Iterator[Any]:
        """Yield checked sparse pieces of these rows in model gene order (or of other columns of the file)."""
        if columns is None:
            return self.cells.values(self.panel.names, self.match.columns, rows)
        return self.cells.matrix.pieces(rows, columns)

    def dense(self, label: str, genes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the expression of some genes (positions in the model) in every cell of a label, [n_cells, n]."""
        parts = [piece.toarray() for piece in self.pieces(self.labels.rows(label), self.match.columns[genes])]
        return np.concatenate(parts).astype(np.float64)

    def dense_of(self, genes: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.float32]]:
        """Return the expression of each label's genes (positions in the model) in every cell of it, in one reading.

        Returns
        -------
        dict
            By label, [n_cells, n_genes of that label].
        """
        order = {label: index for index, label in enumerate(genes)}
        code = np.array([order.get(name, -1) for name in self.labels.names] + [-1], dtype=np.int64)[self.labels.codes]
        rows = np.flatnonzero(code >= 0).astype(np.int64)
        every = np.unique(np.concatenate([*genes.values(), np.empty(0, dtype=np.int64)]))
        places = [np.searchsorted(every, chosen) for chosen in genes.values()]
        parts: list[list[NDArray[np.float32]]] = [[] for _ in genes]
        done = 0
        for piece in self.pieces(rows, self.match.columns[every]):
            here = code[rows[done : done + piece.shape[0]]]
            for index in np.unique(here):
                parts[index].append(piece[np.flatnonzero(here == index)].toarray()[:, places[index]])
            done += piece.shape[0]
        return {label: np.concatenate(part) for label, part in zip(genes, parts, strict=True)}

    def label(self, label: str) -> str:
        """Return the file's label for a perturbation.

        Raises
        ------
        PerturbationNotObservedError
            If no cell carries it.
        """
        found = self.labels.find(label, self.panel)
        if found is None:
            raise PerturbationNotObservedError(
                self.cells.where, label, [name for name in self.labels.names if name != CONTROL]
            )
        return found

    def observe(
        self,
        wanted: Sequence[str],
        pooled: Mapping[str, Sequence[str]] | None = None,
        *,
        every_condition: bool = False,
    ) -> Observed:
        """Read means and variances of the control cells and of labels of the file.

        Parameters
        ----------
        wanted
            Labels of the file, each a group of its own.
        pooled
            Further groups, of several labels each; only their means are kept. A label may be in `wanted` too.
        every_condition
            Read all labels, for `Observed.condition_std`.
        """
        pooled = pooled or {}
        groups = tuple(dict.fromkeys([CONTROL, *wanted]))
        others = self.labels.names if every_condition else [label for labels in pooled.values() for label in labels]
        read = tuple(dict.fromkeys([*groups, *others]))
        position = {label: index for index, label in enumerate(read)}
        # The last entry is for rows without a label.
        group_of_code = np.array([position.get(name, -1) for name in self.labels.names] + [-1], dtype=np.int64)
        group_of_row = group_of_code[self.labels.codes]
        rows = np.flatnonzero(group_of_row >= 0).astype(np.int64)
        sums, squares = np.zeros((len(read), len(self.panel))), np.zeros((len(groups), len(self.panel)))
        done = 0
        for piece in self.pieces(rows):
            _add(sums, squares, piece, group_of_row[rows[done : done + piece.shape[0]]])
            done += piece.shape[0]
        n_cells = np.bincount(group_of_row[rows], minlength=len(read)).astype(np.int64)
        means: dict[str, NDArray[np.float64]] = {}
        for pool, labels in pooled.items():
            members = [position[label] for label in dict.fromkeys(labels)]
            if n_cells[members].sum():
                means[pool] = sums[members].sum(axis=0) / n_cells[members].sum()
        moments = GroupMoments(groups, n_cells[: len(groups)], sums[: len(groups)], squares)
        std = np.std(sums / n_cells[:, None], axis=0) if every_condition else None
        return Observed(self.cells.where, self.labels, self.match, self.var_names, moments, means, std, self.notices)


def _add(sums: NDArray[np.float64], squares: NDArray[np.float64], piece: Any, group: NDArray[np.int64]) -> None:
    """Add the rows of a CSR piece to the sums of their groups, and their squares for the groups that have a row."""
    from scipy.sparse import csr_array

    n_rows = piece.shape[0]
    present, place = np.unique(group, return_inverse=True)
    pick = csr_array((np.ones(n_rows), (place, np.arange(n_rows))), shape=(len(present), n_rows))
    values = piece.astype(np.float64)
    sums[present] += (pick @ values).toarray()
    n_squared = int(np.searchsorted(present, len(squares)))
    values.data = np.square(values.data)
    squares[present[:n_squared]] += (pick[:n_squared] @ values).toarray()


def open_data(source: str | Path | AnnData, options: ReadOptions | None = None) -> AbstractContextManager[OpenedCells]:
    """Open a data file as `open_cells` does, with the layer or raw that the options name."""
    return open_cells(source, options)
