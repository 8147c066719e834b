"""Matching a model's genes with the columns of an input."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Caution, GeneMatchError, UseOption
from scgenept_rt.genes.cross_check import compare_symbols, compare_with_ids
from scgenept_rt.genes.panel import GenePanel, ensembl_id, grouped
from scgenept_rt.genes.spelling import Respelled, find_respelled, made_unique
from scgenept_rt.wording import join_limited, pluralize


@dataclass(frozen=True, eq=False)
class GeneMatch:
    """Which column of an input holds each gene of a model.

    Attributes
    ----------
    columns
        int64 [n_model_genes], the input's column, -1 where the input lacks the gene.
    source
        Where the names came from: "var_names" or a column of var.
    n_by_id, n_respelled
        How many genes were found through an Ensembl id, and in another spelling.
    n_extra
        How many of the input's columns are not used.
    unclear
        Names of missing genes that may be there in a spelling that does not tell for sure, with what is there.
    unmeasured
        Why genes that have a column count as missing all the same.
    """

    panel: GenePanel
    columns: NDArray[np.int64]
    source: str
    n_by_id: int
    n_respelled: int
    unclear: Mapping[str, str]
    n_extra: int
    notices: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()

    @property
    def n_found(self) -> int:
        """How many model genes were found."""
        return int(np.count_nonzero(self.columns >= 0))

    @property
    def n_found_in_vocab(self) -> int:
        """How many of these are in the model's vocabulary."""
        return int(np.count_nonzero((self.columns >= 0) & self.panel.in_vocab))

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the model's genes that were not found, in model order."""
        return tuple(name for name, column in zip(self.panel.names, self.columns, strict=True) if column < 0)

    def with_notices(self, notices: Iterable[str]) -> GeneMatch:
        """Return this match with further notices."""
        return dataclasses.replace(self, notices=(*self.notices, *notices))

    def without(self, lost: NDArray[np.bool_], notice: str) -> GeneMatch:
        """Return this match with genes (by position in the model) taken as missing, and the notice that says why."""
        columns, unmeasured = np.where(lost, -1, self.columns), (*self.unmeasured, notice)
        return dataclasses.replace(self, columns=columns, unmeasured=unmeasured).with_notices([notice])


def match_columns(
    panel: GenePanel, candidates: Mapping[str, Sequence[str]], gene_key: str | None = None, *, where: object = ""
) -> GeneMatch:
    """Find the model's genes among an input's columns, by symbol or Ensembl id (both may occur in one input).

    `candidates` has the names of the input's columns by source: "var_names" and columns of var. Without `gene_key`, the
    source is the one that covers most model genes; of several, one with unambiguous names, then "var_names".

    Where one name stands for several columns of the input or of the model, Ensembl ids in any of the sources decide.
    Where they cannot, a name that the model itself has twice is matched by occurrence, but only if the input lists
    the model's genes in the model's order. Where names and Ensembl ids of other columns contradict each other, the ids
    decide, unless `gene_key` does. Genes that are not found by their own names are looked for in other spellings.

    Raises
    ------
    GeneMatchError
        If several columns have the name of one gene and nothing tells them apart, or if names and Ensembl ids
        contradict each other in many genes.
    """
    sources = [gene_key] if gene_key is not None else sorted(candidates, key=lambda source: source != "var_names")
    assignments = [_Assignment(panel, source, candidates) for source in sources]
    best = max(assignments, key=lambda assignment: (assignment.n_covered, not assignment.ambiguous))
    if best.ambiguous:
        raise best.error(where)
    best.compare_sources(gene_key, where)
    best.find_respelled(sources)
    return best.match()


