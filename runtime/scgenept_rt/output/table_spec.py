"""What an output table holds besides its values, known before the first row is computed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import write_elem
from numpy.typing import NDArray

UNS_KEY = "scgenept_rt"
RUN_DIGEST = "run_digest"
"""Entry of uns that identifies the run that made a file: `run_digest` of its settings and table."""
SHARD_KEY = "shard"
"""Entry of uns that says which part of a run a file is."""
N_CONTROLS = "n_controls"
COUNTS = f"obs/{N_CONTROLS}"

BLOCK_ROWS = 65_536

Positions = NDArray[np.int64]
Column = tuple[Any, Callable[[Positions, Positions], Positions]]
"""Values, and the position among them by the positions of a row's perturbation and control cell."""


class CellRows:
    """obs of one row per (perturbation, control cell), all cells of the first perturbation first.

    It is made a block of rows at a time, as the names of a large screen's rows take gigabytes. After `columns` come
    those of the control cells, `annotation` and their names. Each perturbation has its number of `counts` control
    cells, from its number of `first_cells` on.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        labels: Sequence[str],
        control_names: Sequence[str],
        annotation: Mapping[str, Any],
        counts: Positions,
        first_cells: Positions,
    ) -> None:
        of_cells = {**annotation, "control_cell": _categorical(control_names)}
        own = {name: (values, lambda _, cells: cells) for name, values in of_cells.items() if name not in columns}
        self.columns: dict[str, Column] = {**columns, **own}
        self._counts, self._first_cells = counts, first_cells
        # A separator that no label has, and numbers for labels that repeat, give every row a name of its own.
        separator = next((text for text in "|/:;~" if not any(text in label for label in labels)), "|")
        repeats: Counter[tuple[str, int]] = Counter()
        self._prefixes = []
        for label, first in zip(labels, first_cells.tolist(), strict=True):
            repeats[label, first] += 1
            number = repeats[label, first]
            self._prefixes.append(f"{label}{f'#{number}' if number > 1 else ''}{separator}")
        self._cell_names = unique_names(control_names)
        self._choose(np.arange(len(labels)))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, perturbations: Positions) -> CellRows:
        """Return the rows of some perturbations."""
        rows = copy(self)
        rows._choose(self._chosen[perturbations])
        return rows

    def frame(self, begin: int = 0, end: int | None = None) -> pd.DataFrame:
        """Return the rows from `begin` up to `end`."""
        perturbations, cells = self._positions(begin, len(self) if end is None else min(end, len(self)))
        obs = pd.DataFrame({name: values[at(perturbations, cells)] for name, (values, at) in self.columns.items()})
        pairs = zip(perturbations.tolist(), cells.tolist(), strict=True)
        obs.index = pd.Index([self._prefixes[row] + self._cell_names[cell] for row, cell in pairs], dtype=object)
        return obs

    def _positions(self, begin: int, end: int) -> tuple[Positions, Positions]:
        """Return the positions of the perturbation and the control cell of rows."""
        rows = np.arange(begin, end)
        at = np.searchsorted(self._starts, rows, side="right") - 1
        perturbations = self._chosen[at]
        return perturbations, self._first_cells[perturbations] + rows - self._starts[at]

    def _choose(self, perturbations: Positions) -> None:
        """Have the rows of these perturbations, and only categories that they use."""
        self._chosen = perturbations
        self._starts = np.concatenate([[0], np.cumsum(self._counts[perturbations])])
        self.columns = dict(self.columns)
        for name, (values, at) in self.columns.items():
            if isinstance(values, pd.Categorical):
                used = np.zeros(len(values.categories) + 1, np.bool_)  # the last for missing values, code -1
                for begin in range(0, len(self), BLOCK_ROWS):
                    positions = self._positions(begin, min(begin + BLOCK_ROWS, len(self)))
                    used[values.codes[at(*positions)]] = True
                self.columns[name] = values.set_categories(values.categories[used[:-1]]), at


def by_perturbation(texts: Sequence[str]) -> Column:
    """Return a column of one text per perturbation."""
    return _categorical(texts), lambda perturbations, _: perturbations


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


@dataclass(frozen=True)
class TableSpec:
    """A table of predictions without its values."""

    kind: Literal["mean", "cells"]
    """One row per perturbation ("mean"), or per perturbation and control cell ("cells")."""
    obs: pd.DataFrame | CellRows
    """In the order in which the rows will be written."""
    var: pd.DataFrame
    layers: tuple[str, ...]
    """The layers that have values in every row, beside X."""
    uns: Mapping[str, Any] = field(default_factory=dict)
    """What is stored under ``uns["scgenept_rt"]``."""
    clip_at_zero: bool = False
    """Store negative predictions as 0, as cell-eval demands."""

    @property
    def n_rows(self) -> int:
        """Number of rows in all."""
        return len(self.obs)

    @property
    def arrays(self) -> dict[str, np.dtype[Any]]:
        """What rows consist of: where each array is in a file, with the type of one row of it."""
        keys = ["X", *(f"layers/{name}" for name in self.layers)]
        values = dict.fromkeys(keys, np.dtype(("<f4", (len(self.var),))))
        return values if self.kind == "cells" else {**values, COUNTS: np.dtype("<i8")}

    @property
    def n_bytes(self) -> int:
        """Expected size of the output on disk, uncompressed, for the check of free space."""
        names = sum(map(len, self.obs_rows(0, 1000).index))
        per_row = names / min(self.n_rows, 1000) + 32  # a name, its entry in the heap, a few codes
        per_row += sum(dtype.itemsize for dtype in self.arrays.values())
        return int(per_row * self.n_rows) + 100 * len(self.var) + 100_000

    def obs_rows(self, begin: int = 0, end: int | None = None) -> pd.DataFrame:
        """Return obs of the rows from `begin` up to `end`."""
        return self.obs.frame(begin, end) if isinstance(self.obs, CellRows) else self.obs.iloc[begin:end]

    def part(self, entries: NDArray[np.int64], shard: Mapping[str, Any]) -> TableSpec:
        """Return the rows of some perturbations as a table of its own, with what its uns says of the part."""
        if isinstance(self.obs, CellRows):
            obs: pd.DataFrame | CellRows = self.obs.take(entries)
        else:
            obs = self.obs.iloc[entries]
            for name, column in obs.items():
                if isinstance(column.dtype, pd.CategoricalDtype):
                    obs = obs.assign(**{str(name): column.cat.remove_unused_categories()})
        return replace(self, obs=obs, uns={**self.uns, SHARD_KEY: {**shard, "layers": list(self.layers)}})

    def obs_blocks(self) -> Iterator[pd.DataFrame]:
        """Return obs, as many rows at a time as are held at once."""
        return (self.obs_rows(begin, begin + BLOCK_ROWS) for begin in range(0, self.n_rows, BLOCK_ROWS))

    def fingerprint(self) -> dict[str, Any]:
        """Return what must be the same when a run is resumed."""
        return {
            "aggregate": self.kind,
            "n_rows": self.n_rows,
            "layers": list(self.layers),
            "columns": [str(column) for column in self.obs.columns],
            "row_names_sha256": _sha256(obs.index for obs in self.obs_blocks()),
            "gene_names_sha256": _sha256([self.var.index]),
            "clip_at_zero": self.clip_at_zero,
        }

    def in_memory(self, arrays: Mapping[str, NDArray[Any]]) -> AnnData:
        """Return the table with the values of all rows, by the names of `arrays`."""
        obs, names = self.obs_rows(), self.var.index
        if COUNTS in arrays:
            obs = obs.assign(n_controls=arrays[COUNTS])
        # anndata warns of repeated gene names on construction; these are the model's own and stay
        adata = AnnData(
            X=arrays["X"],
            obs=obs,
            var=self.var.set_axis(unique_names(names), axis="index"),
            layers={name: arrays[f"layers/{name}"] for name in self.layers},
            uns=self.stored_uns(),
        )
        adata.var.index = names
        return adata

    def stored_uns(self) -> dict[str, Any]:
        """Return `uns` as stored: under its key, of types that every anndata reads."""
        return {UNS_KEY: _storable(self.uns)}


def write_annotations(store: Any, spec: TableSpec) -> None:
    """Write obs, var, uns and the groups that an AnnData must have to an empty `h5py.File` or zarr group."""
    store.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    _write_obs(store, spec)
    write_elem(store, "var", _with_plain_texts(spec.var))
    write_elem(store, "uns", spec.stored_uns())
    for group in ("layers", "obsm", "varm", "obsp", "varp"):
        write_elem(store, group, {})


def _write_obs(store: Any, spec: TableSpec) -> None:
    end, options = 0, {}
    if spec.n_rows > BLOCK_ROWS and hasattr(store, "id"):  # HDF5; arrays of zarr can always be extended
        options = {"dataset_kwargs": {"maxshape": (None,), "chunks": (BLOCK_ROWS,)}}
    for frame in map(_with_plain_texts, spec.obs_blocks()):
        end += len(frame)
        if end == len(frame):
            write_elem(store, "obs", frame, **options)
            continue
        stored = store["obs"]
        _extend(stored[stored.attrs["_index"]], end, frame.index.to_numpy(object))
        for name, column in frame.items():
            if isinstance(column.dtype, pd.CategoricalDtype):
                _extend(stored[name]["codes"], end, column.cat.codes.to_numpy())
            elif pd.api.types.is_extension_array_dtype(column.dtype):  # nullable numbers
                _extend(stored[name]["mask"], end, column.isna().to_numpy())
                _extend(stored[name]["values"], end, column.array._data)
            else:
                _extend(stored[name], end, column.to_numpy())


def _extend(array: Any, end: int, values: NDArray[Any]) -> None:
    array.resize((end,))
    array[end - len(values) : end] = values


def _with_plain_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return annotation whose texts are str objects: how other types are written depends on the version of pandas."""
    columns: dict[Any, Any] = {}
    for name, column in frame.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            categories = column.cat.categories
            categories = categories if categories.dtype.kind in "biuf" else categories.astype(object)
            columns[name] = pd.Categorical.from_codes(column.cat.codes, categories, ordered=column.cat.ordered)
        else:
            columns[name] = column if column.dtype.kind in "biufM" else column.astype(object)
    return pd.DataFrame(columns, index=frame.index.astype(object))


def _sha256(indexes: Iterable[pd.Index[Any]]) -> str:
    digest = hashlib.sha256()
    for index in indexes:
        digest.update("".join(f"{name}\n" for name in index).encode())
    return digest.hexdigest()


def _storable(value: Any) -> Any:
    if isinstance(value, Mapping):
        # a slash would make a group of its own; sorted, as it is when it is read again
        entries = {str(key).replace("/", "_"): entry for key, entry in value.items() if entry is not None}
        return {key: _storable(entries[key]) for key in sorted(entries)}
    if isinstance(value, (list, tuple)):
        return np.asarray([_storable(entry) for entry in value])
    return str(value) if isinstance(value, PurePath) else value
