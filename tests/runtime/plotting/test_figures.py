from __future__ import annotations

from itertools import combinations

import anndata
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib")


import scgenept_rt as sgr
from scgenept_rt.errors import PlotError, PredictionFileError
from scgenept_rt.evaluation import read_predictions
from scgenept_rt.plotting.drawing import MAX_SERIES, figure_of, style_of
from tests.runtime.plotting.legible import check_legible, texts
from tests.runtime.plotting.screen import GENES, PAIR, SINGLE, draw, many_rows


@pytest.mark.parametrize(("n_genes", "n_models"), [(1, 1), (50, 3)])
def test_top_de(data, means, n_genes, n_models) -> None:
    series = {f"model {number}": means for number in range(n_models)}
    ax = sgr.pl.top_de(data, SINGLE, series, n_genes=n_genes)
    names = texts(ax.get_xticklabels())
    assert len(names) == n_genes
    assert names[0] == GENES[0], "the perturbed gene was planted to change most"
    legend = texts(ax.get_legend().get_texts())
    assert set(legend) == {"measured mean (box: quartiles)", "median", "single cells", *series}
    assert ax.get_title(loc="left") == f"{SINGLE} (15 cells)"
    points = [line for line in ax.lines if line.get_label() in series]
    assert len({(line.get_color(), line.get_marker()) for line in points}) == len(points) == n_models
    wanted = means.to_df("delta").loc[SINGLE, names]
    np.testing.assert_allclose(points[0].get_ydata(), wanted, atol=1e-6)
    assert len(ax.patches) == n_genes
    check_legible(ax)


def test_nothing_measured_lies_on_the_frame(data, means) -> None:
    # Genes that hardly any cell expresses: the whole box, its dash and its whiskers are one line, the lowest drawn.
    ax = sgr.pl.top_de(data, SINGLE, means, n_genes=50)
    lowest = min(segment[:, 1].min() for lines in ax.collections for segment in lines.get_segments())
    low, high = ax.get_ylim()
    assert lowest - low > 0.01 * (high - low)


def test_every_series_is_in_the_legend(data, means) -> None:
    series = {f"_model {number}": means for number in range(4)} | {"read before": read_predictions(means)}
    for ax in (sgr.pl.top_de(data, SINGLE, series), sgr.pl.agreement(data, SINGLE, series)):
        shown = [text.partition(":")[0].strip() for text in texts(ax.get_legend().get_texts())]
        assert shown[-5:] == list(series)


def test_top_de_takes_the_files_own_lists(data, means) -> None:
    cells = anndata.read_h5ad(data)
    name = dict(zip(cells.var_names, cells.var["gene_name"], strict=True))
    wanted = [name[gene] for gene in cells.uns["top_non_dropout_de_20"][f"A549_{SINGLE}_1+1"]]
    assert texts(sgr.pl.top_de(data, SINGLE, means).get_xticklabels()) == wanted
    assert texts(sgr.pl.top_de(cells, SINGLE, means, n_genes=50).get_xticklabels())[:20] == wanted


def test_top_de_boxes_are_the_cells(data, means) -> None:
    cells = anndata.read_h5ad(data)
    ax = sgr.pl.top_de(cells, SINGLE, means, genes=[GENES[5]])
    column = cells.X.toarray()[:, 5]
    change = column[cells.obs["condition"] == SINGLE] - column[cells.obs["condition"] == "ctrl"].mean()
    dashes = {lines.get_label(): lines.get_segments()[0][:, 1] for lines in ax.collections}
    np.testing.assert_allclose(dashes["measured mean (box: quartiles)"], change.mean(), atol=1e-5)
    np.testing.assert_allclose(dashes["median"], np.median(change), atol=1e-5)
    dots = next(line for line in ax.lines if line.get_label() == "single cells")
    np.testing.assert_allclose(np.sort(dots.get_ydata()), np.sort(change), atol=1e-5)
    low, height = ax.patches[0].get_y(), ax.patches[0].get_height()
    np.testing.assert_allclose([low, low + height], np.quantile(change, [0.25, 0.75]), atol=1e-5)
    furthest = max(value for value in change if value <= low + 2.5 * height)
    assert max(segment[1, 1] for segment in ax.collections[0].get_segments()) == pytest.approx(furthest, abs=1e-5)


