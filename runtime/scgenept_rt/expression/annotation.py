"""The annotation of cells or genes (obs, var); a column is read when it is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import CellsFormatError, FieldNotFoundError, Notice, UseOption
from scgenept_rt.wording import join_limited

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Annotation:
    """Obs or var."""

    columns: tuple[str, ...]
    index_name: str | None
    index: NDArray[np.object_]  # the row names, as str
    column: Callable[[str], Any]  # reads a column: a pandas Series, Categorical or array
    notices: Callable[[str], list[Notice]]  # returns warnings about values of a column that may be lost

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.index)

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Annotation:
        """Return the annotation in a data frame in memory."""
        columns = tuple(str(column) for column in frame.columns)
        index_name = None if frame.index.name is None else str(frame.index.name)
        return cls(
            columns, index_name, as_text(frame.index), lambda name: frame.iloc[:, columns.index(name)], lambda _: []
        )

    def at(self, rows: NDArray[np.int64]) -> Annotation:
        """Return these rows alone."""

        def column(name: str) -> Any:
            from pandas.api.extensions import take

            return take(self.column(name), rows)

        return replace(self, index=self.index[rows], column=column)


def no_column(frame: str, name: str, there: Sequence[str], *options: UseOption, remedy: str = "") -> FieldNotFoundError:
    """Return the error about a missing column of obs or var, with the options that choose another."""
    problem = f"{frame} has no column {name!r} (it has: {join_limited(there, 12) or 'none'})"
    return FieldNotFoundError(problem, remedy, options if there else [])


def usual_columns(annotation: Annotation, usual: Sequence[str]) -> list[str]:
    """Return the columns that have usual names (in lower case, without separators), the most usual first."""
    known = {column: re.sub(r"[-_. ]", "", column).casefold() for column in annotation.columns}
    return sorted((name for name in known if known[name] in usual), key=lambda name: usual.index(known[name]))


def as_text(values: Any) -> NDArray[np.object_]:
    """Return values as an object array of str; missing ones become the empty string."""
    import pandas as pd

    series = pd.Series(values).astype(object)
    array = np.array([text_of(value) for value in series], dtype=object)
    array[series.isna().to_numpy()] = ""
    return array


def text_of(value: object) -> str:
    """Return a value as str; bytes, as R and h5py write text, are decoded."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@contextmanager
def no_lists(column: str) -> Iterator[None]:
    """Raise `CellsFormatError` if the values of a column of obs are lists or the like, which are no labels."""
    try:
        yield
    except TypeError as error:
        problem = f"obs column {column!r} holds lists or the like ({error}), expected one value per cell"
        join = f"`adata.obs[{column!r}] = adata.obs[{column!r}].str.join('+')`"
        raise CellsFormatError(problem, f"Join what is in one list: {join}") from error


def text_columns(annotation: Annotation, *, strict: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield name and values of the columns that hold text; of those that cannot be read only if not `strict`."""
    import pandas as pd

    for name in dict.fromkeys(annotation.columns):
        try:
            values = annotation.column(name)
        except CellsFormatError:
            if strict:
                raise
            continue  # nobody asked for this column
        dtype: Any = getattr(values, "dtype", None)
        if isinstance(dtype, pd.CategoricalDtype):
            dtype = dtype.categories.dtype
        if pd.api.types.is_object_dtype(dtype) or pd.api.types.is_string_dtype(dtype):
            yield name, values


def is_storable(column: str) -> bool:
    """Return whether .h5ad and .zarr files alike can have a column of obs of this name."""
    return column not in ("", ".", "..", "_index") and not set(column) & set("/\0")
