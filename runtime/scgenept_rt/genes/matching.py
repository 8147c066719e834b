"""Matching a model's genes with the columns of an input."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Caution, GeneMatchError, UseOption
from scgenept_rt.genes.cross_check import cross_check
from scgenept_rt.genes.panel import GenePanel, ensembl_id, grouped
from scgenept_rt.genes.spelling import Respelled, made_unique
from scgenept_rt.wording import join_limited, pluralize


@dataclass(frozen=True, eq=False)
class GeneMatch:
    """Which column of an input holds each gene of a model."""

    panel: GenePanel
    columns: NDArray[np.int64]  # [n_model_genes], -1 where the input lacks the gene
    source: str  # where the names came from: "var_names" or a column of var
    n_by_id: int  # genes found through an Ensembl id
    n_respelled: int  # and in another spelling
    unclear: Mapping[str, str]  # what is there for missing genes, in a spelling that does not tell for sure
    n_extra: int  # columns of the input that are not used
    notices: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()  # why genes that have a column count as missing all the same

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


def match_columns(panel: GenePanel, candidates: Mapping[str, Sequence[str]], gene_key: str | None = None) -> GeneMatch:
    """Find the model's genes among an input's columns, by symbol or Ensembl id (both may occur in one input).

    `candidates` has the names of the input's columns by source: "var_names" and columns of var. Without `gene_key`, the
    source is the one that covers most model genes; of several, one with unambiguous names, then "var_names".

    Where one name stands for several columns of the input or of the model, Ensembl ids in any of the sources decide.
    Where they cannot, a name that the model itself has twice is matched by occurrence, but only if the input lists
    the model's genes in the model's order. Where names and Ensembl ids of other columns contradict each other, the ids
    decide, unless `gene_key` does. Genes that are not found by their own names are looked for in other spellings.

    Raises `GeneMatchError` if several columns have the name of one gene and nothing tells them apart, or if names and
    Ensembl ids contradict each other in many genes.
    """
    sources = [gene_key] if gene_key is not None else sorted(candidates, key=lambda source: source != "var_names")
    assigned = [_by_name_or_id(panel, source, candidates) for source in sources]
    best = max(assigned, key=lambda each: (each.n_covered, not each.ambiguous))
    source, columns = best.source, best.columns
    if best.ambiguous:
        raise _ambiguous(panel, best)
    ids, of_copies, n_by_id, notices = cross_check(panel, columns, source, candidates, gene_key)
    if told_apart := [*best.told_apart, *of_copies]:
        notices = [f"Columns of one name were told apart by their Ensembl ids: {join_limited(told_apart)}.", *notices]
    of_others = [gene_id is not None and (gene_id in panel.position_by_id or gene_id[:4] != "ENSG") for gene_id in ids]
    respelled = Respelled(panel, columns, set(np.flatnonzero(of_others).tolist()))
    for each in (source, *(name for name in sources if name != source)):
        respelled.find(candidates[each])
    notices += respelled.notices()
    match = GeneMatch(
        panel=panel,
        columns=columns,
        source=source,
        n_by_id=best.n_by_id + n_by_id + respelled.n_by_id,
        n_respelled=respelled.n_respelled,
        unclear={panel.names[at]: written for at, written in respelled.unclear.items() if columns[at] < 0},
        n_extra=len(candidates[source]) - int(np.count_nonzero(columns >= 0)),
    )
    notices += [] if ids else _made_unique_notices(panel, candidates[source])
    return match.with_notices(_notices(match, notices))


class _Assigned(NamedTuple):
    """Columns assigned to the model's genes by the names of one source."""

    source: str
    columns: NDArray[np.int64]
    n_by_id: int
    told_apart: Sequence[str]
    ambiguous: Mapping[str, Sequence[int]]
    n_covered: int
    """Number of model genes that have a column, or several."""


