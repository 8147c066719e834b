"""Evaluate a model, or existing predictions, against measured cells and baselines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError, ControlCellsError, LabelNotFoundError, Notice, UseOption, warn_caller
from scgenept_rt.evaluation.de_genes import DeGenes, DeLists
from scgenept_rt.evaluation.measured import GroupMoments, MeasuredCells
from scgenept_rt.evaluation.metrics import most_variable_genes, perturbation_metrics
from scgenept_rt.evaluation.predicted import PredictedMeans, predict_means, predict_published_protocol
from scgenept_rt.evaluation.result import ADDITIVE, CONTROL_MEAN, GROUP, TRAIN_MEAN, Evaluation
from scgenept_rt.evaluation.split import Split, load_split, tested_labels, training_labels
from scgenept_rt.expression.label_matching import CONTROL, LabelReader
from scgenept_rt.expression.opened_cells import open_cells
from scgenept_rt.options import ReadOptions, SampleOptions, resolve
from scgenept_rt.predictor import Predictor, Progress
from scgenept_rt.wording import describe, join_limited, pluralize

if TYPE_CHECKING:
    from anndata import AnnData

Protocol = Literal["all", "published"]

_FEW_CONTROLS = 100


def evaluate(
    model: Predictor | PredictedMeans | Sequence[PredictedMeans],
    data: str | Path | AnnData,
    split: str | Path | Split,
    *,
    subgroups: Sequence[str] = (),
    protocol: Protocol = "all",
    read: ReadOptions | None = None,
    progress: Progress | None = None,
    **sample: Unpack[SampleOptions],
) -> Evaluation:
    """Compare predictions with measured cells and baselines by the metrics of GEARS 0.0.2.

    Parameters
    ----------
    model
        A loaded bundle, or existing predictions (`read_predictions`), or those of several groups (`read_groups`).
    data
        The measured cells, perturbed ones and controls, log1p-normalised; read by rows.
    split
        Name of a shipped split, path of a split file, or a split.
    subgroups
        Subgroups to test; all of them by default.
    protocol
        "all": mean prediction over all control cells (or `n_controls` of them, drawn at random). "published": for every
        test cell a prediction from one control cell drawn at random, averaged, as in the scGenePT publication.
    read
        How to read `data`, and what to accept.
    progress
        Called with the number of predictions done and their total.
    **sample
        n_controls and seed: control cells to predict from, and the seed of the draws.

    Raises
    ------
    EvaluationError
        If the split cannot be used, or `data` holds none of its test perturbations.
    ArgumentError
        If an option has a wrong type or value, or options exclude each other.
    ScgeneptError
        If `data` or the predictions cannot be used.
    """
    if isinstance(model, (list, tuple)) and model:
        return _over_groups(model, lambda means: evaluate(means, data, split, subgroups=subgroups, read=read))
    if not isinstance(model, (Predictor, PredictedMeans)):
        expected = "a loaded bundle (`load`) or predictions (`read_predictions`)"
        raise ArgumentError(f"model is {describe(model)}, expected {expected}")
    if protocol not in ("all", "published"):
        raise ArgumentError(f"protocol is {describe(protocol)}, expected 'all' or 'published'")
    drawn = resolve(SampleOptions, sample)
    if protocol == "published" and drawn["n_controls"] is not None:
        raise ArgumentError(
            f"n_controls is {drawn['n_controls']}, but the published protocol takes one for each test cell",
            "Leave n_controls out",
            [UseOption("protocol", "predict from that many control cells", "all")],
        )
    split = split if isinstance(split, Split) else load_split(split)
    n_split = len(split.tested)
    if subgroups:
        split = split.restricted([subgroups] if isinstance(subgroups, str) else subgroups)
    with open_cells(data, read) as cells:
        measured = MeasuredCells(cells, model.panel, model.group if isinstance(model, PredictedMeans) else None)
        tested, notices = tested_labels(measured, split)
        train, conditions, of_others = training_labels(measured, split)
        moments = measured.moments(list(tested.values()), others=conditions)
        lists = DeLists(measured)
        de = {in_data: lists.of(in_data, moments) for in_data in tested.values()}
        leading = {in_data: np.concatenate([genes.ranked[:20], genes.non_dropout_20]) for in_data, genes in de.items()}
        cells_of = measured.expression(leading)
        notices = [*measured.notices, *notices, *of_others, *lists.notices()]
        synthetic_data = str(cells.uns.get("synthetic")) == "True"

    of_run: list[str] = []
    predicted, how = _predictions(model, data, tested, moments, protocol, drawn, read, progress, of_run)
    warn_caller(notice for notice in notices if notice not in of_run)
    notices += of_run
    kept = {label: in_data for label, in_data in tested.items() if predicted.find(label) is not None}
    if missing := [label for label in tested if label not in kept]:
        notices.append(
            f"Test perturbations without prediction are left out ({len(missing):,}): {join_limited(missing)}."
        )
    if not kept:
        predicted.row(missing[0])  # raises, and lists the perturbations that were predicted

    rows = [predicted.row(label) for label in kept]
    fewest = int(predicted.n_controls[rows].min())
    if fewest < min(_FEW_CONTROLS, moments.n(CONTROL)):
        few = f"Predictions are means over as few as {pluralize(fewest, 'control cell')}"
        problem = f"{few}: the noise of their draw affects every metric, most of all mse and pearson_delta"
        of_all = [UseOption("protocol", "predict from all control cells", "all")] if protocol == "published" else []
        notices.append(Notice(problem, "" if of_all else "Use more control cells to reduce it", of_all))
    observed = np.stack([moments.mean(in_data) for in_data in kept.values()])
    sources = Counter(genes.source for genes in de.values())
    counted = [f"{source} for {pluralize(n, 'perturbation')}" for source, n in sources.items()]
    return Evaluation(
        model=predicted.name,
        where=cells.where,
        split=split,
        perturbations=_metric_table(kept, split, predicted, measured, moments, train, de, cells_of),
        notices=tuple(dict.fromkeys(notices)),
        protocol=how,
        de_source=", ".join(sources if len(sources) == 1 else counted),
        gene_names=predicted.panel.names,
        tested=tuple(kept),
        predicted_deltas=(predicted.means[rows] - moments.control).astype(np.float32),
        observed_deltas=(observed - moments.control).astype(np.float32),
        provenance={
            **predicted.provenance,
            "protocol": "" if isinstance(model, PredictedMeans) else protocol,
            "seed": drawn["seed"],
            "split": split.name,
            "n_split": n_split,
            "synthetic_data": synthetic_data,
        },
    )


def _over_groups(groups: Sequence[PredictedMeans], evaluate_one: Callable[[PredictedMeans], Evaluation]) -> Evaluation:
    """Evaluate every group of cells that was measured, and average over all (perturbation, group)."""
    if len(groups) == 1:
        return evaluate_one(groups[0])
    found: dict[str, Evaluation] = {}
    left_out: list[str] = []
    column = ""
    for means in groups:
        if means.group is None:
            raise ArgumentError(f"the predictions of {means.where} are of no group", "Evaluate them by themselves")
        column, name = means.group
        try:
            found[name] = evaluate_one(means)
        except (LabelNotFoundError, ControlCellsError) as error:
            left_out.append(f"{name} ({error.problem})")
            if not found and means is groups[-1]:
                raise
    results = list(found.values())
    tables = []
    for name, result in found.items():
        table = result.perturbations.assign(perturbation=result.perturbations["perturbation"] + f"|{name}")
        table.insert(1, GROUP, f"{column} = {name}")
        tables.append(table)
    notices = [f"Groups that were not measured are left out: {join_limited(left_out, 3)}."] if left_out else []
    common = [notice for notice in results[0].notices if all(notice in result.notices for result in results)]
    notices += common
    for name, result in found.items():
        notices += [f"{name}: {notice}" for notice in result.notices if notice not in common]
    return replace(
        results[0],
        perturbations=pd.concat(tables, ignore_index=True),
        notices=tuple(notices),
        protocol=f"predictions of {groups[0].where} by {column} ({join_limited(list(found))}), each compared with the "
        "cells of its own group",
        tested=tuple(f"{label}|{name}" for name, result in found.items() for label in result.tested),
        predicted_deltas=np.concatenate([result.predicted_deltas for result in results]),
        observed_deltas=np.concatenate([result.observed_deltas for result in results]),
        n_groups=len(groups),
    )


def _metric_table(
    tested: Mapping[str, str],
    split: Split,
    predicted: PredictedMeans,
    measured: MeasuredCells,
    moments: GroupMoments,
    train: Sequence[str],
    de: Mapping[str, DeGenes],
    cells_of: Mapping[str, NDArray[np.float32]],
) -> pd.DataFrame:
    """Return one row per (perturbation, method) that the method predicts; see `Evaluation.perturbations`."""
    control = moments.control
    trained = {TRAIN_MEAN: moments.mean(*train)} if train else {}
    singles: dict[str, list[str]] = {}
    for name in train:
        genes = measured.labels.reader.genes(name) or ()
        if len(genes) == 1:
            singles.setdefault(genes[0], []).append(name)
    subgroup_of = {label: name for name, labels in split.test.items() for label in labels}
    variable_genes = most_variable_genes(moments.std_of_means())
    rows: list[dict[str, Any]] = []
    for label, in_data in tested.items():
        row, genes = predicted.row(label), predicted.reader.genes(label) or ()
        profiles = {predicted.name: predicted.means[row].astype(np.float64), CONTROL_MEAN: control, **trained}
        known = [moments.mean(*singles[gene]) for gene in genes if gene in singles]
        if len(genes) == 2 and known:
            profiles[ADDITIVE] = control + sum(mean - control for mean in known)
        stacked, observed, lists = np.stack(list(profiles.values())), moments.mean(in_data), de[in_data]
        cells = np.split(cells_of[in_data], [len(lists.ranked[:20])], axis=1)
        metrics = perturbation_metrics(stacked, observed, control, lists, cells=cells, variable_genes=variable_genes)
        for place, method in enumerate(profiles):
            described = {
                "perturbation": label,
                "subgroup": subgroup_of[label],
                "method": method,
                "n_cells": moments.n(in_data),
                "n_controls": int(predicted.n_controls[row]) if method == predicted.name else moments.n(CONTROL),
            }
            rows.append({**described, **{name: float(values[place]) for name, values in metrics.items()}})
    return pd.DataFrame(rows)


def _predictions(
    model: Predictor | PredictedMeans,
    data: str | Path | AnnData,
    tested: Mapping[str, str],
    moments: GroupMoments,
    protocol: Protocol,
    sample: SampleOptions,
    read: ReadOptions | None,
    progress: Progress | None,
    notices: list[str],
) -> tuple[PredictedMeans, str]:
    """Return the predictions and a phrase on how they were made."""
    if isinstance(model, PredictedMeans):
        fewest, most = int(model.n_controls.min()), int(model.n_controls.max())
        span = ("" if fewest == most else f"{fewest:,} to ") + pluralize(most, "control cell")
        cells = "" if model.group is None else f" for {' = '.join(model.group)}"
        return model, f"predictions of {model.where}{cells}, each the mean over {span}"
    if protocol == "published":
        n_cells = {label: moments.n(in_data) for label, in_data in tested.items()}
        predicted = predict_published_protocol(
            model, data, n_cells, seed=sample["seed"], read=read, progress=progress, on_notice=notices.append
        )
        return predicted, (
            f"the publication's: one control cell drawn at random (seed {sample['seed']}) for each of the "
            f"{pluralize(sum(n_cells.values()), 'test cell')}, predictions averaged per perturbation"
        )
    reader = LabelReader(model.panel)
    labels = list({reader.canonical(label): label for label in tested}.values())
    predicted = predict_means(model, data, labels, read=read, progress=progress, on_notice=notices.append, **sample)
    cells, n = pluralize(moments.n(CONTROL), "control cell"), sample["n_controls"]
    over = f"all {cells}" if n is None else f"{n:,} of {cells} drawn at random (seed {sample['seed']})"
    return predicted, f"the mean prediction over {over}"
