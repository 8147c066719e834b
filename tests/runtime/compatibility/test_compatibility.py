from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from scgenept_rt.bundle import Bundle
from scgenept_rt.compatibility import Report, check_cells
from scgenept_rt.compatibility.finding import Finding
from scgenept_rt.compatibility.value_check import MAX_CELLS
from scgenept_rt.demo import demo_bundle_path
from scgenept_rt.errors import ScgeneptError
from scgenept_rt.options import ReadOptions
from scgenept_rt.predictor import Predictor, load

N_CONTROL, N_OTHER = 40, 20


@pytest.fixture(scope="module")
def bundle(bundle: Path) -> Bundle:
    """A network of 24 genes, some of them out of the vocabulary."""
    return Bundle.open(bundle)


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> Predictor:
    return load(bundle, provider="cpu")


def counts_of(n_obs: int, n_vars: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    counts = generator.poisson(generator.uniform(0.5, 6, n_vars) * generator.uniform(0.5, 2, (n_obs, 1)))
    counts[:, 0] += 3
    return counts.astype(np.float32)


def normalised(counts: np.ndarray, total: float = 1000.0) -> np.ndarray:
    return np.log1p(counts / counts.sum(1, keepdims=True) * total).astype(np.float32)


def labels_of(bundle: Bundle) -> list[str]:
    genes = bundle.manifest.gene_names
    return ["ctrl"] * N_CONTROL + [f"{genes[5]}+ctrl"] * (N_OTHER // 2) + [f"ctrl+{genes[7]}"] * (N_OTHER // 2)


def cells_of(bundle: Bundle, x: object = None, conditions: object = None) -> anndata.AnnData:
    """Return good cells: all genes of the model by symbol, 40 controls and two perturbations."""
    names = list(bundle.manifest.gene_names)
    values = normalised(counts_of(N_CONTROL + N_OTHER, len(names))) if x is None else x
    obs = pd.DataFrame(index=[f"cell{row}" for row in range(values.shape[0])])
    if conditions is not False:
        obs["condition"] = pd.Categorical(labels_of(bundle) if conditions is None else conditions)
    return anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=names))


def written(adata: anndata.AnnData, folder: Path, name: str = "cells.h5ad") -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (adata.write_zarr if name.endswith(".zarr") else adata.write_h5ad)(folder / name)
    return folder / name


def predict_works(predictor: Predictor, path: Path, options: ReadOptions, folder: Path, **limits: int) -> bool:
    label = f"{predictor.gene_names[5]}+ctrl"
    try:
        predictor.predict_file(path, folder / "predicted.h5ad", [label], read=options, overwrite=True, **limits)
    except ScgeneptError:
        return False
    return True


def problems(report: Report) -> set[str]:
    return {entry.topic for entry in report.problems}


def finding(report: Report, topic: str) -> Finding:
    found = [entry for entry in report.findings if entry.topic == topic]
    assert len(found) == 1, found
    return found[0]


# --- files that work, and files that do not ---------------------------------------------------------------------------

GOOD: dict[str, tuple[Callable[[anndata.AnnData], anndata.AnnData | None], dict[str, object]]] = {}
BAD: dict[str, tuple[Callable[[anndata.AnnData], anndata.AnnData | None], dict[str, object]]] = {}
BAD_TOPICS: dict[str, set[str]] = {}


def good(name: str, **options: object) -> Callable:
    return lambda change: GOOD.__setitem__(name, (change, options))


def bad(name: str, topics: str, **options: object) -> Callable:
    def register(change: Callable) -> None:
        BAD[name] = (change, options)
        BAD_TOPICS[name] = set(topics.split())

    return register


def with_x(adata: anndata.AnnData, x: object) -> anndata.AnnData:
    return anndata.AnnData(x, obs=adata.obs, var=adata.var)


def with_var(adata: anndata.AnnData, var_names: list[str], **columns: list[str]) -> anndata.AnnData:
    return anndata.AnnData(adata.X, obs=adata.obs, var=pd.DataFrame(columns, index=var_names))


