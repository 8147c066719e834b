from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from scgenept_rt.evaluation import DeGenes, evaluate, metric_names, pearson, perturbation_metrics
from scgenept_rt.evaluation.de_genes import COMPUTED, FROM_FILE, DeLists
from scgenept_rt.evaluation.measured import MeasuredCells
from scgenept_rt.evaluation.metrics import higher_is_better, most_variable_genes
from scgenept_rt.expression.opened_cells import open_cells
from scgenept_rt.genes import GenePanel

GEARS = Path(__file__).parents[2] / "data" / "gears"


@pytest.fixture(scope="module")
def gears() -> tuple[dict[str, np.ndarray], dict[str, dict[str, float]]]:
    """GEARS's own inputs and outputs."""
    with np.load(GEARS / "data.npz") as arrays:
        return dict(arrays), json.loads((GEARS / "outputs.json").read_text())["metrics"]


def gears_adata(arrays: dict[str, np.ndarray]) -> anndata.AnnData:
    names = {label: f"A549_{label}_{'1' if label == 'ctrl' else '1+1'}" for label in np.unique(arrays["condition"])}
    return anndata.AnnData(
        csr_matrix(arrays["X"]),
        obs=pd.DataFrame(
            {"condition": arrays["condition"], "condition_name": [names[label] for label in arrays["condition"]]},
            index=[f"c{row}" for row in range(len(arrays["X"]))],
        ),
        var=pd.DataFrame({"gene_name": arrays["gene_names"]}, index=arrays["gene_ids"]),
        uns={
            key: {names[label]: arrays[f"{key} {label}"] for label in names if label != "ctrl"}
            for key in (
                "rank_genes_groups_cov_all",
                "top_non_dropout_de_20",
                "non_dropout_gene_idx",
                "non_zeros_gene_idx",
            )
        },
    )


@contextmanager
def opened(adata: anndata.AnnData, names: np.ndarray) -> Iterator[MeasuredCells]:
    genes = GenePanel(tuple(str(name) for name in names), (None,) * len(names), np.ones(len(names), dtype=bool))
    with open_cells(adata) as cells:
        yield MeasuredCells(cells, genes)


@pytest.mark.parametrize("lists", ["from uns", "computed"])
@pytest.mark.parametrize("label", ["G0+ctrl", "G1+G2", "ctrl+G3", "G4+ctrl", "G5+ctrl"])
def test_metrics_are_those_of_gears_under_its_keys(gears, label, lists) -> None:
    arrays, outputs = gears
    adata = gears_adata(arrays)
    if lists == "computed":
        adata.uns.clear()
    with opened(adata, arrays["gene_names"]) as measured:
        moments = measured.moments(measured.labels.perturbations)
        de = DeLists(measured).of(label, moments)
        cells = [measured.expression({label: genes})[label] for genes in (de.ranked[:20], de.non_dropout_20)]
    assert de.source == (FROM_FILE if lists == "from uns" else COMPUTED)
    found = perturbation_metrics(
        arrays[f"predicted {label}"],
        moments.mean(label),
        moments.control,
        de,
        cells=cells,
        variable_genes=most_variable_genes(moments.std_of_means()),
    )
    # Every key of GEARS, and no other; where GEARS has no such genes to average over, there is no number here.
    assert set(found) == {key for keys in outputs.values() for key in keys} == set(metric_names())
    assert {key for key, value in found.items() if math.isnan(value)} == set(found) - set(outputs[label])
    # GEARS takes means in float32. Of a prediction of no change all that is left against its control is rounding.
    rounding = label == "ctrl+G3"
    position = {name: index for index, name in enumerate(arrays["gene_ids"])}
    scanpys = [position[name] for name in arrays[f"rank_genes_groups_cov_all {label}"]]
    assert set(de.ranked[:20]) == set(scanpys[:20])
    # Further down genes of one score may stand in another order where the ranking is computed anew.
    tied = [str(size) for size in (50, 100, 200) if set(de.ranked[:size]) != set(scanpys[:size])]
    assert not (tied and lists == "from uns")
    # This one sets means against each other in two orders of the 20 genes, so it depends on the ranking's.
    reordered = {"frac_correct_direction_20_nonzero"} if list(de.ranked[:20]) != scanpys[:20] else set()
    for key in set(outputs[label]) - reordered:
        value = found[key]
        if (rounding and ("delta" in key or "direction" in key)) or any(size in key for size in tied):
            continue
        assert value == pytest.approx(outputs[label][key], abs=2e-5, rel=2e-5), key


