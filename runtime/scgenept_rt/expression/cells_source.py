"""An AnnData opened for reading, on disk or in memory: its annotations, and one matrix by rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import (
    CellsFormatError,
    CellsNotFoundError,
    CellsTypeError,
    ReadOptionError,
    ScgeneptError,
    ZarrMissingError,
    join_limited,
    pluralize,
)
from scgenept_rt.expression.matrix_rows import MatrixRows, TakenRows, matrix_rows

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
IN_MEMORY = "AnnData object"


class Annotation(Protocol):
    """Obs or var, of which only the columns asked for are read."""

    columns: tuple[str, ...]
    index_name: str | None
    n_rows: int

    def index(self) -> NDArray[np.object_]:
        """Return the row names as str."""
        ...

    def column(self, name: str) -> Any:
        """Return a column: a pandas Series, Categorical or array."""
        ...


@dataclass(frozen=True, eq=False)
class CellsSource:
    """What is read of an AnnData: `var` and `matrix` are those of raw if raw was asked for.

    Attributes
    ----------
    where
        The path, or `IN_MEMORY`; for messages.
    raw_n_vars
        How many genes raw has, where it is there and was not asked for.
    """

    where: str
    obs: Annotation
    var: Annotation
    matrix: MatrixRows
    raw_n_vars: int | None


@contextmanager
def open_cells(
    source: str | Path | AnnData, *, layer: str | None = None, use_raw: bool = False
) -> Iterator[CellsSource]:
    """Open an input of cells; the matrix is X, a layer, or raw.

    Raises
    ------
    CellsTypeError
        If the source is neither a path nor an AnnData.
    CellsNotFoundError
        If the path does not exist.
    CellsFormatError
        If it is not an .h5ad file or a .zarr directory, or cannot be read.
    ReadOptionError
        If there is no such layer, no raw, or no X.
    ZarrMissingError
        If the path is a .zarr directory and zarr is not installed.
    """
    check_source(source)
    if not isinstance(source, (str, Path)):
        yield _loaded(source, layer, use_raw)
        return
    path = Path(source)
    store = _open_zarr(path) if path.suffix.lower() == ".zarr" else _open_h5ad(path)
    try:
        yield _stored(store, str(path), layer, use_raw)
    finally:
        close = getattr(store, "close", None)
        if close is not None:
            close()


def check_source(source: object) -> None:
    """Raise `CellsTypeError` unless an input of cells is a path or an AnnData."""
    if not isinstance(source, (str, Path)):
        from anndata import AnnData  # loaded by whoever made one

        if not isinstance(source, AnnData):
            raise CellsTypeError(source)


def as_text(values: Any) -> NDArray[np.object_]:
    """Return values as an object array of str; missing ones become the empty string."""
    import pandas as pd

    series = pd.Series(values).astype(object)
    text = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in series]
    array = np.array(text, dtype=object)
    array[series.isna().to_numpy()] = ""
    return array


def text_columns(annotation: Annotation) -> Iterator[tuple[str, Any]]:
    """Yield name and values of the columns of obs or var that hold text, of those that can be read."""
    import pandas as pd

    for name in dict.fromkeys(annotation.columns):
        try:
            values = annotation.column(name)
        except CellsFormatError:  # damage to a column that nobody asked for stops nothing
            continue
        dtype: Any = getattr(values, "dtype", None)
        if isinstance(dtype, pd.CategoricalDtype):
            dtype = dtype.categories.dtype
        if pd.api.types.is_object_dtype(dtype) or pd.api.types.is_string_dtype(dtype):
            yield name, values


# --- on disk ----------------------------------------------------------------------------------------------------------


def _open_h5ad(path: Path) -> Any:
    import h5py

    where = str(path)
    if not path.exists():
        raise CellsNotFoundError(where)
    if path.is_dir():
        raise CellsFormatError(where, "it is a directory", "Expected an .h5ad file, or a directory that ends in .zarr.")
    if path.suffix.lower() != ".h5ad":
        raise CellsFormatError(where, f"unknown file ending {path.suffix!r}", "Expected .h5ad or .zarr.")
    if not path.is_file():  # opening a pipe would wait for a writer
        raise CellsFormatError(where, "it is no regular file (a pipe or a device)", "Expected an .h5ad file.")
    try:
        with path.open("rb") as stream:
            magic = stream.read(len(_HDF5_MAGIC))
        if magic != _HDF5_MAGIC:
            problem = "it is empty" if not magic else f"it is not an HDF5 file (it begins with {magic!r})"
            raise CellsFormatError(where, problem, "Expected an .h5ad file as AnnData.write_h5ad writes it.")
        return h5py.File(path, "r")
    except ScgeneptError:
        raise
    except PermissionError as error:
        raise CellsFormatError(where, f"it cannot be read ({error.strerror})", "Check its permissions.") from error
    except OSError as error:
        raise CellsFormatError(
            where, f"it is damaged or was cut short ({error})", "Copy, download or write the file again."
        ) from error


def _open_zarr(path: Path) -> Any:
    where = str(path)
    if not path.exists():
        raise CellsNotFoundError(where)
    if not path.is_dir():
        raise CellsFormatError(where, "it is a file", "Expected a .zarr directory as AnnData.write_zarr writes it.")
    try:
        import zarr
    except ImportError:
        raise ZarrMissingError(path) from None
    try:
        return zarr.open_group(str(path), mode="r")
    except Exception as error:  # zarr raises many kinds of its own
        raise CellsFormatError(
            where, f"it is not a zarr group ({error})", "Expected a directory as AnnData.write_zarr writes it."
        ) from error


def _stored(store: Any, where: str, layer: str | None, use_raw: bool) -> CellsSource:
    keys = set(store.keys())
    if not {"obs", "var"} <= keys:
        found = join_limited(sorted(keys), 8) or "nothing"
        raise CellsFormatError(where, f"it holds no obs and var (it holds: {found})", "Expected an AnnData file.")
    raw = store["raw"] if "raw" in keys else None
    if not hasattr(raw, "keys"):  # no group: so anndata.io.write_elem writes a raw that is not there
        raw = None
    has_raw = raw is not None and "X" in raw
    if use_raw:
        if raw is None or not has_raw:
            raise _no_raw(where)
        parent, elem = raw, raw["X"]
    else:
        parent = store
        layers = sorted(store["layers"].keys()) if "layers" in keys else []
        if layer is not None:
            if layer not in layers:
                raise _no_layer(where, layer, layers)
            elem = store["layers"][layer]
        else:
            if "X" not in keys or str(dict(store["X"].attrs).get("encoding-type", "")) == "null":
                raise _no_x(where, layers, has_raw=has_raw)
            elem = store["X"]
    obs = _stored_annotation(store["obs"], where, "obs")
    if "var" not in parent:
        raise CellsFormatError(where, "its raw has no var", "Write the file again with a recent anndata.")
    var = _stored_annotation(parent["var"], where, "raw.var" if use_raw else "var")
    raw_n_vars = None
    if not use_raw and raw is not None and "var" in raw:
        raw_n_vars = _stored_annotation(raw["var"], where, "raw.var").n_rows
    return _checked(CellsSource(where, obs, var, matrix_rows(elem, where), raw_n_vars))


def _stored_annotation(elem: Any, where: str, name: str) -> Annotation:
    if not hasattr(elem, "keys"):
        raise CellsFormatError(
            where,
            f"{name} is stored in the form of anndata before 0.7",
            "Write the file again with a recent anndata: `anndata.read_h5ad(FILE).write_h5ad(NEW)`.",
        )
    attrs = dict(elem.attrs)
    if attrs.get("encoding-version") == "0.2.0" and attrs.get("_index") in elem:
        return _StoredAnnotation(elem, where, name)
    # Older files keep the categories of all columns apart: only the whole frame can be read.
    return _LoadedAnnotation(_read_elem(elem, where, name))


def _read_column(frame: Any, column: str, where: str, name: str) -> Any:
    if column not in frame:
        raise CellsFormatError(
            where,
            f"{name} is not there, though the list of columns (column-order) names it",
            "Copy or write the file again.",
        )
    try:
        elem = frame[column]
    except Exception as error:  # a damaged file: h5py and zarr raise many kinds
        raise CellsFormatError(
            where, f"{name} cannot be read ({_first_line(error)})", "Copy or write the file again."
        ) from error
    return _read_elem(elem, where, name)


def _read_elem(elem: Any, where: str, name: str) -> Any:
    from anndata.io import read_elem

    try:
        return read_elem(elem)
    except Exception as error:  # anndata adds to whatever h5py or zarr raise
        raise CellsFormatError(
            where, f"{name} cannot be read ({_first_line(error)})", "Write the file again with a recent anndata."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _StoredAnnotation:
    """A data frame on disk, in the form that anndata writes since 0.8."""

    def __init__(self, group: Any, where: str, name: str) -> None:
        attrs = dict(group.attrs)
        index_key = str(attrs["_index"])
        self.columns = tuple(str(column) for column in attrs.get("column-order", ()))
        self.index_name: str | None = index_key
        self._group = group
        self._where = where
        self._name = name
        self._index = as_text(_read_column(group, index_key, where, f"the index of {name}"))
        self.n_rows = len(self._index)

    def index(self) -> NDArray[np.object_]:
        return self._index

    def column(self, name: str) -> Any:
        return _read_column(self._group, name, self._where, f"{self._name} column {name!r}")


# --- in memory --------------------------------------------------------------------------------------------------------


class _LoadedAnnotation:
    """A data frame in memory."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.columns = tuple(str(column) for column in frame.columns)
        self.index_name = None if frame.index.name is None else str(frame.index.name)
        self.n_rows = len(frame)
        self._frame = frame

    def index(self) -> NDArray[np.object_]:
        return as_text(self._frame.index)

    def column(self, name: str) -> Any:
        return self._frame.iloc[:, self.columns.index(name)]


