"""What tests of evaluation and plotting share: a small stand-in for Norman, and predictions for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from scgenept_rt.evaluation import PredictedMeans, Split
from scgenept_rt.genes import GenePanel
from tests.data.make_stand_in import stand_in

GENES = tuple(f"G{number}" for number in range(60))
LABELS = ("G0+ctrl", "ctrl+G0", "G1+ctrl", "G2+ctrl", "G3+ctrl", "G4+ctrl", "G1+G2", "G1+G9", "G7+G8", "G5+ctrl")
TESTED = ("G0+ctrl", "G3+ctrl", "G7+G8", "G1+G9", "G1+G2")
SPLIT = {
    "dataset": "norman",
    "train": ["ctrl", "G1+ctrl", "G2+ctrl", "G4+ctrl"],
    "val": ["G5+ctrl"],
    "subgroups": {
        "test_subgroup": {
            "unseen_single": ["G0+ctrl", "ctrl+G0", "G3+ctrl"],
            "combo_seen0": ["G7+G8"],
            "combo_seen1": ["G1+G9"],
            "combo_seen2": ["G1+G2"],
        }
    },
}


@pytest.fixture(scope="session")
def adata() -> anndata.AnnData:
    """80 control cells and 20 of each label, 60 genes, additive effects. Copy it before changing it."""
    return stand_in(GENES, None, {"ctrl": 80, **dict.fromkeys(LABELS, 20)})


@pytest.fixture(scope="session")
def h5ad(adata: anndata.AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stand-in") / "stand_in.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def split_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("split") / "split.json"
    path.write_text(json.dumps(SPLIT))
    return path


@pytest.fixture(scope="session")
def split(split_file: Path) -> Split:
    from scgenept_rt.evaluation import load_split

    return load_split(split_file)


@pytest.fixture(scope="session")
def mean_of(adata: anndata.AnnData) -> Callable[[str], np.ndarray]:
    """Return a function that gives the mean of a label's cells, float64."""
    values, condition = adata.X.toarray().astype(np.float64), adata.obs["condition"].to_numpy()
    return lambda label: values[condition == label].mean(axis=0)


@pytest.fixture(scope="session")
def predict(mean_of: Callable[[str], np.ndarray]) -> Callable[..., PredictedMeans]:
    """Return a function that makes predictions of given changes against the control mean."""

    def make(changes: dict[str, np.ndarray], name: str = "model") -> PredictedMeans:
        control = mean_of("ctrl")
        deltas = np.stack([np.asarray(change) for change in changes.values()]).astype(np.float32)
        panel = GenePanel(GENES, (None,) * len(GENES), np.ones(len(GENES), dtype=bool))
        return PredictedMeans(
            name,
            f"{name}.h5ad",
            panel,
            tuple(changes),
            (deltas + control).astype(np.float32),
            np.full(len(deltas), 80),
            {"delta": deltas, "delta_sem": np.full(deltas.shape, 0.05, dtype=np.float32)},
        )

    return make


@pytest.fixture(scope="session")
def perfect(predict: Callable[..., PredictedMeans], mean_of: Callable[[str], np.ndarray]) -> PredictedMeans:
    """Predictions that are the measured means; G0+ctrl serves ctrl+G0 too, whose measured mean differs a little."""
    return predict({label: mean_of(label) - mean_of("ctrl") for label in TESTED})


@pytest.fixture
def means(perfect: PredictedMeans) -> anndata.AnnData:
    """The same as `predict` writes them, without what is recorded of the run."""
    return anndata.AnnData(
        perfect.means.copy(),
        obs=pd.DataFrame({"condition": list(perfect.labels), "n_controls": 80}, index=list(perfect.labels)),
        var=pd.DataFrame(index=list(GENES)),
        layers={"delta": perfect.layers["delta"].copy()},
    )
