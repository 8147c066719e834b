"""Run GEARS 0.0.2's own functions on random data, unmodified, and write what they return: see ../README.md.

    pip download --no-deps --no-binary :all: cell-gears==0.0.2 && tar xf cell-gears-0.0.2.tar.gz
    pip install scikit-learn dcor scanpy
    python make_gears_oracle.py cell-gears-0.0.2

PyTorch and PyG, which the functions called here do not use, are replaced by stubs where they are not installed.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import anndata
import dcor
import numpy as np
import pandas as pd
import scanpy
import scipy.stats
import sklearn.linear_model
from scipy.sparse import csr_matrix

HERE = Path(__file__).parent
_IMPORTED_BEFORE_STUBS = (dcor, scanpy, scipy.stats, sklearn.linear_model)
LABELS = {"ctrl": 30, "G0+ctrl": 12, "G1+G2": 9, "ctrl+G3": 7, "G4+ctrl": 5, "G5+ctrl": 8}
SILENCED, N_HIGH = "G5+ctrl", 6  # this label silences genes that others express highly: low fold changes
N_GENES = 260
STUBBED = (
    *("torch", "torch.nn", "torch.nn.functional", "torch.optim", "torch.optim.lr_scheduler"),
    *("torch_geometric", "torch_geometric.data", "torch_geometric.nn", "networkx", "tqdm", "requests"),
)
LISTS = ("rank_genes_groups_cov_all", "top_non_dropout_de_20", "non_dropout_gene_idx", "non_zeros_gene_idx")


class Stub(MagicMock):
    Tensor = type("Tensor", (), {})
    nn = MagicMock()


def gears_module(source: Path, name: str):
    """Load one file of GEARS without running the package's own imports."""
    package = sys.modules.setdefault("gears", types.ModuleType("gears"))
    package.__path__ = [str(source / "gears")]
    spec = importlib.util.spec_from_file_location(f"gears.{name}", source / "gears" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"gears.{name}"] = module
    spec.loader.exec_module(module)
    return module


def random_cells(rng: np.random.Generator) -> anndata.AnnData:
    base = rng.gamma(1.0, 1.0, N_GENES) * (rng.random(N_GENES) < 0.8)
    base[:N_HIGH] = 5000
    blocks, condition = [], []
    for label, n_cells in LABELS.items():
        shift = np.zeros(N_GENES)
        if label != "ctrl":
            shift = rng.normal(0, 0.5, N_GENES) * (rng.random(N_GENES) < 0.3)
        if label == SILENCED:
            shift[:N_HIGH] = np.linspace(1, 8, N_HIGH) - base[:N_HIGH]
        rate = np.tile(np.clip(base + shift, 0, None) * 2, (n_cells, 1))
        rate[:, :N_HIGH] *= rng.gamma(2.0, 0.5, (n_cells, N_HIGH))  # else their variance drowns in float32
        counts = rng.poisson(rate)
        blocks.append(np.log1p(counts / 2.0))
        condition += [label] * n_cells
    values = np.concatenate(blocks).astype(np.float32)
    return anndata.AnnData(
        csr_matrix(values),
        obs=pd.DataFrame(
            {"condition": condition, "cell_type": "A549"}, index=[f"c{row}" for row in range(len(condition))]
        ),
        var=pd.DataFrame(
            {"gene_name": [f"G{gene}" for gene in range(N_GENES)]},
            index=[f"ENSG{gene:011d}" for gene in range(N_GENES)],
        ),
    )


def predictions(adata: anndata.AnnData, rng: np.random.Generator) -> dict[str, np.ndarray]:
    values, condition = adata.X.toarray(), adata.obs["condition"].to_numpy()
    full_name = dict(adata.obs[["condition", "condition_name"]].values)
    parts = {key: [] for key in ("pred", "truth", "pred_de", "truth_de", "pert_cat")}
    for label in list(LABELS)[1:]:
        truth = values[condition == label]
        top = np.array(adata.uns["rank_genes_groups_cov_all"][full_name[label]][:20])
        de_idx = np.where(adata.var_names.isin(top))[0]
        pred = truth.mean(0) + rng.normal(0, 0.3, truth.shape)
        if label == "ctrl+G3":  # no change
            pred = np.tile(values[condition == "ctrl"].mean(0), (len(truth), 1))
        if label == "G4+ctrl":
            pred = np.full(truth.shape, 0.5)
        pred = pred.astype(np.float32)
        found = (pred, truth, pred[:, de_idx], truth[:, de_idx], np.array([label] * len(truth)))
        for key, part in zip(parts, found, strict=True):
            parts[key].append(part)
    return {key: np.concatenate(part) for key, part in parts.items()}


def main() -> None:
    for name in STUBBED:
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = Stub()
    source = Path(sys.argv[1])
    inference, utils, data_utils = (gears_module(source, name) for name in ("inference", "utils", "data_utils"))
    rng = np.random.default_rng(8)
    adata = data_utils.get_dropout_non_zero_genes(data_utils.get_DE_genes(random_cells(rng)))
    results = predictions(adata, rng)
    found = [
        inference.compute_metrics(results)[1],
        inference.deeper_analysis(adata, results),
        inference.non_dropout_analysis(adata, results),
    ]
    labels = list(LABELS)[1:]
    metrics = {label: {key: float(value) for part in found for key, value in part[label].items()} for label in labels}

    interactions = {}
    for kind, (c1, c2) in {"additive": (1, 1), "synergy": (1.6, 1.4), "dominant": (1.2, 0.1)}.items():
        first, second = rng.normal(0, 0.5, 200), rng.normal(0, 0.4, 200)
        double = c1 * first + c2 * second + rng.normal(0, 0.05, 200)
        scores = utils.get_GI_params({"A": first, "B": second, "A_B": double}, ["A", "B"])
        del scores["ts"]
        interactions[kind] = {
            "first": first.tolist(),
            "second": second.tolist(),
            "double": double.tolist(),
            "gears": {key: float(value) for key, value in scores.items()},
        }
    (HERE / "outputs.json").write_text(json.dumps({"metrics": metrics, "gi": interactions}, indent=1) + "\n")

    full_name = dict(adata.obs[["condition", "condition_name"]].values)
    arrays = {
        "X": adata.X.toarray(),
        "condition": adata.obs["condition"].to_numpy().astype(str),
        "gene_names": adata.var["gene_name"].to_numpy().astype(str),
        "gene_ids": adata.var_names.to_numpy().astype(str),
    }
    for label in labels:
        arrays[f"predicted {label}"] = results["pred"][results["pert_cat"] == label].mean(0)
        for key in LISTS:
            entry = np.array(adata.uns[key][full_name[label]])
            arrays[f"{key} {label}"] = entry if key.endswith("idx") else entry.astype(str)
    np.savez_compressed(HERE / "data.npz", **arrays)


if __name__ == "__main__":
    main()