def with_conditions(adata: anndata.AnnData, conditions: list[str], key: str = "condition") -> anndata.AnnData:
    obs = pd.DataFrame({key: conditions}, index=adata.obs_names)
    return anndata.AnnData(adata.X, obs=obs, var=adata.var)


def scaled(x: np.ndarray) -> np.ndarray:
    return ((x - x.mean(0)) / (x.std(0) + 1e-3)).astype(np.float32)


def with_layer(adata: anndata.AnnData, x: np.ndarray, **layers: np.ndarray) -> anndata.AnnData:
    changed = with_x(adata, x)
    changed.layers.update(layers)
    return changed


def with_raw(adata: anndata.AnnData) -> anndata.AnnData:
    changed = with_x(adata, scaled(adata.X))
    changed.raw = adata
    return changed


good("dense")(lambda adata: adata)
good("csr")(lambda adata: with_x(adata, scipy.sparse.csr_matrix(adata.X)))
good("csc")(lambda adata: with_x(adata, scipy.sparse.csc_matrix(adata.X)))
good("float64")(lambda adata: with_x(adata, adata.X.astype(np.float64)))
good("genes in another order, with others")(
    lambda adata: anndata.concat(
        [adata[:, ::-1], with_var(adata, [f"OTHER{at}" for at in range(adata.n_vars)])], axis=1, merge="first"
    )
)
good("names in a column")(
    lambda adata: with_var(adata, [f"g{at}" for at in range(adata.n_vars)], gene_name=list(adata.var_names))
)
good("layer", layer="lognorm")(lambda adata: with_layer(adata, scaled(adata.X), lognorm=adata.X))
good("raw", use_raw=True)(with_raw)
good("another control label", control_label="DMSO")(
    lambda adata: with_conditions(adata, ["DMSO" if label == "ctrl" else label for label in adata.obs["condition"]])
)
good("another column", condition_key="guide", control_label="none")(
    lambda adata: with_conditions(adata, ["none"] * 50 + ["A"] * 10, "guide")
)
good("only controls, in a column of another name")(
    lambda adata: with_conditions(adata, ["non-targeting"] * 60, "guide")
)
good("no conditions")(lambda adata: anndata.AnnData(adata.X, var=adata.var))
good("unknown labels beside controls")(lambda adata: with_conditions(adata, ["ctrl"] * 30 + ["what+ever", "A+A"] * 15))
good("missing genes as zero", missing_genes="zero")(lambda adata: adata[:, 6:].copy())
good("accepted counts", allow_unnormalized=True)(lambda adata: with_x(adata, np.expm1(adata.X).round()))
good("accepted scaled values", allow_unnormalized=True)(lambda adata: with_x(adata, scaled(adata.X)))
good("small whole numbers")(lambda adata: with_x(adata, (adata.X > 3).astype(np.int8)))
good("all zero")(lambda adata: with_x(adata, np.zeros_like(adata.X)))
good("NaN in a cell that is no control")(lambda adata: with_value(adata, N_CONTROL + 3, 2, np.nan))
good("NaN in a gene that the model lacks")(
    lambda adata: with_value(
        anndata.concat([adata, with_var(adata, [f"OTHER{at}" for at in range(adata.n_vars)])], axis=1, merge="first"),
        3,
        adata.n_vars + 1,
        np.nan,
    )
)

