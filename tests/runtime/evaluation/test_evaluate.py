from __future__ import annotations

import dataclasses
import json

import anndata
import numpy as np
import pandas as pd
import pytest

import scgenept_rt as sgr
from scgenept_rt.errors import ArgumentError, LabelNotFoundError, PredictionFileError
from scgenept_rt.evaluation import evaluate, metric_names, read_predictions
from scgenept_rt.evaluation.predicted import predict_published_protocol
from scgenept_rt.evaluation.result import ALL_TESTED
from scgenept_rt.options import ReadOptions, resolve
from tests.data.make_stand_in import stand_in
from tests.runtime.evaluation.conftest import TESTED
from tests.runtime.evaluation.page import check_page


def figures(evaluation, subgroup, method) -> pd.Series:
    summary = evaluation.summary
    return summary[(summary["subgroup"] == subgroup) & (summary["method"] == method)].iloc[0]


def test_perfect_predictions(perfect, h5ad, split) -> None:
    result = evaluate(perfect, h5ad, split)
    assert result.tested == ("G0+ctrl", "ctrl+G0", "G3+ctrl", "G7+G8", "G1+G9", "G1+G2")
    assert result.subgroups == ["unseen_single", "combo_seen0", "combo_seen1", "combo_seen2", ALL_TESTED]
    assert result.methods == ["model", "control mean", "training mean", "additive"]
    own = figures(result, "combo_seen2", "model")
    assert own["pearson_delta"] == pytest.approx(1.0)
    assert own["mse"] == pytest.approx(0.0, abs=1e-10)
    assert own["frac_correct_direction_20"] == pytest.approx(1.0)
    assert result.findings[0].startswith("model beats every baseline in every subgroup on pearson_delta")
    rows = result.perturbations
    assert list(rows.columns[:5]) == ["perturbation", "subgroup", "method", "n_cells", "n_controls"]
    assert tuple(rows.columns[5:]) == metric_names()
    # Not every perturbation has genes of every fold change.
    assert not rows[[name for name in metric_names() if "fold_change" not in name]].isna().any().any()

    chosen = rows[(rows["subgroup"] == "unseen_single") & (rows["method"] == "training mean")]
    assert figures(result, "unseen_single", "training mean")["mse_de"] == pytest.approx(np.mean(list(chosen["mse_de"])))
    assert figures(result, ALL_TESTED, "model")["n_perturbations"] == 6
    assert figures(result, ALL_TESTED, "additive")["n_perturbations"] == 2, "pairs with a single seen in training"


def test_baselines(perfect, h5ad, split, mean_of, adata) -> None:
    result = evaluate(perfect, h5ad, split)
    rows = result.perturbations.set_index(["perturbation", "method"])
    control = mean_of("ctrl")

    def mse(prediction, label):
        return pytest.approx(np.mean((prediction - mean_of(label)) ** 2))

    assert rows.loc[("G1+G2", "control mean"), "mse"] == mse(control, "G1+G2")
    assert rows.loc[("G1+G2", "control mean"), "pearson_delta"] == 0.0
    train = ["G1+ctrl", "G2+ctrl", "G4+ctrl"]
    pooled = adata.X.toarray()[np.isin(adata.obs["condition"], train)].astype(float).mean(0)
    assert rows.loc[("G7+G8", "training mean"), "mse"] == mse(pooled, "G7+G8")
    both = mean_of("G1+ctrl") + mean_of("G2+ctrl") - control
    assert rows.loc[("G1+G2", "additive"), "mse"] == mse(both, "G1+G2")
    assert rows.loc[("G1+G9", "additive"), "mse"] == mse(mean_of("G1+ctrl"), "G1+G9")
    assert ("G7+G8", "additive") not in rows.index
    # Effects were planted additively.
    assert rows.loc[("G1+G2", "additive"), "pearson_delta"] > 0.95


