from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")


import scgenept_rt as sgr
from scgenept_rt.plotting.drawing import figure_of
from tests.runtime.plotting.legible import check_legible, texts
from tests.runtime.plotting.screen import GENES, LABELS, many_rows


def test_rows_are_ranked_without_their_targets(means) -> None:
    many = many_rows(means, 5)
    many.obs["condition"] = [f"G{row}+ctrl" for row in range(5)]
    many.layers["delta"][:] = 0.1
    many.layers["delta"][np.arange(5), np.arange(5)] = [9, 8, 7, 6, 5]
    many.layers["delta"][3:, 10] = 2.0
    drawn = {without: sgr.pl.heatmap(many, n_perturbations=2, n_genes=3, without_targets=without) for without in (0, 1)}
    assert set(texts(drawn[0].get_yticklabels())) == {"G0+ctrl", "G1+ctrl"}
    assert set(texts(drawn[1].get_yticklabels())) == {"G3+ctrl", "G4+ctrl"}


@pytest.mark.parametrize(("n_genes", "n_rows"), [(40, 9), (1, 1)])
def test_heatmap(means, n_genes, n_rows) -> None:
    ax = sgr.pl.heatmap(means, LABELS[-n_rows:], n_genes=n_genes)
    rows, columns = texts(ax.get_yticklabels()), texts(ax.get_xticklabels())
    assert sorted(rows) == sorted(LABELS[-n_rows:])
    shown = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(shown, means.to_df("delta").loc[rows, columns], atol=1e-6)
    low, high = ax.images[0].get_clim()
    assert low == -high, "no change is the middle of the colours"
    assert len(figure_of(ax).axes) == 2, "a colour bar"
    check_legible(ax)
    figure = figure_of(ax)
    label = figure.axes[1].yaxis.label.get_window_extent()
    assert 0 <= label.y0 < label.y1 <= figure.bbox.height, "the colour bar's label is cut off"


def test_heatmap_in_the_order_given(means) -> None:
    ax = sgr.pl.heatmap(means, [LABELS[2], LABELS[0]], genes=[GENES[9], GENES[3]], cluster=False)
    assert texts(ax.get_yticklabels()) == [LABELS[2], LABELS[0]]
    assert texts(ax.get_xticklabels()) == [GENES[9], GENES[3]]


def test_heatmap_of_a_screen_shows_the_rows_that_change_most(means) -> None:
    many, notices = many_rows(means, 400), []
    ax = sgr.pl.heatmap(many, on_notice=notices.append)
    assert set(texts(ax.get_yticklabels())) == {f"P{number}+ctrl" for number in range(300, 400)}
    (notice,) = notices
    assert notice.startswith("100 of 400 perturbations are drawn, those of the largest predicted change")
    assert [option.name for option in notice.options] == ["perturbations", "n_perturbations"]
    assert "100 of 400 perturbations" in ax.get_title(loc="left")
    assert max(figure_of(ax).get_size_inches()) <= 20
    check_legible(ax)
    notices.clear()
    ax = sgr.pl.heatmap(many, n_perturbations=3, cluster=False, on_notice=notices.append)
    wanted = [label for label in many.obs_names if label in ("P397+ctrl", "P398+ctrl", "P399+ctrl")]
    assert texts(ax.get_yticklabels()) == wanted, "in the order of the predictions"
    assert notices == []


def test_heatmap_ranks_rows_by_the_genes_asked_for(means) -> None:
    many = many_rows(means, 150)
    many.layers["delta"][:, 7] = np.where(np.arange(150) < 50, 0.0, 1.0)
    ax = sgr.pl.heatmap(many, genes=["G7"])
    assert set(texts(ax.get_yticklabels())) == set(many.obs_names[50:])


def test_heatmap_leaves_out_names_too_small_to_read(means) -> None:
    ax = sgr.pl.heatmap(many_rows(means, 400), n_perturbations=400, n_genes=3)
    assert ax.images[0].get_array().shape == (400, 3)
    assert max(figure_of(ax).get_size_inches()) <= 20
    assert not texts(ax.get_yticklabels())
    assert ax.get_ylabel() == "400 perturbations"
    assert len(texts(ax.get_xticklabels())) == 3
    check_legible(ax)
    label = figure_of(ax).axes[1].yaxis.label.get_window_extent()
    assert 0 <= label.y0 < label.y1 <= figure_of(ax).bbox.height
