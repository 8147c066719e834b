"""Train the demo network on made-up responses and export it into the bundle that ships with the package.

Usage, from a checkout with the `export` and `cpu` extras: python export/demo/make_demo_bundle.py [--out DIR]
README.md beside this file says what is planted.
"""

from __future__ import annotations

import argparse
import logging
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgenept_export.bundle_export import export_bundle
from scgenept_export.checkpoint import NetworkShape
from scgenept_export.gene_lists import shipped_gene_list
from scgenept_export.model import ReferenceModel
from scgenept_export.variants import TOKEN_ENCODER, VALUE_ENCODER, variant_encoders
from scgenept_export.vocabulary import census_vocabulary
from scgenept_rt.demo import DEMO_PERTURBATIONS, draw_expression, expression_rates

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "runtime" / "scgenept_rt" / "demo_bundle"
VARIANT = "scgenept_go_c_gpt_concat"
TEXT_ENCODER = "gopt_encoder_c"
D_MODEL, N_LAYERS, N_HEADS, D_FF, D_TEXT = 32, 2, 4, 128, 16
SEED = 0

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

DEMO_TARGETS = [[gene for gene in label.split("+") if gene != "ctrl"] for label in DEMO_PERTURBATIONS]

N_MODULES, MODULE_GENES = 12, 20
MIN_MODULE_MEAN = 0.2  # genes that are hardly expressed cannot be seen to go down
OWN_INCREASE = 1.3
PAIR_SCALE = 0.8
SHRINKAGE = 0.3

# Genes and cells a step, steps, peak learning rate. In the end attention has to find one perturbed gene among 5,045,
# which training on a few hundred does not teach: the later phases have more genes, the last has all.
PHASES = ((320, 24, 1000, 4e-3), (1280, 6, 120, 1.5e-3), (5045, 2, 40, 6e-4))

log = logging.getLogger("make_demo_bundle")


@dataclass(frozen=True)
class PlantedTask:
    """The made-up biology: what each perturbation does to a control cell.

    `up` and `down` are [n_genes, n_genes in TARGETS]: what is added, and the share that is taken away.
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
    def plant(cls, names: tuple[str, ...], in_vocab: Sequence[bool], rng: np.random.Generator) -> PlantedTask:
        """Deal expressed genes into modules, and to each target one module that it raises and one that it lowers."""
        known = np.asarray(in_vocab)
        rates = expression_rates(names)
        mean = draw_expression(rates, 512, rng).mean(axis=0)
        column = {name: i for i, name in enumerate(names)}
        targets = np.array([column[name] for name in TARGETS])
        able = np.flatnonzero(known & (mean > MIN_MODULE_MEAN) & ~np.isin(np.arange(len(names)), targets))
        modules = rng.permutation(able)[: N_MODULES * MODULE_GENES].reshape(N_MODULES, MODULE_GENES)
        strength = rng.uniform(0.5, 1.0, modules.shape)
        up = np.zeros((len(names), len(targets)), dtype=np.float32)
        down = np.zeros_like(up)
        dealt = _spread_over_modules(rng)
        for t, target in enumerate(targets):
            up[target, t] = OWN_INCREASE
            if known[target]:  # the network cannot tell genes outside the vocabulary apart
                raised, lowered = dealt[t]
                up[modules[raised], t] += strength[raised] * rng.uniform(0.7, 1.1)
                down[modules[lowered], t] = strength[lowered] * rng.uniform(0.4, 0.7)
        return cls(names, known, rates, mean, up, down, targets, modules)

    def response(
        self, cells: NDArray[np.float32], perturbed: list[list[int]], genes: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return what to predict for control cells over some genes, [n_cells, n_genes]; `perturbed` indexes TARGETS."""
        settled = cells + SHRINKAGE * (self.mean[genes] - cells)
        for row, targets in zip(settled, perturbed, strict=True):
            scale = PAIR_SCALE if len(targets) > 1 else 1.0
            for t in targets:
                row += scale * (self.up[genes, t] - self.down[genes, t] * row)
        return settled


