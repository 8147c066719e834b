"""Errors of an evaluation that a user can put right; see `scgenept_rt.errors` for their form."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from scgenept_rt.errors import CellsError, OutputError, ScgeneptError, join_limited


def near_labels(label: str, found: Sequence[str], cutoff: float = 0.7) -> list[str]:
    """Return up to three of `found` whose genes are spelt nearly as those of `label`, in any case and order."""
    names: dict[str, str] = {}
    for name in found:
        names.setdefault(_spelling(name), name)
    return [names[near] for near in get_close_matches(_spelling(label), names, n=3, cutoff=cutoff)]


def _spelling(label: str) -> str:
    genes = [gene.strip() for gene in label.casefold().split("+")]
    return "+".join(sorted(gene for gene in genes if gene != "ctrl")) or label


def _hint(near: Sequence[str]) -> str:
    return f"Did you mean {' or '.join(near)}? " if near else ""


class ReportWriteError(OutputError, OSError):
    """A report could not be written."""

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(path, f"report {path}: writing failed ({problem}). Choose another path.")


class EvaluationError(ScgeneptError, ValueError):
    """An evaluation that cannot be made as asked for."""


class SplitNotFoundError(EvaluationError, LookupError):
    """A split that is neither shipped nor a file."""

    def __init__(self, name: str, shipped: Sequence[str]) -> None:
        super().__init__(
            f"split {name!r}: no split of that name is shipped (there are: {', '.join(shipped)}), and there is no such "
            "file. Choose one of these, or give the path of a .json file."
        )


class SplitFormatError(EvaluationError):
    """A split file that does not say which perturbations are tested."""

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(
            f"split {path}: {problem}. Expected a JSON object with subgroups.test_subgroup "
            "({NAME: [LABEL, ...]}) or test ([LABEL, ...]). See the README beside the shipped splits."
        )


class SubgroupError(EvaluationError, LookupError):
    """A subgroup that the split does not have, or that is empty."""

    def __init__(self, name: str, split: str, known: Sequence[str]) -> None:
        super().__init__(
            f"subgroup {name!r}: the split {split} has no test perturbations of that name "
            f"(it has: {join_limited(known) or 'none'}). Choose one of these with --subgroup."
        )


class NoTestPerturbationsError(EvaluationError, LookupError):
    """A file of cells that holds none of the perturbations to be tested."""

    def __init__(self, where: str, split: str, wanted: Sequence[str], found: Sequence[str]) -> None:
        same = next((near for label in wanted if (near := near_labels(label, found, cutoff=1.0))), [])
        none = f"cells of none of the {len(wanted):,} test perturbations"
        if len(wanted) == 1:
            none = "no cells of the one test perturbation"
        super().__init__(
            f"{where}: it holds {none} of the split {split} "
            f"({join_limited(wanted)}); its labels are {join_limited(found) or 'none'}. {_hint(same)}"
            "Give the data set that the split is of, or "
            "the column of its labels with --condition-key."
        )


class PredictionFileError(CellsError):
    """A file of predictions that cannot be used."""

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy, where=where)


class NotPredictionsError(PredictionFileError):
    """A file in which nothing tells that it holds predictions: measured cells, most often."""

    def __init__(self, where: str) -> None:
        super().__init__(
            where,
            "it does not say that it holds predictions (uns has no scgenept_rt, obs neither n_controls nor "
            "control_cell): these may be measured cells",
            "Expected a file that `scgenept-rt predict BUNDLE CELLS --out FILE -p LABEL` wrote: make one with that, "
            "and give it here.",
        )


class PerturbationNotPredictedError(PredictionFileError, LookupError):
    """A perturbation that is wanted of a file of predictions and is not in it."""

    def __init__(self, where: str, label: str, found: Sequence[str]) -> None:
        super().__init__(
            where,
            f"it holds no prediction of {label} (it has: {join_limited(found) or 'none'})",
            f"{_hint(near_labels(label, found))}Predict it with `scgenept-rt predict ... -p {label}`.",
        )


class PerturbationNotObservedError(CellsError, LookupError):
    """A perturbation of which a file of cells holds no cell."""

    def __init__(self, where: str, label: str, found: Sequence[str]) -> None:
        super().__init__(
            f"no cell of it is labelled {label} (its labels are {join_limited(found) or 'none'})",
            f"{_hint(near_labels(label, found))}Choose a perturbation that was measured.",
            where=where,
        )
