"""Predictions as a long table, one row per perturbation and gene, for spreadsheets, R and data bases."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

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
    """Write tables one below the other, as an ending that `check_ending` accepts says; return the number of rows."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    write = _write_parquet if path.suffix.lower() == ".parquet" else _write_text
    try:
        with failed_writes(path, "writing failed"):
            n_rows = write(iter(tables), new, path)
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


def _write_text(tables: Iterator[pd.DataFrame], new: Path, path: Path) -> int:
    n_rows, separator = 0, "\t" if path.suffix.lower() == ".tsv" else ","
    with new.open("w", encoding="utf-8", newline="") as stream:
        for table in tables:
            text = table[table.columns.intersection(["perturbation", "group", "gene"])].map(csv_cell)
            table.assign(**text).to_csv(stream, sep=separator, index=False, header=not n_rows, float_format="%.6g")
            n_rows += len(table)
    return n_rows


def _write_parquet(tables: Iterator[pd.DataFrame], new: Path, path: Path) -> int:
    try:
        from pyarrow import Table
        from pyarrow.parquet import ParquetWriter
    except ImportError:
        raise MissingPackageError("pyarrow", f"writing {path}", "parquet") from None
    first, n_rows = next(tables), 0
    with ParquetWriter(new, Table.from_pandas(first, preserve_index=False).schema) as writer:
        for table in chain([first], tables):
            writer.write_table(Table.from_pandas(table, writer.schema, preserve_index=False))
            n_rows += len(table)
    return n_rows