def test_spread_of_the_cells_and_variable_genes(perfect, h5ad, adata, split, mean_of) -> None:
    row = evaluate(perfect, h5ad, split).perturbations.set_index(["perturbation", "method"]).loc[("G1+G9", "model")]
    values, condition = adata.X.toarray(), adata.obs["condition"].to_numpy()
    names = list(adata.uns["rank_genes_groups_cov_all"]["A549_G1+G9_1+1"][:20])
    cells = values[condition == "G1+G9"][:, adata.var_names.get_indexer(names)]
    cells = cells[:, cells.max(axis=0) > 0]
    low, high = (np.quantile(cells, share, axis=0) for share in (0.45, 0.55))
    inside = (cells.mean(axis=0) >= low) & (cells.mean(axis=0) <= high)
    assert 0 < inside.mean() < 1
    assert row["frac_in_range_45_55"] == pytest.approx(inside.mean())
    assert row["mean_sigma"] == pytest.approx(0.0, abs=1e-5)
    # 60 genes: all of them are among the 200 that vary most.
    assert row["pearson_delta_top200_hvg"] == pytest.approx(row["pearson_delta"])


def test_a_baseline_that_wins_is_named(predict, mean_of, h5ad, split) -> None:
    rng = np.random.default_rng(0)
    noise = {label: rng.normal(0, 1, 60) for label in TESTED}
    result = evaluate(predict(noise), h5ad, split)
    (sentence,) = (finding for finding in result.findings if finding.startswith("combo_seen2"))
    assert "combo_seen2, 1 perturbation: model is beaten by baselines" in sentence
    assert "'additive' wins on pearson_delta (" in sentence
    (overall,) = (finding for finding in result.findings if finding.startswith(ALL_TESTED))
    assert "over 2 perturbations" in overall, "the additive baseline is compared over the pairs that it predicts"


def test_subgroups_and_what_is_missing(perfect, h5ad, split) -> None:
    result = evaluate(perfect, h5ad, split, subgroups=["combo_seen2"])
    assert result.subgroups == ["combo_seen2"]
    # The pairs that are no longer tested have not become training cells.
    assert result.tested == ("G1+G2",)
    assert "1 of the split's 6 perturbations was tested" in result.caveats
    assert figures(result, "combo_seen2", "training mean")["n_perturbations"] == 1
    norman = evaluate(perfect, h5ad, type(split)("s", "", {"test": ("G1+G2", "G0+G9", "KLF1+ctrl")}))
    assert any("1 has no cells in the data: G0+G9" in notice for notice in norman.notices)
    assert any("genes that the model lacks are left out (1): KLF1+ctrl" in notice for notice in norman.notices)
    assert norman.published is None
    with pytest.raises(LabelNotFoundError, match="no cells of the 37 test perturbations"):
        evaluate(perfect, h5ad, "norman-simulation-1", subgroups=["unseen_single"])
    lower = dataclasses.replace(split, test={"test": ("g3+ctrl",)})
    with pytest.raises(LabelNotFoundError, match=r"Did you mean G3\+ctrl\?"):
        evaluate(perfect, h5ad, lower)
    with pytest.raises(ArgumentError, match="expected a loaded bundle"):
        evaluate("bundle", h5ad, split)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="n_controls is 3, but the published protocol"):
        evaluate(perfect, h5ad, split, protocol="published", n_controls=3)


@pytest.mark.parametrize("spelling", ["as in the split", "of genes alone"])
def test_without_a_list_all_that_is_not_held_out_is_trained_on(perfect, adata, split, spelling) -> None:
    changed = adata.copy()
    if spelling == "of genes alone":
        text = adata.obs["condition"].astype(str).str.replace(r"\+ctrl|ctrl\+", "", regex=True)
        changed.obs = pd.DataFrame({"condition": text}, index=adata.obs_names)
    unlisted = type(split)("mine", "", {"test": TESTED}, ("G5+ctrl",))
    result = evaluate(perfect, changed, unlisted)
    row = result.perturbations.set_index(["perturbation", "method"]).loc[("G7+G8", "training mean")]
    values, condition = adata.X.toarray().astype(float), adata.obs["condition"]
    pooled = values[np.isin(condition, ["G1+ctrl", "G2+ctrl", "G4+ctrl"])].mean(0)
    assert row["mse"] == pytest.approx(np.mean((pooled - values[condition == "G7+G8"].mean(0)) ** 2))