bad("no such layer", "file", layer="counts")(lambda adata: adata)
bad("no raw", "file", use_raw=True)(lambda adata: adata)
bad("layer and raw", "file", layer="lognorm", use_raw=True)(
    lambda adata: with_layer(with_raw(adata), adata.X, lognorm=adata.X)
)
bad("no X", "file")(lambda adata: anndata.AnnData(None, obs=adata.obs, var=adata.var, layers={"lognorm": adata.X}))
bad("no cells", "file")(lambda adata: adata[:0].copy())
bad("truth values", "file")(lambda adata: with_x(adata, adata.X > 2))
bad("no such column", "labels", condition_key="guide")(lambda adata: adata)
bad("controls in a column of another name", "labels")(
    lambda adata: with_conditions(adata, ["non-targeting"] * 30 + ["A"] * 30, "guide")
)
bad("two control labels", "labels")(lambda adata: with_conditions(adata, ["ctrl"] * 30 + ["control"] * 30))
bad("no control", "labels")(lambda adata: with_conditions(adata, ["A+ctrl"] * 60))
bad("control label without a column", "labels", control_label="ctrl")(
    lambda adata: anndata.AnnData(adata.X, var=adata.var)
)
bad("missing genes", "genes")(lambda adata: adata[:, 6:].copy())
bad("no gene found", "genes")(lambda adata: with_var(adata, [f"g{at}" for at in range(adata.n_vars)]))
bad("no gene found, zero", "genes", missing_genes="zero")(
    lambda adata: with_var(adata, [f"g{at}" for at in range(adata.n_vars)])
)
bad("no such gene key", "genes", gene_key="symbol")(lambda adata: adata)
bad("a gene twice", "genes")(lambda adata: with_var(adata, [adata.var_names[1], *adata.var_names[1:]]))
bad("NaN", "scale")(lambda adata: with_value(adata, 3, 2, np.nan))
bad("infinity", "scale", allow_unnormalized=True)(lambda adata: with_value(adata, 3, 2, np.inf))
bad("negative", "scale")(lambda adata: with_x(adata, scaled(adata.X)))
bad("counts", "scale")(lambda adata: with_x(adata, np.expm1(adata.X).round()))
bad("not log1p", "scale")(lambda adata: with_x(adata, np.expm1(adata.X)))
bad("everything at once", "labels genes scale")(
    lambda adata: with_conditions(with_x(adata, scaled(adata.X)), ["control", "ctrl"] * 30)[:, 6:].copy()
)


def with_value(adata: anndata.AnnData, cell: int, gene: int, value: float) -> anndata.AnnData:
    x = np.array(adata.X)
    x[cell, gene] = value
    return with_x(adata, x)


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_check_agrees_with_predict(name: str, bundle: Bundle, predictor: Predictor, tmp_path: Path):
    change, chosen = (GOOD | BAD)[name]
    options = ReadOptions(**chosen)
    path = written(change(cells_of(bundle)), tmp_path)
    report = check_cells(bundle, path, read=options, provider="cpu")
    assert report.works == predict_works(predictor, path, options, tmp_path) == (name in GOOD)
    assert problems(report) == BAD_TOPICS.get(name, set())
    for entry in report.findings:
        assert entry.status != "problem" or entry.step() or "expected" in entry.text, entry
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("content", "ending"), [(None, ".h5ad"), (b"", ".h5ad"), (b"text", ".h5ad"), (b"x", ".csv"), ("cut", ".h5ad")]
)
def test_unreadable_files_are_one_problem(content, ending, bundle: Bundle, predictor: Predictor, tmp_path: Path):
    path = tmp_path / f"cells{ending}"
    if content == "cut":
        path.write_bytes(written(cells_of(bundle), tmp_path, "whole.h5ad").read_bytes()[:3000])
    elif content is not None:
        path.write_bytes(content)
    report = check_cells(bundle, path, provider="cpu")
    assert not report.works
    assert not predict_works(predictor, path, ReadOptions(), tmp_path)
    assert problems(report) == {"file"}
    assert finding(report, "provider").status == "ok"  # looked at all the same
    assert report.labels is report.genes is report.values is None
    json.dumps(report.to_json())


def test_a_file_with_h5_damage_in_its_values(bundle: Bundle, predictor: Predictor, tmp_path: Path):
    path = written(cells_of(bundle, scipy.sparse.csr_matrix(cells_of(bundle).X)), tmp_path)
    with h5py.File(path, "a") as file:
        file["X/indices"][5] = 10_000
    report = check_cells(bundle, path, provider="cpu")
    assert not predict_works(predictor, path, ReadOptions(), tmp_path)
    assert problems(report) == {"file"}
    assert report.labels is not None
    assert report.genes is not None


