"""Lists of perturbations and of genes in files and pipes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from scgenept_rt.errors import PerturbationFileError
from scgenept_rt.files.failures import failed_reads
from scgenept_rt.files.text import read_text
from scgenept_rt.genes import at_line
from scgenept_rt.perturbation.labels import PerturbationRequest
from scgenept_rt.wording import join_limited, pluralize

_LABEL_COLUMNS = ("perturbation", "condition")
_GENE_COLUMNS = ("gene_name", "gene")
_COUNT_COLUMN = "n_controls"
_WEIGHT_COLUMNS = ("weight", "logfoldchanges", "log2foldchange", "logfc", "avg_log2fc")
_TABLES = (".csv", ".tsv")
_DELIMITERS = (",", ";", "\t")
_STANDARD_INPUT = Path("-")


def read_gene_list(path: str | Path, *, for_pairs: bool = True) -> list[str]:
    """Read gene names: one per line, or the gene_name or gene column of a .csv or .tsv file.

    Raises `PerturbationFileError` if the file cannot be read, or holds no gene, or only one to make pairs of.
    """
    path = Path(path)
    genes = [entry.label for entry in read_entries(path, _GENE_COLUMNS)]
    if len(set(genes)) < 1 + for_pairs:
        expected = "two or more to make pairs of" if for_pairs else "one or more"
        raise _error(path, f"it names {pluralize(len(set(genes)), 'gene')}, expected {expected}")
    return genes


def read_gene_weights(path: str | Path) -> dict[str, float]:
    """Read genes with weights from a .csv or .tsv file.

    Its columns are gene_name, gene or names, and weight, or a log fold change as Scanpy, DESeq2, edgeR or Seurat call
    it. Raises `PerturbationFileError` if the file cannot be read, lacks a column or holds no gene, or a weight is not a
    number.
    """
    path = Path(path)
    if path.suffix.lower() not in _TABLES:
        raise _error(path, "it is not a table", "Give genes with weights as .csv or .tsv")
    weights: dict[str, float] = {}
    for entry in read_entries(path, (*_GENE_COLUMNS, "names"), _WEIGHT_COLUMNS):
        if not entry.others:
            raise _error(path, f"its header has no column {' or '.join(_WEIGHT_COLUMNS)}", "Name the column weight")
        column, text = next(iter(entry.others.items()))
        try:
            weight = float(text)
        except ValueError:
            raise _error(path, f"{text!r} is not a number", line=entry.line, column=column) from None
        if weights.setdefault(entry.label, weight) != weight:
            raise _error(path, f"the gene {entry.label} has two weights", "Give it one", entry.line)
    if not weights:
        raise _error(path, "it names no gene, expected one or more")
    return weights


def read_perturbation_file(path: str | Path) -> list[PerturbationRequest]:
    """Read perturbations from a file.

    A .csv or .tsv file has a header with a `perturbation` (or `condition`) column and, optionally, `n_controls`; it may
    be separated by commas, semicolons or tabs, whatever the ending. Any other file, a pipe, or standard input (`-`)
    holds one label per line. Blank lines and lines that start with # are skipped. Raises `PerturbationFileError` with
    file, line and column if the file cannot be read or a cell is not what was expected.
    """
    path = Path(path)
    requests = [
        PerturbationRequest(entry.label, _count(path, entry), (path, entry.line))
        for entry in read_entries(path, _LABEL_COLUMNS)
    ]
    if not requests:
        raise _error(path, "it holds no perturbation, expected one per line, such as FOSB+ctrl")
    return requests


def _error(
    path: Path, problem: str, remedy: str = "", line: int | None = None, column: str = ""
) -> PerturbationFileError:
    where = at_line(path, line)
    return PerturbationFileError(problem, remedy, where=f"{where}, column {column!r}" if column else where)


class Entry(NamedTuple):
    """One entry of a list: its label, its line, and the other columns of a table that were asked for."""

    line: int
    label: str
    others: Mapping[str, str]


def read_entries(
    path: Path, label_columns: Sequence[str], other_columns: Sequence[str] = (_COUNT_COLUMN,)
) -> Iterator[Entry]:
    """Yield the entries of a list: one per line, or the rows of a .csv or .tsv file.

    Raises `PerturbationFileError` with file, line and column if the file cannot be read, or a table has none of the
    label columns.
    """
    with failed_reads(PerturbationFileError, path, remedy="Save it as UTF-8 text: .txt, .csv or .tsv"):
        text = read_text(None if path == _STANDARD_INPUT else path)
    if path.suffix.lower() in _TABLES:
        yield from _table(path, text, label_columns, other_columns)
        return
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        label = line.strip()
        if not label or label.startswith("#"):
            continue
        if any(_is_header(label, delimiter, label_columns) for delimiter in _DELIMITERS):
            problem = f"{label!r} is the header of a table, which only a .csv or .tsv file may have"
            raise _error(path, problem, "Remove the line, or give the table in such a file", number)
        yield Entry(number, label, {})


def _table(path: Path, text: str, label_columns: Sequence[str], other_columns: Sequence[str]) -> Iterator[Entry]:
    """Yield the entries of a delimited table whose header has one of the label columns, in any case."""
    # Comments may hold any quotes, or be quoted as a cell; an empty line in their place keeps the count of lines.
    stream = io.StringIO(text, newline="")
    lines = ["\n" if line.lstrip(' \t"').startswith("#") else line for line in stream]
    first = next((line for line in lines if line.strip()), "")
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    delimiters = [each for each in (usual, *_DELIMITERS) if _is_header(first, each, label_columns)]
    rows = _rows(path, lines, delimiters[0] if delimiters else usual)
    line, header = next(rows, (None, []))
    names = [name.casefold() for name in header]
    for name in (*label_columns, *other_columns):
        if names.count(name) > 1:
            problem = f"its header has {names.count(name)} columns {name!r}"
            raise _error(path, problem, "Rename all but one of them", line)
    label_column = next((name for name in label_columns if name in names), None)
    if label_column is None:
        problem = (
            f"its header has no column {' or '.join(label_columns)} (it has: {join_limited(header, 12) or 'none'})"
        )
        raise _error(path, problem, f"Name the column {label_columns[0]}", line)
    for line, cells in rows:
        if len(cells) > len(header):
            # A cell left out may be the second gene of a pair.
            problem = f"the row has {len(cells):,} cells, and the header {pluralize(len(header), 'column')}"
            pairs = "; join genes that are perturbed together by a plus, such as FOSB+KLF1"
            raise _error(path, problem, f"Name every column{pairs if label_columns == _LABEL_COLUMNS else ''}", line)
        cell_of = dict(zip_longest(names, cells, fillvalue=""))
        if not cell_of[label_column]:
            raise _error(path, "the cell is empty", line=line, column=header[names.index(label_column)])
        yield Entry(line, cell_of[label_column], {name: cell_of[name] for name in other_columns if name in cell_of})


def _is_header(line: str, delimiter: str, label_columns: Sequence[str]) -> bool:
    return any(cell.strip(' "\r\n').casefold() in label_columns for cell in line.split(delimiter))


def _rows(path: Path, lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line and cells of each row, without the blank cells at its end, which spreadsheets write."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    begin = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                yield reader.line_num, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        problem = f"the row that begins here cannot be read ({error})"
        raise _error(path, problem, "Check its quotes: each needs its end", begin) from error


def _count(path: Path, entry: Entry) -> int | None:
    text = entry.others.get(_COUNT_COLUMN, "")
    if not text:
        return None
    try:
        count = float(text)  # pandas writes whole numbers as 50.0 when the column has blanks
    except ValueError:
        count = 0.0
    if count < 1 or not count.is_integer():
        problem = f"{text!r} is not a number of cells, expected a whole number from 1, or nothing for all"
        raise _error(path, problem, line=entry.line, column=_COUNT_COLUMN)
    return int(count)