def test_prediction_files(predict, mean_of, adata, tmp_path) -> None:
    rng = np.random.default_rng(0)
    cells = rng.gamma(1.0, 1.0, (9, 60)).astype(np.float32)
    var = pd.DataFrame(index=list(adata.var["gene_name"]))
    obs = pd.DataFrame({"perturbation": ["control"] * 3 + ["G1+G2"] * 4 + ["G3"] * 2}, index=[str(i) for i in range(9)])
    path = tmp_path / "cells.h5ad"
    uns = {"scgenept_rt": {"seed": 0}}
    anndata.AnnData(cells, obs=obs, var=var, uns=uns).write_h5ad(path)
    means = read_predictions(path)
    assert means.labels == ("G1+G2", "G3")
    assert means.name == "cells"
    np.testing.assert_allclose(means.means[0], cells[3:7].mean(0), rtol=1e-6)
    np.testing.assert_allclose(means.delta("G2+G1"), cells[3:7].mean(0) - cells[:3].mean(0), atol=1e-6)
    assert means.n_controls.tolist() == [4, 2]
    assert means.find("G5+ctrl") is None
    assert means.find("no such gene") is None
    without = anndata.AnnData(cells, obs=obs.rename(columns={"perturbation": "guide"}), var=var, uns=uns)
    with pytest.raises(PredictionFileError, match=r"obs has no column condition \(it has: guide\)"):
        read_predictions(without)


def test_measured_cells_are_not_predictions(h5ad, adata) -> None:
    for source in (h5ad, adata):
        with pytest.raises(PredictionFileError, match="may be measured cells"):
            read_predictions(source)


# --- with a model, and the command ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo_cells(tmp_path_factory):
    """A few cells with the demo bundle's genes."""
    from scgenept_rt.bundle import Bundle, demo_bundle_path

    manifest = Bundle.open(demo_bundle_path(), check_files=False).manifest
    labels = ["FOSB+ctrl", "SAMD1+ZBTB1", "SAMD1+ctrl", "ZBTB1+ctrl"]
    made = stand_in(manifest.gene_names, manifest.gene_ids, {"ctrl": 5, **dict.fromkeys(labels, 3)})
    directory = tmp_path_factory.mktemp("demo")
    made.write_h5ad(directory / "cells.h5ad")
    split = {
        "dataset": "norman",
        "subgroups": {"test_subgroup": {"unseen_single": ["FOSB+ctrl"], "combo_seen2": ["SAMD1+ZBTB1"]}},
    }
    (directory / "split.json").write_text(json.dumps(split))
    return directory / "cells.h5ad", directory / "split.json"


def test_both_protocols_with_a_model(demo_cells, tmp_path) -> None:
    cells, split = demo_cells
    with sgr.load("demo", provider="cpu") as model:
        every = evaluate(model, cells, split)
        predicted = model.predict(anndata.read_h5ad(cells), ["FOSB+ctrl", "SAMD1+ZBTB1"])
        published = evaluate(model, cells, split, protocol="published", seed=3)
    predicted.write_h5ad(tmp_path / "means.h5ad")
    from_file = evaluate(read_predictions(tmp_path / "means.h5ad"), cells, split)
    metrics = list(metric_names())
    pd.testing.assert_frame_equal(every.perturbations[metrics], from_file.perturbations[metrics])
    assert every.protocol == "the mean prediction over all 5 control cells"
    assert "one control cell drawn at random (seed 3) for each of the 6 test cells" in published.protocol
    own = published.perturbations[published.perturbations["method"] == published.model]
    assert list(own["n_controls"]) == [3, 3]
    assert not np.allclose(own["mse"], every.perturbations.loc[own.index, "mse"], rtol=1e-6)


