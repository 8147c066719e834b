"""Names of a model's genes in other spellings: prefixes, ids beside symbols, R's names, case, former symbols."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.genes.panel import GenePanel, ensembl_id
from scgenept_rt.wording import join_limited, pluralize

_ID_INSIDE = re.compile(r"(?<![A-Za-z0-9])(ENS[A-Z]*G\d{11})(?:\.\d+)?(?![A-Za-z0-9.])(?!_PAR_Y)")
_PARTS = re.compile(r"[|:;,()\s/]+")
_SEPARATOR = re.compile(r"[^A-Za-z0-9]")
_SEPARATORS = re.compile(r"[^A-Za-z0-9]+")
# What spreadsheets make of MARCH2 or MARC2 (2-Mar, Mar-02), SEPT4 and DEC1.
_DATE = re.compile(r"(?:0?(\d{1,2})-(Mar|Sep|Dec)|(Mar|Sep|Dec)-0?(\d{1,2}))")
_MONTHS = {"Mar": ("MARCH", "MARC"), "Sep": ("SEPT",), "Dec": ("DEC",)}
_MADE_UNIQUE = re.compile(r"(.+)[-._]\d{1,3}")

# In the order of trust; a later kind counts only where no earlier one gives a gene a column.
_KINDS = {
    "id": "with an Ensembl id",
    "blanks": "with blanks or quotes around",
    "prefix": "with a prefix",
    "parts": "with something beside",
    "punctuation": "with other punctuation",
    "case": "in other case",
    "symbol": "by a former or newer symbol",
}


class Respelled:
    """Genes found in another spelling, whose columns are entered into `columns`; `taken` columns are not looked at.

    `unclear` is what the input has for genes that may be there, by position in the model.
    """

    def __init__(self, panel: GenePanel, columns: NDArray[np.int64], taken: set[int]) -> None:
        self._panel, self._columns, self._taken = panel, columns, taken
        self.unclear: dict[int, str] = {}
        self.n_by_id = 0  # found by an Ensembl id beside something else
        self._kinds: dict[str, list[tuple[str, str]]] = {}  # of the others, by kind the input's name and the model's

    def find(self, names: Sequence[str]) -> None:
        """Look among the names of columns for genes that have none, where only one column can be meant."""
        missing = np.flatnonzero(self._columns < 0).tolist()
        if not missing:
            return
        taken = {*self._columns.tolist(), *self._taken}
        name_of = {column: name for column, name in enumerate(names) if name and column not in taken}
        wanted = _Wanted(self._panel, missing)
        prefix = _shared_prefix(wanted, name_of.values(), len(self._panel) - len(missing))
        found: dict[int, dict[str, list[int]]] = {}
        for column, name in name_of.items():
            for kind, position in wanted.read(name, prefix):
                found.setdefault(position, {}).setdefault(kind, []).append(column)
        self.unclear |= {at: name for at, name in wanted.hints(name_of) if at not in found}
        in_case = [(self._panel.names[at], name_of[kinds["case"][0]]) for at, kinds in found.items() if "case" in kinds]
        of_mice = [written for name, written in in_case if written != name and written == written.capitalize()]  # Fosb
        for position in sorted(found):
            kind = min(found[position], key=list(_KINDS).index)
            column, *others = found[position][kind]
            if others or (kind == "case" and 2 * len(of_mice) > len(in_case)):
                self.unclear[position] = name_of[column]
            else:
                self._columns[position] = column
                if kind == "id":
                    self.n_by_id += 1
                else:
                    self._kinds.setdefault(kind, []).append((name_of[column], self._panel.names[position]))

    @property
    def n_respelled(self) -> int:
        """How many were found, but by an id."""
        return sum(map(len, self._kinds.values()))

    def notices(self) -> list[str]:
        """Return a sentence with the number of names that were matched, by kind."""
        matched = []
        for kind, pairs in self._kinds.items():
            (written, name), more = pairs[0], ", ..." if len(pairs) > 1 else ""
            matched.append(f"{len(pairs):,} {_KINDS[kind]} ({written!r} for {name}{more})")
        n, were = pluralize(self.n_respelled, "gene name"), "was" if self.n_respelled == 1 else "were"
        return [f"{n} in another spelling {were} matched: {join_limited(matched, 9)}."] if matched else []


def made_unique(name: str) -> str | None:
    """Return the original of a name that scanpy's or R's make_unique may have renamed, such as TBCE of TBCE-1."""
    match = _MADE_UNIQUE.fullmatch(name)
    return match.group(1) if match else None


class _Wanted:
    """The spellings of the genes that are looked for."""

    def __init__(self, panel: GenePanel, missing: Sequence[int]) -> None:
        self._panel = panel
        wanted = set(missing)
        self.by_name = {panel.names[position]: position for position in missing}
        self.by_id = {gene_id: at for gene_id, at in panel.position_by_id.items() if at in wanted}
        self._by_key = _unique((_key(name), at) for name, at in self.by_name.items())
        self._by_key |= {f"x{key}": at for key, at in self._by_key.items() if key[0].isdigit()}  # R: X7SK
        others = panel.positions_by_other_name.items()
        self._by_other_name = {name: at[0] for name, at in others if len(at) == 1 and at[0] in wanted}

    def __contains__(self, name: str) -> bool:
        return name in self.by_name or ensembl_id(name) in self.by_id or _key(name) in self._by_key

    def read(self, name: str, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the kind and the gene of each way to read a name."""
        kind = "blanks"
        text = name.strip().strip("\"'").strip()
        if prefix and text.startswith(prefix):
            kind, text = "prefix", text[len(prefix) :].lstrip("_-:|. ")
        inside = _ID_INSIDE.search(text) or _ID_INSIDE.search(text.upper())
        if inside:
            if inside.group(1) in self.by_id:
                yield "id", self.by_id[inside.group(1)]
                return
            if ensembl_id(inside.group(1)) in self._panel.position_by_id:  # another gene's, which is found already
                return
            kind, text = "parts", (text[: inside.start()] + text[inside.end() :]).strip("_-:|.;,() ")
        if text in self.by_name:
            yield kind, self.by_name[text]
            return
        if text in self._panel.positions_by_name:
            return
        parts = {self.by_name[part] for part in _PARTS.split(text) if part in self.by_name}
        if len(parts) == 1:
            yield "parts", parts.pop()
            return
        position = self._by_key.get(_key(text))
        if position is not None:
            same_case = _SEPARATOR.sub(".", self._panel.names[position]) in _SEPARATOR.sub(".", text)
            yield "punctuation" if same_case else "case", position
        elif text in self._by_other_name:
            yield "symbol", self._by_other_name[text]

    def hints(self, names: Mapping[int, str]) -> Iterator[tuple[int, str]]:
        """Yield genes and names that may mean them: dates, and names without their separators."""
        without = _unique((_SEPARATORS.sub("", name).casefold(), at) for name, at in self.by_name.items())
        for name in names.values():
            if date := _DATE.fullmatch(name.strip()):
                number, month = date.group(1) or date.group(4), date.group(2) or date.group(3)
                meant = [self.by_name.get(f"{family}{number}") for family in _MONTHS[month]]
            elif name not in self._panel.positions_by_name:
                meant = [without.get(_SEPARATORS.sub("", name).casefold())]
            else:
                continue
            yield from ((position, name) for position in meant if position is not None)


def _key(name: str) -> str:
    return _SEPARATOR.sub(".", name).casefold()


def _unique(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    listed = list(pairs)
    counts = Counter(key for key, _ in listed)
    return {key: position for key, position in listed if counts[key] == 1}


def _shared_prefix(wanted: _Wanted, names: Iterable[str], n_plain: int) -> str:
    """Return what stands before most of the genes that are looked for, such as GRCh38_; empty if there is nothing."""
    counts: Counter[str] = Counter()
    for name in map(str.strip, names):
        for separator in _SEPARATORS.finditer(name):
            if name[separator.end() :] in wanted:
                counts[name[: separator.end()]] += 1
    prefix, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return prefix if count > max(n_plain, 1) else ""