def test_of_many_cells_those_beyond_the_whiskers_are_drawn(data, means) -> None:
    cells = anndata.read_h5ad(data)
    perturbed = cells[cells.obs["condition"] == SINGLE]
    many = anndata.concat([*[perturbed] * 8, cells[cells.obs["condition"] == "ctrl"]], index_unique="-", merge="same")
    many.X = many.X.toarray()
    many.X[: 8 * len(perturbed), 5] = 0.0
    many.X[:7, 5] = 2.0
    ax = sgr.pl.top_de(many, SINGLE, means, genes=[GENES[5]])
    (dots,) = (line for line in ax.lines if line.get_label() == "cells beyond the whiskers")
    assert len(dots.get_ydata()) == 7


def test_top_de_of_a_loaded_bundle(tmp_path) -> None:
    from scgenept_rt.demo import demo_control_cells

    controls = demo_control_cells(2)
    perturbed = demo_control_cells(3, seed=1)
    perturbed.obs["condition"] = pd.Categorical(["FOSB+ctrl"] * 3)
    perturbed.obs_names = ["a", "b", "c"]
    cells = anndata.concat([controls, perturbed], merge="same")
    with sgr.load("demo", provider="cpu") as model:
        ax = sgr.pl.top_de(cells, "FOSB", model, n_genes=5)
        wanted = model.predict(cells, "FOSB", var_names="symbol").to_df("delta").iloc[0]
    points = next(line for line in ax.lines if line.get_marker() == "o" and line.get_label() != "single cells")
    np.testing.assert_allclose(points.get_ydata(), wanted[texts(ax.get_xticklabels())], atol=1e-6)
    assert ax.get_title(loc="left") == "FOSB+ctrl (3 cells)"


@pytest.mark.parametrize("synthetic", [True, False])
def test_figures_mark_synthetic_weights(data, means, synthetic) -> None:
    made = means.copy()
    made.uns["scgenept_rt"]["synthetic"] = synthetic
    for ax in (sgr.pl.delta(made, PAIR), sgr.pl.heatmap(made)):
        assert ("synthetic weights" in ax.get_title(loc="left")) == synthetic
    for ax in (sgr.pl.top_de(data, SINGLE, {"own": made}), sgr.pl.agreement(data, SINGLE, {"own": made})):
        assert any("own (synthetic weights)" in text for text in texts(ax.get_legend().get_texts())) == synthetic


def test_delta(means) -> None:
    ax = sgr.pl.delta(means, PAIR, n_genes=50)
    change = means.to_df("delta").loc[PAIR]
    wanted = change[change.abs().nlargest(50).index].sort_values(ascending=False)
    assert texts(ax.get_yticklabels()) == list(wanted.index)
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], wanted, atol=1e-6)
    colours = {bar.get_facecolor() for bar in ax.patches}
    assert len(colours) == len({value > 0 for value in wanted})
    assert "40 control cells" in ax.get_title(loc="left")
    assert "standard error" in ax.get_xlabel()
    check_legible(ax)


def test_delta_without_errors(means) -> None:
    single = means.copy()
    single.layers["delta_sem"][:] = np.nan  # one control cell
    single.obs["n_controls"] = 1
    ax = sgr.pl.delta(single, SINGLE)
    assert "standard error" not in ax.get_xlabel()
    assert "1 control cell" in ax.get_title(loc="left")
    assert not ax.collections, "no error bars"
    del single.layers["delta"]
    with pytest.raises(PredictionFileError, match="no layer delta"):
        sgr.pl.delta(single, SINGLE)