def test_published_protocol_warns_of_perturbations_as_predict_does(demo_cells) -> None:
    notices: list[str] = []
    read = resolve(ReadOptions, {"missing_genes": "zero"})
    cells = anndata.read_h5ad(demo_cells[0])
    cells = cells[:, cells.var["gene_name"] != "FOSB"].copy()
    labels = {"C3orf72+ctrl": 1, "FOSB+ctrl": 1, "ctrl+FOSB": 1}
    with sgr.load("demo", provider="cpu") as model, pytest.warns(sgr.PredictionWarning, match="C3orf72"):
        predict_published_protocol(model, cells, labels, seed=0, read=read, progress=None, on_notice=notices.append)
    assert any("FOSB" in notice and "taken as zero" in notice for notice in notices)
    assert not any("predicted once" in notice for notice in notices)


def test_command(run, demo_cells, tmp_path) -> None:
    cells, split = demo_cells
    csv, page = tmp_path / "figures.csv", tmp_path / "report.html"
    code, out, err = run(
        "evaluate", "demo", cells, "--split", split, "--n-controls", 1, "--csv", csv, "--json", tmp_path / "a.json",
        "--html", page, "--provider", "cpu",
    )  # fmt: skip
    assert code == 0, err
    assert "weights are synthetic" in err
    assert (
        "not comparable as they are: the model's weights are synthetic; the cells are synthetic; predictions "
        "were not made by the published protocol"
    ) in out
    assert "means over as few as 1 control cell:" in out
    for part in ("unseen_single", "combo_seen2", "training mean", "published (scGenePT", "0.698", "perturbed by: "):
        assert part in out
    table = pd.read_csv(csv)
    assert table["synthetic"].all()
    assert set(table["method"]) == {"scgenept_go_c_gpt_concat", "control mean", "training mean", "additive"}
    assert set(metric_names()) <= set(table.columns)
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["published"]["names"]["pearson_delta"] == "PearsonDeltaAll"
    assert len(content["perturbations"]) == len(table)
    check_page(page.read_text())


@pytest.fixture
def means_file(means, tmp_path):
    means.uns = {"scgenept_rt": {"variant": "from a file", "manifest_digest": "abc"}}
    path = tmp_path / "means.h5ad"
    means.write_h5ad(path)
    return path


def test_command_on_a_prediction_file(run, h5ad, split_file, means_file) -> None:
    path = means_file
    code, out, err = run("evaluate", h5ad, "--split", split_file, "--predictions", path, "--subgroup", "combo_seen2")
    assert code == 0, err
    assert out.startswith(f"from a file against {h5ad}")
    assert "beats every baseline" in out
    assert "1 of the split's 6 perturbations was tested" in out
    assert "unseen_single" not in out
    code, _, err = run("evaluate", "demo", h5ad, "--split", split_file, "--predictions", path)
    assert code == 0
    assert "predicted with another bundle" in err


def test_notes_word_options_as_flags(run, adata, split_file, means_file, tmp_path) -> None:
    labels = adata.obs["condition"].astype(str).to_numpy()
    labels[np.flatnonzero(labels == "ctrl")[:3]] = "AAVS1"
    changed = adata.copy()
    changed.obs["condition"] = labels
    changed.write_h5ad(tmp_path / "cells.h5ad")
    command = ("evaluate", tmp_path / "cells.h5ad", "--split", split_file, "--predictions", means_file)
    code, out, _ = run(*command, "--json", tmp_path / "report.json")
    assert code == 0
    for text in (out, (tmp_path / "report.json").read_text()):
        assert "--control-label ctrl --control-label AAVS1" in text
        assert "control_label=" not in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["CELLS", "--split", "norman-simulation-1"], 2, "give BUNDLE and DATA, or DATA with"),
        (["demo", "CELLS", "--split", "norman"], 1, "no shipped split of this name"),
        (["demo", "CELLS", "--split", "SPLIT", "--csv", "CELLS"], 1, "an input of the command"),
        (["CELLS", "--split", "SPLIT", "--predictions", "p.h5ad", "--n-controls", "3"], 2, "leave them out"),
    ],
)
def test_command_refuses(run, demo_cells, arguments, code, message) -> None:
    named = {"CELLS": demo_cells[0], "SPLIT": demo_cells[1]}
    found, _, err = run("evaluate", *(named.get(argument, argument) for argument in arguments))
    assert found == code
    assert message in " ".join(err.replace("│", " ").split())
