"""Evaluate a model, or predictions that exist, against measured cells and baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.errors import listed
from scgenept_rt.evaluation.baselines import ADDITIVE, BASELINES, CONTROL_MEAN, TRAIN_MEAN, additive_prediction
from scgenept_rt.evaluation.collapse import COLLAPSED_FROM, Similarity, similarity
from scgenept_rt.evaluation.de_genes import COMPUTED, FROM_FILE, DeGenes, open_de_lists
from scgenept_rt.evaluation.errors import EvaluationError, NoTestPerturbationsError
from scgenept_rt.evaluation.metrics import HEADLINE, better, perturbation_metrics
from scgenept_rt.evaluation.observed import CONTROL, Observed, OpenData, canonical_label, open_data
from scgenept_rt.evaluation.predicted import PredictedMeans, predict_means, predict_published_protocol
from scgenept_rt.evaluation.published import PublishedTable, published_table
from scgenept_rt.evaluation.split import Split, load_split
from scgenept_rt.expression import ReadOptions
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import parse_perturbation
from scgenept_rt.predictor import Predictor, Progress

if TYPE_CHECKING:
    from anndata import AnnData

Protocol = Literal["all", "published"]
ALL_TESTED = "all tested"
"""Name of the group of every tested perturbation."""

FEW_CONTROLS = 100
"""Control cells below which the noise of their draw is worth a word."""

_TRAIN_POOL = "train"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The figures of a model and of the baselines.

    Attributes
    ----------
    model
        Name of the model or of the predictions.
    where
        The measured data.
    split
        What was tested.
    perturbations
        One row a (perturbation, method): `perturbation`, `subgroup`, `method`, `n_cells`, `n_controls`, then the
        metrics of `perturbation_metrics`. Methods are `model` and the baselines.
    summary
        One row a (subgroup, method): `subgroup`, `method`, `n_perturbations`, then the macro-averages of the metrics;
        the last subgroup is `ALL_TESTED`.
    findings
        What a reader has to know: baselines that win, predictions that are nearly the same.
    notices
        One-line sentences on how it was done.
    protocol
        One sentence on how predictions came about.
    de_source
        Where the differentially expressed genes are from.
    predicted_similarity, observed_similarity
        How alike the predicted and the measured changes of different perturbations are.
    gene_names
        The genes of the columns of the arrays below.
    tested
        The perturbations of the rows of the arrays below, in order of subgroups.
    predicted_deltas, observed_deltas
        (n_tested, n_genes) float32, change against the mean of all control cells, as in the metrics.
    own_deltas
        The same, predicted, against the mean of the very control cells that were predicted from, where that is known:
        what all predictions share of that draw is no likeness of perturbations.
    published
        The published table of this data set, if there is one.
    provenance
        What is recorded of the run.
    """

    model: str
    where: str
    split: Split
    perturbations: pd.DataFrame
    summary: pd.DataFrame
    findings: tuple[str, ...]
    notices: tuple[str, ...]
    protocol: str
    de_source: str
    predicted_similarity: Similarity
    observed_similarity: Similarity
    gene_names: tuple[str, ...] = field(repr=False)
    tested: tuple[str, ...]
    predicted_deltas: NDArray[np.float32] = field(repr=False)
    observed_deltas: NDArray[np.float32] = field(repr=False)
    own_deltas: NDArray[np.float32] = field(repr=False)
    published: PublishedTable | None
    provenance: Mapping[str, Any]

    @property
    def caveats(self) -> list[str]:
        """Why the published figures are not to be compared with these; empty if nothing is known to differ."""
        reasons = []
        if self.provenance.get("synthetic"):
            reasons.append("the model's weights are synthetic")
        if self.provenance.get("synthetic_data"):
            reasons.append("the cells are synthetic")
        if self.provenance.get("protocol") != "published":
            reasons.append("predictions were not made by the published protocol")
        if len(self.tested) < self.provenance["n_split"]:
            reasons.append(
                f"{len(self.tested):,} of the split's {self.provenance['n_split']:,} perturbations were tested"
            )
        return reasons

    @property
    def subgroups(self) -> list[str]:
        """Subgroups in the order of `summary`."""
        return list(dict.fromkeys(self.summary["subgroup"]))

    @property
    def methods(self) -> list[str]:
        """The model and the baselines."""
        return list(dict.fromkeys(self.summary["method"]))