def _loaded(adata: AnnData, layer: str | None, use_raw: bool) -> CellsSource:
    where = f"{IN_MEMORY} backed by {adata.filename}" if adata.isbacked else IN_MEMORY
    var = adata.var
    if use_raw:
        if adata.raw is None:
            raise _no_raw(where)
        var = adata.raw.var
        rows = matrix_rows(adata.raw.X, where)
    else:
        if layer is not None and layer not in adata.layers:
            raise _no_layer(where, layer, _layer_names(adata))
        rows = _loaded_rows(adata, layer, where)
    raw_n_vars = None if use_raw or adata.raw is None else int(adata.raw.n_vars)
    return _checked(CellsSource(where, _LoadedAnnotation(adata.obs), _LoadedAnnotation(var), rows, raw_n_vars))


def _loaded_rows(adata: AnnData, layer: str | None, where: str) -> MatrixRows:
    def matrix_of(cells: AnnData) -> Any:
        return cells.X if layer is None else cells.layers[layer]

    if adata.is_view and not adata.isbacked and not (layer is None and _lacks_x(adata)):
        # A view's matrix is a copy of all its rows; taking rows from the view copies no more than those. anndata makes
        # no view of a view of a backed object, whose rows are therefore loaded at once, as its `.X` does.
        def take(rows: NDArray[np.int64]) -> Any:
            # SciPy takes no rows of a sparse matrix together with a reversed range of columns: it raises, and before
            # 1.13 gives something else.
            with suppress(ValueError):
                taken = matrix_of(adata[rows])
                if taken.shape == (len(rows), adata.n_vars):
                    return taken
            return matrix_of(adata)[rows]

        return TakenRows(take, (adata.n_obs, adata.n_vars), where)
    matrix = _backed_view(adata, matrix_of) if adata.is_view and adata.isbacked else matrix_of(adata)
    if matrix is None:
        raise _no_x(where, _layer_names(adata), has_raw=adata.raw is not None)
    return matrix_rows(matrix, where)


