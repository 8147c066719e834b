"""Errors about the control cells of an input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scgenept_rt.errors.base import ScgeneptError
from scgenept_rt.errors.wording import describe, join_limited, pluralize


class CellsError(ScgeneptError, ValueError):
    """An input of cells that cannot be used as it is; `where` is its path, or says that it is an object in memory."""

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        self.where = where
        super().__init__(f"{where}: {problem}. {remedy}")


class CellsNotFoundError(CellsError, FileNotFoundError):
    """The input does not exist."""

    def __init__(self, where: str) -> None:
        super().__init__(where, "there is no such file or directory", "Check the path.")


class CellsFormatError(CellsError):
    """The input is not a readable .h5ad file or .zarr directory."""


class CellsTypeError(CellsError, TypeError):
    """What was given as cells is neither an AnnData nor a path."""

    def __init__(self, given: object) -> None:
        super().__init__(
            "cells",
            f"{describe(given)} was given, expected an AnnData, or the path of an .h5ad file or a .zarr directory",
            "Put expression and gene names into an AnnData, or give an array to `Predictor.predict_array`.",
        )


class ReadOptionError(CellsError, LookupError):
    """An option names a layer, column or matrix that the input does not have."""


class EmptyCellsError(CellsError):
    """The input has no cells or no genes."""

    def __init__(self, where: str, n_obs: int, n_vars: int) -> None:
        super().__init__(
            where,
            f"it holds {pluralize(n_obs, 'cell')} x {pluralize(n_vars, 'gene')}",
            "Expected one control cell and one gene at least.",
        )


class AmbiguousControlLabelError(CellsError):
    """A column holds several labels that may be the control."""

    def __init__(self, where: str, column: str, counts: Mapping[str, int]) -> None:
        found = " and ".join(f"{label!r} ({pluralize(count, 'cell')})" for label, count in counts.items())
        super().__init__(
            where,
            f"obs column {column!r} holds more than one label that may be the control: {found}",
            f"Say which one with --control-label, for example --control-label {next(iter(counts))}.",
        )


class NoControlCellsError(CellsError):
    """No cell carries a control label."""

    def __init__(
        self,
        where: str,
        column: str,
        wanted: Sequence[str],
        counts: Sequence[tuple[str, int]],
        elsewhere: Sequence[str] = (),
    ) -> None:
        """Word it; `elsewhere` are other columns, which hold a control label."""
        self.column = column
        expected = " or ".join(repr(label) for label in wanted)
        labels = ", ".join(f"{label!r} ({count:,})" for label, count in counts)
        if counts:
            found = f"its most frequent label{'s are' if len(counts) > 1 else ' is'} {labels}"
            remedy = "Name the control with --control-label, or another column with --condition-key."
        else:
            found = "it has no labels at all"
            remedy = "Fill it in, or name another column with --condition-key."
        if elsewhere:
            which = "column" if len(elsewhere) == 1 else "columns"
            remedy = remedy.removesuffix(".") + f"; such a label is in the {which} {join_limited(elsewhere)}."
        super().__init__(where, f"obs column {column!r} has no control cells, expected {expected}; {found}", remedy)


class UnnamedControlColumnError(CellsError):
    """Control cells are labelled in a column that is not looked at unless it is named."""

    def __init__(
        self, where: str, looked_for: Sequence[str], columns: Mapping[str, Mapping[str, int]], n_obs: int
    ) -> None:
        self.columns = tuple(columns)
        held = [
            f"{name!r} holds " + " and ".join(f"{label!r} ({n:,} of {n_obs:,} cells)" for label, n in counts.items())
            for name, counts in columns.items()
        ]
        column, it = (self.columns[0], "that column") if len(columns) == 1 else ("COLUMN", "these columns")
        super().__init__(
            where,
            f"obs has no column {', '.join(looked_for)}, but another one tells control cells: {join_limited(held)}",
            f"Name the column with --condition-key {column}; to use all cells as control cells, take {it} out of obs.",
        )


class MissingGenesError(CellsError):
    """The input lacks genes that the model reads."""

    def __init__(
        self,
        where: str,
        missing: Sequence[str],
        n_genes: int,
        source: str,
        examples: Sequence[str],
        raw_n_vars: int | None,
        other_case: Sequence[str] = (),
        text_columns: Sequence[str] = (),
    ) -> None:
        """Word it.

        `other_case` are names of the input that differ from missing ones in upper and lower case alone,
        `text_columns` the columns of var that may hold other names.
        """
        self.missing = tuple(missing)
        n_missing = len(self.missing)
        raw = "" if raw_n_vars is None else f" Its raw holds {pluralize(raw_n_vars, 'gene')}: --use-raw reads that."
        if n_missing == n_genes:
            problem = f"none of the model's {n_genes:,} genes was found; {source} holds {join_limited(examples, 3)}"
            remedy = "Gene symbols or Ensembl ids were expected: name the var column that holds them with --gene-key"
            remedy += f" (var columns of text: {join_limited(text_columns, 12)})." if text_columns else "."
            if not text_columns:
                remedy = "Gene symbols or Ensembl ids were expected, and no other column of var holds text: "
                remedy += "write them into var_names, or into a column that --gene-key names."
        else:
            problem = (
                f"{n_missing:,} of the model's {n_genes:,} genes are missing from {source}: {join_limited(missing)}"
            )
            if n_missing == 1:
                problem = f"one of the model's {n_genes:,} genes is missing from {source}: {missing[0]}"
            remedy = "Give an input with these genes, or --missing-genes zero to take them as not expressed."
        if other_case:
            n_there = pluralize(len(other_case), "of them is", "of them are")
            names = f"{n_there} there in other case ({join_limited(other_case, 3)})"
            remedy = f"{names}: write them as the model does, if they are human genes. {remedy}"
        super().__init__(where, problem, remedy + raw)


class ExpressionValueError(CellsError):
    """A value that is not log-normalised expression; the message names its cell and gene."""


class NonFiniteValueError(ExpressionValueError):
    """Expression is NaN or infinite."""

    def __init__(self, where: str, cell: str, gene: str, value: float) -> None:
        super().__init__(
            where,
            f"the value of cell {cell!r}, gene {gene!r} is {value}",
            "Expected finite log-normalised expression: remove or fill such values, or read another layer (--layer).",
        )


class NegativeValueError(ExpressionValueError):
    """Expression is negative, as after scaling."""

    def __init__(self, where: str, cell: str, gene: str, value: float) -> None:
        super().__init__(
            where,
            f"the value of cell {cell!r}, gene {gene!r} is negative ({value:g})",
            "Expected log-normalised expression, not scaled or centred values: read another matrix with --layer NAME "
            "or --use-raw, or go on with --allow-unnormalized.",
        )


class RawCountsError(ExpressionValueError):
    """All values are whole numbers, as raw counts are."""

    def __init__(self, where: str, cell: str, gene: str, maximum: float) -> None:
        super().__init__(
            where,
            f"all values are whole numbers up to {maximum:,g} (cell {cell!r}, gene {gene!r}), so these are raw counts",
            "Normalise them: `sc.pp.normalize_total(adata); sc.pp.log1p(adata)`; or read a layer that is "
            "(--layer NAME), or go on with --allow-unnormalized.",
        )


class NotLogTransformedError(ExpressionValueError):
    """Values are too large to be log1p."""

    def __init__(self, where: str, cell: str, gene: str, maximum: float, limit: float) -> None:
        super().__init__(
            where,
            f"the largest value is {maximum:,g} (cell {cell!r}, gene {gene!r}), log1p values stay below {limit:g}",
            "Transform them: `sc.pp.log1p(adata)`, after `sc.pp.normalize_total(adata)` if that was not done; or go on "
            "with --allow-unnormalized.",
        )


class SamplingError(ScgeneptError, ValueError):
    """Control cells cannot be drawn as asked."""


class TooFewControlCellsError(SamplingError):
    """More control cells were asked for than there are."""

    def __init__(self, n_controls: int, n_available: int) -> None:
        super().__init__(
            f"{n_controls:,} control cells were asked for, the input has {n_available:,}. "
            f"Ask for at most {n_available:,}, or draw with replacement (predict --sampling upstream)."
        )


class ValuesShapeError(ScgeneptError, ValueError):
    """An array of expression does not have the shape (n_cells, n_genes), or does not hold real numbers."""

    def __init__(self, found: str, n_genes: int, remedy: str) -> None:
        super().__init__(
            f"values are {found}, expected real numbers of shape (n_cells, {n_genes}) in model gene order. {remedy}"
        )
