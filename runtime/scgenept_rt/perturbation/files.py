"""Lists of perturbations and of genes in files and pipes."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from scgenept_rt.errors import PerturbationFileError, join_limited, pluralize
from scgenept_rt.perturbation.labels import PerturbationRequest

_LABEL_COLUMNS = ("perturbation", "condition")
_GENE_COLUMNS = ("gene_name", "gene")
_COUNT_COLUMN = "n_controls"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_OTHER_DELIMITERS = (",", ";", "\t")
_STANDARD_INPUT = Path("-")


def read_gene_list(path: str | Path) -> list[str]:
    """Read gene names: a .txt file with one a line, or a .csv or .tsv file with a gene_name or gene column.

    Pipes and other separators are read as `read_perturbation_file` does.

    Raises
    ------
    PerturbationFileError
        If the file cannot be read, or holds fewer than two genes.
    """
    path = Path(path)
    genes = [request.label for request in _read_requests(path, _GENE_COLUMNS)]
    if len(set(genes)) < 2:
        problem = f"it names {pluralize(len(set(genes)), 'gene')}"
        raise PerturbationFileError(path, problem, "Pairs need two different genes or more.")
    return genes


def read_perturbation_file(path: str | Path) -> list[PerturbationRequest]:
    """Read perturbations from a file.

    A .txt file holds one label a line. A .csv or .tsv file has a header with a `perturbation` (or `condition`)
    column and, optionally, `n_controls`. Blank lines and lines that start with # are skipped. Where the header has
    the column only if it is split at semicolons, tabs or commas, that is how the table is read, whatever the ending
    (spreadsheets write a .csv with semicolons in many countries). Standard input (`-`) and pipes are read as .txt.

    Raises
    ------
    PerturbationFileError
        If the file cannot be read or a cell is not what was expected; names the file, line and column.
    """
    path = Path(path)
    requests = list(_read_requests(path, _LABEL_COLUMNS))
    if not requests:
        raise PerturbationFileError(path, "it holds no perturbation", "Write one a line, such as FOSB+ctrl.")
    return requests


def _read_requests(path: Path, label_columns: Sequence[str]) -> Iterator[PerturbationRequest]:
    ending = path.suffix.lower()
    piped = ending not in (".txt", *_DELIMITERS)
    if piped and not _is_pipe(path):
        raise _unknown_ending(path)
    try:
        text = (sys.stdin.buffer.read() if path == _STANDARD_INPUT else path.read_bytes()).decode("utf-8-sig")
    except FileNotFoundError:
        raise PerturbationFileError(path, "there is no such file", "Check the path.") from None
    except OSError as error:
        raise PerturbationFileError(path, f"it cannot be read ({error.strerror})", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise PerturbationFileError(path, "it is not UTF-8 text", "Save it as UTF-8 text.") from error
    if ending in _DELIMITERS:
        delimiter = _delimiter(path, text, _DELIMITERS[ending], label_columns)
        yield from _read_table(path, _content_rows(path, text, delimiter), label_columns)
    else:
        yield from _read_lines(path, text, label_columns, piped=piped)


def _is_pipe(path: Path) -> bool:
    """Return whether a path stands for what another program writes, as the shell's `<(...)` does."""
    # With `< FILE`, the descriptors that a system shows under these names are files.
    standing_for_one = path in (_STANDARD_INPUT, Path("/dev/stdin")) or path.parent == Path("/dev/fd")
    return standing_for_one or path.is_fifo() or path.is_char_device()


def _unknown_ending(path: Path) -> PerturbationFileError:
    if not path.exists():
        return PerturbationFileError(path, "there is no such file", "Check the path.")
    if path.is_dir():
        return PerturbationFileError(path, "it is a directory", "Give a file.")
    problem = f"unknown file ending {path.suffix.lower()!r}" if path.suffix else "its name has no ending"
    return PerturbationFileError(path, problem, "Expected .txt, .csv or .tsv, or a pipe (-) with one label a line.")


def _read_lines(path: Path, text: str, label_columns: Sequence[str], *, piped: bool) -> Iterator[PerturbationRequest]:
    first = True
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        label = line.strip()
        if not label or label.startswith("#"):
            continue
        if first and any(cell.strip(' "').casefold() in label_columns for cell in re.split(r"[,;\t]", label)):
            kind, remedy = "a .txt file has", "name the file .csv (.tsv if it has tabs)"
            if piped:
                kind, remedy = "what comes through a pipe must have", "give a file that ends in .csv or .tsv"
            raise PerturbationFileError(
                path,
                f"{label!r} is the header of a table, and {kind} none",
                f"Remove the line, or {remedy}.",
                line=number,
            )
        first = False
        yield PerturbationRequest(label, None, path, number)


