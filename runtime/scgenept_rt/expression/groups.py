"""Groups of control cells, by a column of obs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Caution, CellsError, ControlCellsError, FieldNotFoundError, Notice, UseOption
from scgenept_rt.expression.annotation import Annotation, no_column, text_of, usual_columns
from scgenept_rt.expression.sampling import Sampling
from scgenept_rt.wording import join_limited, pluralize

_USUAL = (
    *("celltype", "cellline", "tissue", "organism", "donorid", "donor", "patient", "batch"),
    *("treatment", "stimulation", "stim", "drug", "timepoint"),
)
"""Columns that usually distinguish cells, in lower case and without separators."""
_MOST_NUMBERS = 50
"""Distinct numbers that may be groups; more are a measurement."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The control cells of a run by group, one group after the other.

    Attributes
    ----------
    column
        The obs column; None if there is one group, which holds all cells and has no name.
    names
        Of the groups: the categories in their order, other values sorted.
    bounds
        int64 [n_groups + 1]: the first cell of each group, then the number of cells.
    """

    column: str | None
    names: tuple[str, ...]
    bounds: NDArray[np.int64]

    def ranges(self) -> list[tuple[int, int]]:
        """Return the first cell of each group and the one after its last."""
        return list(pairwise(self.bounds.tolist()))


@dataclass(frozen=True, eq=False)
class GroupColumn:
    """A column of obs as groups of some of its rows.

    Attributes
    ----------
    names
        The groups that occur.
    codes
        int64 [n_rows], the group of each row, -1 where the value is missing.
    notices
        Messages for the user.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    notices: Sequence[str] = ()

    @classmethod
    def of(cls, obs: Annotation, column: str, rows: NDArray[np.int64]) -> GroupColumn:
        """Read a column for these rows."""
        import pandas as pd

        values = pd.Categorical(pd.Series(obs.column(column)).iloc[rows]).remove_unused_categories()
        names = [_name(value) for value in values.categories]
        distinct = [name for name in dict.fromkeys(names) if name]
        code_of = {name: code for code, name in enumerate(distinct)}
        code_of_category = np.array([*(code_of.get(name, -1) for name in names), -1], dtype=np.int64)
        return cls(tuple(distinct), code_of_category[values.codes], obs.notices(column))


def require_groups(obs: Annotation, column: str, rows: NDArray[np.int64], where: str) -> GroupColumn:
    """Return the groups of control cells by a column that the user named.

    Raises `FieldNotFoundError` if there is no such column, and `ControlCellsError` if it has no value for any of the
    cells, or too many to be groups.
    """
    if column not in obs.columns:
        near = get_close_matches(column.lower(), [name.lower() for name in obs.columns], n=1)
        likely = [name for name in obs.columns if name.lower() in near] or group_columns(obs)
        choose = UseOption("groupby", "choose one of these", likely[0] if likely else None)
        raise no_column("obs", column, obs.columns, choose, where)
    groups = GroupColumn.of(obs, column, rows)
    if not groups.names:
        raise ControlCellsError(f"obs column {column!r} has no value for any control cell", where=where)
    most = _MOST_NUMBERS if _is_number(obs.column(column)) else max(_MOST_NUMBERS, len(rows) // 2)
    if len(groups.names) > most:
        raise ControlCellsError(
            f"obs column {column!r} has {len(groups.names):,} values for {pluralize(len(rows), 'control cell')}, such "
            f"as {join_limited(groups.names, 3)}, expected groups of cells, at most {most:,}",
            "Choose a column of categories, or bin the values first",
            where=where,
        )
    return groups


def in_group(obs: Annotation, group: tuple[str, str], where: str) -> tuple[NDArray[np.bool_], Sequence[str]]:
    """Return which rows have the value of a column of obs, and notices.

    Raises a `CellsError` if there is no such column or row.
    """
    column, name = group
    if column not in obs.columns:
        raise FieldNotFoundError(
            f"obs has no column {column!r}, by which the predictions are grouped (it has: "
            f"{join_limited(obs.columns, 12) or 'none'})",
            "Rename the column to that, or predict without groups",
            where=where,
        )
    found = GroupColumn.of(obs, column, np.arange(obs.n_rows))
    if name not in found.names:
        raise ControlCellsError(
            f"no cell has {column} = {name}, as the predictions have (there are: {join_limited(found.names)})",
            where=where,
        )
    return np.equal(found.codes, found.names.index(name)), found.notices


def draw_groups(groups: GroupColumn, column: str, sampling: Sampling) -> tuple[Groups, NDArray[np.int64], list[str]]:
    """Draw control cells within each group, as if there were no others.

    Returns the groups of the drawn cells, these cells as positions among `groups.codes`, one group after the other, and
    notices.
    """
    members = [np.flatnonzero(groups.codes == code) for code in range(len(groups.names))]
    wanted = sampling.n_controls
    short = [wanted is not None and sampling.mode != "upstream" and wanted > len(cells) for cells in members]
    drawn = [
        cells[(replace(sampling, n_controls=None) if few else sampling).draw(len(cells))]
        for cells, few in zip(members, short, strict=True)
    ]
    sizes = [f"{name} ({len(cells):,})" for name, cells in zip(groups.names, drawn, strict=True)]
    notices = [*groups.notices, f"Control cells by {column}: {join_limited(sizes, 12)}."]
    if any(short):
        fewer = [size for size, few in zip(sizes, short, strict=True) if few]
        notices.append(
            Notice(f"groups with fewer than {wanted:,} control cells use all they have: {join_limited(fewer)}")
        )
    single = [name for name, cells in zip(groups.names, drawn, strict=True) if len(cells) == 1]
    if single:
        notices.append(Notice(f"standard errors are NaN in groups of one control cell: {join_limited(single)}"))
    n_missing = int(np.count_nonzero(groups.codes < 0))
    if n_missing:
        notices.append(
            Caution(f"{n_missing:,} of {len(groups.codes):,} control cells have no {column} and are left out")
        )
    bounds = np.cumsum([0, *map(len, drawn)], dtype=np.int64)
    return Groups(column, groups.names, bounds), np.concatenate(drawn), notices


def mixed_notices(obs: Annotation, rows: NDArray[np.int64]) -> list[Notice]:
    """Return a notice about the usual columns in which cells differ: their mean describes no kind of cell."""
    counts = {}
    for column in group_columns(obs):
        with suppress(CellsError, TypeError):  # nobody asked for this column
            counts[column] = len(GroupColumn.of(obs, column, rows).names)
    most = max(_MOST_NUMBERS, len(rows) // 2)
    mixed = [f"{column} ({count:,} values)" for column, count in counts.items() if 1 < count <= most]
    if not mixed:
        return []
    separate = UseOption("groupby", "predict each group by itself", mixed[0].rpartition(" (")[0])
    return [Notice(f"means are over control cells that differ in {', '.join(mixed)}", options=[separate])]


def group_columns(obs: Annotation) -> list[str]:
    """Return the columns that usually distinguish cells, such as cell_type."""
    return usual_columns(obs, _USUAL)


def _is_number(values: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(values))


def _name(value: object) -> str:
    # Integers are read as floats where a value is missing.
    return text_of(int(value) if isinstance(value, (float, np.floating)) and value.is_integer() else value).strip()
