"""Synthetic cells in the form of the published Norman file, with effects that are known.

`stand_in` is for tests, with any genes and labels. A screen of all of Norman's labels, with the responses that the demo
network learned, is made by `scgenept-rt demo --screen FILE.h5ad`.

Nothing in it is biology. A gene's effect follows from its name: about 30 genes move by up to 1.5 on the log1p scale,
the perturbed gene itself goes up by 2. Pairs are additive but for a factor that may be given (below 1 suppression,
above 1 synergy).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import anndata
import numpy as np

from scgenept_rt.demo import norman_layout

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
    return norman_layout(values, condition, gene_names, gene_ids, de_lists=de_lists)
