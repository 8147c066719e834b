"""Ranking of predicted perturbations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Unpack

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError, PredictionFileError, UseOption, warn_caller
from scgenept_rt.evaluation import PredictedMeans, read_predictions
from scgenept_rt.options import ReadOptions, SampleOptions
from scgenept_rt.perturbation import PerturbationRequest
from scgenept_rt.predictor import Predictor, Progress
from scgenept_rt.ranking.question import RankBy, open_question
from scgenept_rt.ranking.scores import Ranking, ranked
from scgenept_rt.ranking.search import Search
from scgenept_rt.wording import join_limited, pluralize


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
    if isinstance(predictions, Predictor):
        if cells is None or perturbations is None:
            raise ArgumentError(
                "a loaded bundle is given without cells and perturbations to predict",
                options=[UseOption("cells", "give control cells"), UseOption("perturbations", "give labels")],
            )
        sample: SampleOptions = {"n_controls": n_controls, "seed": seed}
        search = Search(predictions, cells, perturbations, by, top=top, sample=sample, read=read, on_notice=on_notice)
        with closing(search):
            search.run(progress)
            return search.ranking()
    means = read_predictions(predictions, in_group=in_group, effects=True)
    score, notices = open_question(means.panel, by, read)
    rows, by_part = [], []
    for row, label in enumerate(means.labels):
        if means.is_control(label):
            continue
        change, targets, errors = means.delta(label), means.targets(label), means.errors(label)
        value, gradient = score.of(change, targets)
        error = np.nan if errors is None else largest_error(gradient, errors)
        rows.append((label, value, error, int(means.n_controls[row])))
        by_part.append(score.by_part(change, targets))
    if not rows:
        raise PredictionFileError(
            f"it holds no perturbation to rank (its rows: {join_limited(means.labels)})",
            "Predict perturbations",
            where=means.where,
        )
    order = np.argsort([-score.sign * value for _, value, _, _ in rows], kind="stable")  # without a score, last
    table = ranked(score, [rows[place] for place in order], [by_part[place] for place in order])
    n_unknown = int((table["error"].isna() & table["score"].notna()).sum())
    if n_unknown:
        have = pluralize(n_unknown, "perturbation has", "perturbations have")
        notices.append(f"{have} no standard errors, as with a single control cell: their scores are taken as exact.")
    warn_caller(notices, on_notice)
    description = f"{score.description}; from the layer {means.changes}, without the targets"
    return Ranking(table, score.name, description, means.name, means.synthetic, tuple(notices))


def largest_error(gradient: NDArray[np.float64], errors: NDArray[np.floating]) -> float:
    """Return the standard error of a score from those of its genes (delta method), however these move together.

    How the errors of genes correlate between cells is not known from a table of means. Were they independent, the root
    of the sum of squares would do; it is several times too small where a cell's depth or state moves many genes at
    once. The sum of absolute values holds for any correlation.
    """
    return float(np.abs(gradient) @ errors)
