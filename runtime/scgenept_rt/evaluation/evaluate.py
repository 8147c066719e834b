"""Evaluate a model, or predictions that exist, against measured cells and baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from scgenept_rt.errors import check_argument, join_limited, pluralize
from scgenept_rt.evaluation.collapse import similarity
from scgenept_rt.evaluation.de_genes import COMPUTED, FROM_FILE, DeGenes, open_de_lists
from scgenept_rt.evaluation.errors import EvaluationError
from scgenept_rt.evaluation.findings import sameness, wins
from scgenept_rt.evaluation.held_out import tested_labels, training_labels
from scgenept_rt.evaluation.metrics import TopGeneCells
from scgenept_rt.evaluation.observed import CONTROL, Observed, OpenData, canonical_label, open_data
from scgenept_rt.evaluation.predicted import PredictedMeans, predict_means, predict_published_protocol
from scgenept_rt.evaluation.published import published_table
from scgenept_rt.evaluation.result import Evaluation
from scgenept_rt.evaluation.split import Split, load_split
from scgenept_rt.evaluation.tables import TRAIN_POOL, macro_averages, method_profiles, metric_table
from scgenept_rt.expression import check_source
from scgenept_rt.options import ReadOptions, resolve
from scgenept_rt.predictor import Predictor, Progress

if TYPE_CHECKING:
    from anndata import AnnData

Protocol = Literal["all", "published"]

FEW_CONTROLS = 100
"""Control cells below which the noise of their draw is worth a word."""


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
    loaded_or_read = "a loaded bundle (`load`) or predictions that were read (`read_predictions`)"
    check_argument("model", model, (Predictor, PredictedMeans), loaded_or_read)
    check_source(data)
    check_argument("protocol", protocol, (str,), "all or published")
    if protocol not in ("all", "published"):
        raise EvaluationError(f"protocol is {protocol!r}. Expected all or published.")
    subgroups = _names_of_subgroups(subgroups)
    if protocol == "published" and n_controls is not None:
        raise EvaluationError(
            f"n_controls is {n_controls}, but the published protocol takes one control cell for each test cell. "
            "Leave n_controls out, or use the protocol all."
        )
    split = load_split(split) if not isinstance(split, Split) else split
    n_split = len(split.tested) + split.n_dropped
    if subgroups:
        split = split.restricted(subgroups)
    options = resolve(ReadOptions, read)
    panel = model.panel
    with open_data(data, options) as cells:
        opened = OpenData.of(cells, panel)
        tested, notices = tested_labels(opened, split)
        train, singles = training_labels(opened, split)
        observed = opened.observe(
            [*tested.values(), *(label for labels in singles.values() for label in labels)],
            {TRAIN_POOL: train},
            every_condition=True,
        )
        with open_de_lists(data, observed) as lists:
            de = {label: lists.of(in_file, observed.moments) for label, in_file in tested.items()}
            synthetic_data = lists.synthetic
        top_cells = _top_gene_cells(opened, tested, de)
    notices = [*observed.notices, *notices]

    predicted, how = _predictions(model, data, tested, observed, protocol, n_controls, seed, options, progress, notices)
    missing = [label for label in tested if predicted.find(label) is None]
    if missing:
        notices.append(
            f"Test perturbations that were not predicted are left out ({len(missing):,}): {join_limited(missing)}."
        )
    kept = [label for label in tested if label not in set(missing)]
    if not kept:
        predicted.row(next(iter(tested)))  # raises, and names what there is

    profiles = method_profiles(kept, predicted, observed, singles, panel)
    table = metric_table(kept, tested, split, predicted, observed, de, top_cells, profiles)
    summary = macro_averages(table, split)
    control = observed.control
    rows = [predicted.row(label) for label in kept]
    fewest = int(predicted.n_controls[rows].min())
    if fewest < min(FEW_CONTROLS, observed.moments.n(CONTROL)):
        notices.append(
            f"Predictions are means over as few as {pluralize(fewest, 'control cell')}: the noise of their draw is in "
            "every figure, most of all in mse and pearson_delta. More control cells lessen it."
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
        (*wins(table, split), *sameness(predicted.name, predicted_similarity, observed_similarity)),
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


def _names_of_subgroups(subgroups: object) -> list[str]:
    if isinstance(subgroups, str):
        return [subgroups]
    names = list(subgroups) if isinstance(subgroups, Iterable) else [subgroups]
    for name in names:
        check_argument("an entry of subgroups", name, (str,), "the name of a subgroup of the split")
    return [str(name) for name in names]


def _top_gene_cells(opened: OpenData, tested: Mapping[str, str], de: Mapping[str, DeGenes]) -> dict[str, TopGeneCells]:
    """Read what the cells of each test perturbation express of its leading genes."""
    both = {tested[label]: np.concatenate([genes.ranked[:20], genes.non_dropout_20]) for label, genes in de.items()}
    expressed = opened.dense_of(both)
    n_ranked = {label: len(genes.ranked[:20]) for label, genes in de.items()}
    return {
        label: TopGeneCells(expressed[in_file][:, : n_ranked[label]], expressed[in_file][:, n_ranked[label] :])
        for label, in_file in tested.items()
    }


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
        span = ("" if few == many else f"{few:,} to ") + pluralize(many, "control cell")
        return model, f"predictions of {model.where}, each the mean over {span}"
    if protocol == "published":
        n_cells = {label: observed.moments.n(in_file) for label, in_file in tested.items()}
        predicted = predict_published_protocol(
            model, data, n_cells, seed=seed, read=options, progress=progress, on_notice=notices.append
        )
        return predicted, (
            "the publication's: one control cell drawn at random for each of the "
            f"{pluralize(sum(n_cells.values()), 'test cell')} (seed {seed}), predictions averaged per perturbation"
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
    n_available = pluralize(observed.moments.n(CONTROL), "control cell")
    if n_controls is None:
        return predicted, f"the mean prediction over all {n_available}"
    return predicted, f"the mean prediction over {n_controls:,} of {n_available} drawn at random (seed {seed})"


def _de_source(de: Mapping[str, DeGenes]) -> str:
    n_from_file = sum(genes.source == FROM_FILE for genes in de.values())
    if n_from_file == len(de):
        return FROM_FILE
    if not n_from_file:
        return COMPUTED
    return (
        f"{FROM_FILE} for {pluralize(n_from_file, 'perturbation')}, {COMPUTED} for the other {len(de) - n_from_file:,}"
    )
