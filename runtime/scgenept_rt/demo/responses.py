"""Synthetic control cells, and the made-up responses that the demo network learned and the screen shows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import ndtri

from scgenept_rt.bundle import Bundle, demo_bundle_path

if TYPE_CHECKING:
    from anndata import AnnData

NOTICE = (
    "The demo network is synthetic: it was trained on made-up responses, and its predictions mean nothing in biology."
)
DEMO_CELLS = 8

# About 400 of 5,045 genes are then non-zero in a cell (8%) and values reach about 4, as in the Norman data.
_LOG_RATE_MEAN, _LOG_RATE_SD = -4.0, 2.0
_LOG_DEPTH_SD = 0.3

DEMO_PERTURBATIONS = ("FOSB+ctrl", "SAMD1+ZBTB1")
DEMO_TARGETS = [[gene for gene in label.split("+") if gene != "ctrl"] for label in DEMO_PERTURBATIONS]

# The targets of the Norman screen.
_TARGET_NAMES = """
AHR ARID1A ARRDC3 ATL1 BAK1 BCL2L11 BCORL1 BPGM C19orf26 C3orf72 CBFA2T3 CBL CDKN1A CDKN1B CDKN1C CEBPA CEBPB
CEBPE CELF2 CITED1 CKS1B CLDN6 CNN1 CNNM4 COL1A1 COL2A1 CSRNP1 DLX2 DUSP9 EGR1 ELMSAN1 ETS2 FEV FOSB FOXA1 FOXA3
FOXF1 FOXL2 FOXO4 GLB1L2 HES7 HK2 HNF4A HOXA13 HOXB9 HOXC13 IER5L IGDCC3 IKZF3 IRF1 ISL2 JUN KIAA1804 KIF18B
KIF2C KLF1 KMT2A LHX1 LYL1 MAML2 MAP2K3 MAP2K6 MAP4K3 MAP4K5 MAP7D1 MAPK1 MEIS1 MIDN NCL NIT1 OSR2 PLK4 POU3F2
PRDM1 PRTG PTPN1 PTPN12 PTPN13 PTPN9 RHOXF2BB RREB1 RUNX1T1 S1PR2 SAMD1 SET SGK1 SLC38A2 SLC4A1 SLC6A9 SNAI1
SPI1 STIL TBX2 TBX3 TGFBR2 TMSB4X TP73 TSC22D1 UBASH3A UBASH3B ZBTB1 ZBTB10 ZBTB25 ZC3HAV1 ZNF318
"""
TARGETS = _TARGET_NAMES.split()

DEMO_SEED = 0
N_MODULES, MODULE_GENES = 12, 20
MIN_MODULE_MEAN = 0.2  # genes that are hardly expressed cannot be seen to go down
OWN_INCREASE = 1.3
PAIR_SCALE = 0.8
SHRINKAGE = 0.3


def expression_rates(gene_names: Sequence[str]) -> NDArray[np.float64]:
    """Return the synthetic mean count of each gene in a cell, [n_genes]; log-normal over genes.

    A rate follows from the gene's name alone (a hash), so that cells always match those of the network's training.
    """
    digests = [hashlib.sha256(name.encode()).digest() for name in gene_names]
    uniform = np.array([(int.from_bytes(digest[:6], "big") + 0.5) / 2**48 for digest in digests])
    return np.asarray(np.exp(_LOG_RATE_MEAN + _LOG_RATE_SD * ndtri(uniform)), dtype=np.float64)


def draw_expression(rates: NDArray[np.float64], n_cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw control cells: Poisson counts at varying depth, divided by depth, log1p; float32 [n_cells, n_genes]."""
    depth = rng.lognormal(0.0, _LOG_DEPTH_SD, (n_cells, 1))
    return np.log1p(rng.poisson(depth * rates) / depth).astype(np.float32)


