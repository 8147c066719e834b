"""An evaluation as text for a terminal, as CSV, as JSON, and as one HTML page for screens and paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path

from scgenept_rt.evaluation.metrics import higher_is_better
from scgenept_rt.evaluation.result import BASELINES, Evaluation
from scgenept_rt.files.text import csv_text, json_text
from scgenept_rt.wording import pluralize

_SHOWN = {
    "pearson_delta": "correlation of predicted with measured change against control, over all genes",
    "pearson_delta_de": "the same over the 20 genes that lead the ranking of differential expression",
    "mse": "mean squared error of predicted mean expression, over all genes",
    "mse_de": "the same over those 20 genes",
    "pearson_delta_top20_de_non_dropout": "as pearson_delta_de, over the 20 leading genes that are not dropouts",
    "frac_correct_direction_20": "share of those 20 genes whose predicted change has the measured sign",
}
"""Metrics of the short tables; CSV and JSON hold all."""

_SHORT = {"pearson_delta_top20_de_non_dropout": "p_d_top20_non_drop", "frac_correct_direction_20": "direction_20"}


def text_report(evaluation: Evaluation) -> Iterator[str]:
    """Yield the lines of a report for a terminal."""
    yield f"{evaluation.model} against {evaluation.where}, split {evaluation.split.name}"
    if evaluation.synthetic:
        yield f"Nothing here is biology: {' and '.join(evaluation.synthetic)}."
    for fact, value in _facts(evaluation)[2:]:
        yield f"{fact}: {value}"
    for notice in evaluation.notices:
        yield f"note: {notice}"
    yield ""
    heads = {metric: _SHORT.get(metric, metric) for metric in _SHOWN}
    widths = {metric: max(len(head), 8) + 2 for metric, head in heads.items()}
    width = max(map(len, evaluation.methods))
    for subgroup, group in evaluation.summary.groupby("subgroup", sort=False):
        yield f"{subgroup:<{width + 2}}{'n':>5}" + "".join(f"{heads[metric]:>{widths[metric]}}" for metric in _SHOWN)
        for _, row in group.iterrows():
            figures = "".join(f"{_rounded(row[metric]):>{widths[metric]}}" for metric in _SHOWN)
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
            yield f"  {name:<{width}}" + "".join(f"{_rounded(figure):>18}" for figure in row_figures)


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


def html_report(evaluation: Evaluation, figures: Sequence[tuple[str, str]] = ()) -> str:
    """Return a self-contained page.

    Parameters
    ----------
    figures
        Captions and drawings as SVG, as `scgenept_rt.plotting.evaluation_figures` makes them.
    """
    title = f"{evaluation.model}: evaluation"
    parts = [f"<h1>{_breakable(title)}</h1>"]
    if evaluation.synthetic:
        parts.append(f'<p class="caution">Nothing here is biology: {escape(" and ".join(evaluation.synthetic))}.</p>')
    parts.append(_definitions(_facts(evaluation)))
    parts.append(f"<h2>Findings</h2>{_bullets(evaluation.findings)}")
    if evaluation.notices:
        parts.append(f"<h2>Notes</h2>{_bullets(evaluation.notices)}")
    parts.append(f"<h2>Macro-averages</h2>{_averages(evaluation)}")
    for number, (caption, drawing) in enumerate(figures, 1):
        named = drawing.replace("<svg ", f'<svg role="img" aria-labelledby="figure-{number}" ', 1)
        below = f'<figcaption id="figure-{number}">{escape(caption)}</figcaption>'
        parts.append(f'<figure><div class="drawing" tabindex="0">{named}</div>{below}</figure>')
    parts.append(_published(evaluation))
    parts.append(f"<h2>Every perturbation</h2>{_perturbations(evaluation)}")
    made = [f"made by scgenept-rt {version('scgenept-rt')}"]
    for text, key in {"bundle manifest": "manifest_digest", "provider": "provider", "precision": "precision"}.items():
        if evaluation.provenance.get(key):
            made.append(f"{text} {evaluation.provenance[key]}")
    parts.append(f"<footer>{escape('; '.join(made))}</footer>")
    style = Path(__file__).with_name("html_report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _averages(evaluation: Evaluation) -> str:
    bodies = []
    for subgroup, group in evaluation.summary.groupby("subgroup", sort=False):
        n_all = int(group["n_perturbations"].max())
        compared = group.loc[group["n_perturbations"] == n_all, [*_SHOWN]]
        best = [compared[metric].agg("max" if higher_is_better(metric) else "min") for metric in _SHOWN]
        lines = [_group_row(f"{subgroup}: {pluralize(n_all, 'perturbation')}", len(_SHOWN) + 2)]
        for _, row in group.iterrows():
            whole = row["n_perturbations"] == n_all
            kind = "model" if row["method"] == evaluation.model else "" if whole else "part"
            start = f'<th scope="row">{_breakable(row["method"])}</th><td>{row["n_perturbations"]:,}</td>'
            lines.append(_row(start + _figures(row[[*_SHOWN]], best if whole else ()), kind))
        bodies.append(lines)
    explained = [*_SHOWN.items(), *((method, BASELINES[method]) for method in evaluation.methods[1:])]
    note = (
        '<p class="soft">↑ higher is better, ↓ lower is better; bold is the best in its subgroup. A baseline with a '
        "smaller n does not apply to the other perturbations and is left out; the findings compare it over the same "
        "perturbations.</p>"
    )
    return _table(_heads("method", "n", *_SHOWN), bodies) + note + _definitions(explained)


def _published(evaluation: Evaluation) -> str:
    """Return the published table below this evaluation's figures over all tested perturbations."""
    published = evaluation.published
    if published is None:
        return ""
    lines = [
        _row(f'<th scope="row">{_breakable(name)}</th>{_figures(row)}', "" if name in published["rows"] else "model")
        for name, row in evaluation.beside_published().items()
    ]
    head = _heads("model") + "".join(
        f'<th scope="col">{_breakable(metric)}<br>({escape(name)})</th>' for metric, name in published["names"].items()
    )
    source = f"<p>{escape(published['source'])}: {escape(published['protocol'])}.</p>"
    if evaluation.caveats:
        source += f"<p><b>Not comparable as they are:</b> {escape('; '.join(evaluation.caveats))}.</p>"
    return f"<h2>Published figures</h2>{source}{_table(head, [lines])}"


