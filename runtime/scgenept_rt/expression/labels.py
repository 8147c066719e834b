"""The labels of cells, and which cells are control cells."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import (
    ControlCellsError,
    FieldNotFoundError,
    ScgeneptError,
    UseOption,
    join_limited,
    pluralize,
)
from scgenept_rt.expression.annotation import Annotation, text_columns
from scgenept_rt.perturbation import CONTROL_LABELS

CONDITION_KEYS = ("condition", "perturbation", "target_gene", "gene")
_N_FREQUENT = 5


class Labels:
    """The labels of a column, stripped text; missing values (NaN, None) are no label.

    Attributes
    ----------
    names
        The distinct values. Two may be the same text, such as "ctrl" and "ctrl ".
    codes
        int64 [n_obs], position of each row's label in `names`, -1 for none.
    """

    def __init__(self, values: Any) -> None:
        import pandas as pd

        if isinstance(values, pd.Series) and isinstance(values.dtype, pd.CategoricalDtype):
            values = values.cat
        if hasattr(values, "categories") and hasattr(values, "codes"):
            codes, distinct = values.codes, values.categories
        else:
            codes, distinct = pd.factorize(pd.Series(values))
        self.names = tuple(str(value).strip() for value in distinct)
        self.codes = np.asarray(codes, dtype=np.int64)
        self._counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))

    def counts(self) -> dict[str, int]:
        """Return how many rows have each label, most frequent first."""
        totals: dict[str, int] = {}
        for code in np.argsort(-self._counts, kind="stable"):
            if self._counts[code] and self.names[code]:
                totals[self.names[code]] = totals.get(self.names[code], 0) + int(self._counts[code])
        return totals

    def rows(self, label: str) -> NDArray[np.int64]:
        """Return the rows with a label, in order."""
        codes = [code for code, name in enumerate(self.names) if name == label]
        return np.flatnonzero(np.isin(self.codes, codes)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ControlRows:
    """Rows that are control cells, in order.

    Attributes
    ----------
    rows
        int64 [n_control_cells].
    condition_key, control_label, labels
        The obs column that labels cells, its label of control cells, and all its labels; None if obs has none and all
        rows are control cells.
    notices
        What users should know.
    """

    rows: NDArray[np.int64]
    condition_key: str | None
    control_label: str | None
    labels: Labels | None = None
    notices: tuple[str, ...] = ()


def find_control_rows(
    obs: Annotation, where: str, condition_key: str | None = None, control_label: str | None = None
) -> ControlRows:
    """Find the control cells by a column of obs.

    Parameters
    ----------
    obs
        Annotation of the cells.
    where
        The input, named in errors.
    condition_key
        The column; by default the first of `CONDITION_KEYS` that holds a control label. If obs has none of these, all
        cells are control cells, unless some other column labels part of them as controls: perturbed cells must never
        be taken for control cells, so the user has to choose the column.
    control_label
        The label; by default the one of `CONTROL_LABELS` that occurs.

    Raises
    ------
    FieldNotFoundError
        If obs lacks `condition_key`, or has no column in which to look for `control_label`.
    ControlCellsError
        If no cell has a control label, several of `CONTROL_LABELS` occur, or the column has to be named.
    """
    if condition_key is not None and condition_key not in obs.columns:
        raise FieldNotFoundError(
            f"obs has no column {condition_key!r} (it has: {_listed(obs.columns)})",
            options=[UseOption("condition_key", "choose one of these")],
            where=where,
        )
    keys = [key for key in CONDITION_KEYS if key in obs.columns] if condition_key is None else [condition_key]
    wanted = CONTROL_LABELS if control_label is None else (control_label,)
    if not keys:
        _check_other_columns(obs, where, wanted, control_label)
        taken = f"all {obs.n_rows:,} cells are taken as control cells"
        if obs.n_rows == 1:
            taken = "its only cell is taken as a control cell"
        notice = f"obs has no column {', '.join(CONDITION_KEYS)}: {taken}."
        return ControlRows(np.arange(obs.n_rows, dtype=np.int64), None, None, notices=(notice,))

    first: Labels | None = None
    for key in keys:
        labels = Labels(obs.column(key))
        counts = _selected(labels, wanted)
        if len(counts) > 1:
            found = " and ".join(f"{label!r} ({pluralize(count, 'cell')})" for label, count in counts.items())
            raise ControlCellsError(
                f"obs column {key!r} has more than one label that may be the control: {found}",
                options=[UseOption("control_label", "choose one", next(iter(counts)))],
                where=where,
            )
        if counts:
            label = next(iter(counts))
            notices: tuple[str, ...] = ()
            if len(keys) > 1:
                notices = (f"obs has the columns {', '.join(keys)}; control cells are those with {key} = {label}.",)
            return ControlRows(labels.rows(label), key, label, labels, notices)
        first = first or labels
    assert first is not None
    raise _no_control_cells(obs, where, keys[0], wanted, first)


def _selected(labels: Labels, wanted: Sequence[str]) -> dict[str, int]:
    counts = labels.counts()
    return {label: counts[label] for label in wanted if label in counts}


def _check_other_columns(obs: Annotation, where: str, wanted: Sequence[str], control_label: str | None) -> None:
    """Raise if columns that are not looked at by default label some of the cells as control cells."""
    columns = _columns_with(wanted, obs)
    if control_label is not None:
        found = f"it is in {join_limited(list(columns))}" if columns else f"obs has: {_listed(obs.columns)}"
        raise FieldNotFoundError(
            f"obs has no column {', '.join(CONDITION_KEYS)} in which to look for the control label "
            f"{control_label!r} ({found})",
            options=[UseOption("condition_key", "name the column", _only(columns))],
            where=where,
        )
    marked = {key: counts for key, counts in columns.items() if sum(counts.values()) < obs.n_rows}
    if marked:
        held = [
            f"{key!r} holds "
            + " and ".join(f"{label!r} ({n:,} of {obs.n_rows:,} cells)" for label, n in counts.items())
            for key, counts in marked.items()
        ]
        raise ControlCellsError(
            f"obs has no column {', '.join(CONDITION_KEYS)}, but other columns label control cells: "
            f"{join_limited(held)}",
            f"To take all cells as control cells, remove {_only(marked) or 'these columns'} from obs",
            [UseOption("condition_key", "name the column", _only(marked))],
            where=where,
        )


def _no_control_cells(obs: Annotation, where: str, key: str, wanted: Sequence[str], labels: Labels) -> ScgeneptError:
    expected = " or ".join(repr(label) for label in wanted)
    frequent = [f"{label!r} ({count:,})" for label, count in list(labels.counts().items())[:_N_FREQUENT]]
    found = f"its most frequent labels: {', '.join(frequent)}" if frequent else "it has no labels at all"
    elsewhere = list(_columns_with(wanted, obs))
    if elsewhere:
        found += f"; such a label is in {join_limited(elsewhere)}"
    name_column = UseOption("condition_key", "name another column", _only(elsewhere))
    name_label = UseOption("control_label", "name the label of control cells")
    return ControlCellsError(
        f"obs column {key!r} has no control cells, expected {expected}; {found}",
        options=[name_label, name_column] if frequent else [name_column],
        where=where,
    )


def _columns_with(wanted: Sequence[str], obs: Annotation) -> dict[str, dict[str, int]]:
    """Return the text columns that hold one of the labels, with the number of cells of each."""
    counts: dict[str, dict[str, int]] = {}
    for name, values in text_columns(obs):
        with suppress(TypeError):  # a column of lists or the like
            counts[name] = _selected(Labels(values), wanted)
    return {name: found for name, found in counts.items() if found}


def _listed(names: Sequence[str]) -> str:
    return join_limited(names, 12) or "none"


def _only(names: Sequence[str] | dict[str, dict[str, int]]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None
