"""Sampling of control cells, and their groups by a column of obs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Caution, CellsError, ControlCellsError, LabelNotFoundError, Notice, UseOption
from scgenept_rt.expression.annotation import Annotation, no_column, no_lists, text_of, usual_columns
from scgenept_rt.expression.opened_cells import OpenedCells
from scgenept_rt.options import SamplingMode
from scgenept_rt.wording import join_limited, pluralize

_USUAL = (
    *("celltype", "cellline", "tissue", "organism", "donorid", "donor", "patient", "batch"),
    *("treatment", "stimulation", "stim", "drug", "timepoint"),
)
"""Columns that usually distinguish cells, in lower case and without separators."""
_MOST_NUMBERS = 50
"""Distinct numbers that may be groups; more are a measurement."""


@dataclass(frozen=True)
class Sampling:
    """How control cells are drawn; the same cells serve every perturbation of a run.

    The mode "all" takes each control cell once, in the order of the file; with `n_controls`, that many of them drawn
    without replacement, still in the order of the file. "random" draws without replacement, so that the first k cells
    are a random sample for every k. "upstream" draws with replacement, the very cells that `pred_perturb_from_ctrl`
    draws after `np.random.seed(seed)`. NumPy keeps the stream of `np.random.RandomState` from release to release.
    """

    mode: SamplingMode = "all"
    n_controls: int | None = None
    seed: int = 0

    def draw(self, n_available: int) -> NDArray[np.int64]:
        """Return the drawn cells as positions among the `n_available` control cells; raise if there are too few."""
        if self.mode == "upstream":
            # As upstream calls it: no dtype, since that would change the stream.
            drawn = np.random.RandomState(self.seed).randint(0, n_available, self.n_controls or n_available)
            return drawn.astype(np.int64)
        if self.n_controls is not None and self.n_controls > n_available:
            raise ControlCellsError(
                f"{self.n_controls:,} control cells were asked for, but the input has {n_available:,}",
                options=[
                    UseOption("n_controls", "use all of them", n_available),
                    UseOption("sampling", "draw with replacement", "upstream"),
                ],
            )
        if self.mode == "all" and self.n_controls is None:
            return np.arange(n_available, dtype=np.int64)
        shuffled = np.random.RandomState(self.seed).permutation(n_available)[: self.n_controls]
        return (np.sort(shuffled) if self.mode == "all" else shuffled).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Groups:
    """The control cells of a run by group, one group after the other."""

    column: str | None  # of obs; None if there is one group, which holds all cells and has no name
    names: tuple[str, ...]  # the categories in their order, other values sorted
    bounds: NDArray[np.int64]  # [n_groups + 1]: the first cell of each group, then the number of cells

    def ranges(self) -> list[tuple[int, int]]:
        """Return the first cell of each group and the one after its last."""
        return list(pairwise(self.bounds.tolist()))


def draw_groups(
    cells: OpenedCells, rows: NDArray[np.int64], column: str | None, sampling: Sampling
) -> tuple[Groups, NDArray[np.int64], list[str]]:
    """Draw control cells within each group of a column of obs, as if there were no others.

    Returns the groups of the drawn cells, these cells as positions in `rows`, one group after the other, and notices.
    Raises `FieldNotFoundError` if there is no such column, and `ControlCellsError` if it has no value for any of the
    cells, or too many to be groups.
    """
    if column is None:
        drawn = sampling.draw(len(rows))
        return Groups(None, ("",), np.array([0, len(drawn)], dtype=np.int64)), drawn, []
    from pandas.api.types import is_numeric_dtype

    obs = cells.obs
    if column not in obs.columns:
        near = get_close_matches(column.lower(), [name.lower() for name in obs.columns], n=1)
        likely = [name for name in obs.columns if name.lower() in near] or group_columns(obs)
        choose = UseOption("groupby", "choose one of these", likely[0] if likely else None)
        raise no_column("obs", column, obs.columns, choose)
    names, codes, of_column = _groups(obs, column, rows)
    if not names:
        raise ControlCellsError(f"obs column {column!r} has no value for any control cell")
    most = _MOST_NUMBERS if is_numeric_dtype(obs.column(column)) else max(_MOST_NUMBERS, len(rows) // 2)
    if len(names) > most:
        raise ControlCellsError(
            f"obs column {column!r} has {len(names):,} values for {pluralize(len(rows), 'control cell')}, such as "
            f"{join_limited(names, 3)}, expected groups of cells, at most {most:,}",
            "Choose a column of categories, or bin the values first",
        )
    of_groups, sizes, fewer, single = [], [], [], []
    for code, name in enumerate(names):
        members = np.flatnonzero(codes == code)
        few = sampling.mode != "upstream" and (sampling.n_controls or 0) > len(members)
        of_groups.append(members[(replace(sampling, n_controls=None) if few else sampling).draw(len(members))])
        sizes.append(f"{name} ({len(of_groups[-1]):,})")
        fewer += sizes[-1:] if few else []
        single += [name] if len(of_groups[-1]) == 1 else []
    notices = [*of_column, f"Control cells by {column}: {join_limited(sizes, 12)}."]
    if fewer:
        wanted = f"groups with fewer than {sampling.n_controls:,} control cells"
        notices.append(Notice(f"{wanted} use all they have: {join_limited(fewer)}"))
    if single:
        notices.append(Notice(f"standard errors are NaN in groups of one control cell: {join_limited(single)}"))
    if n_missing := int(np.count_nonzero(codes < 0)):
        notices.append(Caution(f"{n_missing:,} of {len(codes):,} control cells have no {column} and are left out"))
    bounds = np.cumsum([0, *map(len, of_groups)], dtype=np.int64)
    return Groups(column, names, bounds), np.concatenate(of_groups), notices


def rows_with(
    cells: OpenedCells, column: str, value: str, *options: UseOption, remedy: str = ""
) -> tuple[NDArray[np.int64], list[Notice]]:
    """Return the rows that have a value in a column of obs, and notices; `options` name others.

    Raises `FieldNotFoundError` if there is no such column, and `LabelNotFoundError` if no cell has the value.
    """
    if column not in cells.obs.columns:
        raise no_column("obs", column, cells.obs.columns, *options, remedy=remedy)
    names, codes, notices = _groups(cells.obs, column, np.arange(cells.n_obs))
    if value not in names:
        near = get_close_matches(value, names, n=3)
        raise LabelNotFoundError(
            f"no cell has {column} = {value or repr('')} (there are: {join_limited(names, 12) or 'none'})",
            f"Did you mean {' or '.join(near)}?" if near else remedy,
            options,
            where=cells.where,
        )
    return np.flatnonzero(codes == names.index(value)), notices


def mixed_notices(obs: Annotation, rows: NDArray[np.int64]) -> list[Notice]:
    """Return a notice about the usual columns in which cells differ: their mean describes no kind of cell."""
    counts = {}
    for column in group_columns(obs):
        with suppress(CellsError):  # nobody asked for this column
            counts[column] = len(_groups(obs, column, rows)[0])
    most = max(_MOST_NUMBERS, len(rows) // 2)
    mixed = {column: count for column, count in counts.items() if 1 < count <= most}
    if not mixed:
        return []
    differ = ", ".join(f"{column} ({count:,} values)" for column, count in mixed.items())
    separate = UseOption("groupby", "predict each group by itself", next(iter(mixed)))
    return [Notice(f"means are over control cells that differ in {differ}", options=[separate])]


def group_columns(obs: Annotation) -> list[str]:
    """Return the columns that usually distinguish cells, such as cell_type."""
    return usual_columns(obs, _USUAL)


def _groups(
    obs: Annotation, column: str, rows: NDArray[np.int64]
) -> tuple[tuple[str, ...], NDArray[np.int64], list[Notice]]:
    """Return the values of a column that occur in rows, that of each row as a position (-1: none), and notices."""
    import pandas as pd

    series = pd.Series(obs.column(column)).iloc[rows]
    with no_lists(column):
        values = pd.Categorical(series).remove_unused_categories()
    names = [_name(value) for value in values.categories]
    distinct = [name for name in dict.fromkeys(names) if name]
    code_of = {name: code for code, name in enumerate(distinct)}
    code_of_category = np.array([*(code_of.get(name, -1) for name in names), -1], dtype=np.int64)
    return tuple(distinct), code_of_category[values.codes], obs.notices(column)


def _name(value: object) -> str:
    # Integers are read as floats where a value is missing.
    return text_of(int(value) if isinstance(value, (float, np.floating)) and value.is_integer() else value).strip()
