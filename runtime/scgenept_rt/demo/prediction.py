"""Predictions with the demo network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scgenept_rt.bundle import demo_bundle_path
from scgenept_rt.demo.cells import demo_control_cells
from scgenept_rt.demo.responses import DEMO_PERTURBATIONS
from scgenept_rt.predictor import MeanAndCells, Predictor, Progress, load

if TYPE_CHECKING:
    from anndata import AnnData

NOTICE = (
    "The demo network is synthetic: it was trained on made-up responses, and its predictions mean nothing in biology."
)


def run_demo(
    cells: AnnData | None = None,
    perturbations: Sequence[str] = DEMO_PERTURBATIONS,
    *,
    predictor: Predictor | None = None,
    provider: str = "auto",
    progress: Progress | None = None,
) -> AnnData:
    """Predict perturbations of control cells with the demo bundle.

    Parameters
    ----------
    cells
        Control cells; None for `demo_control_cells()`.
    perturbations
        Perturbation labels.
    predictor
        The demo bundle, when it is open already.
    provider
        Execution provider to open it with otherwise.
    progress
        Is told the (perturbation, control cell) pairs done, and their number.

    Returns
    -------
    AnnData
        One row a perturbation, as `Predictor.predict` returns it for the aggregate "mean".
    """
    predictor = predictor or load(demo_bundle_path(), provider=provider)
    cells = demo_control_cells() if cells is None else cells
    predicted = predictor.predict(cells, list(perturbations), aggregate="mean", progress=progress)
    assert not isinstance(predicted, MeanAndCells), "one aggregate, one table"
    return predicted