def _spread_over_modules(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Give every target a module to raise and another to lower; those of the demo get modules of their own."""
    own = {gene: (2 * i, 2 * i + 1) for i, gene in enumerate(chain.from_iterable(DEMO_TARGETS))}
    dealt = []
    for target in TARGETS:
        raised, lowered = (int(module) for module in rng.choice(N_MODULES, 2, replace=False))
        dealt.append(own.get(target, (raised, lowered)))
    return dealt


def train(task: PlantedTask, token_ids: Tensor, phases: Sequence[tuple[int, int, int, float]]) -> ReferenceModel:
    """Train a network whose vocabulary is the model's genes alone; `token_ids` [n_genes] index it."""
    rng = np.random.default_rng(SEED + 1)
    torch.manual_seed(SEED)
    model = ReferenceModel(
        NetworkShape(
            encoders=variant_encoders(VARIANT),
            d_model=D_MODEL,
            n_heads=N_HEADS,
            n_layers=N_LAYERS,
            d_ff=D_FF,
            d_decoder=D_MODEL,
            n_tokens=int(token_ids.max()) + 1,
            d_text={TEXT_ENCODER: D_TEXT},
        )
    )
    _attend_to_perturbed(model)
    # As with language embeddings, genes of one module lie close together from the start.
    centre = rng.normal(size=(N_MODULES, D_TEXT))
    text = rng.normal(size=(int(token_ids.max()) + 1, D_TEXT))
    members = token_ids[task.modules.ravel()].numpy()
    text[members] = 0.3 * text[members] + np.repeat(centre, MODULE_GENES, axis=0)
    with torch.no_grad():
        model.get_submodule(TEXT_ENCODER).get_parameter("embedding.weight").copy_(torch.from_numpy(text))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for n_genes, n_cells, n_steps, peak in phases:
        optimizer = torch.optim.Adam(trained, lr=peak)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=n_steps, pct_start=0.1)
        started, recent = time.perf_counter(), math.nan
        for step in range(n_steps):
            loss = _loss(model, task, token_ids, rng, n_genes, n_cells)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            recent = loss.item() if math.isnan(recent) else 0.95 * recent + 0.05 * loss.item()
            if (step + 1) % max(n_steps // 5, 1) == 0:
                log.info(
                    "%4d genes x %2d cells, step %4d: loss %.4f, %.0f s",
                    n_genes, n_cells, step + 1, recent, time.perf_counter() - started,
                )  # fmt: skip
    return model.eval().requires_grad_(False)


@torch.no_grad()
def _attend_to_perturbed(model: ReferenceModel) -> None:
    """Start with attention that already finds the perturbed genes: of its own, training takes long to discover that.

    One coordinate is kept free of everything but the perturbation flag; every query looks for it.
    """
    model.pert_encoder.weight.mul_(0.1)
    model.pert_encoder.weight[1, -1] = 12.0
    for name in model.shape.encoders:
        norm = model.get_submodule(name).get_submodule("norm" if name == VALUE_ENCODER else "enc_norm")
        norm.get_parameter("weight")[-1] = 0.0
    for layer in model.layers:
        attention = layer.self_attn
        torch.nn.init.xavier_uniform_(attention.in_proj_weight)
        torch.nn.init.zeros_(attention.in_proj_bias)
        queries, keys, _ = attention.in_proj_weight.chunk(3)
        first_of_heads = slice(0, None, D_MODEL // N_HEADS)
        queries[first_of_heads] = 0.0
        attention.in_proj_bias[:D_MODEL][first_of_heads] = 3.0
        keys[first_of_heads] = 0.0
        keys[first_of_heads, -1] = 3.0


def _loss(
    model: ReferenceModel,
    task: PlantedTask,
    token_ids: Tensor,
    rng: np.random.Generator,
    n_genes: int,
    n_cells: int,
) -> Tensor:
    perturbed = [_draw_perturbation(rng) for _ in range(n_cells)]
    chosen = _choose_genes(task, rng, n_genes, perturbed)
    cells = draw_expression(task.rates[chosen], n_cells, rng)
    wanted = task.response(cells, perturbed, chosen)
    flags = np.array([np.isin(chosen, task.targets[targets]) for targets in perturbed], dtype=np.int64)
    predicted = model(token_ids[chosen], torch.from_numpy(cells), torch.from_numpy(flags))
    return torch.nn.functional.mse_loss(predicted, torch.from_numpy(wanted))


def _draw_perturbation(rng: np.random.Generator) -> list[int]:
    """Draw what is perturbed in a training cell: nothing, one target, two, or one of the demo's own perturbations."""
    kind = rng.choice(4, p=(0.1, 0.45, 0.3, 0.15))
    if kind == 3:
        return [TARGETS.index(gene) for gene in DEMO_TARGETS[rng.integers(len(DEMO_TARGETS))]]
    return [int(t) for t in rng.choice(len(TARGETS), kind, replace=False)]


def _choose_genes(
    task: PlantedTask, rng: np.random.Generator, n_genes: int, perturbed: list[list[int]]
) -> NDArray[np.int64]:
    """Choose the genes of a step: the perturbed ones, a third from the modules (5% of all genes), others."""
    n_all = len(task.names)
    if n_genes >= n_all:
        return np.arange(n_all)
    responsive = rng.permutation(task.modules.ravel())[: n_genes // 3]
    first = np.unique(np.concatenate([task.targets[[t for cell in perturbed for t in cell]], responsive]))
    others = rng.permutation(np.setdiff1d(np.arange(n_all), first))[: n_genes - len(first)]
    return np.concatenate([first, others])


def in_full_vocabulary(model: ReferenceModel, rows: Tensor, n_tokens: int) -> dict[str, Tensor]:
    """Return the weights in the published layout: tables of the whole vocabulary, text in float64."""
    weights = dict(model.state_dict())
    for encoder in (TOKEN_ENCODER, TEXT_ENCODER):
        small = weights[f"{encoder}.embedding.weight"]
        table = torch.zeros(n_tokens, small.shape[1], dtype=torch.float64 if encoder == TEXT_ENCODER else small.dtype)
        table[rows] = small.to(table.dtype)
        weights[f"{encoder}.embedding.weight"] = table
    return weights


def main() -> None:
    """Train, export, and say how long it took."""
    parser = argparse.ArgumentParser(
        description="Train and export the demo bundle (four to seven minutes on one core)."
    )
    parser.add_argument("--out", type=Path, default=SHIPPED, help="directory of the bundle (default: the shipped one)")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    torch.set_num_threads(1)
    started = time.perf_counter()
    genes, vocabulary = shipped_gene_list("norman"), census_vocabulary()
    ids, in_vocab = vocabulary.encode(genes.names)
    rows, small_ids = torch.unique(torch.tensor(ids), return_inverse=True)
    task = PlantedTask.plant(genes.names, in_vocab, np.random.default_rng(SEED))
    model = train(task, small_ids, PHASES)
    log.info("trained after %.0f s", time.perf_counter() - started)
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = Path(directory) / "synthetic_demo.pt"
        torch.save(in_full_vocabulary(model, rows, vocabulary.n_tokens), checkpoint)
        bundle = export_bundle(
            checkpoint,
            genes,
            VARIANT,
            options.out,
            dataset="synthetic",
            n_heads=N_HEADS,
            precisions=("fp32",),
            synthetic=True,
            overwrite=True,
            progress=log.info,
        )
    size = sum(path.stat().st_size for path in bundle.directory.iterdir())
    log.info("%s: %.2f MB, %.0f s in all", bundle.directory, size / 1e6, time.perf_counter() - started)


if __name__ == "__main__":
    main()
