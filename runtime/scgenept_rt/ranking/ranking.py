"""Ranking of predicted perturbations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError, PredictionFileError, UseOption, warn_caller
from scgenept_rt.evaluation import PredictedMeans, read_predictions
from scgenept_rt.options import ReadOptions
from scgenept_rt.perturbation import PerturbationRequest
from scgenept_rt.predictor import Predictor, Progress
from scgenept_rt.ranking.errors import largest_error
from scgenept_rt.ranking.question import Question, RankBy, check_question, open_question
from scgenept_rt.ranking.result import Ranking, ranked
from scgenept_rt.ranking.screen import Screen
from scgenept_rt.wording import join_limited, pluralize

if TYPE_CHECKING:
    from anndata import AnnData


def rank(
    predictions: str | Path | AnnData | PredictedMeans | Predictor,
    cells: str | Path | AnnData | None = None,
    perturbations: str | Sequence[str | PerturbationRequest] | None = None,
    *,
    in_group: str | None = None,
    top: int = 20,
    n_controls: int | None = None,
    seed: int = 0,
    read: ReadOptions | None = None,
    progress: Progress | None = None,
    on_notice: Callable[[str], None] | None = None,
    **by: Unpack[RankBy],
) -> Ranking:
    """Rank perturbations by the size of their effect, by a signature, or by closeness to a state of cells.

    Scores are over the predicted genes without those that a perturbation targets. With predictions they are computed
    from the layer `effect`, or from `delta` where a file has none; their standard errors follow from those of the genes
    by the delta method, and hold however these correlate. With a loaded bundle, effects are predicted only as far as it
    takes to find the best; their errors are measured cell by cell.

    Parameters
    ----------
    predictions
        A file of means that `predict` wrote, the AnnData that `Predictor.predict` returned, or a loaded bundle.
    in_group
        The group of control cells, where `predict` was given `groupby`.
    cells, perturbations
        With a loaded bundle: the control cells to predict from, and the labels to choose from.
    top
        With a loaded bundle: how many are to be found. The others are ranked by what showed that they are not among
        them.
    n_controls, seed
        With a loaded bundle: control cells to use, by default all, and the seed of their draw.
    read
        How to read `cells` and `toward`, and what to accept.
    progress
        Called with the (perturbation, control cell) pairs that are predicted, and those to the end of a round.
    on_notice
        Called with each warning message.
    **by
        What to rank by; the size of the effect if nothing is given.

        up, down
            Genes of a signature: the score is the mean change of those to go up minus that of those to go down.
        weights
            The weight of each gene of a signature, instead of `up` and `down`; negative for genes to go down.
        toward, group
            Measured cells, log1p-normalised, and the state among them to come close to: ``COLUMN=VALUE`` of obs, or the
            label of a perturbation.
        start
            Cells to start from, as ``COLUMN=VALUE``; by default the control cells of `toward`.
        metric
            How the predicted change is compared with that from `start` to `group`: "cosine", "pearson" or "distance".

    Raises
    ------
    ArgumentError
        If options exclude each other, or a signature cannot be used.
    PredictionFileError
        If the predictions hold no changes, or no perturbation.
    ScgeneptError
        If files cannot be read, or genes or groups are not there.
    """
    check_question(by)
    if isinstance(predictions, Predictor):
        if cells is None or perturbations is None:
            raise ArgumentError(
                "a loaded bundle is given without cells and perturbations to predict",
                options=[UseOption("cells", "give control cells"), UseOption("perturbations", "give labels")],
            )
        with Screen(
            predictions,
            cells,
            perturbations,
            by,
            top=top,
            sample={"n_controls": n_controls, "seed": seed},
            read=read,
            on_notice=on_notice,
        ) as screen:
            screen.search(progress)
            return screen.ranking()
    means = read_predictions(predictions, in_group=in_group, effects=True)
    question = open_question(means.panel, by, read)
    scores, by_part = _scores(question, means)
    table = ranked(question, scores, by_part)
    notices = [*question.notices, *_notices(table)]
    warn_caller(notices, on_notice)
    changes = "effect" if means.from_effects else "delta"
    description = f"{question.description}; from the layer {changes}, without the targets"
    return Ranking(table, question.score.name, description, means.name, means.synthetic, tuple(notices))


def _scores(question: Question, means: PredictedMeans) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Return the scores in order, and `Score.by_part` of each."""
    rows, by_part = [], []
    for row, label in enumerate(means.labels):
        if means.is_control(label):
            continue
        score, gradient = question.score.of(means.delta(label), means.targets(label), np.zeros(len(means.panel)))
        error = np.nan if means.sems is None else largest_error(gradient, means.sems[row].astype(np.float64))
        by_part.append(question.score.by_part(means.delta(label), means.targets(label)))
        rows.append((label, score, error, int(means.n_controls[row])))
    if not rows:
        raise PredictionFileError(
            f"it holds no perturbation to rank (its rows: {join_limited(means.labels)})",
            "Predict perturbations",
            where=means.where,
        )
    table = pd.DataFrame(rows, columns=["perturbation", "score", "error", "n_controls"])
    ascending = not question.score.higher_is_better
    table = table.sort_values("score", ascending=ascending, kind="stable", na_position="last")
    return table.reset_index(drop=True), np.array(by_part)[table.index]


def _notices(table: pd.DataFrame) -> list[str]:
    n_unknown = int((table["error"].isna() & table["score"].notna()).sum())
    if not n_unknown:
        return []
    have = pluralize(n_unknown, "perturbation has", "perturbations have")
    return [f"{have} no standard errors, as with a single control cell: their scores are taken as exact."]
