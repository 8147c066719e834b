"""What a screen's means cost against their error: all control cells, some of them, and the difference estimator.

python benchmarks/screens.py --json benchmarks/results/cpu-NAME-screens.json
python benchmarks/screens.py --networks random --layers 1 --genes 40 --cells 16 --perturbations 2

Three networks: `demo`, which ships with the package; `random` weights of the published architecture, where effects
vary between cells almost as much as predictions do; and one `trained` here, in minutes, on made-up responses of denser
cells.
Errors are of means over all control cells: every cell is predicted once, and cells are drawn from these predictions.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import anndata
import numpy as np
import typer
from numpy.typing import NDArray

from scgenept_rt.bundle import Bundle
from scgenept_rt.demo import demo_control_cells
from scgenept_rt.demo.responses import TARGETS, PlantedResponses, expression_rates
from scgenept_rt.predictor import Predictor, load
from scgenept_rt.predictor.moments import CellMoments, OwnValues, mean_of_all, mean_of_some
from shared import Values, machine, save, timed
from workload import Workload, control_cells

DRAWN, TIMED = (8, 16, 32, 64), (8,)
DRAWS = {"demo": 20, "random": 400, "trained": 100}
"""Draws of each number of cells: where all genes move together, one draw says as little as one gene."""


def main(
    networks: str = ",".join(DRAWS),
    cells: Annotated[int, typer.Option(help="control cells")] = 128,
    perturbations: int = 32,
    genes: Annotated[int, typer.Option(help="genes of the random network")] = 300,
    layers: Annotated[int, typer.Option(help="layers of the random network")] = 12,
    tokens: Annotated[int, typer.Option(help="rows of the random network's embedding tables")] = 4096,
    steps: Annotated[int, typer.Option(help="steps of training")] = 1500,
    json: Path | None = None,
) -> None:
    measured = []
    with tempfile.TemporaryDirectory(prefix="scgenept-rt-screens-") as temporary:
        for name in networks.split(","):
            directory = Path(temporary) / name
            labels = TARGETS[:perturbations]
            if name == "demo":
                bundle, control = "demo", demo_control_cells(cells)
            elif name == "trained":
                bundle = trained(directory, steps)
                control = control_cells(bundle.manifest.gene_names, cells)
            else:
                workload = Workload(directory, genes, layers, 1, tokens, "cpu")
                workload.prepare()
                bundle, names = workload.bundle, workload.gene_names()
                control, labels = control_cells(names, cells), list(names[:perturbations])
            with closing(load(bundle, provider="cpu")) as model:
                measured.append({"name": name, **measure(model, control, labels, DRAWS[name])})
            print(f"{name}: done", flush=True)
    save({"machine": machine(), "networks": measured}, json, "networks.ways")


def trained(directory: Path, n_steps: int) -> Bundle:
    """Train a network as that of the demo, on the targets, the most expressed genes and some of the least."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "export" / "demo"))
    from make_demo_bundle import train_and_export

    from scgenept_export.gene_list import GeneList, read_gene_list
    from scgenept_export.vocabulary import SPECIAL_TOKENS, Vocabulary

    others = [name for name in read_gene_list("norman").names if name not in TARGETS]
    order = np.argsort(-expression_rates(others))
    chosen = [*order[:400], *order[400 :: len(order) // 200][:200]]
    names = (*TARGETS, *(others[index] for index in sorted(chosen)))
    task = PlantedResponses.plant(names, [True] * len(names), np.random.default_rng(1))
    phases = ((min(320, len(names)), 24, n_steps, 6e-3), (len(names), 8, max(1, n_steps // 10), 2e-3))
    vocabulary = Vocabulary("made up", {name: index for index, name in enumerate((*names, *SPECIAL_TOKENS))})
    return train_and_export(task, phases, GeneList(names, (None,) * len(names)), vocabulary, directory)


def measure(model: Predictor, cells: anndata.AnnData, labels: Sequence[str], n_draws: int) -> dict[str, Any]:
    """Measure one network: its sizes, and passes, time and errors of every way to its means.

    `cells` are sparse, and have the model's genes in its order.
    """
    n_cells, n_labels = cells.n_obs, len(labels)
    model.predict(cells[:1].copy(), labels[0])  # the first run of a session takes longer

    def predicted(labels: Sequence[str]) -> Values:
        found = model.predict(cells, labels, aggregate="cells")
        return np.asarray(found.X).reshape(len(labels), n_cells, -1)

    unperturbed = predicted(["ctrl"])[0]
    with timed() as time_of_all:
        perturbed = predicted(labels)
    x = cells.X.toarray()
    screen = Screen(x, unperturbed, perturbed)
    n_passes, sem = n_labels * n_cells, screen.sem_of_all()
    what = f"{n_cells} cells, all there are: sem {sem:.1e}"
    ways = [{"way": "all", "what": what, "n": n_cells, "passes": n_passes, "share": 1.0, **time_of_all}]
    for way, option, before, named in (
        ("some", "n_controls", 0, ""),
        ("difference", "n_controls_per_perturbation", n_cells, ", difference estimator"),
    ):
        for n in (n for n in DRAWN if n <= n_cells // 2):
            passes = before + n_labels * n
            sizes = {"n": n, "passes": passes, "share": passes / n_passes}
            ways.append({"way": way, "what": f"{n} cells{named}", **sizes, **screen.errors(way, n, n_draws)})
            if n in TIMED:
                with timed() as seconds:
                    model.predict(cells, labels, **{option: n})
                ways[-1] |= seconds
    dimensions = model.bundle.manifest.dimensions
    return {
        "genes": dimensions.n_genes,
        "layers": dimensions.n_layers,
        "cells": n_cells,
        "perturbations": n_labels,
        "draws": n_draws,
        "sem": sem,
        "ways": ways,
    }


class Screen:
    """Predictions of all control cells, [n_perturbations, n_cells, n_genes], to draw some from."""

    def __init__(self, x: Values, unperturbed: Values, perturbed: Values) -> None:
        self._x, self._unperturbed, self._perturbed = x, unperturbed, perturbed
        self._all_unperturbed, self._own = self._moments(unperturbed), _own(x)

    def sem_of_all(self) -> float:
        """Return the standard error of means over all cells, as root of the mean square."""
        return _rms(np.stack([mean_of_all(self._moments(rows), self._own)["sem"] for rows in self._perturbed]))

    def errors(self, way: str, n: int, n_draws: int) -> dict[str, float]:
        """Return errors of means from n cells, over draws, and how often two standard errors cover them.

        The standard errors of `some` are those of a mean over all cells like these: they are compared with draws with
        replacement.
        """
        rng = np.random.default_rng(n)
        squares, largest, covered = [], [], []
        for _ in range(n_draws):
            drawn = rng.permutation(len(self._x))[:n]
            again = rng.integers(0, len(self._x), n)
            for rows in self._perturbed:
                truth = rows.mean(axis=0, dtype=np.float64)
                if way == "some":
                    error = rows[drawn].mean(axis=0, dtype=np.float64) - truth
                    estimate = mean_of_all(self._moments(rows, again), _own(self._x[again]))
                    within = np.abs(estimate["X"] - truth) <= 2 * estimate["sem"] + 1e-9
                else:
                    some, unperturbed = (self._moments(each, drawn) for each in (rows, self._unperturbed))
                    estimate = mean_of_some(some, unperturbed, self._all_unperturbed, self._own)
                    error = estimate["X"] - truth
                    within = np.abs(error) <= 2 * estimate["sampling_error"] + 1e-9
                squares.append(_rms(error))
                largest.append(np.abs(error).max())
                covered.append(within.mean())
        return {"rms": _rms(np.array(squares)), "largest": float(np.mean(largest)), "covered": float(np.mean(covered))}

    def _moments(self, rows: Values, drawn: Any = slice(None)) -> CellMoments:
        moments = CellMoments()
        moments.add(self._x[drawn], rows[drawn], self._unperturbed[drawn])
        return moments


def _own(x: Values) -> OwnValues:
    values = x.astype(np.float64)
    return OwnValues.of(len(x), np.count_nonzero(x, axis=0), values.sum(axis=0), np.square(values).sum(axis=0))


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


if __name__ == "__main__":
    typer.run(main)
