"""Which rows of an input are control cells."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import (
    AmbiguousControlLabelError,
    NoControlCellsError,
    ReadOptionError,
    UnnamedControlColumnError,
    join_limited,
)
from scgenept_rt.expression.cells_source import Annotation, text_columns
from scgenept_rt.perturbation import CONTROL_LABELS

CONDITION_KEYS = ("condition", "perturbation", "target_gene", "gene")
_N_FREQUENT = 5


@dataclass(frozen=True, eq=False)
class ControlRows:
    """Rows that are control cells, in the order of the input, and what told so (None: all rows are)."""

    rows: NDArray[np.int64]
    condition_key: str | None
    control_label: str | None
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
        The column; without it, the first of `CONDITION_KEYS` that holds a control label. Where obs has none of these,
        all cells are control cells, unless another column of text has a control label for some of them: which column
        is meant is for the user to say then, as cells that were perturbed must never pass for controls.
    control_label
        The label; without it, the one of `CONTROL_LABELS` that occurs.

    Raises
    ------
    ReadOptionError
        If obs lacks `condition_key`, or has no column in which to look for `control_label`.
    AmbiguousControlLabelError
        If several of `CONTROL_LABELS` occur in the column.
    NoControlCellsError
        If no cell carries a control label.
    UnnamedControlColumnError
        If obs has none of `CONDITION_KEYS`, and another column holds a control label for some of the cells.
    """
    if condition_key is not None and condition_key not in obs.columns:
        raise ReadOptionError(
            where,
            f"obs has no column {condition_key!r} (it has: {join_limited(obs.columns, 12) or 'none'})",
            "Choose one of these with --condition-key.",
        )
    keys = [key for key in CONDITION_KEYS if key in obs.columns] if condition_key is None else [condition_key]
    wanted = CONTROL_LABELS if control_label is None else (control_label,)
    if not keys:
        if control_label is not None:
            elsewhere = list(_columns_with(wanted, obs))
            columns = (
                f"it is in {join_limited(elsewhere)}"
                if elsewhere
                else f"it has: {join_limited(obs.columns, 12) or 'none'}"
            )
            key = f" {elsewhere[0]}" if len(elsewhere) == 1 else ""
            raise ReadOptionError(
                where,
                f"obs has no column {', '.join(CONDITION_KEYS)} in which to look for the control label "
                f"{control_label!r} ({columns})",
                f"Name the column with --condition-key{key}, or leave --control-label out to use all cells.",
            )
        marked = {
            key: counts for key, counts in _columns_with(wanted, obs).items() if sum(counts.values()) < obs.n_rows
        }
        if marked:
            raise UnnamedControlColumnError(where, CONDITION_KEYS, marked, obs.n_rows)
        notice = f"obs has no column {', '.join(CONDITION_KEYS)}: {_all_cells(obs.n_rows)}."
        return ControlRows(np.arange(obs.n_rows, dtype=np.int64), None, None, (notice,))

    first: _Labels | None = None
    for key in keys:
        labels = _Labels(obs.column(key))
        counts = labels.counts(wanted)
        if len(counts) > 1:
            raise AmbiguousControlLabelError(where, key, counts)
        if counts:
            label = next(iter(counts))
            notices: tuple[str, ...] = ()
            if len(keys) > 1:
                notices = (f"obs has the columns {', '.join(keys)}; control cells are those with {key} = {label}.",)
            return ControlRows(labels.rows(label), key, label, notices)
        first = first or labels
    assert first is not None
    raise NoControlCellsError(
        where, keys[0], wanted, first.most_frequent(_N_FREQUENT), list(_columns_with(wanted, obs))
    )


def _columns_with(wanted: Sequence[str], obs: Annotation) -> dict[str, dict[str, int]]:
    """Return the columns of text that hold one of the labels, each with how many cells carry which."""
    counts: dict[str, dict[str, int]] = {}
    for name, values in text_columns(obs):
        with suppress(TypeError):  # a column of lists and the like, which a data frame in memory may have
            counts[name] = _Labels(values).counts(wanted)
    return {name: found for name, found in counts.items() if found}


def _all_cells(n_obs: int) -> str:
    return (
        "its only cell is taken as a control cell" if n_obs == 1 else f"all {n_obs:,} cells are taken as control cells"
    )


class _Labels:
    """The labels of a column as text; missing ones (NaN, None) are no label."""

    def __init__(self, values: Any) -> None:
        import pandas as pd

        if isinstance(values, pd.Series) and isinstance(values.dtype, pd.CategoricalDtype):
            values = values.cat
        if hasattr(values, "categories") and hasattr(values, "codes"):
            codes, distinct = values.codes, values.categories
        else:
            codes, distinct = pd.factorize(pd.Series(values))
        self._codes = np.asarray(codes)
        self._names = [str(value).strip() for value in distinct]
        present = self._codes[self._codes >= 0]
        self._counts = np.bincount(present, minlength=len(self._names))

    def counts(self, wanted: Sequence[str]) -> dict[str, int]:
        """Return how many rows carry each of `wanted`, leaving out those that none does."""
        totals = dict.fromkeys(wanted, 0)
        for name, count in zip(self._names, self._counts, strict=True):
            if name in totals:
                totals[name] += int(count)
        return {label: count for label, count in totals.items() if count}

    def rows(self, label: str) -> NDArray[np.int64]:
        codes = [code for code, name in enumerate(self._names) if name == label]
        return np.flatnonzero(np.isin(self._codes, codes)).astype(np.int64)

    def most_frequent(self, limit: int) -> list[tuple[str, int]]:
        ranked = np.argsort(-self._counts, kind="stable")[:limit]
        return [(self._names[code], int(self._counts[code])) for code in ranked if self._counts[code]]
