"""An evaluation as text for a terminal, as CSV, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator

from scgenept_rt.evaluation.metrics import HEADLINE
from scgenept_rt.evaluation.result import BASELINES, Evaluation
from scgenept_rt.files.text import csv_text, json_text
from scgenept_rt.wording import pluralize

SHOWN = (*HEADLINE, "pearson_delta_top20_de_non_dropout", "frac_correct_direction_20")
"""Metrics of the short tables; CSV and JSON hold all."""

_SHORT = {"pearson_delta_top20_de_non_dropout": "p_d_top20_non_drop", "frac_correct_direction_20": "direction_20"}


def text_report(evaluation: Evaluation) -> Iterator[str]:
    """Yield the lines of a report for a terminal."""
    yield f"{evaluation.model} against {evaluation.where}, split {evaluation.split.name}"
    if evaluation.synthetic:
        yield f"Nothing here is biology: {' and '.join(evaluation.synthetic)}."
    for fact, value in facts(evaluation)[2:]:
        yield f"{fact}: {value}"
    for notice in evaluation.notices:
        yield f"note: {notice}"
    yield ""
    heads = {metric: _SHORT.get(metric, metric) for metric in SHOWN}
    widths = {metric: max(len(head), 8) + 2 for metric, head in heads.items()}
    width = max(map(len, evaluation.methods))
    for subgroup, group in evaluation.summary.groupby("subgroup", sort=False):
        yield f"{subgroup:<{width + 2}}{'n':>5}" + "".join(f"{heads[metric]:>{widths[metric]}}" for metric in SHOWN)
        for _, row in group.iterrows():
            figures = "".join(f"{rounded(row[metric]):>{widths[metric]}}" for metric in SHOWN)
            yield f"  {row['method']:<{width}}{row['n_perturbations']:>5}{figures}"
        yield ""
    for method in evaluation.methods[1:]:
        yield f"{method}: {BASELINES[method]}"
    yield ""
    for finding in evaluation.findings:
        yield f"* {finding}"
    published = evaluation.published
    if published is not None:
        yield ""
        yield f"published ({published['source']}): {published['protocol']}"
        if evaluation.caveats:
            yield f"not comparable as they are: {'; '.join(evaluation.caveats)}"
        rows = evaluation.beside_published()
        width = max(map(len, rows))
        yield " " * (width + 2) + "".join(f"{metric:>18}" for metric in published["names"])
        for name, row_figures in rows.items():
            yield f"  {name:<{width}}" + "".join(f"{rounded(figure):>18}" for figure in row_figures)


def csv_report(evaluation: Evaluation) -> str:
    """Return every metric as CSV, one row per (perturbation, method); empty where a metric is not defined.

    The last column, `synthetic`, is True if weights or cells were made up.
    """
    return csv_text(evaluation.perturbations.assign(synthetic=bool(evaluation.synthetic)))


def json_report(evaluation: Evaluation) -> str:
    """Return everything but the profiles as JSON, null where a metric is not defined."""
    published = evaluation.published
    content = {
        "model": evaluation.model,
        "data": evaluation.where,
        "split": evaluation.split.name,
        "protocol": evaluation.protocol,
        "de_source": evaluation.de_source,
        "findings": evaluation.findings,
        "notices": list(evaluation.notices),
        "baselines": {method: BASELINES[method] for method in evaluation.methods[1:]},
        "summary": evaluation.summary.to_dict(orient="records"),
        "perturbations": evaluation.perturbations.to_dict(orient="records"),
        "published": None if published is None else {**published, "caveats": evaluation.caveats},
        "provenance": dict(evaluation.provenance),
    }
    return json_text(content, indent=1) + "\n"


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what was evaluated and how, as names and texts."""
    table, recorded = evaluation.perturbations, evaluation.provenance
    over = f" in {evaluation.n_groups:,} groups of cells" if evaluation.n_groups > 1 else ""
    n_split = evaluation.n_groups * len(evaluation.split.tested)
    n_cells = int(table.loc[table["method"] == evaluation.model, "n_cells"].sum())
    found = [
        ("model", evaluation.model),
        ("data", evaluation.where),
        (
            "tested",
            f"{len(evaluation.tested):,} of {pluralize(n_split, 'perturbation')} of {evaluation.split.name}{over}, "
            f"{pluralize(n_cells, 'cell')}",
        ),
        ("prediction", evaluation.protocol),
        (
            "metrics",
            "GEARS 0.0.2, of mean profiles, macro-averaged over perturbations; undefined correlations count as 0",
        ),
        ("differentially expressed genes", evaluation.de_source),
    ]
    if "training_perturbations" in recorded:
        trained_on = f"{recorded['dataset']}, perturbed by: {recorded['training_perturbations']}"
        found.insert(3, ("trained on", trained_on))
    return found


def rounded(value: float) -> str:
    """Return a number with three decimals, or three significant digits if it is small."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:#.3g}"