def test_targets_are_left_out(means) -> None:
    # The genes that the pair targets were planted to change most in it, and its singles.
    first, second = PAIR.split("+")
    drawn = texts(sgr.pl.delta(means, PAIR).get_yticklabels())
    without = sgr.pl.delta(means, PAIR, without_targets=True)
    assert {first, second} <= set(drawn)
    assert not {first, second} & set(texts(without.get_yticklabels()))
    assert len(texts(without.get_yticklabels())) == 20
    check_legible(without)
    named = {text.get_text() for text in sgr.pl.volcano(means, PAIR, without_targets=True).texts}
    assert named
    assert not {first, second} & named

    genes = [first, second, GENES[50]]
    ax = sgr.pl.heatmap(means, [PAIR, SINGLE], genes=genes, without_targets=True, cluster=False)
    shown = ax.images[0].get_array()
    assert np.ma.getmaskarray(shown).tolist() == [[True, True, False], [True, False, False]]
    change = means.to_df("delta").loc[[PAIR, SINGLE], genes].to_numpy()
    np.testing.assert_allclose(shown.compressed(), change[~shown.mask], atol=1e-6)
    assert ax.images[0].get_clim()[1] == pytest.approx(np.abs(shown).max())
    check_legible(ax)


def test_volcano(means) -> None:
    estimated = means.copy()
    estimated.layers["effect"] = 2 * means.layers["delta"]
    estimated.layers["effect_sem"] = means.layers["delta_sem"]
    for table, scale, axis in ((means, 1, "change over control"), (estimated, 2, "effect")):
        ax = sgr.pl.volcano(table, PAIR, n_genes=5)
        change = scale * means.to_df("delta").loc[PAIR].to_numpy()
        points = [line for line in ax.lines if line.get_marker() in ("o", "^", "v")]
        drawn = np.concatenate([line.get_xydata() for line in points])
        order = np.argsort(drawn[:, 0])
        wanted = np.column_stack([change, np.abs(change) / 0.04])[np.argsort(change)]
        np.testing.assert_allclose(drawn[order], wanted, rtol=1e-4)
        assert [line.get_xydata()[:, 1].max(initial=0) <= 2 for line in points] == [True, False, False]
        assert axis in ax.get_xlabel()
        assert {text.get_text() for text in ax.texts} <= {GENES[i] for i in np.argsort(-np.abs(change))[:5]}
        check_legible(ax)
    estimated.layers["effect"][:] = np.nan  # all cells were predicted
    assert "change over control" in sgr.pl.volcano(estimated, PAIR).get_xlabel()
    estimated.layers["delta_sem"][:] = np.nan
    with pytest.raises(PredictionFileError, match="no standard errors"):
        sgr.pl.volcano(estimated, PAIR)


@pytest.mark.parametrize("kind", ["delta", "heatmap", "top_de"])
def test_values_of_other_perturbations_are_not_read(kind, data, means, tmp_path) -> None:
    path = tmp_path / "means.h5ad"
    others = means.copy()
    others.X[1:] = others.layers["delta"][1:] = np.nan  # would be refused
    others.write_h5ad(path)
    draw(kind, data, path, *([[SINGLE]] if kind == "heatmap" else []))
    with pytest.raises(PredictionFileError, match="expected finite numbers"):
        sgr.pl.heatmap(path)


def test_agreement(data, means) -> None:
    ax = sgr.pl.agreement(data, PAIR, {f"model {number}": means for number in range(4)})
    cells = anndata.read_h5ad(data)
    values, condition = cells.X.toarray(), cells.obs["condition"]
    measured = values[condition == PAIR].mean(0) - values[condition == "ctrl"].mean(0)
    predicted = means.to_df("delta").loc[PAIR].to_numpy()
    points = next(line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_xdata(), measured, atol=1e-5)
    np.testing.assert_allclose(points.get_ydata(), predicted, atol=1e-5)
    r = np.corrcoef(measured, predicted)[0, 1]
    assert texts(ax.get_legend().get_texts()) == [f"model {number}: r = {r:.2f}" for number in range(4)]
    assert ax.get_xlim() == ax.get_ylim()
    assert {text.get_text() for text in ax.texts} <= set(GENES)
    assert 1 <= len(ax.texts) <= 10
    check_legible(ax)