def _perturbations(evaluation: Evaluation) -> str:
    bodies = []
    for subgroup, rows in evaluation.perturbations.groupby("subgroup", sort=False):
        bodies.append([_group_row(str(subgroup), len(_SHOWN) + 3)])
        for label, methods in rows.groupby("perturbation", sort=False):
            span = f'rowspan="{len(methods)}"'
            start = (
                f'<th scope="rowgroup" {span}>{escape(str(label))}</th><td {span}>{methods["n_cells"].iloc[0]:,}</td>'
            )
            lines = []
            for _, row in methods.iterrows():
                method = f'<td class="name">{_breakable(row["method"])}</td>'
                kind = "model" if row["method"] == evaluation.model else ""
                lines.append(_row(start + method + _figures(row[[*_SHOWN]]), kind))
                start = ""
            bodies.append(lines)
    return _table(_heads("perturbation", "cells", "method", *_SHOWN), bodies, kind="wide long")


def _breakable(name: str) -> str:
    """Return a name with line breaks allowed after underscores, so that it fits narrow screens and paper."""
    return escape(name).replace("_", "_<wbr>")


def _definitions(entries: Iterable[tuple[str, str]]) -> str:
    items = (f"<dt>{_breakable(name)}</dt><dd>{escape(text)}</dd>" for name, text in entries)
    return f"<dl>{''.join(items)}</dl>"


def _bullets(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _table(head: str, bodies: Iterable[Iterable[str]], *, kind: str = "wide") -> str:
    """Return a table that the keyboard can scroll; the rows of a body stay together on paper."""
    texts = (f'<tbody class="together">{"".join(lines)}</tbody>' for lines in bodies)
    return f'<div class="{kind}" tabindex="0"><table><thead><tr>{head}</tr></thead>{"".join(texts)}</table></div>'


def _row(cells: str, kind: str = "") -> str:
    return f'<tr class="{kind}">{cells}</tr>' if kind else f"<tr>{cells}</tr>"


def _group_row(text: str, n_columns: int) -> str:
    return _row(f'<th scope="rowgroup" colspan="{n_columns}"><span>{escape(text)}</span></th>', "group")


def _figures(values: Iterable[float], best: Iterable[float] = ()) -> str:
    return "".join(
        f"<td><b>{_rounded(value)}</b></td>" if value == winner else f"<td>{_rounded(value)}</td>"
        for value, winner in zip_longest(values, best)
    )


def _heads(*names: str) -> str:
    left = {"method": ' class="name"'}
    arrows = {True: '<abbr title="higher is better">↑</abbr>', False: '<abbr title="lower is better">↓</abbr>'}
    shown = {name: f"&nbsp;{arrows[higher_is_better(name)]}" if name in _SHOWN else "" for name in names}
    return "".join(f'<th scope="col"{left.get(n, "")}>{_breakable(n)}{arrow}</th>' for n, arrow in shown.items())


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what was evaluated and how, as names and texts."""
    table, recorded = evaluation.perturbations, evaluation.provenance
    over = f" in {evaluation.n_groups:,} groups of cells" if evaluation.n_groups > 1 else ""
    n_split = pluralize(evaluation.n_groups * len(evaluation.split.tested), "perturbation")
    n_cells = pluralize(int(table.loc[table["method"] == evaluation.model, "n_cells"].sum()), "cell")
    facts = {
        "model": evaluation.model,
        "data": evaluation.where,
        "tested": f"{len(evaluation.tested):,} of {n_split} of {evaluation.split.name}{over}, {n_cells}",
        "trained on": f"{recorded.get('dataset')}, perturbed by: {recorded.get('training_perturbations')}",
        "prediction": evaluation.protocol,
        "metrics": "GEARS 0.0.2, of mean profiles, macro-averaged over perturbations; "
        "undefined correlations count as 0",
        "differentially expressed genes": evaluation.de_source,
    }
    if "training_perturbations" not in recorded:
        del facts["trained on"]
    return list(facts.items())


def _rounded(value: float) -> str:
    """Return a number with three decimals, or three significant digits if it is small."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:#.3g}"
