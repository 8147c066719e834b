"""Predictions as a long table, one row per perturbation and gene, for spreadsheets, R and data bases."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scgenept_rt.errors import MissingPackageError, OutputError
from scgenept_rt.evaluation.prediction_files import group_names, read_parts
from scgenept_rt.files.durable import move_durably
from scgenept_rt.files.failures import failed_writes
from scgenept_rt.files.text import csv_cell

if TYPE_CHECKING:
    from anndata import AnnData

LAYERS = ("delta", "delta_sem", "effect")
_TEXT = ["perturbation", "group", "gene"]


def change_tables(
    source: str | Path | AnnData,
    perturbations: Sequence[str] | None = None,
    *,
    genes: Sequence[str] | None = None,
    top: int | None = None,
    in_group: str | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield a table per perturbation, or per group and perturbation; memory does not grow with their number.

    Parameters
    ----------
    source
        A prediction file, or the AnnData that `Predictor.predict` returned.
    perturbations
        Perturbations, all by default.
    genes
        Genes by symbol or Ensembl id, all by default.
    top
        Only this number of genes, those of the largest absolute delta, the largest first.
    in_group
        One group of control cells; all by default.

    Yields
    ------
    DataFrame
        perturbation, group (where there are groups), gene, control (mean of the control cells), predicted, delta,
        delta_sem, effect; log1p scale. What the predictions do not hold is NaN. The last column, synthetic, is
        True if the weights are.

    Raises
    ------
    ScgeneptError
        As `read_predictions`, and if one of `genes` was not predicted, or `top` is given and there are no changes.
    """
    for group in group_names(source) if in_group is None else [in_group]:
        for means in read_parts(source, perturbations, in_group=group, layers=LAYERS):
            panel = means.panel
            columns = np.arange(len(panel)) if genes is None else np.array([panel.position(gene) for gene in genes])
            names = np.array(panel.names, dtype=object)
            for row, label in enumerate(means.labels):
                shown = columns
                if top is not None:
                    shown = columns[np.argsort(-np.abs(means.delta(label)[columns]), kind="stable")[:top]]
                values = {name: means.layers[name][row, shown] if name in means.layers else np.nan for name in LAYERS}
                predicted = means.means[row, shown]
                first = {"perturbation": label, "gene": names[shown], "control": predicted - values["delta"]}
                table = pd.DataFrame({**first, "predicted": predicted, **values})
                table = table.astype(dict.fromkeys(["control", *LAYERS], np.float32))
                if means.group is not None:
                    table.insert(1, "group", means.group[1])
                yield table.assign(synthetic=means.synthetic)


def write_tables(tables: Iterable[pd.DataFrame], path: Path) -> int:
    """Write tables one below the other, as the ending says; return the number of rows."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    n_rows = 0
    try:
        with failed_writes(path, "writing failed"):
            write, close = _writer(new, path)
            try:
                for table in tables:
                    write(table)
                    n_rows += len(table)
            finally:
                close()
            move_durably(new, path)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)
    return n_rows


def check_ending(path: Path) -> None:
    """Raise `OutputError` unless a table can have this ending."""
    if path.suffix.lower() not in (".csv", ".tsv", ".parquet"):
        raise OutputError(
            f"the ending {path.suffix!r} is unknown, expected .csv, .tsv or .parquet", "Choose another path", where=path
        )


def _writer(new: Path, path: Path) -> tuple[Callable[[pd.DataFrame], Any], Callable[[], None]]:
    check_ending(path)
    if path.suffix.lower() != ".parquet":
        stream = new.open("w", encoding="utf-8", newline="")
        separator = "\t" if path.suffix.lower() == ".tsv" else ","

        def write(table: pd.DataFrame) -> None:
            text = table[table.columns.intersection(_TEXT)].map(csv_cell)
            table.assign(**text).to_csv(
                stream, sep=separator, index=False, header=stream.tell() == 0, float_format="%.6g"
            )

        return write, stream.close
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingPackageError("pyarrow", f"writing {path}", "parquet") from None
    types = dict.fromkeys(_TEXT, pyarrow.string()) | {"synthetic": pyarrow.bool_()}
    stack = ExitStack()

    @cache
    def writer(columns: tuple[str, ...]) -> Any:
        schema = pyarrow.schema([(name, types.get(name, pyarrow.float32())) for name in columns])
        return stack.enter_context(pyarrow.parquet.ParquetWriter(new, schema))

    def write_rows(table: pd.DataFrame) -> None:
        to = writer(tuple(table))
        to.write_table(pyarrow.Table.from_pandas(table, to.schema, preserve_index=False))

    return write_rows, stack.close
