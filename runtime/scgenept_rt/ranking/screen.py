"""A screen that is predicted only as far as needed to find its best perturbations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from scgenept_rt.errors import ArgumentError, PerturbationError, warn_caller
from scgenept_rt.options import PredictOptions, ReadOptions, SampleOptions, resolve
from scgenept_rt.perturbation import Perturbation, PerturbationRequest
from scgenept_rt.predictor import Predictor, Progress
from scgenept_rt.predictor.difference_estimator import FEWEST_CELLS, DifferenceEstimator
from scgenept_rt.predictor.run import Run
from scgenept_rt.ranking.question import RankBy, check_question, open_question
from scgenept_rt.ranking.result import Ranking, ranked
from scgenept_rt.ranking.search import Search
from scgenept_rt.wording import pluralize

if TYPE_CHECKING:
    from anndata import AnnData


class Screen:
    """A search for the best perturbations of an input's control cells; a context manager.

    Attributes
    ----------
    n_passes
        (perturbation, control cell) pairs that were predicted.
    n_passes_of_all
        What predicting every perturbation from every control cell takes.
    """

    def __init__(
        self,
        predictor: Predictor,
        cells: str | Path | AnnData,
        perturbations: str | Sequence[str | PerturbationRequest],
        by: RankBy,
        *,
        top: int,
        sample: SampleOptions,
        read: ReadOptions | None,
        on_notice: Callable[[str], None] | None,
    ) -> None:
        check_question(by)
        if top < 1:
            raise ArgumentError(f"top is {top}, expected 1 or more")
        self._predictor, self._top = predictor, top
        self._question = open_question(predictor.panel, by, read)
        options = resolve(PredictOptions, {**sample, "n_controls_per_perturbation": FEWEST_CELLS})
        size = predictor.automatic_batch_size()
        self._run = Run.prepare(
            predictor, cells, perturbations, options, batch_size=size, read=read, on_notice=on_notice
        )
        candidates = [entry for entry in self._run.perturbations if entry.columns]
        if not candidates:
            self._run.controls.close()
            raise PerturbationError("there is no perturbation to rank but the control", "Name some that target genes")
        warn_caller([*self._question.notices, *_notices(candidates)], on_notice)
        controls = self._run.controls
        self._n_candidates, self._n_cells = len(candidates), controls.n_obs
        self.n_passes, self.n_passes_of_all = 0, len(candidates) * controls.n_obs
        self._expected = controls.n_obs
        self._progress: Progress | None = None
        estimator = DifferenceEstimator(
            self._run.batch_loop(),
            controls,
            0,
            controls.n_obs,
            candidates,
            [controls.n_obs] * len(candidates),
            None,
            self._count,
        )
        self._search = Search(estimator, candidates, self._question.score, top=top, n_cells=controls.n_obs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.controls.close()

    def search(self, progress: Progress | None = None) -> None:
        """Predict until the best are known; `progress` gets passes that are done, and those to the end of a round."""
        self._progress = progress
        self._search.run(self._begin_round)

    def ranking(self) -> Ranking:
        """Return what is known by now."""
        question, search = self._question, self._search
        n_best = min(self._top, search.n_left)
        n_cells = pluralize(self._n_cells, "control cell")
        return Ranking(
            ranked(question, *search.table(), search.errors_of_differences(), n_best),
            question.score.name,
            f"{question.description}; effects on {n_cells}, without the targets",
            self._predictor.variant,
            self._predictor.bundle.manifest.synthetic,
            (*self._run.notices, *question.notices),
        )

    @property
    def progress_made(self) -> str:
        """How far the search came, in words."""
        return (
            f"{self._search.n_left:,} of {pluralize(self._n_candidates, 'candidate')} left after {self.n_passes:,} "
            f"passes (all candidates from all cells: {self.n_passes_of_all:,})"
        )

    def _begin_round(self, n_passes: int) -> None:
        self._expected += n_passes

    def _count(self, n_rows: int) -> None:
        self.n_passes += n_rows
        if self._progress is not None:
            self._progress(self.n_passes, self._expected)


def _notices(candidates: Sequence[Perturbation]) -> list[str]:
    if all(entry.n_controls is None for entry in candidates):
        return []
    return ["The n_controls of single perturbations are not used: the search decides how many cells each takes."]
