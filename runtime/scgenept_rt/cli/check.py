"""`scgenept-rt check`: whether a file of cells will work, and what to fix."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from scgenept_rt.cli.options import BundleArgument, CellsArgument, JsonOption, given_flags, with_options
from scgenept_rt.errors import compose
from scgenept_rt.files.text import json_text
from scgenept_rt.options import EngineOptions, PredictOptions, ReadOptions, declared_options
from scgenept_rt.wording import pluralize

if TYPE_CHECKING:
    from scgenept_rt.compatibility import Report

_WIDTH, _MAX_WIDTH = 100, 120
_INDENT = " " * 23
PREDICT_FLAGS = {
    option.name: option.flag
    for group in (EngineOptions, ReadOptions, PredictOptions)
    for option in declared_options(group)
    if option.flag is not None
}
"""Flags of `predict`, for remedies."""


@with_options(engine=("provider", "precision", "device", "threads"))
def check(
    bundle: BundleArgument,
    cells: CellsArgument,
    read: ReadOptions,
    engine: EngineOptions,
    json_output: JsonOption,
) -> None:
    """Print on one page whether CELLS will work with BUNDLE, what to fix, and how long a run would take.

    Exit code 0 if `predict` would work with the same options, else 1.
    """
    from scgenept_rt.bundle import Bundle
    from scgenept_rt.compatibility import check_cells

    report = check_cells(Bundle.open(bundle), cells, read=read, **engine)
    if json_output:
        print(json_text(report.to_json(PREDICT_FLAGS)))
    else:
        for line in _page(report, str(bundle), engine):
            print(line)
    sys.stdout.flush()  # a reader that went away (`| head`) is found here and not when Python ends
    if report.problems:
        raise typer.Exit(1)


def _page(report: Report, bundle: str, engine: EngineOptions) -> Iterator[str]:
    manifest = report.bundle.manifest
    yield f"bundle  {bundle}: {manifest.variant}, {pluralize(manifest.dimensions.n_genes, 'gene')}"
    yield f"        trained on {manifest.training_data}"
    size = ""
    if report.n_obs is not None and report.n_vars is not None:
        size = f": {pluralize(report.n_obs, 'cell')} x {pluralize(report.n_vars, 'gene')}"
    yield f"cells   {report.where}{size}"
    yield ""
    for finding in report.findings:
        head = f"{finding.status:<7}  {finding.topic:<13} "
        yield from wrapped(compose(finding.text), head, _INDENT)
        step = finding.step(PREDICT_FLAGS)
        if step:
            yield from wrapped(step, f"{_INDENT}-> ", f"{_INDENT}   ")
    yield ""
    if report.problems:
        yield f"This file will not work as it is: {pluralize(len(report.problems), 'problem')}."
    else:
        yield "This file will work:"
        yield f"  {_command(bundle, report, engine)}"


def wrapped(text: str, first: str, others: str) -> list[str]:
    """Return a text in lines that fit the terminal; options and paths are kept whole, to be copied."""
    width = min(shutil.get_terminal_size((_WIDTH, 24)).columns, _MAX_WIDTH)
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def _command(bundle: str, report: Report, engine: EngineOptions) -> str:
    arguments = [*given_flags(ReadOptions, report.read), *given_flags(EngineOptions, engine)]
    start = ["scgenept-rt", "predict", bundle, report.where]
    return shlex.join([*start, *arguments, "-p", _example(report), "--out", "predicted.h5ad"])


def _example(report: Report) -> str:
    """Return a perturbation that the model can predict."""
    if report.labels is not None and report.labels["perturbations"]:
        return str(report.labels["perturbations"][0])
    manifest = report.bundle.manifest
    known = (name for name, in_vocab in zip(manifest.gene_names, manifest.in_vocab, strict=True) if in_vocab)
    return f"{next(known, manifest.gene_names[0])}+ctrl"