class _Assignment:
    """Columns assigned to the model's genes by the names of one source."""

    def __init__(self, panel: GenePanel, source: str, candidates: Mapping[str, Sequence[str]]) -> None:
        self.panel, self.source, self.candidates = panel, source, candidates
        self.columns = np.full(len(panel), -1, dtype=np.int64)
        self.n_by_id = 0
        self.told_apart: list[str] = []
        self.ambiguous: dict[str, list[int]] = {}
        self.respelled = Respelled()
        self._id_notices: list[str] = []
        self._id_of_column: Sequence[str | None] = ()
        self._assign(candidates[source])

    def _assign(self, names: Sequence[str]) -> None:
        known, by_id = self.panel.positions_by_name, self.panel.position_by_id
        by_name = grouped((name, column) for column, name in enumerate(names) if name in known)
        others = [(by_id.get(ensembl_id(name) or ""), column) for column, name in enumerate(names) if name not in known]
        by_position = grouped(others)
        for name, positions in known.items():
            symbol_columns, id_columns = by_name.get(name, []), [by_position.get(at, []) for at in positions]
            contenders = [*symbol_columns, *chain(*id_columns)]
            if not symbol_columns and all(len(found) <= 1 for found in id_columns):
                for position, found in zip(positions, id_columns, strict=True):
                    self.columns[position] = found[0] if found else -1
                self.n_by_id += len(contenders)
            elif len(positions) == len(contenders) == 1:
                self.columns[positions[0]] = contenders[0]
            elif not self._tell_apart(name, positions, contenders):
                self.ambiguous[name] = contenders
        # By occurrence, if the input lists exactly the model's genes in the model's order.
        shared = [column for column, name in enumerate(names) if name in known]
        if self.ambiguous and [names[column] for column in shared] == list(self.panel.names):
            for position in chain(*(known[name] for name in self.ambiguous)):
                self.columns[position] = shared[position]
            self.ambiguous = {}

    def _tell_apart(self, name: str, positions: Sequence[int], contenders: Sequence[int]) -> bool:
        """Assign the columns that one name stands for by the Ensembl ids that any source gives for them."""
        chosen: dict[int, int] = {}
        for position in positions:
            wanted = ensembl_id(self.panel.ids[position] or "")
            sources = self.candidates.values() if wanted else ()
            carriers = {column for names in sources for column in contenders if ensembl_id(names[column]) == wanted}
            if len(carriers) != 1:
                return False
            chosen[position] = carriers.pop()
        self._put(chosen)
        self.told_apart.append(name)
        return True

    def compare_sources(self, gene_key: str | None, where: object) -> None:
        """Compare the names of different sources: Ensembl ids decide, unless a key does."""
        compared = compare_with_ids(self.panel, self.source, self.candidates)
        if compared is None:
            decided = gene_key is not None
            self._id_notices = compare_symbols(self.panel, self.source, self.candidates, decided=decided, where=where)
            return
        self._id_of_column = compared.id_of_column
        self._id_notices = compared.notices("the Ensembl ids" if gene_key is None else repr(gene_key))
        self.told_apart += [self.panel.names[position] for position in compared.made_unique]
        self._put(compared.made_unique)
        if gene_key is None:
            if compared.many:
                raise compared.error(where)
            self._put(compared.contradictions)
            self.n_by_id += self._put(self._lacking(compared.only_by_id))
            used = set(self.columns.tolist())
            free = {at: column for at, column in compared.only_by_symbol.items() if column not in used}
            self._put(self._lacking(free))

    def find_respelled(self, sources: Sequence[str]) -> None:
        """Find genes that are still missing in other spellings, in this source first."""
        for source in sorted(sources, key=lambda source: source != self.source):
            missing = np.flatnonzero(self.columns < 0)
            if not len(missing):
                return
            used = set(self.columns.tolist())
            names = {
                column: name
                for column, name in enumerate(self.candidates[source])
                if column not in used and name and not self._is_another_gene(column)
            }
            found = find_respelled(self.panel, missing.tolist(), names)
            self._put(found.columns)
            self.n_by_id += len(found.kinds.pop("id", ()))
            for kind, pairs in found.kinds.items():
                self.respelled.kinds.setdefault(kind, []).extend(pairs)
            self.respelled.unclear |= found.unclear

    def _put(self, columns: Mapping[int, int]) -> int:
        """Assign columns to genes by position; return their number."""
        self.columns[list(columns)] = list(columns.values())
        return len(columns)

    def _lacking(self, columns: Mapping[int, int]) -> dict[int, int]:
        """Return the columns of genes that have none yet."""
        return {at: column for at, column in columns.items() if self.columns[at] < 0}

    def _is_another_gene(self, column: int) -> bool:
        gene_id = self._id_of_column[column] if self._id_of_column else None
        return gene_id in self.panel.position_by_id or (gene_id is not None and not gene_id.startswith("ENSG"))

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
        names = self.panel.names
        match = GeneMatch(
            panel=self.panel,
            columns=self.columns,
            source=self.source,
            n_by_id=self.n_by_id,
            n_respelled=sum(map(len, self.respelled.kinds.values())),
            unclear={names[at]: written for at, written in self.respelled.unclear.items() if self.columns[at] < 0},
            n_extra=len(self.candidates[self.source]) - int(np.count_nonzero(self.columns >= 0)),
        )
        return match.with_notices(self._notices(match))

    def _notices(self, match: GeneMatch) -> list[str]:
        notices = []
        if self.source != "var_names":
            notices.append(f"Gene names were taken from the var column {self.source!r}.")
        if match.n_found < len(self.panel):
            were = "was" if match.n_found == 1 else "were"
            notices.append(
                f"{match.n_found:,} of the model's {len(self.panel):,} genes {were} found in the input "
                f"({match.n_found_in_vocab:,} of the {np.count_nonzero(self.panel.in_vocab):,} in its vocabulary)."
            )
        if self.n_by_id:
            are = pluralize(self.n_by_id, "gene name is an Ensembl id", "gene names are Ensembl ids")
            notices.append(f"{are} and {'was' if self.n_by_id == 1 else 'were'} mapped to the model's genes.")
        if self.told_apart:
            genes = join_limited(self.told_apart)
            notices.append(f"Columns of one name were told apart by their Ensembl ids: {genes}.")
        notices += self._id_notices
        if self.respelled.kinds:
            notices.append(self.respelled.notice())
        if not self._id_of_column:
            notices += self._made_unique_notices()
        if match.n_extra:
            genes = pluralize(match.n_extra, "gene of the input is", "genes of the input are")
            notices.append(f"{genes} not in the model and {'is' if match.n_extra == 1 else 'are'} ignored.")
        return notices

    def _made_unique_notices(self) -> list[str]:
        """Return a warning where columns named GENE-1 stand beside GENE, and no Ensembl ids tell which is which."""
        known = self.panel.positions_by_name
        names = [name for name in self.candidates[self.source] if name not in known]
        copies = grouped((original, name) for name in names if (original := made_unique(name)) in known)
        if not copies:
            return []
        genes = pluralize(len(copies), "gene of the model stands", "genes of the model stand")
        named = join_limited([f"{original}, {renamed[0]}" for original, renamed in copies.items()])
        problem = (
            f"Warning: {genes} in several columns ({named}), as `var_names_make_unique()` leaves them; the one without "
            "a number was taken"
        )
        return [Caution(problem, "Ensembl ids in var would tell which it is")]
