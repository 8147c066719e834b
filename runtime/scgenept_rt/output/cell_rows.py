"""obs of a table of cells, made a block of rows at a time: the names of a large screen's rows take gigabytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BLOCK_ROWS = 65_536

Positions = NDArray[np.int64]
Counts = int | Sequence[int] | NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Column:
    """A column: values, and the position among them by the positions of a row's perturbation and control cell."""

    values: Any
    position: Callable[[Positions, Positions], Positions]

    @classmethod
    def of_perturbations(cls, texts: Sequence[str]) -> Column:
        """Return a column of one text per perturbation."""
        return cls(_categorical(texts), lambda perturbations, _: perturbations)

    def at(self, perturbations: Positions, cells: Positions) -> Any:
        """Return the values of rows."""
        return self.values[self.position(perturbations, cells)]


@dataclass(frozen=True)
class CellRows:
    """obs of one row per (perturbation, control cell), all cells of the first perturbation first."""

    columns: Mapping[str, Column]
    prefixes: Sequence[str]
    """How the names of a perturbation's rows begin."""
    cell_names: Sequence[str]
    """How the names of a control cell's rows end."""
    counts: Positions
    """Number of control cells of each perturbation."""
    first_cells: Positions
    taken: Positions
    """The perturbations that have rows here."""

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Column],
        labels: Sequence[str],
        control_names: Sequence[str],
        annotation: Mapping[str, Any] | None,
        n_controls: Counts | None,
        first_cells: Counts,
    ) -> CellRows:
        """Return rows with these columns, the annotation of the control cells and their names."""
        n_cells, n = len(control_names), len(labels)
        counts = np.broadcast_to(np.asarray(n_cells if n_controls is None else n_controls, np.int64), n)
        if not np.all((counts > 0) & (counts <= n_cells)):
            raise ValueError(f"n_controls must be {n} numbers from 1 to {n_cells}, not {n_controls}")
        of_cells = {**(annotation or {}), "control_cell": _categorical(control_names)}
        starts = np.broadcast_to(np.asarray(first_cells, np.int64), n)
        # A separator that no label has, and numbers for labels that repeat, give every row a name of its own.
        separator = next((text for text in "|/:;~" if not any(text in label for label in labels)), "|")
        repeats: Counter[tuple[str, int]] = Counter()
        prefixes = []
        for label, start in zip(labels, starts.tolist(), strict=True):
            repeats[label, start] += 1
            number = repeats[label, start]
            prefixes.append(f"{label}{f'#{number}' if number > 1 else ''}{separator}")
        own = {name: Column(values, lambda _, cells: cells) for name, values in of_cells.items() if name not in columns}
        return cls({**columns, **own}, prefixes, unique_names(control_names), counts, starts, np.arange(n))._trimmed()

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
        obs.index = pd.Index([self.prefixes[row] + self.cell_names[cell] for row, cell in pairs], dtype=object)
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

    def _trimmed(self) -> CellRows:
        """Leave out the categories that no row has."""
        columns = dict(self.columns)
        for name, column in self.columns.items():
            if isinstance(column.values, pd.Categorical):
                used = np.zeros(len(column.values.categories) + 1, np.bool_)  # the last for missing values, code -1
                for begin in range(0, len(self), BLOCK_ROWS):
                    positions = self._positions(begin, min(begin + BLOCK_ROWS, len(self)))
                    used[column.at(*positions).codes] = True
                kept = column.values.categories[used[:-1]]
                columns[name] = replace(column, values=column.values.set_categories(kept))
        return replace(self, columns=columns)


def unique_names(names: Iterable[str]) -> list[str]:
    """Make names unique: the second ``A`` becomes ``A#2``, or takes the next free number."""
    names = list(names)
    taken = set(names)
    unique: dict[str, None] = {}
    numbers: dict[str, Iterator[int]] = {}
    for name in names:
        free = name
        if name in unique:
            others = (f"{name}#{number}" for number in numbers.setdefault(name, count(2)))
            free = next(other for other in others if other not in taken)
        unique[free] = None
    return list(unique)


def _categorical(texts: Sequence[str]) -> pd.Categorical:
    """Return texts as a categorical with its categories in order of appearance."""
    codes, categories = pd.factorize(np.asarray(texts, dtype=object))
    return pd.Categorical.from_codes(codes, categories=pd.Index(categories, dtype=object))
