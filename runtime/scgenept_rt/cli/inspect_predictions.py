"""What `scgenept-rt inspect` shows of predictions, finished or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scgenept_rt.cli.predict import cell_eval_command
from scgenept_rt.wording import join_limited, pluralize

if TYPE_CHECKING:
    from scgenept_rt.evaluation import PredictionSummary

_SHOWN_APART = ("variant", "dataset", "training_perturbations", "manifest_digest", "versions", "groupby", "run_digest")
_DATA = "DATA.h5ad"


@dataclass(frozen=True)
class RunState:
    """The progress of the run that wrote predictions.

    Attributes
    ----------
    path
        The file that was asked for.
    output
        The output of the whole run; differs from `path` if that is one part of it.
    n_rows, n_safe
        Rows that an unfinished output will have, and those already safe; None if it is finished.
    missing
        Why the parts of the run cannot be merged; empty if they can be.
    """

    path: Path
    output: Path
    n_rows: int | None = None
    n_safe: int | None = None
    missing: str = ""


def predictions_page(predicted: PredictionSummary, state: RunState) -> Iterator[tuple[str, str]]:
    """Yield what is shown of predictions: names and texts."""
    settings, controls = predicted.settings, predicted.settings.get("control_label", "")
    counts = {label: count for label, count in predicted.perturbations.items() if label != controls}
    rows = pluralize(predicted.n_rows, "mean" if predicted.aggregate == "mean" else "cell")
    layers = f", layers {', '.join(predicted.layers)}" if predicted.layers else ""
    yield "predictions", f"{state.path}: {rows} x {pluralize(predicted.n_genes, 'gene')}{layers}"
    if "cell_eval_column" in settings:
        yield "format", f"of cell-eval, with {pluralize(predicted.perturbations.get(controls, 0), 'control cell')}"
    if state.n_rows is not None:
        yield (
            "unfinished",
            f"{state.n_safe:,} of {pluralize(state.n_rows, 'row')} are safe; if no run writes it now, "
            "repeat its command with --resume",
        )
    if predicted.shard:
        ready = state.missing or "all parts are there"
        yield "part", f"{predicted.shard['number']} of {predicted.shard['count']} of {state.output}; {ready}"
    yield "labels", f"{pluralize(len(counts), 'perturbation')}: {join_limited(list(counts))}"
    fewest, most = min(counts.values()), max(counts.values())
    cells = pluralize(most, "control cell") if fewest == most else f"{fewest:,} to {most:,} control cells"
    yield "cells", f"{cells} each{', over all groups' if len(predicted.groups) > 1 else ''}"
    if predicted.groupby:
        yield "groups", f"{predicted.groupby}: {join_limited(predicted.groups, 12)}"
    if settings:
        known = settings.get("training_perturbations", "unknown")
        trained = settings.get("dataset", "unknown") + ("" if known == "unknown" else f": {known}")
        yield "model", f"{settings.get('variant', 'unknown')}, trained on {trained}"
        yield "bundle", f"digest {str(settings.get('manifest_digest'))[:16]}..."
        others = (f"{name.replace('_', ' ')} {settings[name]}" for name in settings if name not in _SHOWN_APART)
        yield "settings", ", ".join(others)
        yield "versions", ", ".join(f"{name} {number}" for name, number in settings.get("versions", {}).items())
    for notice in predicted.notices:
        yield "note", notice


def after_predictions(predicted: PredictionSummary, state: RunState) -> list[list[str]]:
    """Return the commands that can be run on predictions next."""
    if state.n_rows is not None:
        return []
    if predicted.shard:
        return [] if state.missing else [["scgenept-rt", "merge", str(state.output)]]
    path, settings = str(state.path), predicted.settings
    if "cell_eval_column" in settings:
        return [cell_eval_command(state.path, Path(_DATA), settings["cell_eval_column"], settings["control_label"])]
    group = ["--in-group", predicted.groups[0]] if len(predicted.groups) > 1 else []
    label = ["-p", next(iter(predicted.perturbations))]
    csv = str(state.path.with_suffix(".csv"))
    commands: list[list[Any]] = [["table", path, "--out", csv]]
    if "delta" in predicted.layers:
        commands[0] += ["--top", "50"]
        commands += [["rank", path, *group], ["plot", "delta", path, *label, *group, "--out", "delta.png"]]
    commands.append(
        ["plot", "top-de", _DATA, *label, "--predictions", path, *group, "--out", "top_de.png"],
    )
    split = "norman-simulation-1" if settings.get("dataset") == "norman" else "SPLIT.json"
    commands.append(["evaluate", _DATA, "--split", split, "--predictions", path])
    return [["scgenept-rt", *command] for command in commands]
