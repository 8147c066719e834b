"""An evaluation as one self-contained HTML page, for screens of any width and for paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from itertools import zip_longest

from scgenept_rt.evaluation.metrics import higher_is_better
from scgenept_rt.evaluation.report_formats import SHOWN, facts, rounded
from scgenept_rt.evaluation.result import BASELINES, Evaluation
from scgenept_rt.wording import pluralize

_EXPLAINED = {
    "pearson_delta": "correlation of predicted with measured change against control, over all genes",
    "pearson_delta_de": "the same over the 20 genes that lead the ranking of differential expression",
    "mse": "mean squared error of predicted mean expression, over all genes",
    "mse_de": "the same over those 20 genes",
    "pearson_delta_top20_de_non_dropout": "as pearson_delta_de, over the 20 leading genes that are not dropouts",
    "frac_correct_direction_20": "share of those 20 genes whose predicted change has the measured sign",
}
_SCROLLED = ' tabindex="0"'
"""Lets the keyboard scroll a part of the page."""


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
    parts.append(_definitions(facts(evaluation)))
    parts.append(f"<h2>Findings</h2>{_bullets(evaluation.findings)}")
    if evaluation.notices:
        parts.append(f"<h2>Notes</h2>{_bullets(evaluation.notices)}")
    parts.append("<h2>Macro-averages</h2>" + _summary(evaluation))
    for number, (caption, drawing) in enumerate(figures, 1):
        named = drawing.replace("<svg ", f'<svg role="img" aria-labelledby="figure-{number}" ', 1)
        below = f'<figcaption id="figure-{number}">{escape(caption)}</figcaption>'
        parts.append(f'<figure><div class="drawing"{_SCROLLED}>{named}</div>{below}</figure>')
    parts.append(_published(evaluation))
    parts.append("<h2>Every perturbation</h2>" + _perturbations(evaluation))
    recorded = {"bundle manifest": "manifest_digest", "provider": "provider", "precision": "precision"}
    made_with = {text: evaluation.provenance.get(key) for text, key in recorded.items()}
    made = [f"made by scgenept-rt {version('scgenept-rt')}", *(f"{key} {of}" for key, of in made_with.items() if of)]
    parts.append(f"<footer>{escape('; '.join(made))}</footer>")
    style = (files("scgenept_rt.evaluation") / "html_report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _summary(evaluation: Evaluation) -> str:
    bodies = []
    for subgroup, group in evaluation.summary.groupby("subgroup", sort=False):
        n_all = int(group["n_perturbations"].max())
        compared = group.loc[group["n_perturbations"] == n_all, [*SHOWN]]
        best = {metric: compared[metric].agg("max" if higher_is_better(metric) else "min") for metric in SHOWN}
        lines = [_group_row(f"{subgroup}: {pluralize(n_all, 'perturbation')}", len(SHOWN) + 2)]
        for _, row in group.iterrows():
            whole = row["n_perturbations"] == n_all
            bold = [whole and row[metric] == best[metric] for metric in SHOWN]
            kind = "model" if row["method"] == evaluation.model else "" if whole else "part"
            start = f'<th scope="row">{_breakable(row["method"])}</th><td>{row["n_perturbations"]:,}</td>'
            lines.append(_row(start + _figures(row[[*SHOWN]], bold), kind))
        bodies.append(_body(lines))
    explained = [(metric, _EXPLAINED[metric]) for metric in SHOWN]
    explained += [(method, BASELINES[method]) for method in evaluation.methods[1:]]
    note = (
        '<p class="soft">↑ higher is better, ↓ lower is better; bold is the best in its subgroup. A baseline with a '
        "smaller n does not apply to the other perturbations and is left out; the findings compare it over the same "
        "perturbations.</p>"
    )
    return _table(_heads("method", "n", *SHOWN), bodies) + note + _definitions(explained)


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
    return f"<h2>Published figures</h2>{source}{_table(head, [_body(lines)])}"


def _perturbations(evaluation: Evaluation) -> str:
    bodies = []
    for subgroup, rows in evaluation.perturbations.groupby("subgroup", sort=False):
        bodies.append(f"<tbody>{_group_row(str(subgroup), len(SHOWN) + 3)}</tbody>")
        for label, methods in rows.groupby("perturbation", sort=False):
            start = (
                f'<th scope="rowgroup" rowspan="{len(methods)}">{escape(str(label))}</th>'
                f'<td rowspan="{len(methods)}">{methods["n_cells"].iloc[0]:,}</td>'
            )
            lines = []
            for _, row in methods.iterrows():
                method = f'<td class="name">{_breakable(row["method"])}</td>'
                kind = "model" if row["method"] == evaluation.model else ""
                lines.append(_row(start + method + _figures(row[[*SHOWN]]), kind))
                start = ""
            bodies.append(_body(lines))
    return _table(_heads("perturbation", "cells", "method", *SHOWN), bodies, kind="wide long")


def _breakable(name: str) -> str:
    """Return a name with line breaks allowed after underscores, so that it fits narrow screens and paper."""
    return escape(name).replace("_", "_<wbr>")


def _definitions(entries: Iterable[tuple[str, str]]) -> str:
    items = (f"<dt>{_breakable(name)}</dt><dd>{escape(text)}</dd>" for name, text in entries)
    return f"<dl>{''.join(items)}</dl>"


def _bullets(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _table(head: str, bodies: Iterable[str], *, kind: str = "wide") -> str:
    table = f"<table><thead><tr>{head}</tr></thead>{''.join(bodies)}</table>"
    return f'<div class="{kind}"{_SCROLLED}>{table}</div>'


def _body(lines: Iterable[str]) -> str:
    return f'<tbody class="together">{"".join(lines)}</tbody>'


def _row(cells: str, kind: str = "") -> str:
    return f'<tr class="{kind}">{cells}</tr>' if kind else f"<tr>{cells}</tr>"


def _group_row(text: str, n_columns: int) -> str:
    return _row(f'<th scope="rowgroup" colspan="{n_columns}"><span>{escape(text)}</span></th>', "group")


def _figures(values: Iterable[float], bold: Iterable[bool] = ()) -> str:
    texts = (escape(rounded(value)) for value in values)
    return "".join(f"<td>{f'<b>{text}</b>' if best else text}</td>" for text, best in zip_longest(texts, bold))


def _heads(*names: str) -> str:
    left = {"method": ' class="name"'}
    arrows = {True: '<abbr title="higher is better">↑</abbr>', False: '<abbr title="lower is better">↓</abbr>'}
    shown = {name: f"&nbsp;{arrows[higher_is_better(name)]}" if name in SHOWN else "" for name in names}
    return "".join(f'<th scope="col"{left.get(n, "")}>{_breakable(n)}{arrow}</th>' for n, arrow in shown.items())