class _Row:
    """A row of a table with its line number."""

    def __init__(self, line: int, cells: list[str]) -> None:
        self.line = line
        self.cells = cells

    def cell(self, index: int | None) -> str:
        return self.cells[index].strip() if index is not None and index < len(self.cells) else ""


def _read_table(path: Path, rows: Iterator[_Row], label_columns: Sequence[str]) -> Iterator[PerturbationRequest]:
    header = next(rows, None)
    names = _without_blank_end(header.cells) if header else []
    indices = [_column(path, header, names, column) for column in (*label_columns, _COUNT_COLUMN)] if header else [None]
    *label_indices, count_index = indices
    label_index = next((index for index in label_indices if index is not None), None)
    if label_index is None:
        raise PerturbationFileError(
            path,
            f"its header has no column {' or '.join(label_columns)} (it has: {join_limited(names, 12) or 'none'})",
            f"Name the column {label_columns[0]}.",
            line=header.line if header else None,
        )
    for row in rows:
        if len(_without_blank_end(row.cells)) > len(names):
            raise _surplus_cells(path, row, names, label_index, together=label_columns == _LABEL_COLUMNS)
        label = row.cell(label_index)
        if not label:
            raise PerturbationFileError(
                path, "the cell is empty", "Write a label such as FOSB+ctrl.", line=row.line, column=names[label_index]
            )
        yield PerturbationRequest(label, _count(path, row, row.cell(count_index)), path, row.line)


def _without_blank_end(cells: Sequence[str]) -> list[str]:
    """Return cells, stripped, without the blank ones at the end, which spreadsheets write where a table is wider."""
    stripped = [cell.strip() for cell in cells]
    while stripped and not stripped[-1]:
        stripped.pop()
    return stripped


def _surplus_cells(
    path: Path, row: _Row, names: Sequence[str], label_index: int, *, together: bool
) -> PerturbationFileError:
    """Return the error for a row that is longer than the header: a cell left out may be the second gene of a pair."""
    cells = _without_blank_end(row.cells)
    problem = f"the row has {len(cells):,} cells, and the header {pluralize(len(names), 'column')}"
    rest = cells[label_index:]
    if not together:
        remedy = "Write one gene a row, and name every column."
    elif label_index == len(names) - 1 and all(re.fullmatch(r"\S*[^\W\d]\S*", cell) for cell in rest):
        remedy = f"Write {'+'.join(rest)} to perturb these genes together, or give each a row of its own."
    else:
        remedy = "Name every column; genes that are perturbed together are joined by a plus, such as FOSB+KLF1."
    return PerturbationFileError(path, problem, remedy, line=row.line)


def _delimiter(path: Path, text: str, usual: str, label_columns: Sequence[str]) -> str:
    """Return what separates the cells of a table: the usual, unless another alone makes its header one of ours."""
    for delimiter in (usual, *_OTHER_DELIMITERS):
        try:
            header = next(_content_rows(path, text, delimiter), None)
        except PerturbationFileError:  # quotes that this delimiter does not fit
            continue
        if header is not None and any(name.strip().casefold() in label_columns for name in header.cells):
            return delimiter
    return usual


def _column(path: Path, header: _Row, names: Sequence[str], wanted: str) -> int | None:
    """Return where the header has a column, in any case; None if it has none."""
    found = [index for index, name in enumerate(names) if name.casefold() == wanted]
    if len(found) > 1:
        raise PerturbationFileError(
            path,
            f"its header has {len(found)} columns {wanted!r}, and which is meant cannot be known",
            "Rename all but one of them.",
            line=header.line,
        )
    return found[0] if found else None


def _content_rows(path: Path, text: str, delimiter: str) -> Iterator[_Row]:
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
        raise PerturbationFileError(
            path,
            f"the row that begins here cannot be read ({error})",
            "Check its quotes: each needs its end.",
            line=begin,
        ) from error


def _count(path: Path, row: _Row, text: str) -> int | None:
    if not text:
        return None
    try:
        count = float(text)  # pandas writes whole numbers as 50.0 when the column has blanks
    except ValueError:
        count = 0.0
    if count < 1 or not count.is_integer():
        raise PerturbationFileError(
            path,
            f"{text!r} is not a number of cells",
            "Expected a whole number from 1, or nothing for all.",
            line=row.line,
            column=_COUNT_COLUMN,
        )
    return int(count)
