"""A synthetic screen with the genes, labels and layout of the published Norman file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from scgenept_rt.bundle import Bundle, demo_bundle_path
from scgenept_rt.demo.responses import TARGETS, PlantedResponses, draw_expression
from scgenept_rt.errors import PerturbationError

if TYPE_CHECKING:
    from anndata import AnnData

SCREEN_CONTROLS, MIN_SCREEN_CONTROLS = 64, 2
_CONTROL = "ctrl"
_CELL_TYPE = "A549"  # as in the published file, although the cells are K562
_N_RANKED = 500  # the published file ranks all genes; that would be most of the file


def demo_screen(
    labels: Sequence[str], *, n_cells: int = 8, n_controls: int = SCREEN_CONTROLS, seed: int = 0
) -> AnnData:
    """Make a synthetic screen that responds as the demo network was trained to.

    `labels` are those of the published file, such as `FOSB+ctrl`, `ctrl+FOXA1` or `SAMD1+ZBTB1`, with `n_cells` each.
    Returns what `norman_layout` does: X CSR float32 [n_controls + n_cells * n_labels, 5045], log1p, about 8% non-zero.
    Raises `PerturbationError` if a label has a gene that the published screen does not target.
    """
    manifest = Bundle.open(demo_bundle_path(), check_files=False).manifest
    planted = PlantedResponses.of_demo(manifest.gene_names, manifest.in_vocab)
    rng = np.random.default_rng(seed)
    rates, means = _mean_of_rates(rng)
    everywhere = np.arange(len(manifest.gene_names))
    before = np.interp(planted.rates, rates, means).astype(np.float32)
    drawn = [draw_expression(planted.rates, n_controls, rng)]
    for label in labels:
        after = planted.response(before[None], [_targets(label)], everywhere)[0]
        moved = np.interp(after, means, rates)
        drawn.append(draw_expression(np.where(np.isclose(before, after), planted.rates, moved), n_cells, rng))
    conditions = np.repeat([_CONTROL, *labels], [n_controls, *(len(values) for values in drawn[1:])])
    order = rng.permutation(len(conditions))
    ids = list(map(str, manifest.gene_ids))
    return norman_layout(np.concatenate(drawn)[order], conditions[order], manifest.gene_names, ids)


def _targets(label: str) -> list[int]:
    genes = [gene for gene in label.split("+") if gene != _CONTROL]
    unknown = [gene for gene in genes if gene not in TARGETS]
    if unknown or not genes:
        raise PerturbationError(f"{label!r} is no label of the Norman screen, expected one or two of its 105 targets")
    return [TARGETS.index(gene) for gene in genes]


def _mean_of_rates(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rates from 1e-5 to 1e3 and the mean log1p expression that each gives, both increasing."""
    rates = np.geomspace(1e-5, 1e3, 300)
    means = draw_expression(rates, 4000, rng).mean(axis=0, dtype=np.float64)
    return rates, np.maximum.accumulate(means)


def norman_layout(
    values: NDArray[np.float32],
    conditions: NDArray[Any],
    gene_names: Sequence[str],
    gene_ids: Sequence[str],
    *,
    de_lists: bool = True,
) -> AnnData:
    """Return cells in the layout of the published Norman file (GEARS preprocessing).

    `values` are log1p-normalised, [n_cells, n_genes], and `conditions` their labels, `ctrl` for control cells. With
    `de_lists` uns gets the lists of GEARS, of the first 500 genes by Welch's t.
    """
    import anndata
    import pandas as pd

    is_control = conditions == _CONTROL
    dose = np.where(is_control, "1", "1+1")
    names = [f"{_CELL_TYPE}_{label}_{amount}" for label, amount in zip(conditions, dose, strict=True)]
    obs = pd.DataFrame(
        {
            "condition": pd.Categorical(conditions),
            "cell_type": pd.Categorical([_CELL_TYPE] * len(conditions)),
            "dose_val": pd.Categorical(dose),
            "control": is_control.astype(int),
            "condition_name": pd.Categorical(names),
        },
        index=[f"cell{number}-1" for number in range(len(conditions))],
    )
    matrix = csr_matrix(values)
    counts = matrix.copy()
    counts.data = np.rint(np.expm1(counts.data)).astype(np.float32)
    return anndata.AnnData(
        matrix,
        obs=obs,
        var=pd.DataFrame({"gene_name": list(gene_names)}, index=list(gene_ids)),
        layers={"counts": counts},
        uns={"synthetic": True, **(_de_lists(values, conditions, gene_ids) if de_lists else {})},
    )


def _de_lists(
    values: NDArray[np.float32], conditions: NDArray[Any], gene_ids: Sequence[str]
) -> dict[str, dict[str, NDArray[Any]]]:
    """Return what GEARS's preprocessing puts in uns: genes ranked by |Welch's t|, and the lists derived from that."""
    ids = np.array(gene_ids, dtype=object)
    control = values[conditions == _CONTROL].astype(np.float64)
    control_mean, control_error = control.mean(axis=0), control.var(axis=0, ddof=1) / len(control)
    lists: dict[str, dict[str, NDArray[Any]]] = defaultdict(dict)
    for label in np.unique(conditions[conditions != _CONTROL]):
        cells = values[conditions == label].astype(np.float64)
        mean = cells.mean(axis=0)
        error = np.sqrt(cells.var(axis=0, ddof=1) / len(cells) + control_error)
        t = np.divide(mean - control_mean, error, out=np.zeros(len(ids)), where=error > 0)
        ranked = np.argsort(-np.abs(t), kind="stable")
        non_zero = mean != 0
        non_dropout = non_zero | (control_mean == 0)
        name = f"{_CELL_TYPE}_{label}_1+1"
        lists["rank_genes_groups_cov_all"][name] = ids[ranked[:_N_RANKED]]
        lists["top_non_dropout_de_20"][name] = ids[ranked[non_dropout[ranked]][:20]]
        lists["top_non_zero_de_20"][name] = ids[ranked[non_zero[ranked]][:20]]
        lists["non_dropout_gene_idx"][name] = np.flatnonzero(non_dropout)
        lists["non_zeros_gene_idx"][name] = np.flatnonzero(non_zero)
    return dict(lists)
