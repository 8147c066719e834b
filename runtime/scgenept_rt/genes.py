"""The model's genes: look-up by symbol or Ensembl id, and matching them with the columns of an input."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Manifest
from scgenept_rt.errors import GeneMatchError, UnknownGeneError, UseOption, join_limited, pluralize

# GENCODE's `_PAR_Y` copies do not match: they are other genes than those that they copy.
_ENSEMBL_ID = re.compile(r"(ENS[A-Z]*G\d{11})(?:\.\d+)?")
_N_SHOWN = 20


def ensembl_id(name: str) -> str | None:
    """Return `name` without its version if it is an Ensembl gene id, else None."""
    if not name.startswith("ENS"):
        return None
    match = _ENSEMBL_ID.fullmatch(name)
    return match.group(1) if match else None


@dataclass(frozen=True, eq=False)
class GenePanel:
    """The genes that a model reads and predicts, in model order.

    Attributes
    ----------
    names
        Gene symbols. A name may occur twice: look-ups return its first position, as the published code does.
    ids
        Ensembl ids, None where unknown.
    in_vocab
        Boolean array; False for genes without a token of their own, which the network cannot tell apart by name.
    """

    names: tuple[str, ...]
    ids: tuple[str | None, ...]
    in_vocab: NDArray[np.bool_]

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> GenePanel:
        """Return the panel that a bundle's manifest lists."""
        in_vocab = np.array(manifest.in_vocab, dtype=np.bool_)
        in_vocab.flags.writeable = False
        return cls(manifest.gene_names, manifest.gene_ids, in_vocab)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._lookup(name) is not None

    @cached_property
    def positions_by_name(self) -> Mapping[str, tuple[int, ...]]:
        """Every position of each name."""
        positions: dict[str, list[int]] = {}
        for position, name in enumerate(self.names):
            positions.setdefault(name, []).append(position)
        return {name: tuple(found) for name, found in positions.items()}

    @cached_property
    def position_by_id(self) -> Mapping[str, int]:
        """The position of each Ensembl id, without version; where the panel has no id, a name that is one counts."""
        positions: dict[str, int] = {}
        for position, (gene_id, name) in enumerate(zip(self.ids, self.names, strict=True)):
            unversioned = ensembl_id(gene_id or name)
            if unversioned is not None:
                positions.setdefault(unversioned, position)
        return positions

    def position(self, name: str) -> int:
        """Return the column of a gene by its symbol or else its Ensembl id, with or without version.

        Of a symbol that occurs twice, the first column is returned, as by upstream's `create_pert_flags`.

        Raises
        ------
        UnknownGeneError
            If the model has no such gene; the message suggests near spellings.
        """
        position = self._lookup(name)
        if position is None:
            raise self.unknown_genes_error([name])
        return position

    def find(self, search: str) -> list[int]:
        """Return the positions of the genes whose name or Ensembl id contains `search`, in any case."""
        wanted = search.casefold()
        return [
            position
            for position, (name, gene_id) in enumerate(zip(self.names, self.ids, strict=True))
            if wanted in name.casefold() or (gene_id is not None and wanted in gene_id.casefold())
        ]

    def suggestions(self, name: str, limit: int = 3) -> list[str]:
        """Return names of the model near to `name`: first those that differ only in case or separators."""
        same_letters = self._names_by_letters.get(_letters(name), [])
        if same_letters:
            return same_letters[:limit]
        near = difflib.get_close_matches(_letters(name), self._names_by_letters, n=limit, cutoff=0.7)
        return [self._names_by_letters[letters][0] for letters in near]

    def unknown_genes_error(
        self,
        names: Iterable[str],
        hints: Mapping[str, Sequence[str]] | None = None,
        places: Mapping[str, tuple[Path, int]] | None = None,
    ) -> UnknownGeneError:
        """Return the error that reports all of `names`.

        Parameters
        ----------
        hints
            What may have been meant, by name; near spellings for the others.
        places
            File and line of the names that were read from a file.
        """
        names, hints, places = list(dict.fromkeys(names)), hints or {}, places or {}
        files = {places[name][0] if name in places else None for name in names}
        file = files.pop() if len(files) == 1 else None  # all names come from it
        described = []
        for name in names[:_N_SHOWN]:  # near spellings take milliseconds
            near = hints.get(name) or self.suggestions(name)
            facts = []
            if name in places and not (file and len(names) == 1):
                facts = [f"line {places[name][1]}" if file else at_line(*places[name])]
            facts += [f"did you mean {' or '.join(near)}?"] if near else []
            described.append(f"{name} ({'; '.join(facts)})" if facts else name)
        described += names[_N_SHOWN:]
        are = "gene is" if len(names) == 1 else f"{len(names):,} genes are"
        return UnknownGeneError(
            f"{are} not among the model's {len(self):,} genes: {join_limited(described, _N_SHOWN)}",
            "List the genes with `scgenept-rt genes BUNDLE`",
            where="" if file is None else at_line(file, places[names[0]][1] if len(names) == 1 else None),
        )

    def _lookup(self, name: str) -> int | None:
        positions = self.positions_by_name.get(name)
        if positions is not None:
            return positions[0]
        unversioned = ensembl_id(name)
        return None if unversioned is None else self.position_by_id.get(unversioned)

    @cached_property
    def _names_by_letters(self) -> Mapping[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name in self.positions_by_name:
            names.setdefault(_letters(name), []).append(name)
        return names


def at_line(file: Path, line: int | None = None) -> str:
    """Return a file and line for messages; the path "-" is standard input."""
    name = "standard input" if str(file) == "-" else str(file)
    return name if line is None else f"{name}, line {line}"


def _letters(name: str) -> str:
    return re.sub(r"[-_. ]", "", name).casefold()


@dataclass(frozen=True, eq=False)
class GeneMatch:
    """Which column of an input holds each gene of a model.

    Attributes
    ----------
    columns
        int64 [n_model_genes], the input's column, -1 where the input lacks the gene.
    source
        Where the names came from: "var_names" or a column of var.
    n_found, n_found_in_vocab
        How many model genes were found, and how many of these are in the model's vocabulary.
    n_by_id
        How many were found through an Ensembl id.
    missing
        Names of the model's genes that were not found, in model order.
    n_extra
        How many of the input's columns are not used.
    notices
        What users should know.
    """

    columns: NDArray[np.int64]
    source: str
    n_found: int
    n_found_in_vocab: int
    n_by_id: int
    missing: tuple[str, ...]
    n_extra: int
    notices: tuple[str, ...]

    def with_notices(self, notices: Iterable[str]) -> GeneMatch:
        """Return this match with further notices."""
        return dataclasses.replace(self, notices=(*self.notices, *notices))


def match_columns(
    panel: GenePanel, candidates: Mapping[str, Sequence[str]], gene_key: str | None = None, *, where: object = ""
) -> GeneMatch:
    """Find the model's genes among an input's columns, by symbol or Ensembl id (both may occur in one input).

    Parameters
    ----------
    panel
        The model's genes.
    candidates
        Names of the input's columns by source: "var_names" and columns of var.
    gene_key
        The source to use, a key of `candidates`; by default the one that covers most model genes. Of sources that cover
        as many, one with unambiguous names comes first, then "var_names", then the order of `candidates`.
    where
        The input, for messages.

    Notes
    -----
    Where one name stands for several columns of the input or of the model, Ensembl ids in any of the sources decide.
    Where they cannot, a name that the model itself has twice is matched by occurrence, but only if the input lists
    the model's genes in the model's order.

    Raises
    ------
    GeneMatchError
        If several columns have the name of one gene and nothing tells them apart.
    """
    sources = [gene_key] if gene_key is not None else sorted(candidates, key=lambda source: source != "var_names")
    assignments = [_Assignment(panel, source, candidates) for source in sources]
    best = max(assignments, key=lambda assignment: (assignment.n_covered, not assignment.ambiguous))
    if best.ambiguous:
        raise best.error(where)
    return best.match()


class _Assignment:
    """Columns assigned to the model's genes by the names of one source."""

    def __init__(self, panel: GenePanel, source: str, candidates: Mapping[str, Sequence[str]]) -> None:
        self.panel = panel
        self.source = source
        self.candidates = candidates
        self.columns = np.full(len(panel), -1, dtype=np.int64)
        self.n_by_id = 0
        self.told_apart: list[str] = []
        self.ambiguous: dict[str, list[int]] = {}
        self._assign(candidates[source])

    def _assign(self, names: Sequence[str]) -> None:
        by_name: dict[str, list[int]] = {}
        by_position: dict[int, list[int]] = {}  # through Ensembl ids
        for column, name in enumerate(names):
            if name in self.panel.positions_by_name:
                by_name.setdefault(name, []).append(column)
                continue
            unversioned = ensembl_id(name)
            position = None if unversioned is None else self.panel.position_by_id.get(unversioned)
            if position is not None:
                by_position.setdefault(position, []).append(column)

        for name, positions in self.panel.positions_by_name.items():
            symbol_columns = by_name.get(name, [])
            id_columns = [by_position.get(position, []) for position in positions]
            if not symbol_columns and all(len(found) <= 1 for found in id_columns):
                for position, found in zip(positions, id_columns, strict=True):
                    if found:
                        self.columns[position] = found[0]
                        self.n_by_id += 1
            elif len(positions) == len(symbol_columns) == 1 and not id_columns[0]:
                self.columns[positions[0]] = symbol_columns[0]
            else:
                contenders = [*symbol_columns, *(column for found in id_columns for column in found)]
                if not self._tell_apart(name, positions, contenders):
                    self.ambiguous[name] = contenders
        if self.ambiguous:
            self._match_by_occurrence(names)

    def _tell_apart(self, name: str, positions: Sequence[int], contenders: Sequence[int]) -> bool:
        """Assign the columns that one name stands for by the Ensembl ids that any source gives for them."""
        chosen: dict[int, int] = {}
        for position in positions:
            gene_id = self.panel.ids[position]
            wanted = ensembl_id(gene_id) if gene_id else None
            carriers = {
                column
                for names in self.candidates.values()
                for column in contenders
                if wanted is not None and ensembl_id(names[column]) == wanted
            }
            if len(carriers) != 1:
                return False
            chosen[position] = carriers.pop()
        for position, column in chosen.items():
            self.columns[position] = column
        self.told_apart.append(name)
        return True

    def _match_by_occurrence(self, names: Sequence[str]) -> None:
        """Match ambiguous names by order if the input lists exactly the model's genes in the model's order."""
        shared = [(column, name) for column, name in enumerate(names) if name in self.panel.positions_by_name]
        if [name for _, name in shared] == list(self.panel.names):
            for name in self.ambiguous:
                for position in self.panel.positions_by_name[name]:
                    self.columns[position] = shared[position][0]
            self.ambiguous = {}

    @property
    def n_covered(self) -> int:
        """Number of model genes that have a column, or several."""
        unclear = sum(len(self.panel.positions_by_name[name]) for name in self.ambiguous)
        return int(np.count_nonzero(self.columns >= 0)) + unclear

    def error(self, where: object) -> GeneMatchError:
        """Return the error about ambiguous names."""
        stated = []
        for name, columns in self.ambiguous.items():
            n_in_model = len(self.panel.positions_by_name[name])
            in_model = f", {n_in_model} of the model" if n_in_model > 1 else ""
            stated.append(f"{name} ({len(columns):,} of the input{in_model})")
        return GeneMatchError(
            f"genes of the model are named by several columns of the input ({self.source}): {join_limited(stated)}",
            "Keep the right column of each gene (or sum them before normalising). `adata.var_names_make_unique()` does "
            "not help: it renames all but the first column, which is then used whatever it holds",
            [UseOption("gene_key", "use a column with unique Ensembl ids")],
            where=where,
            genes=self.ambiguous,
        )

    def match(self) -> GeneMatch:
        """Return the result, without ambiguous names."""
        found = self.columns >= 0
        n_found = int(np.count_nonzero(found))
        n_found_in_vocab = int(np.count_nonzero(found & self.panel.in_vocab))
        n_extra = len(self.candidates[self.source]) - n_found
        return GeneMatch(
            columns=self.columns,
            source=self.source,
            n_found=n_found,
            n_found_in_vocab=n_found_in_vocab,
            n_by_id=self.n_by_id,
            missing=tuple(name for name, here in zip(self.panel.names, found, strict=True) if not here),
            n_extra=n_extra,
            notices=tuple(self._notices(n_found, n_found_in_vocab, n_extra)),
        )

    def _notices(self, n_found: int, n_found_in_vocab: int, n_extra: int) -> list[str]:
        notices = []
        if self.source != "var_names":
            notices.append(f"Gene names were taken from the var column {self.source!r}.")
        if n_found < len(self.panel):
            n_in_vocab = int(np.count_nonzero(self.panel.in_vocab))
            were = "was" if n_found == 1 else "were"
            notices.append(
                f"{n_found:,} of the model's {len(self.panel):,} genes {were} found in the input "
                f"({n_found_in_vocab:,} of the {n_in_vocab:,} in its vocabulary)."
            )
        if self.n_by_id:
            are = pluralize(self.n_by_id, "gene name is an Ensembl id", "gene names are Ensembl ids")
            notices.append(f"{are} and {'was' if self.n_by_id == 1 else 'were'} mapped to the model's genes.")
        if self.told_apart:
            notices.append(
                f"Columns of one name were told apart by their Ensembl ids: {join_limited(self.told_apart)}."
            )
        if n_extra:
            genes = pluralize(n_extra, "gene of the input is", "genes of the input are")
            notices.append(f"{genes} not in the model and {'is' if n_extra == 1 else 'are'} ignored.")
        return notices
