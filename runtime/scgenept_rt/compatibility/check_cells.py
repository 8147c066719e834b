"""The whole check of cells against a bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from scgenept_rt.bundle import Bundle
from scgenept_rt.compatibility.cost import Cost, estimate_cost
from scgenept_rt.compatibility.finding import Finding
from scgenept_rt.compatibility.gene_check import check_genes
from scgenept_rt.compatibility.label_check import Labels, check_labels
from scgenept_rt.compatibility.value_check import Values, check_values
from scgenept_rt.errors.core import ScgeneptError, UseOption
from scgenept_rt.expression import OpenedCells, check_source, open_cells
from scgenept_rt.genes import GeneMatch, GenePanel
from scgenept_rt.options import EngineOptions, ReadOptions, resolve
from scgenept_rt.predictor import Predictor, load
from scgenept_rt.reference_check import check_reference

if TYPE_CHECKING:
    from anndata import AnnData

JSON_FORMAT = 2


@dataclass(eq=False)
class Report:
    """What a check found; parts that could not be looked at are None.

    Attributes
    ----------
    bundle, where, n_obs, n_vars
        What was checked.
    read
        The reading options.
    findings
        Everything found, in the order of the page.
    labels, genes, values, cost
        The facts.
    """

    bundle: Bundle
    where: str
    read: ReadOptions
    n_obs: int | None = None
    n_vars: int | None = None
    findings: list[Finding] = field(default_factory=list)
    labels: Labels | None = None
    genes: GeneMatch | None = None
    values: Values | None = None
    cost: Cost | None = None

    @property
    def works(self) -> bool:
        """Whether `predict` would work with these options, by up to 256 control cells."""
        return not self.problem_topics

    @property
    def problem_topics(self) -> set[str]:
        """What the problems are about."""
        return {finding.topic for finding in self.findings if finding.status == "problem"}

    @property
    def matrix(self) -> str:
        """The matrix that was asked for."""
        layer = self.read["layer"]
        return "raw" if self.read["use_raw"] else "X" if layer is None else f"layer {layer!r}"

    @property
    def example(self) -> str:
        """A perturbation that the model can predict."""
        if self.labels is not None and self.labels.perturbations:
            return self.labels.perturbations[0].label
        panel = GenePanel.from_manifest(self.bundle.manifest)
        found = [True] * len(panel) if self.genes is None or not self.genes.n_found else self.genes.columns >= 0
        known = [name for name, here, vocab in zip(panel.names, found, panel.in_vocab, strict=True) if here and vocab]
        return f"{(known or panel.names)[0]}+ctrl"

    def to_json(self, flags: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the facts as plain values for JSON; `flags` word the options, see `compose`."""
        manifest, labels, match = self.bundle.manifest, self.labels, self.genes
        return {
            "format": JSON_FORMAT,
            "works": self.works,
            "bundle": {
                "path": str(self.bundle.directory),
                "variant": manifest.variant,
                "dataset": manifest.dataset,
                "n_genes": manifest.dimensions.n_genes,
                "digest": self.bundle.digest,
            },
            "cells": {"path": self.where, "n_obs": self.n_obs, "n_vars": self.n_vars, "matrix": self.matrix},
            "options": dict(self.read),
            "findings": [
                {
                    "topic": finding.topic,
                    "status": finding.status,
                    "text": finding.text,
                    "step": finding.step(flags) or None,
                }
                for finding in self.findings
            ],
            "labels": labels
            and {
                "condition_key": labels.condition_key,
                "control_label": labels.control_label,
                "n_control_cells": labels.n_control_cells,
                "n_other_labels": len(labels.labels),
                "n_predictable": len(labels.labels) - len(labels.unpredictable),
                "perturbations": [entry.canonical for entry in labels.perturbations],
                "unpredictable": list(labels.unpredictable),
                "targets_out_of_vocab": list(labels.out_of_vocab),
            },
            "genes": match
            and {
                "source": match.source,
                "n_found": match.n_found,
                "n_by_symbol": match.n_found - match.n_by_id,
                "n_by_id": match.n_by_id,
                "n_found_in_vocab": match.n_found_in_vocab,
                "n_extra": match.n_extra,
                "missing": list(match.missing),
            },
            "values": self.values and dataclasses.asdict(dataclasses.replace(self.values, sample=None)),
            "run": self.cost
            and {**dataclasses.asdict(self.cost), "n_pairs": self.cost.n_pairs, "seconds": self.cost.seconds},
        }


def check_cells(
    bundle: Bundle,
    source: str | Path | AnnData,
    *,
    read: ReadOptions | None = None,
    **engine: Unpack[EngineOptions],
) -> Report:
    """Find out whether `predict` would work on cells and what it would cost; no problem hides the next.

    Parameters
    ----------
    bundle
        An opened bundle.
    source
        Path of an .h5ad file or a .zarr directory, or an AnnData.
    read
        What to read, as for `predict`.
    **engine
        What runs the network, as for `load`.

    Returns
    -------
    Report
        Problems with the cells or the provider are findings in it and are not raised.

    Raises
    ------
    ArgumentError
        If the source is neither a path nor an AnnData, or an option is not valid.
    """
    check_source(source)
    panel = GenePanel.from_manifest(bundle.manifest)
    report = Report(
        bundle, str(source) if isinstance(source, (str, Path)) else "AnnData object", resolve(ReadOptions, read)
    )
    options = resolve(EngineOptions, engine)
    try:
        with open_cells(source, report.read) as cells:
            _check_file(report, cells, panel)
    except ScgeneptError as error:
        report.findings.append(Finding.from_error("file", error))
    try:
        with load(bundle, **options) as predictor:
            report.findings.append(Finding("provider", "ok", f"{predictor.choice_reason}, {predictor.precision}"))
            check_reference(bundle, predictor.session).raise_if_missed()
            if report.labels is not None and report.genes is not None and report.genes.n_found:
                _estimate(report, predictor)
    except ScgeneptError as error:
        report.findings.append(Finding.from_error("provider", error))
    return report


def _check_file(report: Report, cells: OpenedCells, panel: GenePanel) -> None:
    report.where, report.n_obs = cells.where, cells.n_obs
    matrix_error: ScgeneptError | None = None
    try:
        cells.matrix  # noqa: B018  raises if it cannot be read
    except ScgeneptError as error:
        matrix_error = error
        report.findings.append(Finding.from_error("file", error))
    if cells.n_obs:
        report.labels = check_labels(cells, panel)
        report.findings += report.labels.findings
    if matrix_error is None:
        report.n_vars = cells.var.n_rows
        report.genes, found = check_genes(cells, panel)
        report.findings += found
        control_rows = None if report.labels is None else report.labels.control_rows
        report.values, scale = check_values(cells, panel, report.genes, control_rows, report.bundle.manifest.dataset)
        report.findings.append(scale)


def _estimate(report: Report, predictor: Predictor) -> None:
    assert report.labels is not None
    sample = report.values.sample if report.values is not None and report.works else None
    n_perturbations = max(len(report.labels.perturbations), 1)
    report.cost, finite = estimate_cost(predictor, sample, report.labels.n_control_cells or 1, n_perturbations)
    report.findings.append(report.cost.finding())
    if not finite:
        text = "predictions of a control cell are NaN or infinite"
        options = (
            (UseOption("precision", "compute in full precision", "fp32"),) if report.cost.precision == "fp16" else ()
        )
        remedy = "" if options else "Run `scgenept-rt verify BUNDLE`"
        report.findings.append(Finding("run", "problem", text, remedy, options))
