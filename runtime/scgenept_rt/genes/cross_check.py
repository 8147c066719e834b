"""Comparing the symbols and Ensembl ids of one input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scgenept_rt.errors import Caution, GeneMatchError, UseOption
from scgenept_rt.genes.panel import GenePanel, ensembl_id
from scgenept_rt.genes.spelling import made_unique
from scgenept_rt.wording import join_limited, pluralize

_FEW, _FEW_SHARE = 3, 0.01
"""Number of genes, or share of those compared, that may contradict each other, as in two releases of an annotation."""


@dataclass
class Comparison:
    """Where the columns named by symbols are not those named by Ensembl ids.

    Attributes
    ----------
    symbol_source, id_source
        Where the names came from.
    id_of_column
        The Ensembl id of each column of the input, None where there is none.
    agree
        How many genes of the model have the same column by symbol and by id.
    made_unique, contradictions, only_by_id, only_by_symbol
        The column of genes by position in the model: the column with the id, where that of the symbol is another one
        and the id's is called GENE-1, or anything else (-1 if none has the id); and where only one of the two is there.
    """

    panel: GenePanel
    symbol_source: str
    id_source: str
    id_of_column: Sequence[str | None]
    agree: int = 0
    made_unique: dict[int, int] = field(default_factory=dict)
    contradictions: dict[int, int] = field(default_factory=dict)
    only_by_id: dict[int, int] = field(default_factory=dict)
    only_by_symbol: dict[int, int] = field(default_factory=dict)

    @property
    def many(self) -> bool:
        """Whether so much contradicts each other that one of the two sources must be wrong."""
        n, n_other = len(self.contradictions), len(self.only_by_symbol)
        n_compared = self.agree + n + n_other + len(self.made_unique)
        return _many(n, n_compared) or n_other > max(_FEW, n_compared / 2)

    def error(self, where: object) -> GeneMatchError:
        """Return the error that names both sources."""
        genes = [self.panel.names[position] for position in {**self.contradictions, **self.only_by_symbol}]
        found = pluralize(len(genes), "gene")
        return GeneMatchError(
            f"gene symbols ({self.symbol_source}) and Ensembl ids ({self.id_source}) contradict each other for {found} "
            f"of the model: {join_limited(genes)}",
            f"Find out which of the two fits the matrix: {self.symbol_source} or {self.id_source}",
            [UseOption("gene_key", "go by that one")],
            where=where,
            genes=genes,
        )

    def notices(self, decided: str) -> list[str]:
        """Return sentences about single genes."""
        notices: list[str] = []
        if self.contradictions:
            genes = [self.panel.names[position] for position in self.contradictions]
            problem = (
                f"Warning: gene symbols ({self.symbol_source}) and Ensembl ids ({self.id_source}) contradict each "
                f"other for {pluralize(len(genes), 'gene')} of the model ({join_limited(genes)}); {decided} decided"
            )
            notices.append(Caution(problem))
        if self.only_by_symbol:
            genes = [self.panel.names[position] for position in self.only_by_symbol]
            have = pluralize(len(genes), "gene has", "genes have")
            notices.append(
                f"{have} another Ensembl id in the input ({self.id_source}) than in the model and "
                f"{'was' if len(genes) == 1 else 'were'} matched by symbol: {join_limited(genes)}."
            )
        return notices


def compare_with_ids(panel: GenePanel, source: str, candidates: Mapping[str, Sequence[str]]) -> Comparison | None:
    """Compare a source of names with the best source of the other kind; None if there is none, or the panel has no ids.

    Ids of another species, as beside symbols of orthologs, are not compared.
    """
    if not any(panel.ids):
        return None
    ids = {name: [ensembl_id(text) for text in texts] for name, texts in candidates.items()}
    n_ids = {name: sum(gene_id is not None and gene_id.startswith("ENSG") for gene_id in ids[name]) for name in ids}
    n_columns = len(candidates[source])
    if 2 * n_ids[source] > n_columns:
        id_source = source
        symbols = [name for name in candidates if 2 * n_ids[name] <= len(candidates[name])]
        n_known = {name: sum(text in panel.positions_by_name for text in candidates[name]) for name in symbols}
        symbol_source = max(symbols, key=n_known.__getitem__, default=None)
    else:
        symbol_source = source
        id_source = max((name for name in candidates if name != source), key=n_ids.__getitem__, default=source)
    if symbol_source is None or not n_ids[id_source] or symbol_source == id_source:
        return None
    compared = Comparison(panel, symbol_source, id_source, ids[id_source])
    _compare(compared, candidates[symbol_source])
    return compared


def compare_symbols(
    panel: GenePanel, source: str, candidates: Mapping[str, Sequence[str]], *, decided: bool, where: object
) -> list[str]:
    """Compare a source of symbols with the others, where no ids tell which is right, and return warnings.

    Raises
    ------
    GeneMatchError
        If many columns have another gene of the model by another source, and the user has not `decided`.
    """
    known, notices = panel.positions_by_name, list[str]()
    for other, names in candidates.items():
        both = [pair for pair in zip(candidates[source], names, strict=True) if known.keys() >= {*pair}]
        differ = [f"{name}, {text}" for name, text in both if name != text]
        if not differ:
            continue
        columns = pluralize(len(differ), "column has", "columns have")
        problem = f"{columns} the names of different genes in {source} and {other} ({join_limited(differ)})"
        if _many(len(differ), len(both)) and not decided:
            remedy = f"Find out which of the two fits the matrix: {source} or {other}"
            raise GeneMatchError(problem, remedy, [UseOption("gene_key", "go by that one")], where=where)
        notices.append(Caution(f"Warning: {problem}; {source} decided"))
    return notices


def _many(n: int, n_compared: int) -> bool:
    return n > max(_FEW, _FEW_SHARE * n_compared)


def _compare(compared: Comparison, symbols: Sequence[str]) -> None:
    panel, by_symbol, by_id = compared.panel, dict[str, list[int]](), dict[int, list[int]]()
    for column, (symbol, gene_id) in enumerate(zip(symbols, compared.id_of_column, strict=True)):
        if symbol in panel.positions_by_name:
            by_symbol.setdefault(symbol, []).append(column)
        position = panel.position_by_id.get(gene_id or "")
        if position is not None:
            by_id.setdefault(position, []).append(column)
    for position, name in enumerate(panel.names):
        if panel.ids[position] is None or len(panel.positions_by_name[name]) > 1:
            continue
        named, carriers = by_symbol.get(name, []), by_id.get(position, [])
        if set(named) & set(carriers):
            compared.agree += 1
        elif len(carriers) > 1 or len(named) > 1:
            continue  # told apart or refused before
        elif named and carriers:
            copy = made_unique(symbols[carriers[0]]) == name
            (compared.made_unique if copy else compared.contradictions)[position] = carriers[0]
        elif carriers:
            compared.only_by_id[position] = carriers[0]
        elif named:
            gene_id = compared.id_of_column[named[0]]
            if gene_id in panel.position_by_id:
                compared.contradictions[position] = -1
            elif gene_id is not None and gene_id.startswith("ENSG"):
                compared.only_by_symbol[position] = named[0]
