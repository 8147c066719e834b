"""What `check` reports of labels, genes, values and cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
import scipy.sparse

from scgenept_rt.bundle import Bundle
from scgenept_rt.compatibility import check_cells
from scgenept_rt.compatibility.check_cells import estimate_run
from scgenept_rt.compatibility.checks import MAX_CELLS, Findings
from scgenept_rt.errors import ScgeneptError
from scgenept_rt.options import ReadOptions
from scgenept_rt.predictor import Predictor
from tests.runtime.compatibility.cells import (
    N_CONTROL,
    N_OTHER,
    cells_of,
    counts_of,
    finding,
    normalised,
    problems,
    with_conditions,
    with_raw,
    with_var,
    written,
)


def test_facts_of_labels(bundle: Bundle):
    genes, in_vocab = bundle.manifest.gene_names, bundle.manifest.in_vocab
    unnamed = next(name for name, known in zip(genes, in_vocab, strict=True) if not known)
    conditions = (
        ["ctrl"] * N_CONTROL
        + [f"{genes[5]}+ctrl", f"ctrl+{genes[5]}", f"{genes[5]}+{genes[7]}", f"{unnamed}+ctrl"] * 4
        + [f"{genes[5]}x+ctrl", f"{genes[5]}+{genes[5]}"] * 2
    )
    report = check_cells(bundle, cells_of(bundle, conditions=conditions), provider="cpu")
    assert not report.problems
    labels = report.to_json()["labels"]
    assert labels["condition_key"] == "condition"
    assert labels["control_label"] == "ctrl"
    assert labels["n_control_cells"] == N_CONTROL
    assert (labels["n_other_labels"], len(labels["perturbations"])) == (6, 3)
    assert sorted(labels["unpredictable"]) == sorted([f"{genes[5]}x+ctrl", f"{genes[5]}+{genes[5]}"])
    notes = [entry for entry in report.findings if entry.topic == "perturbations"]
    assert [entry.status for entry in notes] == ["note", "note"]
    assert f"{genes[5]}x (did you mean {genes[5]}" in notes[0].text
    assert f"{unnamed}" in notes[1].text
    assert report.run is not None
    assert (report.run["n_controls"], report.run["n_perturbations"]) == (N_CONTROL, 3)


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
    assert report.values["totals"] == pytest.approx([2500] * 3, rel=1e-3)
    assert "normalised to a total of 2,500 per cell" in finding(report, "scale").text
    assert finding(report, "scale").status == "ok"

    assert bundle.manifest.dataset == "norman"
    scale = finding(check_cells(bundle, cells_of(bundle, normalised(counts, 1e4)), provider="cpu"), "scale")
    assert (scale.status, "not to 10,000" in scale.text) == ("ok", True)

    single = check_cells(bundle, cells_of(bundle, normalised(counts, 2500))[:1].copy(), provider="cpu")
    assert "normalised to" not in finding(single, "scale").text  # nobody knows from one cell

    unnormalised = check_cells(bundle, cells_of(bundle, np.log1p(counts)), provider="cpu")
    assert not unnormalised.problems
    assert finding(unnormalised, "scale").status == "note"
    assert "sc.pp.normalize_total(adata)" in finding(unnormalised, "scale").step()

    subset = cells_of(bundle, normalised(counts))[:, 4:].copy()
    filtered = check_cells(bundle, subset, read=ReadOptions(missing_genes="zero"), provider="cpu")
    assert "as where genes were dropped after normalising" in finding(filtered, "scale").text


def test_only_a_sample_of_many_control_cells_is_read(bundle: Bundle, tmp_path: Path):
    n_obs = 3 * MAX_CELLS
    x = normalised(counts_of(n_obs, bundle.manifest.dimensions.n_genes))
    path = written(cells_of(bundle, x, ["ctrl"] * n_obs), tmp_path)
    first, second = (check_cells(bundle, path, provider="cpu") for _ in range(2))
    assert (first.values["n_cells"], first.values["n_candidates"]) == (MAX_CELLS, n_obs)
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
    assert report.run is None
    unknown = check_cells(bundle, cells_of(bundle), provider="no-such-provider")
    assert problems(unknown) == {"provider"}
    assert unknown.run is None


def test_the_time_of_a_run_grows_with_cells_and_perturbations(
    bundle: Bundle, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
):
    run = check_cells(bundle, cells_of(bundle), provider="cpu").run
    assert (run["provider"], run["precision"]) == ("cpu", "fp32")
    assert run["seconds"] == pytest.approx(2 * N_CONTROL * run["seconds_per_cell"])
    monkeypatch.setitem(estimate_run.__globals__, "_seconds", lambda *_: 5.0)
    findings = Findings()
    labels = {"n_control_cells": 7353, "perturbations": ["A"] * 300}
    estimate_run(predictor, None, labels, findings)
    assert findings[0].text.startswith("About 3,063:45 h for 7,353 control cells x 300 perturbations (0.2 cells/s)")
    assert [option.name for option in findings[0].options] == ["max_error", "n_controls"]


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
        assert report.labels["n_control_cells"] == N_CONTROL