def test_zarr_and_objects_in_memory_give_the_same_facts(bundle: Bundle, tmp_path: Path):
    adata = cells_of(bundle)
    facts = []
    sources = [adata, written(adata, tmp_path)]
    if pytest.importorskip("zarr"):
        sources.append(written(adata, tmp_path, "cells.zarr"))
    for source in sources:
        report = check_cells(bundle, source, provider="cpu").to_json()
        assert report["works"]
        facts.append({key: report[key] for key in ("labels", "genes", "values")})
    assert all(fact == facts[0] for fact in facts)


# --- facts ------------------------------------------------------------------------------------------------------------


def test_facts_of_labels(bundle: Bundle):
    genes, in_vocab = bundle.manifest.gene_names, bundle.manifest.in_vocab
    unnamed = next(name for name, known in zip(genes, in_vocab, strict=True) if not known)
    conditions = (
        ["ctrl"] * N_CONTROL
        + [f"{genes[5]}+ctrl", f"ctrl+{genes[5]}", f"{genes[5]}+{genes[7]}", f"{unnamed}+ctrl"] * 4
        + [f"{genes[5]}x+ctrl", f"{genes[5]}+{genes[5]}"] * 2
    )
    report = check_cells(bundle, cells_of(bundle, conditions=conditions), provider="cpu")
    assert report.works
    labels = report.to_json()["labels"]
    assert labels["condition_key"] == "condition"
    assert labels["control_label"] == "ctrl"
    assert labels["n_control_cells"] == N_CONTROL
    assert (labels["n_other_labels"], len(labels["perturbations"])) == (6, 3)
    assert sorted(labels["unpredictable"]) == sorted([f"{genes[5]}x+ctrl", f"{genes[5]}+{genes[5]}"])
    notes = [entry for entry in report.findings if entry.topic == "perturbations"]
    assert [entry.status for entry in notes] == ["note", "note"]
    assert f"{genes[5]}x (near: {genes[5]})" in notes[0].text
    assert f"{unnamed}" in notes[1].text
    assert report.cost is not None
    assert (report.cost.n_controls, report.cost.n_perturbations) == (N_CONTROL, 3)


def test_facts_of_genes(bundle: Bundle):
    adata = cells_of(bundle)
    ids = [gene_id or name for gene_id, name in zip(bundle.manifest.gene_ids, adata.var_names, strict=True)]
    names = [*adata.var_names[:10], *ids[10:20], "X1", "X2", "X3", "X4"]
    report = check_cells(bundle, with_var(adata, names), read=ReadOptions(missing_genes="zero"), provider="cpu")
    genes = report.to_json()["genes"]
    assert (genes["n_found"], genes["n_by_id"], genes["n_extra"]) == (20, 10, 4)
    assert genes["missing"] == tuple(bundle.manifest.gene_names[20:])
    assert genes["n_found_in_vocab"] == sum(bundle.manifest.in_vocab[:20])


def test_totals_tell_whether_and_to_what_values_were_normalised(bundle: Bundle):
    counts = counts_of(N_CONTROL + N_OTHER, bundle.manifest.dimensions.n_genes)
    report = check_cells(bundle, cells_of(bundle, normalised(counts, 2500)), provider="cpu")
    assert report.values is not None
    assert report.values.totals == pytest.approx([2500] * 3, rel=1e-3)
    assert "normalised to a total of 2,500 per cell" in finding(report, "scale").text
    assert finding(report, "scale").status == "ok"

    unnormalised = check_cells(bundle, cells_of(bundle, np.log1p(counts)), provider="cpu")
    assert unnormalised.works
    assert finding(unnormalised, "scale").status == "note"
    assert "sc.pp.normalize_total(adata)" in finding(unnormalised, "scale").step()

    subset = cells_of(bundle, normalised(counts))[:, 4:].copy()
    filtered = check_cells(bundle, subset, read=ReadOptions(missing_genes="zero"), provider="cpu")
    assert "as where genes were dropped after normalising" in finding(filtered, "scale").text


