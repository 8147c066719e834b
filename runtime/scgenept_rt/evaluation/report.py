"""An evaluation as text for a terminal, as CSV, as JSON, and as one HTML page without outside resources."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

import pandas as pd

from scgenept_rt.evaluation.baselines import DESCRIPTIONS
from scgenept_rt.evaluation.metrics import HEADLINE, better
from scgenept_rt.evaluation.result import Evaluation

SHOWN = (*HEADLINE, "pearson_delta_top20_de_non_dropout", "frac_correct_direction_20")
"""Metrics of the short tables; CSV and JSON hold all of them."""

_SHORT = {"pearson_delta_top20_de_non_dropout": "p_d_top20_non_drop", "frac_correct_direction_20": "direction_20"}


def text_report(evaluation: Evaluation) -> Iterator[str]:
    """Yield the lines of a report for a terminal."""
    yield f"{evaluation.model} against {evaluation.where}, split {evaluation.split.name}"
    for fact, value in _facts(evaluation)[2:]:
        yield f"{fact}: {value}"
    for notice in evaluation.notices:
        yield f"note: {notice}"
    yield ""
    metrics = [metric for metric in SHOWN if metric in evaluation.summary]
    heads = [_SHORT.get(metric, metric) for metric in metrics]
    width = max(len(method) for method in evaluation.methods)
    summary = evaluation.summary
    for subgroup in evaluation.subgroups:
        group = summary[summary["subgroup"] == subgroup]
        yield f"{subgroup:<{width + 2}}{'n':>5}" + "".join(f"{head:>{max(len(head), 8) + 2}}" for head in heads)
        for _, row in group.iterrows():
            figures = "".join(
                f"{_figure(row[metric]):>{max(len(head), 8) + 2}}" for metric, head in zip(metrics, heads, strict=True)
            )
            yield f"  {row['method']:<{width}}{row['n_perturbations']:>5}{figures}"
        yield ""
    for method in evaluation.methods[1:]:
        yield f"{method}: {DESCRIPTIONS[method]}"
    yield ""
    for finding in evaluation.findings:
        yield f"* {finding}"
    published = evaluation.published
    if published is not None:
        yield ""
        yield f"published ({published.source}): {published.protocol}"
        if evaluation.caveats:
            yield f"not to be compared as they stand: {'; '.join(evaluation.caveats)}"
        width = max(len(name) for name in published.rows)
        yield " " * (width + 2) + "".join(f"{metric:>18}" for metric in published.names)
        for name, row_figures in published.rows.items():
            yield f"  {name:<{width}}" + "".join(f"{_figure(figure):>18}" for figure in row_figures)


def csv_report(evaluation: Evaluation) -> str:
    """Return every metric as CSV, one row a (perturbation, method); empty where a metric is not defined."""
    return str(evaluation.perturbations.to_csv(index=False, lineterminator="\n"))


def json_report(evaluation: Evaluation) -> str:
    """Return everything but the profiles as JSON; null where a metric is not defined."""
    published = evaluation.published
    content = {
        "model": evaluation.model,
        "data": evaluation.where,
        "split": evaluation.split.name,
        "protocol": evaluation.protocol,
        "de_source": evaluation.de_source,
        "findings": list(evaluation.findings),
        "notices": list(evaluation.notices),
        "baselines": {method: DESCRIPTIONS[method] for method in evaluation.methods[1:]},
        "similarity": {
            "predicted": {
                **asdict(evaluation.predicted_similarity),
                "collapsed": evaluation.predicted_similarity.collapsed,
            },
            "observed": asdict(evaluation.observed_similarity),
        },
        "summary": _records(evaluation.summary),
        "perturbations": _records(evaluation.perturbations),
        "published": None if published is None else {**asdict(published), "caveats": evaluation.caveats},
        "provenance": {key: _plain(value) for key, value in evaluation.provenance.items()},
    }
    return json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n"


def html_report(evaluation: Evaluation, figures: Sequence[tuple[str, str]] = ()) -> str:
    """Return a page that needs nothing but itself.

    Parameters
    ----------
    figures
        Captions and drawings as SVG, as `scgenept_rt.plotting.evaluation_figures` makes them.
    """
    published = evaluation.published
    parts = [
        "<h1>" + escape(f"{evaluation.model}: evaluation") + "</h1>",
        "<dl>"
        + "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in _facts(evaluation))
        + "</dl>",
        "<h2>Findings</h2><ul>" + "".join(f"<li>{escape(finding)}</li>" for finding in evaluation.findings) + "</ul>",
    ]
    if evaluation.notices:
        parts.append(
            "<h2>Notes</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in evaluation.notices) + "</ul>"
        )
    parts.append("<h2>Macro-averages</h2>" + _summary_table(evaluation))
    parts.append(
        "<dl>"
        + "".join(f"<dt>{escape(m)}</dt><dd>{escape(DESCRIPTIONS[m])}</dd>" for m in evaluation.methods[1:])
        + "</dl><p>Bold: the best in its subgroup. A baseline's n is smaller where it does not apply; the findings "
        "compare over the same perturbations.</p>"
    )
    for caption, drawing in figures:
        parts.append(f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>")
    if published is not None:
        heads = ["model", *(f"{metric} ({name})" for metric, name in published.names.items())]
        rows = [[name, *(_figure(figure) for figure in row)] for name, row in published.rows.items()]
        caveats = ""
        if evaluation.caveats:
            caveats = f"<p><b>Not to be compared as they stand:</b> {escape('; '.join(evaluation.caveats))}.</p>"
        parts.append(
            f"<h2>Published figures</h2><p>{escape(published.source)}: {escape(published.protocol)}.</p>{caveats}"
            + _table(heads, rows)
        )
    parts.append("<h2>Every perturbation</h2>" + _perturbation_table(evaluation))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(evaluation.model)}: evaluation</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.group td { border-top: 2px solid #888; }
dt { font-weight: 600; } dd { margin: 0 0 .4em 1.5em; }
figure { margin: 2em 0; } figure svg { max-width: 100%; height: auto; } figcaption { color: #555; }
.wide { overflow-x: auto; max-height: 40em; overflow-y: auto; }
"""


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    control = evaluation.perturbations
    cells = control[control["method"] == evaluation.model]
    return [
        ("model", evaluation.model),
        ("data", evaluation.where),
        (
            "tested",
            f"{len(evaluation.tested):,} of {len(evaluation.split.tested):,} perturbations of the split "
            f"{evaluation.split.name}, {int(cells['n_cells'].sum()):,} cells",
        ),
        ("prediction", evaluation.protocol),
        (
            "metrics",
            "GEARS 0.0.2, of mean profiles, macro-averaged over perturbations; undefined correlations count as 0",
        ),
        ("differentially expressed genes", evaluation.de_source),
    ]


