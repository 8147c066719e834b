"""Arguments of a wrong type end in an error that names the argument, from every public function."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

import scgenept_rt as sgr
from scgenept_rt.compatibility import check_cells
from scgenept_rt.demo import demo_control_cells
from scgenept_rt.errors import ArgumentTypeError, CellsTypeError, ScgeneptError
from scgenept_rt.evaluation import evaluate, load_split, predict_means, read_predictions
from scgenept_rt.genetic_interactions import InteractionError, interaction_scores, predicted_interactions
from scgenept_rt.verification import verify_bundle

WRONG = (None, 3, 2.5, "", b"x", [], ["a"], {}, object(), np.zeros((2, 2)), pd.DataFrame({"a": [1]}), True)
LABEL = "YFU19"
PAIR = "YFU19+EKKN10"

Calls = dict[str, Callable[[Any], Any]]


@pytest.fixture(scope="module")
def calls(
    model: sgr.Predictor,
    bundle: Path,
    make_cells: Callable[[int], anndata.AnnData],
    tmp_path_factory: pytest.TempPathFactory,
) -> Calls:
    cells, opened, folder = make_cells(2), model.bundle, tmp_path_factory.mktemp("out")
    means = read_predictions(model.predict(cells, LABEL))
    change, number = np.ones(3), itertools.count()

    def new_file() -> Path:
        return folder / f"{next(number)}.h5ad"

    def option(function: Callable[..., Any], *given: Any, **fixed: Any) -> Callable[[str], Callable[[Any], Any]]:
        return lambda name: lambda value: function(*given, **{**fixed, name: value})

    found: Calls = {
        "load bundle": lambda value: sgr.load(value, provider="cpu"),
        "open directory": sgr.Bundle.open,
        "predict adata": lambda value: model.predict(value, LABEL),
        "predict perturbations": lambda value: model.predict(cells, value),
        "predict_file cells": lambda value: model.predict_file(value, new_file(), LABEL),
        "predict_file out": lambda value: model.predict_file(cells, value, LABEL),
        "predict_file perturbations": lambda value: model.predict_file(cells, new_file(), value),
        "iter_predict cells": lambda value: model.iter_predict(value, LABEL),
        "iter_predict perturbations": lambda value: model.iter_predict(cells, value),
        "predict_array values": lambda value: model.predict_array(value, LABEL),
        "predict_array perturbation": lambda value: model.predict_array(np.asarray(cells.X), value),
        "warm_up n_cells": model.warm_up,
        "check_cells bundle": lambda value: check_cells(value, cells, provider="cpu"),
        "check_cells source": lambda value: check_cells(opened, value, provider="cpu"),
        "evaluate model": lambda value: evaluate(value, cells, "norman-simulation-1"),
        "evaluate data": lambda value: evaluate(means, value, "norman-simulation-1"),
        "evaluate split": lambda value: evaluate(means, cells, value),
        "load_split name": load_split,
        "read_predictions source": read_predictions,
        "predict_means predictor": lambda value: predict_means(value, cells, [LABEL]),
        "predict_means cells": lambda value: predict_means(model, value, [LABEL]),
        "predict_means labels": lambda value: predict_means(model, cells, value),
        "predicted_interactions predictor": lambda value: predicted_interactions(value, cells, [PAIR]),
        "predicted_interactions cells": lambda value: predicted_interactions(model, value, [PAIR]),
        "predicted_interactions pairs": lambda value: predicted_interactions(model, cells, value),
        "interaction_scores first": lambda value: interaction_scores(value, change, change),
        "verify_bundle bundle": lambda value: list(verify_bundle(value, provider="cpu")),
        "demo_control_cells n_cells": demo_control_cells,
    }
    read_names = ("layer", "use_raw", "gene_key", "condition_key", "control_label", "missing_genes")
    for name in ("provider", "precision", "device_id", "threads", "reference_checkpoint", "cuda_graphs"):
        found[f"load {name}"] = option(sgr.load, bundle, provider="cpu")(name)
    for name in ("aggregate", "n_controls", "seed", "sampling", "tolerance", "read", "batch_size", "progress"):
        found[f"predict {name}"] = option(model.predict, cells, LABEL)(name)
    for name in ("aggregate", "overwrite", "resume", "for_cell_eval"):
        found[f"predict_file {name}"] = lambda value, name=name: model.predict_file(
            cells, new_file(), LABEL, **{name: value}
        )
    found["iter_predict aggregate"] = option(model.iter_predict, cells, LABEL)("aggregate")
    found["iter_predict on_notice"] = option(model.iter_predict, cells, LABEL)("on_notice")
    for name in (*read_names, "allow_unnormalized"):
        found[f"ReadOptions {name}"] = lambda value, name=name: model.predict(
            cells, LABEL, read=sgr.ReadOptions(**{name: value})
        )
    for name in ("options", "provider", "precision", "device_id", "threads"):
        found[f"check_cells {name}"] = option(check_cells, opened, cells, provider="cpu")(name)
    for name in ("subgroups", "protocol", "n_controls", "seed", "read"):
        found[f"evaluate {name}"] = option(evaluate, means, cells, "norman-simulation-1")(name)
    for name in ("min_control_mean", "n_controls", "seed", "read"):
        found[f"predicted_interactions {name}"] = option(predicted_interactions, model, cells, [PAIR])(name)
    for name in ("provider", "precision", "threads", "cuda_graphs"):
        found[f"verify_bundle {name}"] = lambda value, name=name: list(
            verify_bundle(opened, **{"provider": "cpu", name: value})
        )
    return found


def test_no_wrong_type_is_met_deep_inside(calls: Calls) -> None:
    raw = []
    for name, call in calls.items():
        for value in WRONG:
            try:
                call(value)
            except ScgeneptError:
                pass
            except Exception as error:
                raw.append(f"{name} = {type(value).__name__}: {type(error).__name__}: {error}")
    assert not raw, "\n".join(raw)


@pytest.mark.parametrize(
    ("name", "value", "kind", "words"),
    [
        ("check_cells source", pd.DataFrame(), CellsTypeError, "cells: an object of type DataFrame was given"),
        ("check_cells source", np.zeros(3), CellsTypeError, "an object of type ndarray was given"),
        ("check_cells source", None, CellsTypeError, "None was given, expected an AnnData"),
        ("check_cells source", 3, CellsTypeError, "3 (int) was given"),
        ("check_cells bundle", "demo", ArgumentTypeError, "bundle is 'demo' (str). Expected an opened bundle"),
        ("check_cells provider", 3, ArgumentTypeError, "provider is 3 (int)"),
        ("evaluate model", "demo", ArgumentTypeError, "model is 'demo' (str). Expected a loaded bundle (`load`)"),
        ("evaluate subgroups", 3, ArgumentTypeError, "an entry of subgroups is 3 (int)"),
        ("predict read", {"layer": "X"}, ArgumentTypeError, "read is an object of type dict. Expected `ReadOptions`"),
        ("ReadOptions layer", ["a"], ArgumentTypeError, "layer is an object of type list. Expected a name, or None"),
        ("predicted_interactions predictor", "demo", ArgumentTypeError, "predictor is 'demo' (str)"),
        ("interaction_scores first", {}, InteractionError, "changes are no numbers"),
        ("load bundle", None, ArgumentTypeError, "bundle is None. Expected the path of a bundle's directory"),
        ("predict progress", True, ArgumentTypeError, "progress is True (bool). Expected a function, or None"),
    ],
)
def test_what_is_wrong_is_named(calls: Calls, name: str, value: object, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        calls[name](value)
    assert words in str(caught.value)
    assert isinstance(caught.value, TypeError) or kind is InteractionError


def test_one_name_is_as_good_as_a_list_of_one(calls: Calls, model: sgr.Predictor, make_cells: Any) -> None:
    with pytest.raises(ScgeneptError, match="subgroup 'none'"):
        calls["evaluate subgroups"]("none")
    with pytest.raises(InteractionError, match="is of one gene"):
        predicted_interactions(model, make_cells(2), LABEL)
    assert predict_means(model, make_cells(2), LABEL).labels == (LABEL,)
