"""What figures take as predictions: files, tables in memory, or loaded bundles, one or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from scgenept_rt.evaluation.predicted import PredictedMeans, predict_means, read_predictions
from scgenept_rt.expression import ReadOptions
from scgenept_rt.genes import GenePanel
from scgenept_rt.plotting.drawing import MAX_SERIES, legend_text
from scgenept_rt.plotting.errors import PlotError
from scgenept_rt.predictor import Predictor

if TYPE_CHECKING:
    from anndata import AnnData

Prediction: TypeAlias = "str | Path | AnnData | Predictor | PredictedMeans"
Predictions: TypeAlias = "Prediction | Sequence[Prediction] | Mapping[str, Prediction]"


def named_predictions(predictions: Predictions) -> list[tuple[str | None, Prediction]]:
    """Return predictions with the names given for them, None where none was.

    Raises
    ------
    PlotError
        If there are none, or more than have a colour and marker of their own.
    """
    if isinstance(predictions, Mapping):
        named: list[tuple[str | None, Prediction]] = [(str(name), entry) for name, entry in predictions.items()]
    elif isinstance(predictions, (list, tuple)):
        named = [(None, entry) for entry in predictions]
    else:
        named = [(None, predictions)]
    if not named:
        raise PlotError("there are no predictions to draw. Give a prediction file or a loaded bundle.")
    if len(named) > MAX_SERIES:
        raise PlotError(
            f"there are {len(named)} series; at most {MAX_SERIES} can be told apart by colour and marker. "
            "Draw them in several figures."
        )
    return named


def panel_of(prediction: Prediction) -> GenePanel | None:
    """Return the genes of a prediction that has been read or is to be made, None for one still to be read."""
    return prediction.panel if isinstance(prediction, (Predictor, PredictedMeans)) else None


def means_of(
    prediction: Prediction,
    name: str | None,
    *,
    labels: Sequence[str] = (),
    cells: str | Path | AnnData | None = None,
    read: ReadOptions | None = None,
    n_controls: int | None = None,
    seed: int = 0,
) -> PredictedMeans:
    """Return means: as they are, read from a file or table, or predicted with a loaded bundle from `cells`.

    Raises
    ------
    PlotError
        If a loaded bundle is given where there are no cells to predict from.
    """
    if isinstance(prediction, PredictedMeans):
        return prediction
    if not isinstance(prediction, Predictor):
        return read_predictions(prediction, name=name)
    if cells is None or not labels:
        raise PlotError(
            f"{prediction!r} is a loaded bundle; this figure takes predictions. Give what `predict` returned or wrote."
        )
    return predict_means(prediction, cells, list(labels), n_controls=n_controls, seed=seed, read=read, name=name)


def unique_series(means: Sequence[PredictedMeans]) -> list[str]:
    """Return a name a series for the legend: two of one name are told apart by where they are from."""
    names = [entry.name for entry in means]
    return [
        legend_text(name if names.count(name) == 1 else f"{name} ({Path(entry.where).name})")
        for name, entry in zip(names, means, strict=True)
    ]
