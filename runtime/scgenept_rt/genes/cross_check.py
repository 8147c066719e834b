"""Comparing the symbols and Ensembl ids of one input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from scgenept_rt.errors import Caution, GeneMatchError, UseOption
from scgenept_rt.genes.panel import GenePanel, ensembl_id, grouped
from scgenept_rt.genes.spelling import made_unique
from scgenept_rt.wording import join_limited, pluralize

_FEW, _FEW_SHARE = 3, 0.01
"""Number of genes, or share of those compared, that may contradict each other, as in two releases of an annotation."""


class Comparison:
    """Where the columns named by symbols are not those named by Ensembl ids.

    Attributes
    ----------
    agree
        How many genes of the model have the same column by symbol and by id.
    made_unique, contradictions, only_by_id, only_by_symbol
        The column of genes by position in the model: the column with the id, where that of the symbol is another one
        and the id's is called GENE-1, or anything else (-1 if none has the id); and where only one of the two is there.
    """

    def __init__(
        self, panel: GenePanel, symbols: Sequence[str], symbol_source: str, ids: Sequence[str | None], id_source: str
    ) -> None:
        self.panel, self.symbol_source, self.id_source, self.id_of_column = panel, symbol_source, id_source, ids
        self.agree = 0
        self.made_unique, self.contradictions = dict[int, int](), dict[int, int]()
        self.only_by_id, self.only_by_symbol = dict[int, int](), dict[int, int]()
        by_symbol = grouped((symbol, column) for column, symbol in enumerate(symbols))
        by_id = grouped((panel.position_by_id.get(gene_id or ""), column) for column, gene_id in enumerate(ids))
        for position, name in enumerate(panel.names):
            if panel.ids[position] is None or len(panel.positions_by_name[name]) > 1:
                continue
            named, carriers = by_symbol.get(name, []), by_id.get(position, [])
            if set(named) & set(carriers):
                self.agree += 1
            elif len(carriers) > 1 or len(named) > 1:
                continue  # told apart or refused before
            elif named and carriers:
                copy = made_unique(symbols[carriers[0]]) == name
                (self.made_unique if copy else self.contradictions)[position] = carriers[0]
            elif carriers:
                self.only_by_id[position] = carriers[0]
            elif named and ids[named[0]] in panel.position_by_id:
                self.contradictions[position] = -1
            elif named and _is_human(ids[named[0]]):
                self.only_by_symbol[position] = named[0]

    @property
    def many(self) -> bool:
        """Whether so much contradicts each other that one of the two sources must be wrong."""
        n, n_other = len(self.contradictions), len(self.only_by_symbol)
        n_compared = self.agree + n + n_other + len(self.made_unique)
        return _many(n, n_compared) or n_other > max(_FEW, n_compared / 2)

    def error(self, where: object) -> GeneMatchError:
        """Return the error that names both sources."""
        genes = self._names({**self.contradictions, **self.only_by_symbol})
        return GeneMatchError(
            f"{self._contradict(genes)}: {join_limited(genes)}",
            *_choose(self.symbol_source, self.id_source),
            where=where,
            genes=genes,
        )

    def notices(self, decided: str) -> list[str]:
        """Return sentences about single genes."""
        notices: list[str] = []
        if genes := self._names(self.contradictions):
            notices.append(Caution(f"Warning: {self._contradict(genes)} ({join_limited(genes)}); {decided} decided"))
        if genes := self._names(self.only_by_symbol):
            have = pluralize(len(genes), "gene has", "genes have")
            notices.append(
                f"{have} another Ensembl id in the input ({self.id_source}) than in the model and "
                f"{'was' if len(genes) == 1 else 'were'} matched by symbol: {join_limited(genes)}."
            )
        return notices

    def _names(self, positions: Iterable[int]) -> list[str]:
        return [self.panel.names[position] for position in positions]

    def _contradict(self, genes: Sequence[str]) -> str:
        return (
            f"gene symbols ({self.symbol_source}) and Ensembl ids ({self.id_source}) contradict each other for "
            f"{pluralize(len(genes), 'gene')} of the model"
        )


def compare_with_ids(panel: GenePanel, source: str, candidates: Mapping[str, Sequence[str]]) -> Comparison | None:
    """Compare a source of names with the best source of the other kind; None if there is none, or the panel has no ids.

    Ids of another species, as beside symbols of orthologs, are not compared.
    """
    if not any(panel.ids):
        return None
    ids = {name: [ensembl_id(text) for text in texts] for name, texts in candidates.items()}
    n_ids = {name: sum(map(_is_human, of_columns)) for name, of_columns in ids.items()}
    others = [name for name in candidates if name != source]
    if 2 * n_ids[source] > len(candidates[source]):
        n_known = {name: sum(text in panel.positions_by_name for text in candidates[name]) for name in others}
        symbols = [name for name in others if 2 * n_ids[name] <= len(candidates[name])]
        symbol_source, id_source = max(symbols, key=n_known.__getitem__, default=None), source
    else:
        symbol_source, id_source = source, max(others, key=n_ids.__getitem__, default=source)
    if symbol_source is None or not n_ids[id_source] or symbol_source == id_source:
        return None
    return Comparison(panel, candidates[symbol_source], symbol_source, ids[id_source], id_source)


def compare_symbols(
    panel: GenePanel, source: str, candidates: Mapping[str, Sequence[str]], *, decided: bool, where: object
) -> list[str]:
    """Compare a source of symbols with the others, where no ids tell which is right, and return warnings.

    Raises GeneMatchError if many columns have another gene by another source, and the user has not `decided`.
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
            raise GeneMatchError(problem, *_choose(source, other), where=where)
        notices.append(Caution(f"Warning: {problem}; {source} decided"))
    return notices


def _choose(source: str, other: str) -> tuple[str, list[UseOption]]:
    remedy = f"Find out which of the two fits the matrix: {source} or {other}"
    return remedy, [UseOption("gene_key", "go by that one")]


def _is_human(gene_id: str | None) -> bool:
    return gene_id is not None and gene_id.startswith("ENSG")


def _many(n: int, n_compared: int) -> bool:
    return n > max(_FEW, _FEW_SHARE * n_compared)
