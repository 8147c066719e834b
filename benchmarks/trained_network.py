"""A small network, trained in minutes as that of the demo is, on other genes and responses."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from scgenept_rt.demo import PlantedResponses, expression_rates
from scgenept_rt.demo.responses import TARGETS

_MAKER = Path(__file__).resolve().parents[1] / "export" / "demo"
_EXPRESSED, _OTHERS = 400, 200
_SEED = 1


def prepare(directory: Path, n_steps: int) -> tuple[Path, tuple[str, ...]]:
    """Train and export it; return its bundle and its genes."""
    import torch

    sys.path.append(str(_MAKER))
    import make_demo_bundle as maker

    from scgenept_export.bundle_export import export_bundle
    from scgenept_export.gene_list import GeneList, read_gene_list
    from scgenept_export.vocabulary import SPECIAL_TOKENS, Vocabulary

    directory.mkdir(parents=True)
    names = _genes(read_gene_list("norman").names)
    task = PlantedResponses.plant(names, [True] * len(names), np.random.default_rng(_SEED))
    token_ids = torch.arange(len(names))
    phases = ((min(320, len(names)), 24, n_steps, 6e-3), (len(names), 8, max(1, n_steps // 10), 2e-3))
    model = maker.train(task, token_ids, phases)
    checkpoint, bundle = directory / "checkpoint.pt", directory / "bundle"
    vocabulary = Vocabulary("made up", {name: index for index, name in enumerate((*names, *SPECIAL_TOKENS))})
    torch.save(maker.in_full_vocabulary(model, token_ids, vocabulary.n_tokens), checkpoint)
    export_bundle(
        checkpoint,
        GeneList(names, (None,) * len(names)),
        maker.VARIANT,
        bundle,
        vocab=vocabulary,
        n_heads=maker.N_HEADS,
        precisions=("fp32",),
        synthetic=True,
    )
    return bundle, names


def _genes(names: tuple[str, ...]) -> tuple[str, ...]:
    """Choose the targets, the most expressed genes, and some of the least."""
    others = [name for name in names if name not in TARGETS]
    order = np.argsort(-expression_rates(others))
    chosen = [*order[:_EXPRESSED], *order[_EXPRESSED :: len(order) // _OTHERS][:_OTHERS]]
    return (*TARGETS, *(others[index] for index in sorted(chosen)))
