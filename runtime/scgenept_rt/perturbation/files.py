"""Lists of perturbations and of genes in files and pipes."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scgenept_rt.errors.core import PerturbationFileError, join_limited, pluralize
from scgenept_rt.genes import at_line
from scgenept_rt.perturbation.labels import PerturbationRequest

_LABEL_COLUMNS = ("perturbation", "condition")
_GENE_COLUMNS = ("gene_name", "gene")
_COUNT_COLUMN = "n_controls"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_OTHER_DELIMITERS = (",", ";", "\t")
_STANDARD_INPUT = Path("-")


def read_gene_list(path: str | Path) -> list[str]:
    """Read gene names: a .txt file with one per line, or a .csv or .tsv file with a gene_name or gene column.

    Pipes and other separators are read as `read_perturbation_file` does.

    Raises
    ------
    PerturbationFileError
        If the file cannot be read, or holds fewer than two genes.
    """
    path = Path(path)
    genes = [entry.label for entry in _entries(path, _GENE_COLUMNS)]
    if len(set(genes)) < 2:
        raise _error(path, f"it names {pluralize(len(set(genes)), 'gene')}, expected two or more to make pairs of")
    return genes


def read_perturbation_file(path: str | Path) -> list[PerturbationRequest]:
    """Read perturbations from a file.

    A .txt file holds one label per line. A .csv or .tsv file has a header with a `perturbation` (or `condition`)
    column and, optionally, `n_controls`. Blank lines and lines that start with # are skipped. Where the header has
    the column only if it is split at semicolons, tabs or commas, that is how the table is read, whatever the ending
    (spreadsheets write a .csv with semicolons in many countries). Standard input (`-`) and pipes are read as .txt.

    Raises
    ------
    PerturbationFileError
        If the file cannot be read or a cell is not what was expected; names the file, line and column.
    """
    path = Path(path)
    requests = [
        PerturbationRequest(entry.label, _count(path, entry), path, entry.line)
        for entry in _entries(path, _LABEL_COLUMNS)
    ]
    if not requests:
        raise _error(path, "it holds no perturbation, expected one per line, such as FOSB+ctrl")
    return requests


@dataclass(frozen=True)
class Entry:
    """One entry of a list: its label, its line, and the other columns of a table that were asked for."""

    line: int
    label: str
    others: Mapping[str, str]


def _error(
    path: Path, problem: str, remedy: str = "", line: int | None = None, column: str = ""
) -> PerturbationFileError:
    where = at_line(path, line)
    return PerturbationFileError(problem, remedy, where=f"{where}, column {column!r}" if column else where)


def _entries(path: Path, label_columns: Sequence[str]) -> Iterator[Entry]:
    ending = path.suffix.lower()
    piped = ending not in (".txt", *_DELIMITERS)
    if piped and not _is_pipe(path):
        raise _unknown_ending(path)
    try:
        text = (sys.stdin.buffer.read() if path == _STANDARD_INPUT else path.read_bytes()).decode("utf-8-sig")
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        problem = "there is no such file" if missing else f"it cannot be read ({error.strerror})"
        raise _error(path, problem, "Check the path") from error
    except UnicodeDecodeError as error:
        raise _error(path, "it is not UTF-8 text", "Save it as UTF-8 text") from error
    if ending in _DELIMITERS:
        yield from table_entries(path, text, label_columns, (_COUNT_COLUMN,))
    else:
        yield from _lines(path, text, label_columns, piped=piped)


def _is_pipe(path: Path) -> bool:
    """Return whether a path stands for what another program writes, as the shell's `<(...)` does."""
    # With `< FILE`, the descriptors that a system shows under these names are files.
    standing_for_one = path in (_STANDARD_INPUT, Path("/dev/stdin")) or path.parent == Path("/dev/fd")
    return standing_for_one or path.is_fifo() or path.is_char_device()


def _unknown_ending(path: Path) -> PerturbationFileError:
    if not path.exists():
        return _error(path, "there is no such file", "Check the path")
    if path.is_dir():
        return _error(path, "it is a directory, expected a file")
    found = f"unknown file ending {path.suffix.lower()!r}" if path.suffix else "its name has no ending"
    return _error(path, f"{found}, expected .txt, .csv or .tsv, or a pipe (-) with one label per line")


