"""obs of a table of cells, made a block of rows at a time: the names of a large screen's rows take gigabytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BLOCK_ROWS = 65_536

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Column:
    """A column: values, and the position among them by the positions of a row's perturbation and control cell."""

    values: Any
    position: Callable[[Positions, Positions], Positions]

    @classmethod
    def of_perturbations(cls, texts: Sequence[str]) -> Column:
        """Return a column of one text per perturbation."""
        return cls(_categorical(texts), lambda perturbations, _: perturbations)

    @classmethod
    def of_cells(cls, values: Any) -> Column:
        """Return a column of one value per control cell: numbers, or a categorical."""
        return cls(values, lambda _, cells: cells)

    def at(self, perturbations: Positions, cells: Positions) -> Any:
        """Return the values of rows."""
        return self.values[self.position(perturbations, cells)]


@dataclass(frozen=True)
class CellRows:
    """obs of one row per (perturbation, control cell), all cells of the first perturbation first.

    Attributes
    ----------
    columns
        The columns by name; categories that no row has are left out.
    labels, cell_names
        What the name of a row is made of: the label of its perturbation, and the unique name of its control cell.
    counts, first_cells
        Number of control cells of each perturbation, and the first of them.
    taken
        Positions of the perturbations that have rows here.
    renamed
        Names of rows whose own are taken, by the positions of their perturbation and control cell.
    """

    columns: Mapping[str, Column]
    labels: Sequence[str]
    cell_names: Sequence[str]
    counts: Positions
    first_cells: Positions
    taken: Positions
    renamed: Mapping[tuple[int, int], str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Column],
        labels: Sequence[str],
        control_names: Sequence[str],
        annotation: Mapping[str, Any] | None,
        n_controls: int | Sequence[int] | NDArray[np.integer[Any]] | None,
        first_cells: int | Sequence[int] | NDArray[np.integer[Any]],
    ) -> CellRows:
        """Return rows with these columns, the annotation of the control cells and their names."""
        n_cells, n = len(control_names), len(labels)
        counts = np.full(n, n_cells) if n_controls is None else np.asarray(n_controls, np.int64)
        if counts.shape != (n,) or not np.all((counts > 0) & (counts <= n_cells)):
            raise ValueError(f"n_controls must be {n} numbers from 1 to {n_cells}, not {n_controls}")
        of_cells = {name: Column.of_cells(values) for name, values in (annotation or {}).items()}
        of_cells["control_cell"] = Column.of_cells(_categorical(control_names))
        starts = np.broadcast_to(np.asarray(first_cells, np.int64), n)
        rows = cls({**of_cells, **columns}, labels, unique_names(control_names), counts, starts, np.arange(n))
        order = [*columns, *(name for name in of_cells if name not in columns)]
        return replace(rows, columns={name: rows.columns[name] for name in order})._renamed()._trimmed()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, perturbations: Positions) -> CellRows:
        """Return the rows of some perturbations."""
        return replace(self, taken=self.taken[perturbations])._trimmed()

    def frame(self, begin: int = 0, end: int | None = None) -> pd.DataFrame:
        """Return the rows from `begin` up to `end`."""
        perturbations, cells = self._positions(begin, len(self) if end is None else min(end, len(self)))
        obs = pd.DataFrame({name: column.at(perturbations, cells) for name, column in self.columns.items()})
        pairs = zip(perturbations.tolist(), cells.tolist(), strict=True)
        names = [self.renamed.get(pair) or f"{self.labels[pair[0]]}|{self.cell_names[pair[1]]}" for pair in pairs]
        obs.index = pd.Index(np.asarray(names, dtype=object))
        return obs

    @cached_property
    def _starts(self) -> Positions:
        return np.concatenate([[0], np.cumsum(self.counts[self.taken])])

    def _positions(self, begin: int, end: int) -> tuple[Positions, Positions]:
        """Return the positions of the perturbation and the control cell of rows."""
        rows = np.arange(begin, end)
        at = np.searchsorted(self._starts, rows, side="right") - 1
        perturbations = self.taken[at]
        return perturbations, self.first_cells[perturbations] + rows - self._starts[at]

    def _blocks(self) -> Iterator[tuple[Positions, Positions]]:
        for begin in range(0, len(self), BLOCK_ROWS):
            yield self._positions(begin, min(begin + BLOCK_ROWS, len(self)))

    def _renamed(self) -> CellRows:
        """Tell rows of the same name apart; only a label and a cell that hold the separator make such, or a twin."""
        twins = len(set(zip(self.labels, self.first_cells.tolist(), strict=True))) < len(self.labels)
        if not twins and not all(any("|" in name for name in names) for names in (self.labels, self.cell_names)):
            return self
        names = self.frame().index
        pairs = ((int(p), int(c)) for block in self._blocks() for p, c in zip(*block, strict=True))
        unique = zip(pairs, names, unique_names(names), strict=True)
        return replace(self, renamed={pair: other for pair, name, other in unique if name != other})

    def _trimmed(self) -> CellRows:
        """Leave out the categories that no row has."""
        columns = dict(self.columns)
        for name, column in self.columns.items():
            if isinstance(column.values, pd.Categorical):
                used = np.zeros(len(column.values.categories) + 1, np.bool_)  # the last for missing values, code -1
                for positions in self._blocks():
                    used[column.at(*positions).codes] = True
                kept = column.values.categories[used[:-1]]
                columns[name] = replace(column, values=column.values.set_categories(kept))
        return replace(self, columns=columns)


def unique_names(names: Iterable[str]) -> list[str]:
    """Make names unique: the second ``A`` becomes ``A#2``, or takes the next free number."""
    names = list(names)
    taken = set(names)
    if len(taken) == len(names):
        return names
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        number = seen.get(name, 0) + 1
        candidate = name
        if number > 1:
            while (candidate := f"{name}#{number}") in taken:
                number += 1
            taken.add(candidate)
        seen[name] = number
        unique.append(candidate)
    return unique


def _categorical(texts: Sequence[str]) -> pd.Categorical:
    """Return texts as a categorical with its categories in order of appearance."""
    codes, categories = pd.factorize(np.asarray(texts, dtype=object))
    return pd.Categorical.from_codes(codes, categories=pd.Index(categories, dtype=object))