def test_ten_thousand_is_not_how_the_norman_data_were_normalised(bundle: Bundle):
    counts = counts_of(N_CONTROL + N_OTHER, bundle.manifest.dimensions.n_genes)
    assert bundle.manifest.dataset == "norman"
    scale = finding(check_cells(bundle, cells_of(bundle, normalised(counts, 1e4)), provider="cpu"), "scale")
    assert scale.status == "ok"
    assert "not to 10,000" in scale.text


def test_only_a_sample_of_many_control_cells_is_read(bundle: Bundle, tmp_path: Path):
    n_obs = 3 * MAX_CELLS
    x = normalised(counts_of(n_obs, bundle.manifest.dimensions.n_genes))
    path = written(cells_of(bundle, x, ["ctrl"] * n_obs), tmp_path)
    first, second = (check_cells(bundle, path, provider="cpu") for _ in range(2))
    assert (first.values.n_cells, first.values.n_candidates) == (MAX_CELLS, n_obs)
    assert f"{MAX_CELLS} of {n_obs} cells looked at" in finding(first, "scale").text
    assert first.to_json()["values"] == second.to_json()["values"]


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csc_matrix])
def test_nothing_is_said_of_the_models_genes_where_none_is_found(form: Callable, bundle: Bundle):
    n_genes = bundle.manifest.dimensions.n_genes
    adata = cells_of(bundle, form(normalised(counts_of(N_CONTROL + N_OTHER, n_genes))))
    report = check_cells(bundle, with_var(adata, [f"g{at}" for at in range(n_genes)]), provider="cpu")
    assert problems(report) == {"genes"}
    assert [entry.topic for entry in report.findings] == ["labels", "perturbations", "genes", "scale", "provider"]
    assert "normalised to a total of 1,000 per cell" in finding(report, "scale").text
    assert report.cost is None


def test_labels_in_the_form_of_gears_condition_names_are_explained(bundle: Bundle):
    gene = bundle.manifest.gene_names[5]
    adata = cells_of(bundle, conditions=["ctrl"] * 40 + [f"A549_{gene}+ctrl_1+1"] * 20)
    note = finding(check_cells(bundle, adata, provider="cpu"), "perturbations")
    assert f"A549_{gene}+ctrl_1+1 (near: {gene}+ctrl)" in note.text


def test_cost_grows_with_cells_and_perturbations(bundle: Bundle):
    report = check_cells(bundle, cells_of(bundle), provider="cpu")
    cost = report.cost
    assert cost is not None
    assert (cost.provider, cost.precision) == ("cpu", "fp32")
    assert cost.seconds == pytest.approx(2 * N_CONTROL * cost.seconds_per_cell)
    long = dataclasses.replace(cost, n_controls=7353, n_perturbations=300, seconds_per_cell=5.0).finding()
    assert long.text.startswith("About 3,063:45 h for 7,353 control cells x 300 perturbations (0.2 cells/s)")
    assert [option.name for option in long.options] == ["max_error", "n_controls"]


def test_a_provider_that_cannot_be_used_is_a_problem_of_its_own(bundle: Bundle):
    report = check_cells(bundle, cells_of(bundle), provider="no-such-provider")
    assert problems(report) == {"provider"}
    assert report.cost is None


def test_problems_are_those_of_predict_with_its_options(bundle: Bundle, predictor: Predictor):
    adata = with_raw(with_conditions(cells_of(bundle), ["ctrl", "control"] * 30))
    adata.layers["lognorm"] = adata.raw.X
    report = check_cells(bundle, adata, provider="cpu")
    assert problems(report) == {"labels", "scale"}
    assert finding(report, "labels").step({"control_label": "--control-label"}) == (
        "Pass --control-label ctrl to choose one, "
        "or --control-label ctrl --control-label control to take them together."
    )
    with pytest.raises(ScgeneptError) as caught:
        predictor.predict(adata, f"{predictor.gene_names[5]}+ctrl", read={"control_label": "ctrl"})
    scale = finding(report, "scale")
    assert (scale.text, scale.remedy) == (caught.value.problem, caught.value.remedy)
    assert scale.options == caught.value.options
    assert {option.name: option.value for option in scale.options} == {
        "layer": "lognorm",
        "use_raw": True,
        "allow_unnormalized": True,
    }