def demo_control_cells(n_cells: int = DEMO_CELLS, seed: int = 0) -> AnnData:
    """Make synthetic control cells in the layout of the published Norman file.

    X is CSR float32 [n_cells, 5045] on the log1p scale, about 8% non-zero; obs has `condition` ("ctrl"), var_names are
    Ensembl ids, var has `gene_name`.
    """
    import anndata
    import pandas as pd

    manifest = Bundle.open(demo_bundle_path(), check_files=False).manifest
    values = draw_expression(expression_rates(manifest.gene_names), n_cells, np.random.default_rng(seed))
    obs = pd.DataFrame({"condition": pd.Categorical(["ctrl"] * n_cells)}, index=[f"cell{i}" for i in range(n_cells)])
    var = pd.DataFrame({"gene_name": list(manifest.gene_names)}, index=list(manifest.gene_ids))
    return anndata.AnnData(csr_matrix(values), obs=obs, var=var, uns={"synthetic": True})


@dataclass(frozen=True)
class PlantedResponses:
    """What each perturbation does to a control cell.

    `up` and `down` are [n_genes, n_targets]: what is added to the expression of a gene, and the share that is removed.
    """

    names: tuple[str, ...]
    in_vocab: NDArray[np.bool_]
    rates: NDArray[np.float64]
    mean: NDArray[np.float32]
    up: NDArray[np.float32]
    down: NDArray[np.float32]
    targets: NDArray[np.int64]
    modules: NDArray[np.int64]

    @classmethod
    def of_demo(cls, names: Sequence[str], in_vocab: Sequence[bool]) -> PlantedResponses:
        """Return those of the demo bundle, given the names and vocabulary flags of its manifest."""
        return cls.plant(tuple(names), in_vocab, np.random.default_rng(DEMO_SEED))

    @classmethod
    def plant(cls, names: tuple[str, ...], in_vocab: Sequence[bool], rng: np.random.Generator) -> PlantedResponses:
        """Draw modules of expressed genes, and for each target a module that it raises and one that it lowers."""
        known = np.asarray(in_vocab)
        rates = expression_rates(names)
        mean = draw_expression(rates, 512, rng).mean(axis=0)
        column = {name: i for i, name in enumerate(names)}
        targets = np.array([column[name] for name in TARGETS])
        expressed = np.flatnonzero(known & (mean > MIN_MODULE_MEAN) & ~np.isin(np.arange(len(names)), targets))
        modules = rng.permutation(expressed)[: N_MODULES * MODULE_GENES].reshape(N_MODULES, MODULE_GENES)
        strength = rng.uniform(0.5, 1.0, modules.shape)
        up = np.zeros((len(names), len(targets)), dtype=np.float32)
        down = np.zeros_like(up)
        # The targets of the demo get modules of their own.
        demo = {gene: i for i, gene in enumerate(gene for genes in DEMO_TARGETS for gene in genes)}
        drawn = [rng.choice(N_MODULES, 2, replace=False).tolist() for _ in TARGETS]
        for t, (name, target) in enumerate(zip(TARGETS, targets, strict=True)):
            up[target, t] = OWN_INCREASE
            if known[target]:  # the network cannot tell genes outside the vocabulary apart
                raised, lowered = (2 * demo[name], 2 * demo[name] + 1) if name in demo else drawn[t]
                up[modules[raised], t] += strength[raised] * rng.uniform(0.7, 1.1)
                down[modules[lowered], t] = strength[lowered] * rng.uniform(0.4, 0.7)
        return cls(names, known, rates, mean, up, down, targets, modules)

    def response(
        self, cells: NDArray[np.float32], perturbed: list[list[int]], genes: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return control cells after a perturbation each, [n_cells, n_genes]; `perturbed` indexes TARGETS."""
        settled = cells + SHRINKAGE * (self.mean[genes] - cells)
        for row, targets in zip(settled, perturbed, strict=True):
            scale = PAIR_SCALE if len(targets) > 1 else 1.0
            for t in targets:
                row += scale * (self.up[genes, t] - self.down[genes, t] * row)
        return settled
