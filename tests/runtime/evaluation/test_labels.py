"""Labels in the spellings of public data sets: none loses cells, becomes a training cell by mistake, or leaks."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from scgenept_rt.errors import GeneMatchError, PredictionFileError, PredictionWarning
from scgenept_rt.evaluation import Split, evaluate, read_predictions
from scgenept_rt.evaluation.measured import MeasuredCells
from scgenept_rt.evaluation.split import tested_labels as find_tested
from scgenept_rt.evaluation.split import training_labels
from scgenept_rt.expression.label_matching import LabelReader
from scgenept_rt.expression.opened_cells import open_cells
from scgenept_rt.genes import GenePanel
from scgenept_rt.ranking import rank
from tests.runtime.evaluation.conftest import GENES

NAMES = ("FOSB", "KLF1", "CDKN1B", "HLA-A", "Y_RNA", "CTRL")
IDS = ("ENSG00000125740", "ENSG00000105610", "ENSG00000111276", None, None, None)
PANEL = GenePanel(NAMES, IDS, np.ones(len(NAMES), dtype=bool))
SPLIT = Split("mine", "", {"test": ("G0+ctrl", "G1+G2")}, ("G5+ctrl",))


@pytest.mark.parametrize(
    ("label", "genes"),
    [
        ("FOSB", ("FOSB",)),
        ("ctrl+FOSB", ("FOSB",)),
        ("KLF1+FOSB", ("FOSB", "KLF1")),
        ("KLF1_FOSB", ("FOSB", "KLF1")),
        ("KLF1, FOSB", ("FOSB", "KLF1")),
        ("HLA-A;control", ("HLA-A",)),
        ("Y_RNA", ("Y_RNA",)),
        ("Y_RNA;KLF1", ("KLF1", "Y_RNA")),
        ("CTRL", ("CTRL",)),
        ("ENSG00000125740.4|ENSG00000105610", ("FOSB", "KLF1")),
        ("sgKLF1", ("KLF1",)),
        ("KLF1-1", ("KLF1",)),
        ("KLF1;GFP", ("KLF1",)),
        ("p_sgCDKN1B_3", ("CDKN1B",)),
        ("5_CDKN1B_P1P2_ENSG00000111276", ("CDKN1B",)),
        ("KLF1_NegCtrl0__KLF1_NegCtrl0", ("KLF1",)),
        ("KLF1+AAVS1", ("KLF1",)),
        ("ctrl+ctrl", ()),
        ("AAVS1", ()),
        ("non-targeting_00012", ()),
        ("KLF1_FOSB__KLF1_CDKN1B", None),
        ("62(mod)_pBA581", None),
        ("nan", None),
        ("klf1", None),
    ],
)
def test_what_a_label_means(label, genes) -> None:
    assert LabelReader(PANEL).genes(label) == genes


def spelled(label: str, separator: str, control: str) -> str:
    """A label as scPerturb and others have it: its genes alone."""
    return separator.join(gene for gene in label.split("+") if gene != "ctrl") or control


def relabelled(adata, key, spell) -> anndata.AnnData:
    labels = [spell(str(label)) for label in adata.obs["condition"]]
    var = pd.DataFrame(index=list(adata.var["gene_name"]))
    return anndata.AnnData(adata.X.copy(), obs=pd.DataFrame({key: labels}, index=adata.obs_names), var=var)


@pytest.fixture
def plain(perfect, adata):
    """The evaluation of labels as GEARS writes them, `ctrl+G0` as `G0+ctrl`."""
    return evaluate(perfect, relabelled(adata, "condition", lambda label: label.replace("ctrl+G0", "G0+ctrl")), SPLIT)


@pytest.mark.parametrize(
    ("key", "separator", "control"),
    [
        ("perturbation", "_", "control"),
        ("target_gene", "+", "non-targeting"),
        ("gene", ":", "non-targeting"),
    ],
)
def test_conventions_of_the_field_give_the_same_figures(perfect, adata, plain, key, separator, control) -> None:
    result = evaluate(perfect, relabelled(adata, key, lambda label: spelled(label, separator, control)), SPLIT)
    pd.testing.assert_frame_equal(result.perturbations, plain.perturbations)
    assert result.notices == plain.notices == ()


def with_blanked(adata, genes, scale=1.0):
    changed = adata.copy()
    changed.layers["counts"] = changed.X.copy()
    changed.X = changed.X.toarray() * scale
    changed.X[:, genes] = 0
    return changed


def test_genes_that_are_blanked_in_x_are_no_measurements(perfect, adata) -> None:
    changed = with_blanked(adata, [4, 7])
    for use in (
        lambda **read: evaluate(perfect, changed, SPLIT, read=read),
        lambda **read: draw(changed, perfect, read),
    ):
        with pytest.raises(GeneMatchError, match="zero in X") as caught:
            use()
        assert {GENES[4], GENES[7]} <= set(caught.value.genes)
        with pytest.warns(PredictionWarning, match="zero in X"):
            use(missing_genes="zero")


def test_a_doubtful_scale_of_measured_cells_is_told_with_existing_predictions_too(perfect, adata) -> None:
    smoothed = adata.copy()
    smoothed.X = adata.X.toarray() * np.random.default_rng(0).uniform(0.9, 1.1, adata.shape)
    with pytest.warns(PredictionWarning, match="no trace of counts"):
        result = evaluate(perfect, smoothed, SPLIT)
    assert any("no trace of counts" in notice for notice in result.notices)
    with pytest.warns(PredictionWarning, match="no trace of counts"):
        draw(smoothed, perfect, {})


def draw(adata, predictions, read):
    pytest.importorskip("matplotlib")
    from scgenept_rt.plotting import agreement

    return agreement(adata, "G1+G2", predictions, read=read)


def test_guides_of_one_gene_are_one_perturbation(perfect, adata, plain) -> None:
    guides = iter(range(1000))
    result = evaluate(
        perfect,
        relabelled(adata, "perturbation", lambda label: f"{spelled(label, '_', 'control')}_g{next(guides) % 3}"
                   if label != "ctrl" else "control"),
        SPLIT,
    )  # fmt: skip
    pd.testing.assert_frame_equal(result.perturbations, plain.perturbations)


@pytest.mark.parametrize("word", ["nan", "ctrl+ctrl", "SOX2", "G1+unknown", None])
def test_other_cells_are_named_and_never_trained_on(perfect, adata, plain, word) -> None:
    """Copies of control cells under another label: counted as perturbed, they would pull the training mean to them."""
    controls = adata[adata.obs["condition"] == "ctrl"].copy()
    controls.obs_names = [f"other {name}" for name in controls.obs_names]
    joined = anndata.concat([adata, controls])
    text = [str(label).replace("ctrl+G0", "G0+ctrl") for label in adata.obs["condition"]]
    joined.obs = pd.DataFrame({"condition": [*text, *[word] * controls.n_obs]}, index=joined.obs_names)
    joined.var_names = list(adata.var["gene_name"])
    result = evaluate(perfect, joined, SPLIT)
    pd.testing.assert_frame_equal(result.perturbations, plain.perturbations)
    (notice,) = [notice for notice in result.notices if "may be controls" not in notice]
    assert notice.startswith("80 cells are left out")
    assert f"{word or 'no label'} (80)" in notice
    listed = Split("listed", "", SPLIT.test, SPLIT.val, ("G1+ctrl", "nan", "unassigned", "AAVS1", "NegCtrl7", "*"))
    with open_cells(joined) as cells:
        assert training_labels(MeasuredCells(cells, perfect.panel), listed)[0] == ["G1+ctrl"]


@pytest.mark.parametrize("spelling", ["G2+G1", "G1+G2+ctrl", "g1+g2", "G1_g1__G2_g1"])
def test_test_cells_never_leak_into_a_baseline(adata, perfect, spelling) -> None:
    """The file has the tested pair in two spellings, and the split even lists the second as a training label."""
    rows = np.flatnonzero(adata.obs["condition"] == "G1+G2")
    labels = adata.obs["condition"].astype(str).to_numpy().astype(object)
    labels[rows[:7]] = spelling
    changed = relabelled(adata, "condition", lambda label: label)
    changed.obs["condition"] = labels
    for train in (None, ("G1+ctrl", spelling)):
        with open_cells(changed) as cells:
            split = Split("s", "", SPLIT.test, SPLIT.val, train)
            train_names, _, _ = training_labels(MeasuredCells(cells, perfect.panel), split)
        assert not {spelling, "G1+G2"} & {*train_names}
        assert "G1+ctrl" in train_names


def test_ten_thousand_labels() -> None:
    """Each map is built once: with a loop over labels within one over labels, this would take minutes."""
    names = tuple(f"GENE{number}" for number in range(10_000))
    panel = GenePanel(names, (None,) * len(names), np.ones(len(names), dtype=bool))
    labels = [*names, "ctrl", *(f"no gene {number}" for number in range(2_000))]
    obs = pd.DataFrame({"condition": labels}, index=[str(row) for row in range(len(labels))])
    cells = anndata.AnnData(np.zeros((len(labels), 1), np.float32), obs=obs, var=pd.DataFrame(index=[names[0]]))
    split = Split("mine", "", {"test": tuple(f"{name}+ctrl" for name in names[:-1])})
    with open_cells(cells, {"missing_genes": "zero"}) as opened:
        measured = MeasuredCells(opened, panel)
        tested, _ = find_tested(measured, split)
        train, _, _ = training_labels(measured, split)
    assert len(tested) == 9_999
    assert train == [names[-1]]


@pytest.mark.parametrize(
    ("where", "value"), [("X", np.nan), ("delta", -np.inf), ("effect", np.inf), ("a cell", np.inf)]
)
def test_predictions_that_are_not_finite_are_refused_by_name(means, where, value) -> None:
    means.layers["effect"] = means.layers["delta"].copy()
    means.layers.get(where, means.X)[-1, 3] = value
    if where == "a cell":
        means.uns["scgenept_rt"] = {"seed": 0}
        del means.obs["n_controls"]
    with pytest.raises(PredictionFileError, match=r"G1\+G2 is -?(nan|inf) for G3"):
        read_predictions(means, effects=where == "effect")


def test_predictions_without_rows_are_refused(means) -> None:
    means.uns["scgenept_rt"] = {"groupby": "condition"}
    with pytest.raises(PredictionFileError, match="it holds no perturbation"):
        read_predictions(means[:0])


def test_genes_that_are_called_like_controls_are_no_controls() -> None:
    labels = ["WT1+ctrl", "CTRL", "ctrl", "WT1+ctrl", "CTRL", "ctrl"]
    values = np.array([[1.0, 0], [0, 2], [0.5, 0.5]] * 2, np.float32)
    cells = anndata.AnnData(values, pd.DataFrame({"condition": labels, "control_cell": list("aaabbb")}))
    cells.var_names = ["WT1", "CTRL"]
    means = read_predictions(cells)
    assert means.labels == ("WT1+ctrl", "CTRL")
    np.testing.assert_allclose(means.layers["delta"], [[0.5, -0.5], [-0.5, 1.5]])
    assert set(rank(means).table["perturbation"]) == {"WT1+ctrl", "CTRL"}
