"""Ranking of predicted perturbations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
import pandas as pd

from scgenept_rt.errors import PerturbationError, PredictionFileError, join_limited, warn_caller
from scgenept_rt.evaluation import PredictedMeans, read_predictions
from scgenept_rt.genes import GenePanel
from scgenept_rt.options import ReadOptions
from scgenept_rt.perturbation import PerturbationRequest, is_control_word, look_up
from scgenept_rt.ranking.errors import largest_error, rank_ranges
from scgenept_rt.ranking.question import Question, RankBy, check_question, open_question

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, eq=False)
class Ranking:
    """Perturbations, the best first.

    Attributes
    ----------
    table
        One row per perturbation: `rank`; `best_rank` and `worst_rank`, which differ where the errors do not tell
        perturbations apart (a tie); `perturbation`; `score` and its standard error `error`; `n_controls`, the control
        cells that it was predicted from. Perturbations without a score come last, without a rank.
    score
        Name of the score: "effect size", "signature", "cosine", "pearson" or "distance".
    description
        What the score is, in one line.
    name
        Name of the predictions.
    synthetic
        Whether the weights are synthetic.
    notices
        What users should know.
    """

    table: pd.DataFrame
    score: str
    description: str
    name: str
    synthetic: bool
    notices: tuple[str, ...]

    @property
    def supported_ranks(self) -> list[str]:
        """The ranks that each perturbation may have: "3", or "2-5" for a tie; "-" without a score."""
        ranges = zip(self.table["best_rank"], self.table["worst_rank"], strict=True)
        return ["-" if pd.isna(best) else f"{best}" if best == worst else f"{best}-{worst}" for best, worst in ranges]


def rank(
    predictions: str | Path | AnnData | PredictedMeans,
    *,
    in_group: str | None = None,
    read: ReadOptions | None = None,
    on_notice: Callable[[str], None] | None = None,
    **by: Unpack[RankBy],
) -> Ranking:
    """Rank perturbations by the size of their effect, by a signature, or by closeness to a state of cells.

    Scores are over the predicted genes without those that a perturbation targets. They are computed from the layer
    `effect`, or from `delta` where a file has none. Standard errors follow from those of the genes by the delta method,
    and hold however these correlate.

    Parameters
    ----------
    predictions
        A file of means that `predict` wrote, or the AnnData that `Predictor.predict` returned.
    in_group
        The group of control cells, where `predict` was given `groupby`.
    read
        How to read `toward`, and what to accept.
    on_notice
        Called with each warning message.
    **by
        What to rank by; the size of the effect if nothing is given.

        up, down
            Genes of a signature: the score is the mean change of those to go up minus that of those to go down.
        weights
            The weight of each gene of a signature, in the place of `up` and `down`; negative for genes to go down.
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
    if isinstance(predictions, PredictedMeans):
        means = predictions
    else:
        means = read_predictions(predictions, in_group=in_group, effects=True)
    question = open_question(means.panel, by, read)
    table = ranked(question, _scores(question, means))
    notices = [*question.notices, *_notices(means)]
    warn_caller(notices)
    if on_notice is not None:
        for notice in notices:
            on_notice(notice)
    changes = "effect" if means.from_effects else "delta"
    description = f"{question.description}; from the layer {changes}, without the targets"
    synthetic = bool(means.provenance.get("synthetic"))
    return Ranking(table, question.score.name, description, means.name, synthetic, tuple(notices))


def ranked(question: Question, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of scores as that of a `Ranking`."""
    sign = 1.0 if question.score.higher_is_better else -1.0
    table = table.sort_values(
        "score", ascending=not question.score.higher_is_better, kind="stable", na_position="last", ignore_index=True
    )
    n_scored = int(table["score"].notna().sum())
    scored = table[:n_scored]
    best, worst = rank_ranges(sign * scored["score"].to_numpy(), scored["error"].fillna(0.0).to_numpy())
    ranks = {"rank": np.arange(1, n_scored + 1), "best_rank": best, "worst_rank": worst}
    columns = pd.DataFrame(ranks).reindex(table.index).astype("Int64")
    return pd.concat([columns, table], axis=1)


def _scores(question: Question, means: PredictedMeans) -> pd.DataFrame:
    rows = []
    for row, label in enumerate(means.labels):
        targets = _targets(label, means.panel)
        if targets is None:
            continue
        score, gradient = question.score.of(means.delta(label), targets)
        error = np.nan if means.sems is None else largest_error(gradient, means.sems[row].astype(np.float64))
        rows.append((label, score, error, int(means.n_controls[row])))
    if not rows:
        raise PredictionFileError(
            f"it holds no perturbation to rank (its rows: {join_limited(means.labels)})",
            "Predict perturbations",
            where=means.where,
        )
    return pd.DataFrame(rows, columns=["perturbation", "score", "error", "n_controls"])


def _targets(label: str, panel: GenePanel) -> tuple[int, ...] | None:
    """Return the columns of the genes that a label perturbs, as far as they are predicted; None for the control."""
    if is_control_word(label):
        return None
    try:
        return look_up(PerturbationRequest(label), panel)[0].columns
    except PerturbationError:  # a gene named twice
        return ()


def _notices(means: PredictedMeans) -> list[str]:
    if means.sems is None or np.isnan(means.sems).all():
        return ["The predictions have no standard errors: ranks are shown as if they were exact."]
    return []
