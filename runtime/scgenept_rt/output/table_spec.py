"""What an output table holds besides its values, known before the first row is computed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.genes import GenePanel
from scgenept_rt.output.cell_rows import BLOCK_ROWS, CellRows, Column, Counts, unique_names
from scgenept_rt.perturbation import Perturbation

Kind = Literal["mean", "cells"]

UNS_KEY = "scgenept_rt"
RUN_DIGEST = "run_digest"
"""Entry of uns that identifies the run that made a file: `run_digest` of its settings and table."""
SHARD_KEY = "shard"
"""Entry of uns that says which part of a run a file is."""
N_CONTROLS = "n_controls"
COUNTS = f"obs/{N_CONTROLS}"
MEAN_LAYERS = ("delta", "sem", "delta_sem")
ESTIMATE_LAYERS = ("sampling_error", "effect", "effect_sem")
"""Further layers, where some control cells stand for all."""


@dataclass(frozen=True)
class TableSpec:
    """A table of predictions without its values."""

    kind: Kind
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

    def stored_uns(self) -> dict[str, Any]:
        """Return `uns` as stored: under its key, of types that every anndata reads."""
        return {UNS_KEY: _storable(self.uns)}


def write_annotations(store: Any, spec: TableSpec) -> None:
    """Write obs, var, uns and the groups that an AnnData must have to an empty `h5py.File` or zarr group."""
    from anndata.io import write_elem

    store.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    _write_obs(store, spec)
    write_elem(store, "var", _with_plain_texts(spec.var))
    write_elem(store, "uns", spec.stored_uns())
    for group in ("layers", "obsm", "varm", "obsp", "varp"):
        write_elem(store, group, {})


def _write_obs(store: Any, spec: TableSpec) -> None:
    from anndata.io import write_elem

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


def mean_table(
    perturbations: Sequence[Perturbation],
    panel: GenePanel,
    n_controls: Counts,
    uns: Mapping[str, Any],
    layers: tuple[str, ...] = MEAN_LAYERS,
    *,
    annotation: Mapping[str, pd.Categorical] | None = None,
    var_names: Sequence[str] | None = None,
) -> TableSpec:
    """Describe a table of one row per perturbation, or per perturbation and group of control cells.

    `n_controls` are the control cells of each mean, or as many as these may be: `RowWriter.write` replaces them. The
    `annotation`, further columns of obs such as the group, tells the names of rows apart. Genes are named by
    `var_names`, or by the panel.
    """
    annotation = annotation or {}
    labels = [perturbation.label for perturbation in perturbations]
    obs = pd.DataFrame(
        {
            "condition": pd.Series(labels, dtype=object),
            "target_genes": pd.Series([perturbation.canonical for perturbation in perturbations], dtype=object),
            **annotation,
            N_CONTROLS: np.broadcast_to(np.asarray(n_controls, dtype=np.int64), len(labels)).copy(),
        }
    )
    names = ["|".join(parts) for parts in zip(labels, *annotation.values(), strict=True)]
    obs.index = pd.Index(unique_names(names), dtype=object)
    return TableSpec("mean", obs, _var(panel, var_names), layers, dict(uns))


def cells_table(
    perturbations: Sequence[Perturbation],
    control_names: Sequence[str],
    panel: GenePanel,
    uns: Mapping[str, Any],
    *,
    n_controls: Counts | None = None,
    first_cells: Counts = 0,
    label_column: str = "condition",
    annotation: Mapping[str, Any] | None = None,
    var_names: Sequence[str] | None = None,
) -> TableSpec:
    """Describe a table of one row per (perturbation, control cell), all cells of the first perturbation first.

    A perturbation is predicted from `n_controls` (None for all) of the cells `control_names`, from its first one on;
    sampling with replacement repeats names. `label_column`, that of the input, has the labels too; `annotation` has
    further columns of obs by control cell.
    """
    labels = [perturbation.label for perturbation in perturbations]
    condition = Column.of_perturbations(labels)
    targets = Column.of_perturbations([perturbation.canonical for perturbation in perturbations])
    columns = {"condition": condition, label_column: condition, "target_genes": targets}
    obs = CellRows.of(columns, labels, control_names, annotation, n_controls, first_cells)
    return TableSpec("cells", obs, _var(panel, var_names), (), dict(uns))


def _var(panel: GenePanel, names: Sequence[str] | None) -> pd.DataFrame:
    var = pd.DataFrame({"gene_name": pd.Series(panel.names, dtype=object)})
    if None not in panel.ids:
        var["gene_id"] = pd.Series(panel.ids, dtype=object)
    elif any(panel.ids):
        # a categorical is the one string column that holds missing values in every anndata format
        known = pd.Index([gene_id for gene_id in dict.fromkeys(panel.ids) if gene_id is not None], dtype=object)
        var["gene_id"] = pd.Categorical(panel.ids, categories=known)
    var["in_vocab"] = np.asarray(panel.in_vocab, dtype=bool)
    var.index = pd.Index(panel.names if names is None else names, dtype=object)
    return var


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
