"""Measured cells of a screen and predictions for them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from tests.runtime.plotting.screen import GENES, LABELS


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    script = Path(__file__).parents[2] / "data" / "make_stand_in.py"
    spec = importlib.util.spec_from_file_location("make_stand_in", script)
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    maker.stand_in(GENES, None, {"ctrl": 40, **dict.fromkeys(LABELS, 15)}).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def means(data) -> anndata.AnnData:
    """Predictions as `predict` writes them: the measured means and some noise."""
    cells = anndata.read_h5ad(data)
    values, condition, rng = cells.X.toarray(), cells.obs["condition"].to_numpy(), np.random.default_rng(0)
    control = values[condition == "ctrl"].mean(0)
    X = np.stack([values[condition == label].mean(0) for label in LABELS]) + rng.normal(0, 0.1, (len(LABELS), 120))
    return anndata.AnnData(
        X.astype(np.float32),
        obs=pd.DataFrame({"condition": LABELS, "n_controls": 40}, index=list(LABELS)),
        var=pd.DataFrame(index=list(GENES)),
        layers={"delta": (X - control).astype(np.float32), "delta_sem": np.full(X.shape, 0.04, np.float32)},
        uns={"scgenept_rt": {"variant": "scgenept_go_c_gpt_concat"}},
    )


@pytest.fixture(scope="module")
def means_file(means, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("means") / "means.h5ad"
    means.write_h5ad(path)
    return path