def _summary_table(evaluation: Evaluation) -> str:
    summary = evaluation.summary
    metrics = [metric for metric in SHOWN if metric in summary]
    lines = []
    for subgroup in evaluation.subgroups:
        group = summary[summary["subgroup"] == subgroup]
        best = {
            metric: group[metric].max() if better(metric) == "higher" else group[metric].min() for metric in metrics
        }
        for number, (_, row) in enumerate(group.iterrows()):
            cells = [escape(subgroup if not number else ""), escape(str(row["method"])), f"{row['n_perturbations']:,}"]
            for metric in metrics:
                text = escape(_figure(row[metric]))
                cells.append(f"<b>{text}</b>" if row[metric] == best[metric] else text)
            start = "<tr>" if number else '<tr class="group">'
            lines.append(start + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    heads = "".join(f"<th>{escape(head)}</th>" for head in ("subgroup", "method", "n", *metrics))
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _perturbation_table(evaluation: Evaluation) -> str:
    table = evaluation.perturbations
    metrics = [metric for metric in SHOWN if metric in table]
    rows = [
        [
            row["perturbation"],
            row["subgroup"],
            row["method"],
            f"{row['n_cells']:,}",
            *(_figure(row[m]) for m in metrics),
        ]
        for _, row in table.iterrows()
    ]
    return f'<div class="wide">{_table(["perturbation", "subgroup", "method", "cells", *metrics], rows)}</div>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(str(cell))}</th>" for cell in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _figure(value: float) -> str:
    """Return a figure of three significant digits, or more where it is not small."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:#.3g}"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): _plain(value) for key, value in row.items()} for row in frame.to_dict(orient="records")]


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