def _by_name_or_id(panel: GenePanel, source: str, candidates: Mapping[str, Sequence[str]]) -> _Assigned:
    names, known, by_id = candidates[source], panel.positions_by_name, panel.position_by_id
    columns, n_by_id = np.full(len(panel), -1, dtype=np.int64), 0
    told_apart: list[str] = []
    ambiguous: dict[str, list[int]] = {}
    by_name = grouped((name, column) for column, name in enumerate(names) if name in known)
    others = [(by_id.get(ensembl_id(name) or ""), column) for column, name in enumerate(names) if name not in known]
    by_position = grouped(others)
    for name, positions in known.items():
        symbol_columns, id_columns = by_name.get(name, []), [by_position.get(at, []) for at in positions]
        contenders = [*symbol_columns, *chain(*id_columns)]
        if not symbol_columns and all(len(found) <= 1 for found in id_columns):
            columns[list(positions)] = [found[0] if found else -1 for found in id_columns]
            n_by_id += len(contenders)
        elif len(positions) == len(contenders) == 1:
            columns[positions[0]] = contenders[0]
        elif chosen := _tell_apart(panel, positions, contenders, candidates):
            columns[list(positions)] = chosen
            told_apart.append(name)
        else:
            ambiguous[name] = contenders
    # By occurrence, if the input lists exactly the model's genes in the model's order.
    shared = [column for column, name in enumerate(names) if name in known]
    if ambiguous and [names[column] for column in shared] == list(panel.names):
        for position in chain(*(known[name] for name in ambiguous)):
            columns[position] = shared[position]
        ambiguous = {}
    n_covered = int(np.count_nonzero(columns >= 0)) + sum(len(known[name]) for name in ambiguous)
    return _Assigned(source, columns, n_by_id, told_apart, ambiguous, n_covered)


def _tell_apart(
    panel: GenePanel, positions: Sequence[int], contenders: Sequence[int], candidates: Mapping[str, Sequence[str]]
) -> list[int]:
    """Return the column of each of the genes of one name by the Ensembl ids of any source; [] if they do not tell."""
    chosen = []
    for position in positions:
        wanted = ensembl_id(panel.ids[position] or "")
        sources = candidates.values() if wanted else ()
        carriers = {column for names in sources for column in contenders if ensembl_id(names[column]) == wanted}
        if len(carriers) != 1:
            return []
        chosen.append(carriers.pop())
    return chosen


def _ambiguous(panel: GenePanel, assigned: _Assigned) -> GeneMatchError:
    stated = []
    for name, columns in assigned.ambiguous.items():
        n_in_model = len(panel.positions_by_name[name])
        in_model = f", {n_in_model} of the model" if n_in_model > 1 else ""
        stated.append(f"{name} ({len(columns):,} of the input{in_model})")
    return GeneMatchError(
        f"genes of the model are named by several columns of the input ({assigned.source}): {join_limited(stated)}",
        "Keep the right column of each gene (or sum them before normalising). `adata.var_names_make_unique()` does "
        "not help: it renames all but the first column, which is then used whatever it holds",
        [UseOption("gene_key", "use a column with unique Ensembl ids")],
        genes=assigned.ambiguous,
    )


def _notices(match: GeneMatch, about_names: Sequence[str]) -> list[str]:
    notices = []
    if match.source != "var_names":
        notices.append(f"Gene names were taken from the var column {match.source!r}.")
    if match.n_found < len(match.panel):
        were = "was" if match.n_found == 1 else "were"
        notices.append(
            f"{match.n_found:,} of the model's {len(match.panel):,} genes {were} found in the input "
            f"({match.n_found_in_vocab:,} of the {np.count_nonzero(match.panel.in_vocab):,} in its vocabulary)."
        )
    if match.n_by_id:
        are = pluralize(match.n_by_id, "gene name is an Ensembl id", "gene names are Ensembl ids")
        notices.append(f"{are} and {'was' if match.n_by_id == 1 else 'were'} mapped to the model's genes.")
    notices += about_names
    if match.n_extra:
        genes = pluralize(match.n_extra, "gene of the input is", "genes of the input are")
        notices.append(f"{genes} not in the model and {'is' if match.n_extra == 1 else 'are'} ignored.")
    return notices


def _made_unique_notices(panel: GenePanel, names: Sequence[str]) -> list[str]:
    """Return a warning where columns named GENE-1 stand beside GENE, and no Ensembl ids tell which is which."""
    known = panel.positions_by_name
    pairs = [(made_unique(name), name) for name in names if name not in known]
    copies = grouped((original, name) for original, name in pairs if original in known)
    if not copies:
        return []
    genes = pluralize(len(copies), "gene of the model stands", "genes of the model stand")
    named = join_limited([f"{original}, {renamed[0]}" for original, renamed in copies.items()])
    problem = (
        f"{genes} in several columns ({named}), as `var_names_make_unique()` leaves them; the one without "
        "a number was taken"
    )
    return [Caution(problem, "Ensembl ids in var would tell which it is")]
