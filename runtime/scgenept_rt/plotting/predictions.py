"""The predictions that figures take: files, tables in memory, or loaded bundles, one or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from scgenept_rt.errors import Caution, PlotError, warn_caller
from scgenept_rt.evaluation import predict_means, read_predictions
from scgenept_rt.evaluation.predicted import PredictedMeans
from scgenept_rt.options import ReadOptions, SampleOptions, resolve
from scgenept_rt.plotting.drawing import MAX_SERIES, legend_text
from scgenept_rt.plotting.text_layout import NO_BREAK
from scgenept_rt.predictor import Predictor
from scgenept_rt.wording import pluralize

if TYPE_CHECKING:
    from anndata import AnnData

Prediction: TypeAlias = "str | Path | AnnData | PredictedMeans"
OneSeries: TypeAlias = "Prediction | Predictor"
Predictions: TypeAlias = "OneSeries | Sequence[OneSeries] | Mapping[str, OneSeries]"
Series: TypeAlias = "list[tuple[str | None, Predictor | PredictedMeans]]"
"""Loaded bundles and predictions that were read, with the names given for them."""


def open_series(predictions: Predictions, perturbation: str, in_group: str | None = None) -> Series:
    """Read one perturbation of the predictions that are files or tables; loaded bundles stay as they are.

    Raises `PlotError` if there are none, or more than have a colour and marker of their own.
    """
    named: list[tuple[str | None, OneSeries]]
    if isinstance(predictions, Mapping):
        named = [(str(name), entry) for name, entry in predictions.items()]
    elif isinstance(predictions, (list, tuple)):
        named = [(None, entry) for entry in predictions]
    else:
        named = [(None, predictions)]
    if not named:
        raise PlotError("there are no predictions to draw", "Give a prediction file or a loaded bundle")
    if len(named) > MAX_SERIES:
        raise PlotError(
            f"there are {len(named)} series, but colour and marker distinguish at most {MAX_SERIES}",
            "Draw them in several figures",
        )
    if in_group is not None and any(isinstance(entry, Predictor) for _, entry in named):
        raise PlotError(
            f"the group {in_group} was asked for, but a loaded bundle predicts from all control cells",
            "Give the file that `predict` wrote by groups in its place",
        )
    return [
        (
            name,
            entry
            if isinstance(entry, Predictor)
            else read_predictions(entry, name=name, labels=[perturbation], in_group=in_group),
        )
        for name, entry in named
    ]


def common_group(series: Series) -> tuple[str, str] | None:
    """Return the obs column and value of the control cells that all series were predicted from, None for all cells."""
    groups = [None if isinstance(entry, Predictor) else entry.group for _, entry in series]
    if len(set(groups)) > 1:
        named = ["all control cells" if group is None else " = ".join(group) for group in dict.fromkeys(groups)]
        raise PlotError(f"the series were predicted from different cells: {', '.join(named)}", "Draw a figure of each")
    return groups[0]


def predict_series(
    series: Series,
    perturbation: str,
    cells: str | Path | AnnData,
    read: ReadOptions | None,
    sample: SampleOptions,
    measured: Sequence[str],
    on_notice: Callable[[str], None] | None,
) -> list[PredictedMeans]:
    """Predict one perturbation with the loaded bundles among the series, and warn of what changes numbers.

    `measured` are the messages about the measured cells.
    """
    notices: list[str] = []
    sample = resolve(SampleOptions, sample)
    predicted = [
        predict_means(entry, cells, [perturbation], read=read, name=name, on_notice=notices.append, **sample)
        if isinstance(entry, Predictor)
        else entry
        for name, entry in series
    ]
    warn_caller(notice for notice in measured if notice not in notices)  # predicting warns itself
    for notice in dict.fromkeys([*measured, *notices]):
        if on_notice is not None and isinstance(notice, Caution):
            on_notice(notice)
    return predicted


def shown_name(means: PredictedMeans) -> str:
    """Return the name of predictions in figures, with their group, which says if the weights are synthetic."""
    name = means.name if means.group is None else f"{means.name}, {means.group[1]}"
    return f"{name} (synthetic weights)" if means.synthetic else name


def title_of(means: PredictedMeans, perturbation: str, *, without_targets: bool) -> str:
    """Return the title of a figure of one perturbation: its label, the predictions and their control cells."""
    row = means.row(perturbation)
    cells = pluralize(int(means.n_controls[row]), "control cell").replace(" ", NO_BREAK)
    title = f"{means.labels[row]}\n{shown_name(means)}, {cells}"
    return f"{title}\nwithout its targets" if without_targets else title


def legend_names(series: Sequence[PredictedMeans]) -> list[str]:
    """Return one name per series; two of one name get the names of their files."""
    names = [shown_name(means) for means in series]
    return [
        legend_text(name if names.count(name) == 1 else f"{name} ({Path(means.where).name})")
        for name, means in zip(names, series, strict=True)
    ]