def evaluate(
    model: Predictor | PredictedMeans,
    data: str | Path | AnnData,
    split: str | Path | Split,
    *,
    subgroups: Sequence[str] = (),
    protocol: Protocol = "all",
    n_controls: int | None = None,
    seed: int = 0,
    read: ReadOptions | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare predictions with measured cells, beside baselines, by the metrics of GEARS 0.0.2.

    Parameters
    ----------
    model
        A loaded bundle, or predictions that exist (`read_predictions`).
    data
        The measured cells, perturbed ones and controls, log1p-normalised; read by rows.
    split
        Name of a shipped split, a file, or a split.
    subgroups
        Subgroups to test; all of them by default.
    protocol
        "all": mean prediction over all control cells (or `n_controls` of them, drawn at random). "published": for every
        test cell a prediction from one control cell drawn at random, averaged, as the scGenePT publication does.
    n_controls, seed
        Control cells to predict from, and the seed of the draws.
    read
        Where labels and values lie in `data`, and what to accept.
    progress
        Is told how much of the prediction is done.

    Raises
    ------
    EvaluationError
        If the split cannot be used or `data` holds none of its test perturbations.
    ScgeneptError
        If `data` or predictions do not fit.
    """
    if protocol not in ("all", "published"):
        raise EvaluationError(f"protocol is {protocol!r}. Expected all or published.")
    if protocol == "published" and n_controls is not None:
        raise EvaluationError(
            f"n_controls is {n_controls}, but the published protocol takes one control cell for each test cell. "
            "Leave n_controls out, or use the protocol all."
        )
    split = load_split(split) if not isinstance(split, Split) else split
    n_split = len(split.tested) + split.n_dropped
    if subgroups:
        split = split.restricted(subgroups)
    options = read or ReadOptions()
    panel = model.panel
    with open_data(data, options) as cells:
        opened = OpenData.of(cells, panel, options)
        tested, notices = _tested(opened, split)
        train, singles = _training(opened, split)
        observed = opened.observe(
            [*tested.values(), *(label for labels in singles.values() for label in labels)], {_TRAIN_POOL: train}
        )
    notices = [*observed.notices, *notices]
    with open_de_lists(data, observed) as lists:
        de = {label: lists.of(in_file, observed.moments) for label, in_file in tested.items()}
        synthetic_data = lists.synthetic

    predicted, how = _predictions(model, data, tested, observed, protocol, n_controls, seed, options, progress, notices)
    missing = [label for label in tested if predicted.find(label) is None]
    if missing:
        notices.append(
            f"Test perturbations that were not predicted are left out ({len(missing):,}): {listed(missing)}."
        )
    kept = [label for label in tested if label not in set(missing)]
    if not kept:
        predicted.row(next(iter(tested)))  # raises, and names what there is

    profiles = _profiles(kept, predicted, observed, singles, panel)
    table = _table(kept, tested, split, predicted, observed, de, profiles)
    summary = _summary(table, split)
    control = observed.control
    rows = [predicted.row(label) for label in kept]
    fewest = int(predicted.n_controls[rows].min())
    if fewest < min(FEW_CONTROLS, observed.moments.n(CONTROL)):
        notices.append(
            f"Predictions are means over as few as {fewest:,} control cell{'s'[: fewest != 1]}: the noise of their "
            "draw is in every figure, most of all in mse and pearson_delta. More control cells lessen it."
        )
    predicted_deltas = predicted.means[rows].astype(np.float64) - control
    own_deltas = predicted_deltas if predicted.deltas is None else predicted.deltas[rows].astype(np.float64)
    observed_deltas = np.stack([observed.moments.mean(tested[label]) for label in kept]) - control
    # One row a set of genes: A+ctrl and ctrl+A are one prediction, and would count as equal for no fault of the model.
    distinct = list({canonical_label(label, panel): row for row, label in reversed(list(enumerate(kept)))}.values())
    predicted_similarity, observed_similarity = similarity(own_deltas[distinct]), similarity(observed_deltas[distinct])
    return Evaluation(
        predicted.name,
        observed.where,
        split,
        table,
        summary,
        (*_wins(table, split), *_sameness(predicted.name, predicted_similarity, observed_similarity)),
        tuple(dict.fromkeys(notices)),
        how,
        _de_source(de),
        predicted_similarity,
        observed_similarity,
        panel.names,
        tuple(kept),
        predicted_deltas.astype(np.float32),
        observed_deltas.astype(np.float32),
        own_deltas.astype(np.float32),
        published_table(split.dataset),
        {
            **predicted.provenance,
            "protocol": "" if isinstance(model, PredictedMeans) else protocol,
            "seed": seed,
            "split": split.name,
            "n_split": n_split,
            "synthetic_data": synthetic_data,
        },
    )


# --- what is tested, and what was trained on --------------------------------------------------------------------------


def _tested(opened: OpenData, split: Split) -> tuple[dict[str, str], list[str]]:
    """Return the file's label of each test perturbation that can be tested, in order of subgroups."""
    tested: dict[str, str] = {}
    absent, unknown = [], []
    for label in split.tested:
        if canonical_label(label, opened.panel) is None:
            unknown.append(label)
            continue
        in_file = opened.labels.find(label, opened.panel)
        if in_file is None or in_file == CONTROL:
            absent.append(label)
        elif in_file not in tested.values():
            tested[label] = in_file
    if not tested:
        found = [name for name in opened.labels.names if name != CONTROL]
        raise NoTestPerturbationsError(opened.cells.where, split.name, split.tested, found)
    notices = []
    if absent:
        notices.append(
            f"Of the split's {len(split.tested):,} test perturbations, {len(absent):,} have no cells in the data: "
            f"{listed(absent)}."
        )
    if unknown:
        notices.append(
            f"Test perturbations of genes that the model lacks are left out ({len(unknown):,}): {listed(unknown)}."
        )
    return tested, notices


def _training(opened: OpenData, split: Split) -> tuple[list[str], dict[str, list[str]]]:
    """Return the file's labels that were trained on, and by gene those of them that perturb it alone.

    Labels are compared by text and by genes: a test perturbation in another spelling is no training cell.
    """

    def both(labels: Sequence[str]) -> set[str | None]:
        return {*labels, *(canonical_label(label, opened.panel) for label in labels)} - {None}

    held_out = both((*split.tested, *split.val, CONTROL))
    trained = None if split.train is None else both(split.train)
    train: list[str] = []
    singles: dict[str, list[str]] = {}
    for name in opened.labels.names:
        names = {name, canonical_label(name, opened.panel, opened.labels.control_label)}
        if names & held_out or (trained is not None and not names & trained):
            continue
        train.append(name)
        genes = _genes(name, opened.panel, opened.labels.control_label)
        if len(genes) == 1:
            singles.setdefault(genes[0], []).append(name)
    return train, singles


def _genes(label: str, panel: GenePanel, control_label: str = CONTROL) -> tuple[str, ...]:
    canonical = canonical_label(label, panel, control_label)
    return () if canonical is None else parse_perturbation(canonical, panel).target_genes


def _predictions(
    model: Predictor | PredictedMeans,
    data: str | Path | AnnData,
    tested: Mapping[str, str],
    observed: Observed,
    protocol: Protocol,
    n_controls: int | None,
    seed: int,
    options: ReadOptions,
    progress: Progress | None,
    notices: list[str],
) -> tuple[PredictedMeans, str]:
    if isinstance(model, PredictedMeans):
        few, many = int(model.n_controls.min()), int(model.n_controls.max())
        span = f"{few:,}" if few == many else f"{few:,} to {many:,}"
        return model, f"predictions of {model.where}, each the mean over {span} control cells"
    if protocol == "published":
        n_cells = {label: observed.moments.n(in_file) for label, in_file in tested.items()}
        predicted = predict_published_protocol(
            model, data, n_cells, seed=seed, read=options, progress=progress, on_notice=notices.append
        )
        return predicted, (
            f"the publication's: one control cell drawn at random for each of the {sum(n_cells.values()):,} test cells "
            f"(seed {seed}), predictions averaged per perturbation"
        )
    labels = list({canonical_label(label, model.panel): label for label in tested}.values())
    predicted = predict_means(
        model,
        data,
        labels,
        n_controls=n_controls,
        seed=seed,
        read=options,
        progress=progress,
        on_notice=notices.append,
    )
    if n_controls is None:
        return predicted, f"the mean prediction over all {observed.moments.n(CONTROL):,} control cells"
    return predicted, (
        f"the mean prediction over {n_controls:,} of {observed.moments.n(CONTROL):,} control cells drawn at random "
        f"(seed {seed})"
    )


# --- figures ----------------------------------------------------------------------------------------------------------


def _profiles(
    kept: Sequence[str],
    predicted: PredictedMeans,
    observed: Observed,
    singles: Mapping[str, Sequence[str]],
    panel: GenePanel,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return by method the predicted mean of each perturbation that the method predicts."""
    control = observed.control
    single_means = {gene: observed.moments.mean(*labels) for gene, labels in singles.items()}
    profiles: dict[str, dict[str, NDArray[np.float64]]] = {predicted.name: {}}
    for label in kept:
        profiles[predicted.name][label] = predicted.means[predicted.row(label)].astype(np.float64)
    profiles[CONTROL_MEAN] = dict.fromkeys(kept, control)
    if _TRAIN_POOL in observed.pooled:
        profiles[TRAIN_MEAN] = dict.fromkeys(kept, observed.pooled[_TRAIN_POOL])
    additive = {label: additive_prediction(_genes(label, panel), control, single_means) for label in kept}
    if any(profile is not None for profile in additive.values()):
        profiles[ADDITIVE] = {label: profile for label, profile in additive.items() if profile is not None}
    return profiles


def _table(
    kept: Sequence[str],
    tested: Mapping[str, str],
    split: Split,
    predicted: PredictedMeans,
    observed: Observed,
    de: Mapping[str, DeGenes],
    profiles: Mapping[str, Mapping[str, NDArray[np.float64]]],
) -> pd.DataFrame:
    control, subgroup_of = observed.control, split.subgroup_of()
    rows: list[dict[str, Any]] = []
    for label in kept:
        measured = observed.moments.mean(tested[label])
        for method, means in profiles.items():
            if label not in means:
                continue
            rows.append(
                {
                    "perturbation": label,
                    "subgroup": subgroup_of[label],
                    "method": method,
                    "n_cells": observed.moments.n(tested[label]),
                    "n_controls": int(predicted.n_controls[predicted.row(label)])
                    if method == predicted.name
                    else observed.moments.n(CONTROL),
                    **perturbation_metrics(means[label], measured, control, de[label]),
                }
            )
    return pd.DataFrame(rows)


def _metrics_of(table: pd.DataFrame) -> list[str]:
    described = ("perturbation", "subgroup", "method", "n_cells", "n_controls", "n_perturbations")
    return [str(column) for column in table.columns if column not in described]


def _groups(table: pd.DataFrame, split: Split) -> dict[str, pd.DataFrame]:
    groups = {name: table[table["subgroup"] == name] for name in split.test}
    groups = {name: group for name, group in groups.items() if len(group)}
    if len(groups) > 1:
        groups[ALL_TESTED] = table
    return groups


def _summary(table: pd.DataFrame, split: Split) -> pd.DataFrame:
    metrics = _metrics_of(table)
    rows: list[dict[str, Any]] = []
    for name, group in _groups(table, split).items():
        for method in dict.fromkeys(table["method"]):
            chosen = group[group["method"] == method]
            if len(chosen):
                means = {metric: float(chosen[metric].mean()) for metric in metrics}
                rows.append({"subgroup": name, "method": method, "n_perturbations": len(chosen), **means})
    return pd.DataFrame(rows)


# --- findings ---------------------------------------------------------------------------------------------------------


def _wins(table: pd.DataFrame, split: Split) -> list[str]:
    """Say where a baseline beats the model by a headline metric, over the perturbations that both predict."""
    model = str(table["method"].iloc[0])
    sentences = []
    for name, group in _groups(table, split).items():
        own = group[group["method"] == model].set_index("perturbation")
        wins = []
        for baseline in BASELINES:
            other = group[group["method"] == baseline].set_index("perturbation")
            common = own.index.intersection(other.index, sort=False)
            if not len(common):
                continue
            won = []
            for metric in HEADLINE:
                ours, theirs = float(own.loc[common, metric].mean()), float(other.loc[common, metric].mean())
                if theirs > ours if better(metric) == "higher" else theirs < ours:
                    won.append(f"{metric} ({theirs:.3g} against {ours:.3g})")
            if won:
                # The additive baseline is for pairs: the model's figures are those of the same perturbations.
                over = "" if len(common) == len(own) else f" over {_counted(len(common))}"
                wins.append(f"{baseline!r} wins on {', '.join(won)}{over}")
        if wins:
            sentences.append(f"{name}, {_counted(len(own))}: {model} is beaten by baselines: {'; '.join(wins)}.")
    if not sentences:
        sentences.append(f"{model} beats every baseline in every subgroup on {', '.join(HEADLINE)}.")
    return sentences


def _counted(number: int) -> str:
    return f"{number:,} perturbation{'s'[: number != 1]}"


def _sameness(model: str, predicted: Similarity, observed: Similarity) -> list[str]:
    if predicted.n_perturbations < 2:
        return []
    numbers = (
        f"the median correlation between the changes predicted for different perturbations "
        f"({predicted.n_perturbations:,} of them) is {predicted.median:.2f}; between the measured changes it is "
        f"{observed.median:.2f}"
    )
    if predicted.collapsed:
        return [
            f"Collapse: {model} predicts nearly the same change for every perturbation ({numbers}; "
            f"from {COLLAPSED_FROM} on it counts as collapse)."
        ]
    return [f"No collapse: {numbers} (from {COLLAPSED_FROM} on it would count as collapse)."]


def _de_source(de: Mapping[str, DeGenes]) -> str:
    n_from_file = sum(genes.source == FROM_FILE for genes in de.values())
    if n_from_file == len(de):
        return FROM_FILE
    if not n_from_file:
        return COMPUTED
    return f"{FROM_FILE} for {n_from_file:,} perturbations, {COMPUTED} for the other {len(de) - n_from_file:,}"