def test_figures_too_large_to_read_are_refused_before_they_are_drawn(data, means, monkeypatch) -> None:
    wide = many_rows(means, 2, n_genes=1600)
    monkeypatch.setattr("matplotlib.figure.Figure.__init__", lambda *_, **__: pytest.fail("a figure was made"))
    refused = [
        (lambda: sgr.pl.heatmap(wide, n_genes=5000), r"^1,600 genes were requested.* at most 1,500.*n_genes="),
        (lambda: sgr.pl.heatmap(means, [SINGLE] * 1501), r"^1,501 perturbations were requested.*perturbations="),
        (lambda: sgr.pl.heatmap(means, n_perturbations=-1), "^-1 perturbations were requested, expected 1 or more"),
        (lambda: sgr.pl.delta(wide, "P0+ctrl", n_genes=301), r"^301 genes were requested.* at most 300"),
        (
            lambda: sgr.pl.agreement(data, SINGLE, {str(n): means for n in range(50)}),
            "^50 series .* at most 49",
        ),
    ]
    for figure, message in refused:
        with pytest.raises(PlotError, match=message):
            figure()


LONG_NAME = "scgenept_ncbi+uniprot_gpt_go_c_gpt_concat, 300 control cells, seed 0"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("kind", "name", "n_series"),
    [("top_de", LONG_NAME, 10), ("top_de", LONG_NAME * 4, 1), ("agreement", "x" * 150, 1)],
)
def test_long_names_do_not_shrink_the_axes(kind, name, n_series, data, means) -> None:
    series = {f"{name} {number}": means for number in range(n_series)}
    usual = getattr(sgr.pl, kind)(data, SINGLE, {str(number): means for number in range(n_series)})
    ax = getattr(sgr.pl, kind)(data, SINGLE, series)
    check_legible(ax)
    figure_of(usual).draw_without_rendering()
    for side in ("width", "height"):
        assert getattr(ax.get_window_extent(), side) > 0.95 * getattr(usual.get_window_extent(), side)
    shown = ["".join(text.split()) for text in texts(ax.get_legend().get_texts())]
    for wanted in series:
        assert any(text.startswith("".join(wanted.split())) for text in shown), "the whole name, in lines"


@pytest.mark.parametrize("kind", ["delta", "heatmap"])
def test_long_names_in_titles_end_within_the_figure(kind, means) -> None:
    named = means.copy()
    named.uns["scgenept_rt"] = {"variant": LONG_NAME * 3}
    ax = getattr(sgr.pl, kind)(named, *([SINGLE] if kind == "delta" else [[SINGLE, PAIR]]), n_genes=5)
    check_legible(ax)
    assert "".join(LONG_NAME.split()) in "".join(ax.get_title(loc="left").split())


def test_every_gene_name_has_a_line_to_its_point_and_covers_none(data, means) -> None:
    rng = np.random.default_rng(0)
    series = {}
    for number in range(4):
        noisy = means.copy()
        noisy.layers["delta"] = noisy.layers["delta"] + rng.normal(0, 0.1 * number, means.shape).astype(np.float32)
        series[str(number)] = noisy
    ax = sgr.pl.agreement(data, PAIR, series)
    figure_of(ax).draw_without_rendering()
    points = [line for line in ax.lines if line.get_marker() not in ("None", None, "")]
    dots = np.concatenate([ax.transData.transform(line.get_xydata()) for line in points])
    leaders = [line for line in ax.lines if line.get_color() == "black"]
    assert len(ax.texts) == len(leaders) >= 1
    own = dots[: len(GENES)]
    for text, leader in zip(ax.texts, leaders, strict=True):
        box = text.get_window_extent()
        assert not any(box.contains(*dot) for dot in dots), f"{text.get_text()} covers a point"
        start, end = leader.get_transform().transform(leader.get_xydata())
        np.testing.assert_allclose(start, own[GENES.index(text.get_text())], atol=1)
        assert box.padded(2).contains(*end)
    for one, other in combinations(ax.texts, 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent())


def test_no_two_series_look_the_same() -> None:
    assert len({(style["color"], style["marker"]) for style in map(style_of, range(MAX_SERIES))}) == MAX_SERIES == 49
