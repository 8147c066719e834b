"""The genes that a perturbation changes most, from the lists of a data file or computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.evaluation.measured import GroupMoments, MeasuredCells
from scgenept_rt.expression.annotation import text_of
from scgenept_rt.expression.label_matching import CONTROL
from scgenept_rt.wording import join_limited, pluralize

FROM_FILE = "uns of the data file"
COMPUTED = "Welch's t of every gene against all control cells, by absolute value"

_LISTS = ("rank_genes_groups_cov_all", "top_non_dropout_de_20", "non_zeros_gene_idx", "non_dropout_gene_idx")


@dataclass(frozen=True, eq=False)
class DeGenes:
    """Differentially expressed genes of one perturbation, as positions in the model.

    Attributes
    ----------
    ranked
        int64, from the most changed gene on.
    non_dropout_20
        int64 [at most 20]: the first of `ranked` that are not dropouts.
    non_zero
        int64, sorted: genes that any cell of the perturbation expresses.
    non_dropout
        int64, sorted: these, and genes that no control cell expresses either. A gene that control cells express and
        no perturbed cell does is a dropout: sequencing may have missed it.
    source
        `FROM_FILE` or `COMPUTED`, the origin of `ranked`.
    """

    ranked: NDArray[np.int64]
    non_dropout_20: NDArray[np.int64]
    non_zero: NDArray[np.int64]
    non_dropout: NDArray[np.int64]
    source: str

    def leading(self, n_genes: int) -> NDArray[np.int64]:
        """Return the first `n_genes` of the ranking that are not dropouts, starting with `non_dropout_20`."""
        allowed = np.isin(self.ranked, self.non_dropout) & ~np.isin(self.ranked, self.non_dropout_20)
        return np.concatenate([self.non_dropout_20, self.ranked[allowed]])[:n_genes]


class DeLists:
    """The lists that GEARS's preprocessing stores in uns.

    Two of them are positions of genes, which AnnData does not update when genes or cells are selected. They follow from
    the cells; where they do not, or other genes lead the ranking, no list of that perturbation is used.
    """

    def __init__(self, measured: MeasuredCells) -> None:
        self._uns = measured.cells.uns if measured.group is None else {}  # its lists are of all cells
        self._labels = measured.labels
        columns = measured.match.columns
        self._measured = columns >= 0
        self._position_of_column = np.full(measured.cells.var.n_rows, -1, dtype=np.int64)
        self._position_of_column[columns[self._measured]] = np.flatnonzero(self._measured)
        self._position_of_name: dict[str, int] = {}
        for names in measured.cells.gene_names.values():
            for name, position in zip(names, self._position_of_column.tolist(), strict=True):
                self._position_of_name.setdefault(name, position)
        self._stale: list[str] = []

    def of(self, label: str, moments: GroupMoments) -> DeGenes:
        """Return the genes of a label of the data; lists that uns lacks are computed from the moments as in GEARS."""
        observed, control = moments.mean(label), moments.control
        non_zero = np.flatnonzero(observed != 0)
        non_dropout = np.flatnonzero((observed != 0) | (control == 0))
        by_t = _ranked_by_t(moments, label)
        names, names_20, non_zero_columns, non_dropout_columns = (self._entry(key, label) for key in _LISTS)
        ranked, leading = self._named(names), self._named(names_20)
        least = min(20, len(non_dropout))
        agree = (
            all(len(entry) >= least for entry in (names, names_20) if entry is not None)
            and self._agree(non_zero_columns, non_zero)
            and self._agree(non_dropout_columns, non_dropout)
            and (leading is None or np.isin(leading, non_dropout).all())
            and (ranked is None or _mostly(ranked[:20], by_t[: max(len(by_t) // 4, 40)]))
        )
        if agree and ranked is not None and leading is not None:
            agree = _mostly(leading, ranked[np.isin(ranked, non_dropout)][: len(leading)])
        if not agree:
            self._stale.append(label)
        source = FROM_FILE
        if ranked is None or not agree:
            ranked, leading, source = by_t, None, COMPUTED
        if leading is None:
            leading = ranked[np.isin(ranked, non_dropout)][:20]
        return DeGenes(ranked, leading, non_zero, non_dropout, source)

    def notices(self) -> list[str]:
        """Return a sentence on the lists that did not agree with the cells, if there were any."""
        if not self._stale:
            return []
        return [
            f"The lists of genes in uns do not agree with the cells ({pluralize(len(self._stale), 'perturbation')}: "
            f"{join_limited(self._stale)}), as after genes were re-ordered or cells left out: computed instead."
        ]

    def _entry(self, key: str, label: str) -> NDArray[np.generic] | None:
        lists = self._uns.get(key)
        if not isinstance(lists, Mapping):
            return None
        for name in (self._labels.condition_names.get(label), label):
            if name is not None and name in lists:
                entry = lists[name]
                return np.ravel(np.array(None) if isinstance(entry, Mapping) else entry)
        return None

    def _named(self, names: NDArray[np.generic] | None) -> NDArray[np.int64] | None:
        """Return the genes of the model among names, None if there is no list or the data has none of them."""
        texts = [] if names is None else map(text_of, names)
        found = [self._position_of_name[text] for text in texts if text in self._position_of_name]
        return _known(np.array(found, dtype=np.int64)) if found else None

    def _agree(self, columns: NDArray[np.generic] | None, expected: NDArray[np.int64]) -> bool:
        """Return whether columns, if there is a list of them, are those of `expected` among the model's genes."""
        if columns is None:
            return True
        if columns.dtype.kind not in "iuf" or not np.isin(columns, np.arange(len(self._position_of_column))).all():
            return False
        positions = self._position_of_column[columns.astype(np.int64)]
        return np.array_equal(np.unique(_known(positions)), expected[self._measured[expected]])


def _known(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    return positions[positions >= 0]


def _mostly(genes: NDArray[np.int64], among: NDArray[np.int64]) -> bool:
    return bool(2 * np.isin(genes, among).sum() >= len(genes) > 0)


def _ranked_by_t(moments: GroupMoments, label: str) -> NDArray[np.int64]:
    """Return genes by descending absolute Welch's t against control cells; ties in model order.

    GEARS's preprocessing does the same with Scanpy's `rank_genes_groups`, method "t-test", `rankby_abs`. An undefined t
    (a gene that varies in neither group) counts as 0. With a single cell in a group, genes are ranked by the absolute
    change.
    """
    change = moments.mean(label) - moments.control
    if moments.n(label) < 2 or moments.n(CONTROL) < 2:
        return np.argsort(-np.abs(change), kind="stable").astype(np.int64)
    error = np.sqrt(moments.variance(label) / moments.n(label) + moments.variance(CONTROL) / moments.n(CONTROL))
    t = np.divide(change, error, out=np.zeros_like(change), where=error > 0)
    return np.argsort(-np.abs(t), kind="stable").astype(np.int64)
