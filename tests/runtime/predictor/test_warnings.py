from __future__ import annotations

import warnings

import numpy as np
import pytest

import scgenept_rt as sgr


def test_what_changes_numbers_is_warned_at_the_caller_and_kept_in_uns(model, make_cells):
    adata = make_cells(6)[:, 6:].copy()
    del adata.obs["condition"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        told = []
        label = f"{model.gene_names[0]}+ctrl"
        read = sgr.ReadOptions(missing_genes="zero")
        predicted = model.predict(adata, [label], read=read, on_notice=told.append)
    ours = [entry for entry in caught if issubclass(entry.category, sgr.PredictionWarning)]
    assert {entry.filename for entry in ours} == {__file__}
    texts = [str(entry.message) for entry in ours]
    assert len(texts) == len(set(texts))
    assert set(texts) <= set(told)
    assert set(texts) <= set(predicted.uns["scgenept_rt"]["notices"])
    for what in ("taken as not expressed", "control cell", "not in the input"):
        assert any(what in text for text in texts), what


def test_right_cells_give_no_warning(model):
    rng = np.random.default_rng(0)
    counts = rng.poisson(3.0, (8, len(model.gene_names)))
    values = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e3).astype(np.float32)
    adata = pytest.importorskip("anndata").AnnData(values)
    adata.var_names = model.gene_names
    adata.obs["condition"] = "ctrl"
    known = next(name for name, in_vocab in zip(model.panel.names, model.panel.in_vocab, strict=True) if in_vocab)
    with warnings.catch_warnings():
        warnings.simplefilter("error", sgr.PredictionWarning)
        predicted = model.predict(adata, [f"{known}+ctrl"])
    assert "CRISPR activation in K562 cells" in predicted.uns["scgenept_rt"]["training_perturbations"]


def test_the_command_line_prints_each_once(command_line, bundle, make_cells, model, tmp_path):
    path = tmp_path / "cells.h5ad"
    make_cells(4)[:, 6:].copy().write_h5ad(path)
    label = f"{model.gene_names[8]}+ctrl"
    done = command_line("predict", bundle, path, "--out", tmp_path / "out.h5ad", "-p", label, "--missing-genes", "zero")
    assert done.returncode == 0
    assert done.stderr.count("taken as not expressed") == 1
    assert "PredictionWarning" not in done.stderr
