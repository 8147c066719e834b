"""Measured cells of a screen and predictions for them."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from tests.data.make_stand_in import stand_in
from tests.runtime.plotting.screen import GENES, LABELS


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    stand_in(GENES, None, {"ctrl": 40, **dict.fromkeys(LABELS, 15)}).write_h5ad(path)
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
