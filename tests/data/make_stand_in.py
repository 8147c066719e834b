"""Make a synthetic .h5ad file in the form of the published Norman file, with effects that are known.

`stand_in` is for tests; the command line writes a file with Norman's genes and labels:

    python make_stand_in.py stand_in.h5ad [--genes norman_genes.csv] [--labels LABEL ...] [--cells 20] [--controls 60]

Nothing in it is biology. A gene's effect follows from its name: about 30 genes move by up to 1.5 on the log1p scale,
the perturbed gene itself goes up by 2. Pairs are additive but for a factor that may be given (below 1 suppression,
above 1 synergy).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

N_AFFECTED = 30


def seed_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def planted_effect(gene: str, gene_names: Sequence[str]) -> np.ndarray:
    """Change of the log1p mean by perturbing one gene, float64 [n_genes]."""
    rng = np.random.default_rng(seed_of(gene))
    effect = np.zeros(len(gene_names))
    n_affected = min(N_AFFECTED, len(gene_names) // 3)
    affected = rng.choice(len(gene_names), n_affected, replace=False)
    effect[affected] = rng.uniform(0.4, 1.5, n_affected) * rng.choice([-1, 1], n_affected)
    effect[list(gene_names).index(gene)] = 2.0
    return effect


def planted_change(
    label: str, gene_names: Sequence[str], interactions: Mapping[str, float] | None = None
) -> np.ndarray:
    """Change of the log1p mean by a label such as A+ctrl or A+B: the sum of the singles, times its interaction."""
    genes = [gene for gene in label.split("+") if gene != "ctrl"]
    total = sum((planted_effect(gene, gene_names) for gene in genes), np.zeros(len(gene_names)))
    return total * (interactions or {}).get(label, 1.0)


def base_means(gene_names: Sequence[str]) -> np.ndarray:
    """Mean log1p expression of control cells, float64 [n_genes], from 0 to 3; a tenth of the genes is not expressed."""
    uniform = np.array([np.random.default_rng(seed_of(f"base {name}")).random() for name in gene_names])
    return np.where(uniform < 0.1, 0.0, 3.0 * (uniform - 0.1) / 0.9)


def stand_in(
    gene_names: Sequence[str],
    gene_ids: Sequence[str] | None,
    n_cells: Mapping[str, int],
    *,
    interactions: Mapping[str, float] | None = None,
    seed: int = 0,
    de_lists: bool = True,
) -> anndata.AnnData:
    """Return cells of every label of `n_cells` (with "ctrl"), in mixed order, in the form of Norman's file."""
    rng = np.random.default_rng(seed)
    gene_ids = list(gene_ids) if gene_ids is not None else [f"ENSG{number:011d}" for number in range(len(gene_names))]
    base = base_means(gene_names)
    blocks, labels = [], []
    for label, n in n_cells.items():
        change = np.zeros(len(base)) if label == "ctrl" else planted_change(label, gene_names, interactions)
        rate = np.expm1(np.clip(base + change, 0.0, None))
        depth = rng.lognormal(0.0, 0.2, (n, 1))
        blocks.append(np.log1p(rng.poisson(depth * rate) / depth).astype(np.float32))
        labels += [label] * n
    order = rng.permutation(len(labels))
    values, condition = np.concatenate(blocks)[order], np.array(labels)[order]
    dose = np.where(condition == "ctrl", "1", "1+1")
    obs = pd.DataFrame(
        {
            "condition": pd.Categorical(condition),
            "cell_type": pd.Categorical(["A549"] * len(condition)),
            "dose_val": pd.Categorical(dose),
            "control": (condition == "ctrl").astype(int),
            "condition_name": pd.Categorical(
                [f"A549_{label}_{amount}" for label, amount in zip(condition, dose, strict=True)]
            ),
        },
        index=[f"cell{number}-1" for number in range(len(condition))],
    )
    matrix = csr_matrix(values)
    counts = matrix.copy()
    counts.data = np.rint(np.expm1(counts.data)).astype(np.float32)
    return anndata.AnnData(
        matrix,
        obs=obs,
        var=pd.DataFrame({"gene_name": list(gene_names)}, index=gene_ids),
        layers={"counts": counts},
        uns={"synthetic": True, **(_de_lists(values, condition, gene_ids) if de_lists else {})},
    )


def _de_lists(values: np.ndarray, condition: np.ndarray, gene_ids: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Return what GEARS's preprocessing puts in uns: genes ranked by |Welch's t|, and the lists derived from that."""
    ids = np.array(gene_ids, dtype=object)
    control = values[condition == "ctrl"].astype(np.float64)
    lists: dict[str, dict[str, np.ndarray]] = {
        "rank_genes_groups_cov_all": {},
        "top_non_dropout_de_20": {},
        "top_non_zero_de_20": {},
        "non_dropout_gene_idx": {},
        "non_zeros_gene_idx": {},
    }
    for label in np.unique(condition[condition != "ctrl"]):
        cells = values[condition == label].astype(np.float64)
        error = np.sqrt(cells.var(0, ddof=1) / len(cells) + control.var(0, ddof=1) / len(control))
        t = np.divide(cells.mean(0) - control.mean(0), error, out=np.zeros(len(ids)), where=error > 0)
        ranked = np.argsort(-np.abs(t), kind="stable")
        non_zero = cells.mean(0) != 0
        non_dropout = non_zero | (control.mean(0) == 0)
        name = f"A549_{label}_1+1"
        lists["rank_genes_groups_cov_all"][name] = ids[ranked]
        lists["top_non_dropout_de_20"][name] = ids[[gene for gene in ranked if non_dropout[gene]][:20]]
        lists["top_non_zero_de_20"][name] = ids[[gene for gene in ranked if non_zero[gene]][:20]]
        lists["non_dropout_gene_idx"][name] = np.flatnonzero(non_dropout)
        lists["non_zeros_gene_idx"][name] = np.flatnonzero(non_zero)
    return lists


def norman_labels(split_file: Path) -> list[str]:
    """Return every label of a split file in the form that the package ships."""
    split = json.loads(split_file.read_text())
    return [label for part in ("train", "val", "test") for label in split[part] if label != "ctrl"]


def main() -> None:
    here = Path(__file__).parent
    splits = here.parents[1] / "runtime" / "scgenept_rt" / "evaluation" / "splits"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--genes", type=Path, default=here / "norman_genes.csv")
    parser.add_argument("--labels", nargs="+", help="default: the labels of norman-simulation-1")
    parser.add_argument("--cells", type=int, default=20, help="cells a label")
    parser.add_argument("--controls", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with arguments.genes.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = [row["gene_name"] for row in rows]
    ids = [row.get("gene_id") or row.get("ensembl_id") or row["gene_name"] for row in rows]
    labels = arguments.labels or norman_labels(splits / "norman-simulation-1.json")
    n_cells = {"ctrl": arguments.controls, **dict.fromkeys(labels, arguments.cells)}
    stand_in(names, ids, n_cells, seed=arguments.seed).write_h5ad(arguments.out, compression="gzip")


if __name__ == "__main__":
    main()
