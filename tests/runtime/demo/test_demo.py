from __future__ import annotations

import shlex
from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy.sparse import issparse
from typer.testing import CliRunner

from scgenept_rt.bundle import Bundle, demo_bundle_path
from scgenept_rt.cli import app
from scgenept_rt.demo import demo_control_cells, demo_screen
from scgenept_rt.demo.responses import DEMO_PERTURBATIONS, NOTICE, expression_rates
from scgenept_rt.demo.screen import SCREEN_CONTROLS
from scgenept_rt.errors import OutputExistsError, PerturbationError
from scgenept_rt.predictor import Predictor, load
from tests.commands import CommandLine


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return load(demo_bundle_path(), provider="cpu")


@pytest.fixture(scope="module")
def predicted(predictor: Predictor) -> anndata.AnnData:
    return predictor.predict(demo_control_cells(6), DEMO_PERTURBATIONS, var_names="symbol")


def top_genes(predicted: anndata.AnnData, row: int, n: int) -> list[str]:
    order = np.argsort(-np.abs(predicted.layers["delta"][row]))
    return [str(name) for name in predicted.var_names[order[:n]]]


def run_command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["demo", "--provider", "cpu", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_bundle_has_the_norman_genes_and_is_marked_as_synthetic():
    bundle = Bundle.open(demo_bundle_path())
    manifest = bundle.manifest
    assert manifest.synthetic
    assert manifest.dataset == "synthetic"
    assert (len(manifest.gene_names), sum(manifest.in_vocab)) == (5045, 4547)
    assert all(name is not None and name.startswith("ENSG") for name in manifest.gene_ids)
    assert sum(path.stat().st_size for path in demo_bundle_path().iterdir()) < 1_250_000


def test_control_cells_look_like_the_published_file():
    cells = demo_control_cells(64)
    assert cells.shape == (64, 5045)
    assert issparse(cells.X)
    assert cells.X.format == "csr"
    assert cells.X.dtype == np.float32
    assert set(cells.obs["condition"]) == {"ctrl"}
    assert cells.var_names.str.startswith("ENSG").all()
    assert "FOSB" in set(cells.var["gene_name"])
    assert 0.06 < cells.X.nnz / np.prod(cells.shape) < 0.10
    assert cells.X.data.min() > 0
    assert 3 < cells.X.data.max() < 6
    again, other = (demo_control_cells(64, seed=seed).X for seed in (0, 1))
    assert (again != cells.X).nnz == 0 < (other != cells.X).nnz


def test_a_genes_rate_depends_on_its_name_alone():
    both = expression_rates(["FOSB", "SAMD1"])
    np.testing.assert_array_equal(both[::-1], expression_rates(["SAMD1", "FOSB"]))
    # The network was trained on these rates: another value here means that the bundle must be made again.
    np.testing.assert_allclose(both, [0.07781392652749064, 0.004657523847048108], rtol=1e-12)


def test_responses_are_sparse_and_each_perturbation_raises_its_own_genes(predicted: anndata.AnnData):
    for row, label in enumerate(DEMO_PERTURBATIONS):
        for gene in set(label.split("+")) - {"ctrl"}:
            assert gene in top_genes(predicted, row, 5)
            assert predicted[row, gene].layers["delta"].item() > 0.5
    delta = np.abs(np.asarray(predicted.layers["delta"]))
    assert (delta > 0.3).sum(axis=1).tolist() == pytest.approx([30, 60], abs=30)
    assert np.median(delta) < 0.03
    first, second = (set(top_genes(predicted, row, 15)) for row in range(2))
    assert len(first & second) <= 3


def test_command_prints_one_table_per_perturbation_and_a_note_that_it_is_synthetic():
    code, output = run_command("--cells", "1")
    assert code == 0
    assert output.startswith(NOTICE)
    for label in DEMO_PERTURBATIONS:
        title = next(line for line in output.splitlines() if line.startswith(f"{label}:"))
        assert "synthetic" in title
    assert "provider cpu, fp32" in output
    assert output.isascii()
    assert "nan" not in output  # one cell has no standard error
    assert "--genes norman --dataset norman" in output  # never the genes of one's own cells


def test_out_writes_the_cells_and_predictions_and_a_command_that_gives_them_again(
    command_line: CommandLine, tmp_path: Path
):
    code, output = run_command("--cells", "3", "--out", str(tmp_path / "demo dir"))
    assert code == 0
    cells = anndata.read_h5ad(tmp_path / "demo dir" / "cells.h5ad")
    predicted = anndata.read_h5ad(tmp_path / "demo dir" / "predictions.h5ad")
    np.testing.assert_array_equal(cells.X.toarray(), demo_control_cells(3).X.toarray())
    command = next(line.strip() for line in output.splitlines() if "cells.h5ad'" in line and "predict " in line)
    assert "--provider cpu" in command
    assert command_line(*shlex.split(command)[1:]).returncode == 0
    again = anndata.read_h5ad(tmp_path / "demo dir" / "predictions.h5ad")
    np.testing.assert_allclose(again.X, predicted.X, rtol=1e-4, atol=2e-5)
    for layer in ("delta", "sem"):
        np.testing.assert_allclose(again.layers[layer], predicted.layers[layer], rtol=1e-4, atol=2e-5)
    assert again.obs["condition"].tolist() == predicted.obs["condition"].tolist() == list(DEMO_PERTURBATIONS)
    assert predicted.uns["scgenept_rt"]["synthetic"]


def test_out_called_demo_is_not_taken_for_the_bundle_and_replaced_only_when_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    _, printed = run_command("--cells", "1", "--out", "demo")
    assert f"predict {demo_bundle_path()} demo/cells.h5ad" in printed
    (tmp_path / "demo" / "cells.h5ad").unlink()
    (tmp_path / "demo" / "predictions.h5ad").write_text("mine")
    with pytest.raises(OutputExistsError, match="predictions"):
        run_command("--cells", "1", "--out", "demo")
    assert (tmp_path / "demo" / "predictions.h5ad").read_text() == "mine"
    assert run_command("--cells", "1", "--out", "demo", "--overwrite")[0] == 0
    assert anndata.read_h5ad(tmp_path / "demo" / "predictions.h5ad").n_obs == 2


SCREEN_LABELS = ("POU3F2+ctrl", "ctrl+FOXA1", "SAMD1+ZBTB1")


@pytest.fixture(scope="module")
def screen() -> anndata.AnnData:
    return demo_screen(SCREEN_LABELS, n_cells=20)


def test_a_screen_has_the_layout_of_the_published_file(screen):
    assert screen.shape == (SCREEN_CONTROLS + 3 * 20, 5045)
    assert list(screen.obs) == ["condition", "cell_type", "dose_val", "control", "condition_name"]
    assert screen.obs["condition"].value_counts().to_dict() == {"ctrl": 64, **dict.fromkeys(SCREEN_LABELS, 20)}
    assert (screen.obs["control"] == (screen.obs["condition"] == "ctrl")).all()
    assert set(screen.obs["condition_name"]) == {
        "A549_ctrl_1", *(f"A549_{label}_1+1" for label in SCREEN_LABELS)
    }  # fmt: skip
    assert screen.var_names.str.startswith("ENSG").all()
    assert (screen.X.format, screen.X.dtype) == ("csr", np.float32)
    assert 0.06 < screen.X.nnz / np.prod(screen.shape) < 0.10
    assert screen.uns["synthetic"]
    for key in ("rank_genes_groups_cov_all", "top_non_dropout_de_20", "non_zeros_gene_idx"):
        assert set(screen.uns[key]) == {f"A549_{label}_1+1" for label in SCREEN_LABELS}


def test_a_screen_responds_as_the_network_was_trained_to(screen, predictor):
    controls = screen[screen.obs["condition"] == "ctrl"]
    predicted = predictor.predict(controls[:6].copy(), list(SCREEN_LABELS[::2]))
    for row, label in enumerate(SCREEN_LABELS[::2]):
        cells = screen[screen.obs["condition"] == label]
        measured = np.asarray(cells.X.mean(axis=0) - controls.X.mean(axis=0)).ravel()
        assert np.corrcoef(measured, predicted.layers["delta"][row])[0, 1] > 0.5


def test_labels_that_norman_lacks_are_refused():
    with pytest.raises(PerturbationError, match=r"no label of the Norman screen"):
        demo_screen(["TP53+ctrl"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--cells", "100000000"),
        ("--screen", "a.csv"),
        ("--screen", "a.h5ad", "--out", "b"),
        ("--screen", "a.h5ad", "--cells", "1"),
    ],
)
def test_wrong_usage(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(*arguments)[0] == 2
    assert not any(tmp_path.iterdir())