def test_labels_are_looked_at_where_there_is_no_x(bundle: Bundle, tmp_path: Path):
    adata = cells_of(bundle)
    without_x = anndata.AnnData(None, obs=adata.obs, var=adata.var)
    without_x.raw = adata
    for source in (without_x, written(without_x, tmp_path)):
        report = check_cells(bundle, source, provider="cpu")
        assert problems(report) == {"file"}
        assert finding(report, "file").step() == "Pass use_raw=True to read raw."
        assert report.labels.n_control_cells == N_CONTROL


@pytest.mark.parametrize("damage", ["column", "index"])
def test_damage_is_a_problem_for_both(damage: str, bundle: Bundle, predictor: Predictor, tmp_path: Path):
    path = written(cells_of(bundle, scipy.sparse.csr_matrix(cells_of(bundle).X)), tmp_path)
    with h5py.File(path, "a") as file:
        if damage == "column":
            del file["obs/condition"]
        else:
            file["X/indices"][5] = -3
    report = check_cells(bundle, path, provider="cpu")
    assert not predict_works(predictor, path, ReadOptions(), tmp_path)
    assert problems(report) == {"labels" if damage == "column" else "file"}


# --- a public data set that was not made for this ---------------------------------------------------------------------


def like_pbmc68k_reduced() -> anndata.AnnData:
    """Return cells with the properties of `scanpy.datasets.pbmc68k_reduced`.

    700 cells x 765 variable genes by symbol, of which the Norman model has 233; X scaled, with negative values and a
    maximum of 28; raw the log-normalised values of the same genes; obs without any of the condition columns.
    """
    names = Bundle.open(demo_bundle_path()).manifest.gene_names
    generator = np.random.default_rng(0)
    counts = generator.poisson(generator.lognormal(0, 1, 765), (700, 765)) * (generator.random((700, 765)) < 0.4)
    lognorm = np.log1p(counts * generator.uniform(3.1, 4.7, (700, 1))).astype(np.float32)
    var = pd.DataFrame(index=[*names[200:433], *(f"HVG{at}" for at in range(765 - 233))])
    obs = pd.DataFrame(
        {"bulk_labels": "CD4+/CD25 T Reg", "louvain": "1"}, index=[f"AAAGCCTG-{at}" for at in range(700)]
    )
    adata = anndata.AnnData(scipy.sparse.csr_matrix(lognorm), obs=obs, var=var)
    adata.raw = adata.copy()
    x = scaled(lognorm)
    x[0, 0] = 28.4
    adata.X = x
    return adata


def test_scanpy_pbmc68k_reduced_as_a_new_user_would_try_it(tmp_path: Path):
    bundle = Bundle.open(demo_bundle_path())
    path = written(like_pbmc68k_reduced(), tmp_path)
    report = check_cells(bundle, path, provider="cpu")
    assert problems(report) == {"genes", "scale"}
    assert finding(report, "labels").text.startswith("obs has no column condition")
    counted, missing = (entry for entry in report.findings if entry.topic == "genes")
    assert "233 of the model's 5,045 genes found in var_names" in counted.text
    assert "4,812 of the model's 5,045 genes are missing" in missing.text
    assert [(option.name, option.value) for option in missing.options] == [("missing_genes", "zero"), ("use_raw", True)]
    assert "negative" in finding(report, "scale").text
    assert finding(report, "scale").options[0].name == "use_raw"

    options = ReadOptions(missing_genes="zero", use_raw=True)
    followed = check_cells(bundle, path, read=options, provider="cpu")
    assert followed.works
    assert "only 5% of what the model reads is measured" in finding(followed, "genes").text
    with load(bundle, provider="cpu") as model:
        assert predict_works(model, path, options, tmp_path, n_controls=2)