def _lines(path: Path, text: str, label_columns: Sequence[str], *, piped: bool) -> Iterator[Entry]:
    first = True
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        label = line.strip()
        if not label or label.startswith("#"):
            continue
        if first and any(cell.strip(' "').casefold() in label_columns for cell in re.split(r"[,;\t]", label)):
            what = "a pipe" if piped else "a .txt file"
            remedy = "give a file that ends in .csv or .tsv" if piped else "name the file .csv (.tsv if it has tabs)"
            problem = f"{label!r} is the header of a table, expected no header in {what}"
            raise _error(path, problem, f"Remove the line, or {remedy}", number)
        first = False
        yield Entry(number, label, {})


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    line: int
    cells: list[str]

    def cell(self, index: int | None) -> str:
        return self.cells[index].strip() if index is not None and index < len(self.cells) else ""


def table_entries(path: Path, text: str, label_columns: Sequence[str], other_columns: Sequence[str]) -> Iterator[Entry]:
    """Yield the entries of a delimited table whose header has one of the label columns, in any case.

    Parameters
    ----------
    path
        The file, for messages and for its usual delimiter.
    text
        Its text.
    label_columns
        Names of the column to read, the first that is there.
    other_columns
        Columns to read as well if they are there.

    Raises
    ------
    PerturbationFileError
        If the column is missing, a label is empty, or a row has more cells than the header.
    """
    rows = _rows(path, text, _delimiter(path, text, label_columns))
    header = next(rows, None)
    names = [] if header is None else _without_blank_end(header.cells)
    index = {name: _column(path, header, names, name) for name in (*label_columns, *other_columns)}
    at = next((index[name] for name in label_columns if index[name] is not None), None)
    if at is None:
        raise _error(
            path,
            f"its header has no column {' or '.join(label_columns)} (it has: {join_limited(names, 12) or 'none'})",
            f"Name the column {label_columns[0]}",
            header.line if header else None,
        )
    for row in rows:
        if len(_without_blank_end(row.cells)) > len(names):
            raise _surplus_cells(path, row, names, at, together=tuple(label_columns) == _LABEL_COLUMNS)
        label = row.cell(at)
        if not label:
            raise _error(path, "the cell is empty", line=row.line, column=names[at])
        yield Entry(row.line, label, {name: row.cell(index[name]) for name in other_columns})


def _without_blank_end(cells: Sequence[str]) -> list[str]:
    """Return cells, stripped, without the blank ones at the end, which spreadsheets write where a table is wider."""
    stripped = [cell.strip() for cell in cells]
    while stripped and not stripped[-1]:
        stripped.pop()
    return stripped


def _surplus_cells(path: Path, row: _Row, names: Sequence[str], at: int, *, together: bool) -> PerturbationFileError:
    """Return the error for a row that is longer than the header: a cell left out may be the second gene of a pair."""
    cells = _without_blank_end(row.cells)
    problem = f"the row has {len(cells):,} cells, and the header {pluralize(len(names), 'column')}"
    rest = cells[at:]
    if not together:
        remedy = "Write one gene per row, and name every column"
    elif at == len(names) - 1 and all(re.fullmatch(r"\S*[^\W\d]\S*", cell) for cell in rest):
        remedy = f"Write {'+'.join(rest)} to perturb these genes together, or give each a row of its own"
    else:
        remedy = "Name every column; genes that are perturbed together are joined by a plus, such as FOSB+KLF1"
    return _error(path, problem, remedy, row.line)


def _delimiter(path: Path, text: str, label_columns: Sequence[str]) -> str:
    """Return what separates the cells of a table: the usual, unless only another one gives a header with the column."""
    usual = _DELIMITERS.get(path.suffix.lower(), ",")
    for delimiter in (usual, *_OTHER_DELIMITERS):
        try:
            header = next(_rows(path, text, delimiter), None)
        except PerturbationFileError:  # quotes that this delimiter does not fit
            continue
        if header is not None and any(name.strip().casefold() in label_columns for name in header.cells):
            return delimiter
    return usual


def _column(path: Path, header: _Row | None, names: Sequence[str], wanted: str) -> int | None:
    """Return where the header has a column, in any case; None if it has none."""
    found = [index for index, name in enumerate(names) if name.casefold() == wanted]
    if header is not None and len(found) > 1:
        raise _error(path, f"its header has {len(found)} columns {wanted!r}", "Rename all but one of them", header.line)
    return found[0] if found else None


def _rows(path: Path, text: str, delimiter: str) -> Iterator[_Row]:
    # Comments may hold any quotes; an empty line in their place keeps the count of lines.
    stream = io.StringIO(text, newline="")
    lines = ("\n" if line.lstrip().startswith("#") else line for line in stream)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    begin = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) and not cells[0].lstrip().startswith("#"):
                yield _Row(reader.line_num, cells)
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