def test_spread_and_fold_changes_by_hand() -> None:
    # Genes: varying, expressed by no cell, the same in every cell, silenced, from nothing.
    cells = np.array([[0.0, 0.0, 0.6, 0.5, 1.0], [1.0, 0.0, 0.6, 0.5, 1.0], [2.0, 0.0, 0.6, 0.5, 4.0]])
    control = np.array([0.1, 1.0, 0.6, 4.0, 0.0])
    predicted = np.array([1.2, 0.0, 0.6, 1.0, 3.0])
    every = np.arange(5)
    found = perturbation_metrics(
        predicted, cells.mean(0), control, DeGenes(every, every[:2], every, every, ""),
        cells=(cells, cells[:, :2]), variable_genes=every,
    )  # fmt: skip
    assert found["frac_in_range"] == 3 / 4, "of the four expressed genes all but the silenced one"
    sigma = np.array([0.2 / np.sqrt(2 / 3), 1.0 / np.sqrt(2.0)])
    assert found["mean_sigma"] == pytest.approx(sigma.mean()), "genes of one value in all cells have no sigma"
    # Fold changes 10 (not over 10), 1 and 0.125; those of nothing and to nothing are none.
    gaps = [abs(1.2 - 1.0) / 0.1, 0.0, (1.0 - 0.5) / 4.0]
    assert found["fold_change_gap_all"] == pytest.approx(np.mean(gaps))
    assert found["fold_change_gap_upreg_3"] == pytest.approx(gaps[0])
    assert found["fold_change_gap_downreg_0.33"] == pytest.approx(gaps[2])
    assert math.isnan(found["fold_change_gap_downreg_0.1"])
    assert found["frac_correct_direction_20"] <= 5 / 20, "GEARS divides by 20 whatever is ranked"
    without = perturbation_metrics(predicted, cells.mean(0), control, DeGenes(every, every[:2], every, every, ""))
    assert set(found) - set(without) == {
        key for key in found if "range" in key or "sigma" in key or "hvg" in key or key.endswith("_nonzero")
    }


@pytest.mark.parametrize("cells", [np.zeros((3, 4)), np.ones((1, 4)), np.empty((2, 0))])
def test_cells_without_spread_give_no_number(cells) -> None:
    genes = np.arange(cells.shape[1])
    none = np.zeros(4)
    found = perturbation_metrics(none, none, none, DeGenes(genes, genes, genes, genes, ""), cells=(cells, cells))
    assert math.isnan(found["mean_sigma"])
    assert math.isnan(found["frac_sigma_below_1"])
    assert math.isnan(found["frac_in_range"]) == (not np.any(cells))
    assert pearson(np.ones(3), np.arange(3.0)) == pearson(np.array([1.0]), np.array([2.0])) == 0.0, "as in GEARS"


def test_which_way_is_better() -> None:
    assert all(map(higher_is_better, ("pearson_delta", "frac_correct_direction_20", "frac_sigma_below_1")))
    lower = ("mse_de", "frac_opposite_direction_non_zero", "mean_sigma_non_dropout", "fold_change_gap_all")
    assert not any(map(higher_is_better, lower))


def test_lists_of_unknown_genes_are_not_used(gears) -> None:
    arrays, _ = gears
    adata = gears_adata(arrays)
    adata.uns = {
        "rank_genes_groups_cov_all": {"G0+ctrl": np.array(["ENSG00000000007", "G9", *["no such gene"] * 18])},
        "non_zeros_gene_idx": "not lists",
        "top_non_dropout_de_20": "not lists",
    }
    with opened(adata, arrays["gene_names"]) as measured:
        moments = measured.moments(["G0+ctrl"])
        de = DeLists(measured).of("G0+ctrl", moments)
    assert de.source == FROM_FILE
    assert de.ranked.tolist() == [7, 9], "filed under the label, by id or by name"
    assert set(de.non_zero) == set(np.flatnonzero(moments.mean("G0+ctrl")))