def _backed_view(view: AnnData, matrix_of: Callable[[AnnData], Any]) -> Any:
    """Return the matrix of a view of a backed object, reversed ones too."""
    # What a view shows of which object is in no public attribute.
    shown, indices = view._adata_ref, (view._oidx, view._vidx)
    # h5py takes no slice with a negative step, and anndata gives an error or too little for one of a sparse matrix.
    if not any(isinstance(index, slice) and (index.step or 1) < 0 for index in indices):
        return matrix_of(view)
    rows, columns = (np.arange(length)[index] for length, index in zip(shown.shape, indices, strict=True))
    ascending, places = np.unique(rows, return_inverse=True)
    return matrix_of(shown[ascending])[places][:, columns]


def _lacks_x(view: AnnData) -> bool:
    with suppress(ValueError):  # as above; there is an X then
        return view[:0].X is None
    return False


# --- problems ---------------------------------------------------------------------------------------------------------


def _checked(cells: CellsSource) -> CellsSource:
    if cells.matrix.shape != (cells.obs.n_rows, cells.var.n_rows):
        found = " x ".join(f"{length:,}" for length in cells.matrix.shape)
        raise CellsFormatError(
            cells.where,
            f"its matrix is {found}, but obs has {pluralize(cells.obs.n_rows, 'row')} and var {cells.var.n_rows:,}",
            "Write the file again with a recent anndata.",
        )
    return cells


def _no_raw(where: str) -> ReadOptionError:
    return ReadOptionError(where, "it has no raw", "Leave --use-raw out.")


def _layer_names(adata: AnnData) -> list[str]:
    return [name for name in adata.layers if name is not None]  # anndata 0.13 holds X under None


def _no_layer(where: str, layer: str, layers: list[str]) -> ReadOptionError:
    if not layers:
        return ReadOptionError(where, f"it has no layer {layer!r}, and no others", "Leave --layer out to read X.")
    return ReadOptionError(
        where,
        f"it has no layer {layer!r} (it has: {join_limited(layers, 12)})",
        "Choose one of these, or X without --layer.",
    )


def _no_x(where: str, layers: list[str], *, has_raw: bool) -> ReadOptionError:
    ways = ["raw with --use-raw"] if has_raw else []
    ways += [f"a layer with --layer (it has: {join_limited(layers, 12)})"] if layers else []
    if not ways:
        return ReadOptionError(where, "it has no X, no layers and no raw", "Give a file that holds expression.")
    return ReadOptionError(where, "it has no X", f"Read {', or '.join(ways)}.")
