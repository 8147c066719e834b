"""Train the demo network on made-up responses and export it into the bundle that ships with the package.

Usage, from a checkout with the `export` and `cpu` extras: python export/demo/make_demo_bundle.py [--out DIR]
README.md beside this file describes what is planted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from scgenept_export.bundle_export import export_bundle
from scgenept_export.gene_list import GeneList, read_gene_list
from scgenept_export.model import NetworkShape, ReferenceModel
from scgenept_export.variants import TOKEN_ENCODER, VALUE_ENCODER, variant_encoders
from scgenept_export.vocabulary import Vocabulary, census_vocabulary
from scgenept_rt.bundle import Bundle
from scgenept_rt.demo.responses import DEMO_TARGETS, MODULE_GENES, N_MODULES, TARGETS, PlantedResponses, draw_expression

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "runtime" / "scgenept_rt" / "demo_bundle"
VARIANT = "scgenept_go_c_gpt_concat"
TEXT_ENCODER = "gopt_encoder_c"
D_MODEL, N_LAYERS, N_HEADS, D_FF, D_TEXT = 16, 2, 1, 128, 16
SEED = 0

Phase = tuple[int, int, int, float]
"""Of training: genes and cells per step, steps, peak learning rate."""

# In the end attention has to find one perturbed gene among 5,045, which training on a few hundred does not teach: the
# later phases have more genes, the last has all.
PHASES = ((320, 24, 4000, 6e-3), (1280, 6, 300, 2e-3), (5045, 2, 80, 8e-4))


def train(task: PlantedResponses, token_ids: Tensor, phases: Sequence[Phase]) -> ReferenceModel:
    """Train a network whose vocabulary is the model's genes alone; `token_ids` [n_genes] index it."""
    rng = np.random.default_rng(SEED + 1)
    torch.manual_seed(SEED)
    encoders, n_tokens = variant_encoders(VARIANT), int(token_ids.max()) + 1
    shape = NetworkShape(
        encoders=encoders,
        d_model=D_MODEL,
        n_heads=N_HEADS,
        n_layers=N_LAYERS,
        d_ff=D_FF,
        d_decoder=D_MODEL,
        n_tokens=n_tokens,
        d_text={TEXT_ENCODER: D_TEXT},
    )
    model = ReferenceModel(shape)
    _attend_to_perturbed(model)
    # As with language embeddings, genes of one module lie close together from the start.
    centre = rng.normal(size=(N_MODULES, D_TEXT))
    text = rng.normal(size=(n_tokens, D_TEXT))
    members = token_ids[task.modules.ravel()].numpy()
    text[members] = 0.3 * text[members] + np.repeat(centre, MODULE_GENES, axis=0)
    with torch.no_grad():
        model.get_submodule(TEXT_ENCODER).get_parameter("embedding.weight").copy_(torch.from_numpy(text))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for n_genes, n_cells, n_steps, peak in phases:
        optimizer = torch.optim.Adam(trained, lr=peak)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=n_steps, pct_start=0.1)
        for step in range(n_steps):
            loss = _loss(model, task, token_ids, rng, n_genes, n_cells)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            if (step + 1) % max(n_steps // 5, 1) == 0:
                typer.echo(f"{n_genes:4} genes x {n_cells:2} cells, step {step + 1:4}: loss {loss.item():.4f}")
    return model.eval().requires_grad_(False)


@torch.no_grad()
def _attend_to_perturbed(model: ReferenceModel) -> None:
    """Start with attention that already finds the perturbed genes, which training alone takes long to discover.

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
    task: PlantedResponses,
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
    task: PlantedResponses, rng: np.random.Generator, n_genes: int, perturbed: list[list[int]]
) -> NDArray[np.int64]:
    """Choose the genes of a step: the perturbed ones, a third from the modules (5% of all genes), others."""
    n_all = len(task.names)
    if n_genes >= n_all:
        return np.arange(n_all)
    responsive = rng.permutation(task.modules.ravel())[: n_genes // 3]
    first = np.unique(np.concatenate([task.targets[[t for cell in perturbed for t in cell]], responsive]))
    others = rng.permutation(np.setdiff1d(np.arange(n_all), first))[: n_genes - len(first)]
    return np.concatenate([first, others])


def train_and_export(
    task: PlantedResponses, phases: Sequence[Phase], genes: GeneList, vocabulary: Vocabulary, out: Path, **options: Any
) -> Bundle:
    """Train a network and export it; `options` are those of `export_bundle`."""
    rows, token_ids = torch.unique(torch.tensor(vocabulary.encode(genes.names)[0]), return_inverse=True)
    weights = dict(train(task, token_ids, phases).state_dict())
    # The published layout has tables of the whole vocabulary, and text in float64.
    for encoder in (TOKEN_ENCODER, TEXT_ENCODER):
        small = weights[f"{encoder}.embedding.weight"]
        dtype = torch.float64 if encoder == TEXT_ENCODER else small.dtype
        table = torch.zeros(vocabulary.n_tokens, small.shape[1], dtype=dtype)
        table[rows] = small.to(dtype)
        weights[f"{encoder}.embedding.weight"] = table
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = Path(directory) / "synthetic_demo.pt"
        torch.save(weights, checkpoint)
        options = {"n_heads": N_HEADS, "precisions": ("fp32",), "synthetic": True, **options}
        return export_bundle(checkpoint, genes, VARIANT, out, vocab=vocabulary, **options)


def main(out: Annotated[Path, typer.Option(help="directory of the bundle")] = SHIPPED) -> None:
    """Train and export."""
    torch.set_num_threads(1)
    genes, vocabulary = read_gene_list("norman"), census_vocabulary()
    task = PlantedResponses.of_demo(genes.names, vocabulary.encode(genes.names)[1])
    total = 1e4  # made-up cells stand for cells of 10,000 counts
    describe = {"dataset": "synthetic", "training_total": total, "overwrite": True, "progress": typer.echo}
    bundle = train_and_export(task, PHASES, genes, vocabulary, out, **describe)
    size = sum(path.stat().st_size for path in bundle.directory.iterdir())
    typer.echo(f"{bundle.directory}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    typer.run(main)