@pytest.mark.parametrize(
    "change",
    [
        "none",
        "genes re-ordered",
        "cells left out",
        "beyond the end",
        "1-based",
        "other first",
    ],
)
def test_lists_in_uns_must_agree_with_the_cells(gears, change) -> None:
    arrays, _ = gears
    adata = gears_adata(arrays)
    if change == "genes re-ordered":
        adata = adata[:, ::-1].copy()
    elif change == "cells left out":
        adata = adata[np.arange(adata.n_obs) % 4 == 0].copy()
    elif change == "other first":  # leads as well, but not to the 20 genes beside it
        ranked = adata.uns["rank_genes_groups_cov_all"]
        ranked |= {
            name: np.roll(genes, -len(adata.uns["top_non_dropout_de_20"][name])) for name, genes in ranked.items()
        }
    elif change in ("beyond the end", "1-based"):
        shift = 1 if change == "1-based" else 10_000
        for positions in (adata.uns["non_zeros_gene_idx"], adata.uns["non_dropout_gene_idx"]):
            for name in positions:
                positions[name] = positions[name] + shift
    with opened(adata, np.array(adata.var["gene_name"])) as measured:
        moments = measured.moments(["G0+ctrl"])
        lists = DeLists(measured)
        de = lists.of("G0+ctrl", moments)
        without = adata.copy()
        without.uns.clear()
    with opened(without, np.array(adata.var["gene_name"])) as measured:
        computed = DeLists(measured).of("G0+ctrl", moments)
    if change == "none":
        assert de.source == FROM_FILE
        assert lists.notices() == []
    else:
        assert de.source == COMPUTED
        np.testing.assert_array_equal(de.ranked, computed.ranked)
        (notice,) = lists.notices()
        assert "do not agree with the cells (1 perturbation: G0+ctrl)" in notice
    np.testing.assert_array_equal(de.non_zero, computed.non_zero)
    np.testing.assert_array_equal(de.non_dropout, computed.non_dropout)


@pytest.mark.parametrize(
    ("key", "odd"),
    [
        ("top_non_dropout_de_20", lambda entry: entry[:5]),
        ("rank_genes_groups_cov_all", lambda _: "G1"),
        ("non_zeros_gene_idx", lambda entry: {"positions": entry}),
        ("non_zeros_gene_idx", lambda _: np.array([])),
        ("non_dropout_gene_idx", lambda entry: entry.astype(str)),
    ],
)
def test_odd_lists_in_uns_are_computed_instead(adata, h5ad, split, predict, tmp_path, key, odd) -> None:
    changed = adata.copy()
    changed.uns[key] = {name: odd(np.asarray(entry)) for name, entry in adata.uns[key].items()}
    changed.uns["synthetic"] = np.array(["yes", "no"])
    plain = adata.copy()
    plain.uns = {}
    changed.write_h5ad(tmp_path / "odd.h5ad")
    model = predict({"G0+ctrl": np.zeros(60), "G1+G2": np.ones(60)})
    expected = evaluate(model, plain, split).perturbations
    for data in (changed, tmp_path / "odd.h5ad"):
        result = evaluate(model, data, split)
        pd.testing.assert_frame_equal(result.perturbations, expected)
        assert any("computed instead" in notice for notice in result.notices)
        assert not result.provenance["synthetic_data"]


@pytest.mark.parametrize("stored", [False, True])
def test_lists_filed_under_a_cell_type_with_a_slash(adata, h5ad, split, predict, tmp_path, stored) -> None:
    def renamed(name: str) -> str:
        return name.replace("A549", "CD4/CD8")

    changed = adata.copy()
    changed.obs["condition_name"] = [renamed(name) for name in adata.obs["condition_name"]]
    if stored:
        changed.write_h5ad(tmp_path / "slash.h5ad")
        changed = tmp_path / "slash.h5ad"
        with h5py.File(changed, "a") as file:  # as anndata wrote it up to 0.11: a group within a group
            for lists in (lists for lists in file["uns"].values() if isinstance(lists, h5py.Group)):
                for name in list(lists):
                    lists.move(name, renamed(name))
    else:
        for key in (key for key, lists in adata.uns.items() if isinstance(lists, dict)):
            changed.uns[key] = {renamed(name): entry for name, entry in adata.uns[key].items()}
    model = predict({"G0+ctrl": np.zeros(60), "G1+G2": np.ones(60)})
    result, wanted = evaluate(model, changed, split), evaluate(model, h5ad, split)
    assert result.de_source == wanted.de_source
    pd.testing.assert_frame_equal(result.perturbations, wanted.perturbations)
