"""What `rank` costs to find the best of a large screen on a network with known answers.

The network has the genes of `demo` and costs nothing: each gene's perturbation has an effect of its own, which differs
between cells in strength and is weaker in genes that a cell does not express. Passes are counted, and the best are
compared with those of the full screen, which are known without running it.

    python benchmarks/ranking.py --json benchmarks/results/ranking.json
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

import scgenept_rt as sgr
from scgenept_rt.demo import demo_control_cells
from shared import Flags, Values, save

N_CELLS, TOP = 2_000, 20
SCREENS = {"singles": (5_000, 1), "pairs of 200 genes": (200, 2)}


class PlantedNetwork:
    """Adds known effects, and counts the cells it predicts."""

    provider, precision, fixed_batches = "cpu", "fp32", False

    def __init__(self, n_genes: int) -> None:
        rng = np.random.default_rng(0)
        sizes = rng.gamma(0.3, 1.0, (n_genes, 1)) / n_genes**0.5
        self.effects = (rng.normal(size=(n_genes, n_genes)) * sizes).astype(np.float32)
        self.n_cells = 0

    def share(self, values: Values) -> Values:
        """Return how much of an effect shows in each gene of a cell."""
        depth = values.mean(axis=1, keepdims=True)
        return (1 + 0.3 * np.tanh(20 * (depth - 0.1))) * (0.3 + 0.7 * (values > 0))

    def run(self, values: Values, pert_flags: Flags, _: Flags) -> Values:
        """Predict a batch."""
        self.n_cells += len(values)
        predicted = 0.7 * values
        for row, gene in zip(*np.nonzero(pert_flags), strict=True):
            predicted[row] += self.effects[gene] * self.share(values[row : row + 1])[0]
        return predicted.astype(np.float32)


def main(json: Annotated[Path, typer.Option()]) -> None:
    bundle = sgr.Bundle.open("demo")
    cells = demo_control_cells(N_CELLS)
    names = [name for name in bundle.manifest.gene_names if "+" not in name]
    column = {name: index for index, name in enumerate(bundle.manifest.gene_names)}
    results = []
    for screen, (n_genes, at_once) in SCREENS.items():
        network = PlantedNetwork(len(bundle.manifest.gene_names))
        candidates = ["+".join(genes) for genes in itertools.combinations(names[:n_genes], at_once)]
        found = sgr.rank(sgr.Predictor(bundle, network), cells, candidates, top=TOP)
        shown = network.effects * np.mean(network.share(cells.X.toarray()), axis=0, dtype=np.float64)

        def size(label: str, shown: NDArray[np.float64] = shown) -> float:
            targets = [column[gene] for gene in label.split("+")]
            effect = shown[targets].sum(axis=0)
            effect[targets] = 0.0
            return float(np.linalg.norm(effect))

        best = set(sorted(candidates, key=size)[-TOP:])
        n_found = len(best & set(found.table["perturbation"][:TOP]))
        what = f"{len(candidates):,} {screen}, {N_CELLS:,} control cells"
        passes = {"passes": network.n_cells, "share": network.n_cells / (len(candidates) * N_CELLS)}
        results.append({"screen": what, **passes, "found": n_found, "top": TOP})
        print(results[-1], flush=True)
    save({"searches": results}, json, "searches")


if __name__ == "__main__":
    typer.run(main)
