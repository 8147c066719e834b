"""The one way to open cells: an .h5ad file, a .zarr directory or an AnnData, with reading options.

>>> with open_cells("screen.h5ad", {"layer": "lognorm"}) as cells:
...     match = cells.require_genes(panel)  # which columns hold the model's genes
...     control = find_control_rows(cells, panel)  # labels and rows of the control cells
...     for batch in cells.values(match, control.rows):  # checked, in model gene order
...         ...
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError, CellsError, CellsFormatError, FieldNotFoundError, UseOption
from scgenept_rt.expression.annotation import Annotation, as_text, no_column, usual_columns
from scgenept_rt.expression.matrix_rows import MatrixRows, matrix_rows
from scgenept_rt.expression.missing_genes import accept_missing, without_flagged
from scgenept_rt.expression.scale import ScaleCheck, judge_scale
from scgenept_rt.files.failures import failed_reads
from scgenept_rt.genes import GeneMatch, GenePanel, match_columns
from scgenept_rt.options import ReadOptions, resolve
from scgenept_rt.wording import describe, join_limited, pluralize

if TYPE_CHECKING:
    from anndata import AnnData

_COUNTS = re.compile(r"^(?!.*log).*(?:count|umi|raw)", re.IGNORECASE)
"""Names of layers of counts."""
# Columns that hold gene names or Ensembl ids in public data sets, in lower case and without separators.
_GENE_COLUMNS = (
    *("genename", "featurename", "genesymbols", "genesymbol", "symbol", "geneshortname", "hgncsymbol", "features"),
    *("genenames", "gene", "genes", "symbols", "externalgenename", "originalgenesymbols", "hgnc", "name", "index"),
    *("geneids", "geneid", "ensemblid", "ensemblids", "ensembl", "ensemblgeneid", "featureid", "id", "accession"),
)
_FEATURE_COLUMNS = ("feature_types", "feature_type", "modality")
_GENES = ("gene expression", "rna")
_IN_MEMORY = "AnnData object"
_LOAD = "Load it: `adata = adata.to_memory()`"


@contextmanager
def open_cells(source: str | Path | AnnData, read: ReadOptions | None = None) -> Iterator[OpenedCells]:
    """Open cells: an .h5ad file, a .zarr directory, or an AnnData in memory, backed, or as a view.

    Only the row names of obs are read at once, all else when it is asked for. Raises `ArgumentError` if the source is
    of another type or options are not valid, and a `CellsError` or `MissingPackageError` if it cannot be opened. A
    `CellsError` raised while it is open, that does not say where, is about these cells.
    """
    check_source(source)
    options = resolve(ReadOptions, read)
    if options["use_raw"] and options["layer"] is not None:
        raise ArgumentError(f"both raw and the layer {options['layer']!r} were asked for", "Choose one of the two")
    opening: AbstractContextManager[OpenedCells]
    if isinstance(source, (str, Path)):
        from scgenept_rt.expression.on_disk import open_stored

        opening = open_stored(Path(source), options)
    else:
        opening = nullcontext(LoadedCells(source, options))
    with opening as cells:
        try:
            yield cells
        except CellsError as error:
            if not error.where:
                error.where = cells.where
                error.args = (error.message(),)
            raise


def check_source(source: object) -> None:
    """Raise `ArgumentError` unless a source of cells is a path or an AnnData."""
    if not isinstance(source, (str, Path)):
        from anndata import AnnData  # already imported by whoever made one

        if not isinstance(source, AnnData):
            raise ArgumentError(
                f"cells are {describe(source)}, expected an AnnData, or the path of an .h5ad file or a .zarr directory",
                "Put expression and gene names into an AnnData, or pass an array to `Predictor.predict_array`",
            )


@dataclass(eq=False)
class OpenedCells(ABC):
    """Cells that are open for reading; everything is read when it is asked for."""

    where: str  # the path, or "AnnData object"; for messages
    options: ReadOptions  # complete
    stored_obs: Annotation  # of all rows; `obs` has those that are cells
    uns: Mapping[str, Any]  # on disk, entries are read on access, and dictionaries in it are mappings of that kind
    layer_names: tuple[str, ...]
    has_x: bool
    has_raw: bool

    @abstractmethod
    def _read_var(self, *, use_raw: bool) -> Annotation:
        """Return var, or that of raw."""

    @abstractmethod
    def _read_matrix(self, layer: str | None, *, use_raw: bool) -> MatrixRows:
        """Return a layer, X, or X of raw; the caller has checked that it is there."""

    @cached_property
    def kept(self) -> NDArray[np.int64] | None:
        """The stored rows that are cells, in order; None for all. An option that leaves out cells chooses them here."""
        return None

    @cached_property
    def obs(self) -> Annotation:
        """Annotation of the cells. Their rows here are those of `matrix`, whatever was left out of the input."""
        return self.stored_obs if self.kept is None else self.stored_obs.at(self.kept)

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.obs.n_rows

    @cached_property
    def var(self) -> Annotation:
        """Annotation of the genes of X, or of raw if the options name it."""
        if self.options["use_raw"]:
            self._check_matrix()
        return self._read_var(use_raw=self.options["use_raw"])

    @cached_property
    def matrix(self) -> MatrixRows:
        """Values of all genes: X, or the layer or raw that the options name.

        Raises a `CellsError` if it is not there, empty, cannot be read, or does not fit obs and var.
        """
        self._check_matrix()
        use_raw = self.options["use_raw"]
        return self._cells_of(self._read_matrix(self.options["layer"], use_raw=use_raw), self.var, of_raw=use_raw)

    def _check_matrix(self) -> None:
        layer = self.options["layer"]
        if self.options["use_raw"]:
            problem, is_there = "it has no raw", self.has_raw
        elif layer is not None:
            problem, is_there = f"it has no layer {layer!r}", layer in self.layer_names
        else:
            problem, is_there = "it has no X", self.has_x
        if not is_there:
            others = self.other_matrices()
            remedy = "Read X" if self.has_x else "" if others else "Give cells with expression values"
            raise FieldNotFoundError(problem, remedy, others)

    def layer(self, name: str) -> MatrixRows | None:
        """Return a layer of the same shape as X; None if there is none of this name."""
        return self._cells_of(self._read_matrix(name, use_raw=False), self.var) if name in self.layer_names else None

    def other_matrices(self, *, counts: bool = True) -> list[UseOption]:
        """Return the options that read another matrix than the options of these cells, also layers of `counts`."""
        others = [name for name in self.layer_names if name != self.options["layer"]]
        others = [name for name in others if counts or not _COUNTS.search(name)]
        known = others[0] if len(others) == 1 else None
        named = "" if known else f" ({join_limited(others, 12)})"
        options = [UseOption("layer", f"read {'that layer' if known else f'a layer{named}'}", known)] if others else []
        if self.has_raw and not self.options["use_raw"]:
            options.append(UseOption("use_raw", "read raw", True))
        return options

    @cached_property
    def gene_names(self) -> Mapping[str, Sequence[str]]:
        """The names that genes have, by source: "var_names" and the columns of var that usually hold gene names.

        With a gene_key the others stay: their Ensembl ids tell columns of the same name apart.
        """
        var, gene_key = self.var, self.options["gene_key"]
        names: dict[str, Sequence[str]] = {"var_names": var.index.tolist()}
        for column in dict.fromkeys([*usual_columns(var, _GENE_COLUMNS), *([gene_key] if gene_key else [])]):
            if column in var.columns:
                names[column] = as_text(var.column(column)).tolist()
            elif column == var.index_name:
                names[column] = names["var_names"]
        return names

    @cached_property
    def is_gene(self) -> NDArray[np.bool_]:
        """Which rows of var are genes, not antibodies, guides or peaks (10x's feature_types)."""
        for column in filter(self.var.columns.__contains__, _FEATURE_COLUMNS):
            genes = np.isin([text.casefold() for text in as_text(self.var.column(column))], _GENES)
            if genes.any():
                return genes
        return np.ones(self.var.n_rows, dtype=np.bool_)

    def match_genes(self, panel: GenePanel) -> GeneMatch:
        """Find the model's genes among the columns, whether or not any are missing; see `match_columns`."""
        gene_key = self.options["gene_key"]
        if gene_key is not None and gene_key not in self.gene_names:
            choose = UseOption("gene_key", "choose one of these")
            raise no_column("var", gene_key, ["var_names", *self.var.columns], choose)
        genes = self.is_gene
        # An antibody may have the name of a gene.
        names = {source: np.where(genes, texts, "").tolist() for source, texts in self.gene_names.items()}
        match = match_columns(panel, names, gene_key)
        return without_flagged(self, match)

    def require_genes(self, panel: GenePanel) -> GeneMatch:
        """Find the model's genes as `match_genes` does, and accept missing ones as `accept_missing` does."""
        match = self.match_genes(panel)
        return match.with_notices(accept_missing(self, match))

    def counts_beside(self, columns: NDArray[np.int64]) -> tuple[MatrixRows, NDArray[np.int64]] | None:
        """Return the counts in raw or in a layer beside X, and where they have these columns of X; None without any."""
        if self.options["layer"] is not None or self.options["use_raw"]:
            return None
        if self.has_raw:
            var = self._read_var(use_raw=True)
            column_of = {name: column for column, name in enumerate(var.index.tolist())}
            of_raw = np.array([column_of.get(name, -1) for name in self.var.index[columns]], dtype=np.int64)
            return self._cells_of(self._read_matrix(None, use_raw=True), var, of_raw=True), of_raw
        counts = self.layer(next(filter(_COUNTS.search, self.layer_names), ""))
        return None if counts is None else (counts, columns)

    def raw_option(self) -> list[UseOption]:
        """Return the option that reads raw, unless it is read already or not there."""
        if self.options["use_raw"] or not self.has_raw:
            return []
        n_genes = self._read_var(use_raw=True).n_rows
        return [UseOption("use_raw", f"read raw, which has {pluralize(n_genes, 'gene')}", True)]

    def values(
        self,
        match: GeneMatch,
        rows: NDArray[np.int64],
        notices: list[str] | None = None,
    ) -> Iterator[Any]:
        """Yield the values of cells in batches of bounded size, and check that they are log1p-normalised expression.

        Batches are `csr_array` [n_rows, n_genes] of float32 with sorted columns and no stored zeros; missing genes are
        zero. `rows` are int64 [n_cells], sorted, without repeats; notices about the scale are appended at the end.
        Raises `ExpressionValueError` if values are not finite, or not log1p-normalised unless the options accept that.
        """
        fault = judge_scale(self, rows, match.columns, match.panel.training_total)[1]
        check = ScaleCheck(self, match.panel.names, rows, fault)
        for batch in self.matrix.batches(rows, match.columns):
            check.check(batch)
            yield batch
        found = check.finish()
        if notices is not None:
            notices.extend([*self.matrix.notices, *found])

    def _cells_of(self, matrix: MatrixRows, var: Annotation, *, of_raw: bool = False) -> MatrixRows:
        """Return the rows of a matrix that are cells; raise `CellsFormatError` if it does not fit obs and var."""
        if not self.n_obs or not var.n_rows:
            found = f"it has {pluralize(self.n_obs, 'cell')} x {pluralize(var.n_rows, 'gene')}"
            raise CellsFormatError(f"{found}, expected at least one of each")
        fitting = (self.stored_obs.n_rows, var.n_rows)
        if matrix.shape != fitting:
            found = " x ".join(f"{length:,}" for length in matrix.shape)
            step = "Write the file again with a recent anndata"
            if of_raw:
                step = "Write the file without raw, or with that of these cells"
            elif matrix.shape == fitting[::-1]:
                step = "Write it with cells as rows: `adata.X = adata.X.T`"
            raise CellsFormatError(
                f"its {'raw' if of_raw else 'matrix'} is {found}, but obs has {pluralize(fitting[0], 'row')} and "
                f"{'raw.var' if of_raw else 'var'} {fitting[1]:,}",
                step,
            )
        matrix.kept = self.kept
        return matrix


class LoadedCells(OpenedCells):
    """Cells of an AnnData object."""

    def __init__(self, adata: AnnData, options: ReadOptions) -> None:
        import pandas as pd

        if not isinstance(adata.obs, pd.DataFrame):  # an xarray data set
            raise CellsFormatError("it is lazy (anndata.experimental.read_lazy)", _LOAD, where=_IN_MEMORY)
        self._adata = adata
        super().__init__(
            f"{_IN_MEMORY} backed by {adata.filename}" if adata.isbacked else _IN_MEMORY,
            options,
            Annotation.of(adata.obs),
            adata.uns,
            tuple(sorted(str(name) for name in adata.layers if name is not None)),  # anndata 0.13: None is X
            # X of a view would be copied. The object that it shows is in no public attribute.
            has_x=(adata._adata_ref if adata.is_view else adata).X is not None,
            has_raw=adata.raw is not None,
        )

    def _read_var(self, *, use_raw: bool) -> Annotation:
        return Annotation.of(self._adata.raw.var if use_raw else self._adata.var)

    def _read_matrix(self, layer: str | None, *, use_raw: bool) -> MatrixRows:
        with failed_reads(CellsFormatError, self.where, "its matrix", _LOAD):
            adata = self._adata
            matrix = adata.raw.X if use_raw else adata.X if layer is None else adata.layers[layer]
        return matrix_rows(matrix, self.where)
