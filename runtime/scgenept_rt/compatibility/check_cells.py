"""The whole check of cells against a bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from scgenept_rt.bundle import Bundle
from scgenept_rt.compatibility.cost import Cost, estimate_cost
from scgenept_rt.compatibility.finding import Finding, Findings
from scgenept_rt.compatibility.gene_check import check_blanked, check_genes, check_panel
from scgenept_rt.compatibility.label_check import LabelSummary, check_labels
from scgenept_rt.compatibility.value_check import Values, check_values, sample_rows
from scgenept_rt.expression import OpenedCells, check_source, open_cells
from scgenept_rt.expression.groups import mixed_notices
from scgenept_rt.genes import GeneMatch, GenePanel
from scgenept_rt.options import EngineOptions, ReadOptions, resolve
from scgenept_rt.predictor import load
from scgenept_rt.verification import check_reference

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(eq=False)
class Report:
    """What a check found; parts that could not be looked at are None.

    `sample` is `csr_array` [n_cells, n_genes] of control cells, in model gene order if genes were found.
    """

    bundle: Bundle
    where: str
    read: ReadOptions
    n_obs: int | None = None
    n_vars: int | None = None
    findings: Findings = field(default_factory=Findings)
    labels: LabelSummary | None = None
    genes: GeneMatch | None = None
    values: Values | None = None
    sample: Any = None
    cost: Cost | None = None

    @property
    def problems(self) -> list[Finding]:
        """The findings for which `predict` would not work with these options (judged by up to 256 control cells)."""
        return [finding for finding in self.findings if finding.status == "problem"]

    @property
    def works(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def to_json(self, flags: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the facts as plain values for JSON; `flags` word the options, see `compose`."""
        manifest, genes = self.bundle.manifest, None
        if self.genes is not None:
            names = ("source", "n_found", "n_by_id", "n_found_in_vocab", "n_extra", "missing")
            genes = {name: getattr(self.genes, name) for name in names}
        return {
            "format": 2,
            "works": self.works,
            "bundle": {"path": str(self.bundle.directory), "variant": manifest.variant, "digest": self.bundle.digest},
            "cells": {"path": self.where, "n_obs": self.n_obs, "n_vars": self.n_vars},
            "options": dict(self.read),
            "findings": [entry.to_json(flags) for entry in self.findings],
            "labels": self.labels and dataclasses.asdict(self.labels),
            "genes": genes,
            "values": self.values and dataclasses.asdict(self.values),
            "run": self.cost and {**dataclasses.asdict(self.cost), "seconds": self.cost.seconds},
        }


def check_cells(
    bundle: Bundle,
    source: str | Path | AnnData,
    *,
    read: ReadOptions | None = None,
    **engine: Unpack[EngineOptions],
) -> Report:
    """Find out whether `predict` would work on cells and what it would cost; no problem hides the next.

    Takes what `load` and `Predictor.predict` take. Problems with the cells or the provider are findings and are not
    raised; `ArgumentError` is, if the source is neither a path nor an AnnData, or an option is not valid.
    """
    check_source(source)
    options = resolve(EngineOptions, engine)
    where = str(source) if isinstance(source, (str, Path)) else "AnnData object"
    report = Report(bundle, where, resolve(ReadOptions, read))
    with report.findings.problems("file"), open_cells(source, report.read) as cells:
        _check_opened(report, cells)
    with report.findings.problems("provider"), load(bundle, **options) as predictor:
        report.findings.append(Finding("provider", "ok", f"{predictor.choice_reason}, {predictor.precision}"))
        check_reference(bundle, predictor.session).raise_if_missed()
        if report.labels is not None and report.genes is not None and report.genes.n_found:
            sample = report.sample if report.works else None
            n_perturbations = max(len(report.labels.perturbations), 1)
            with report.findings.problems("run"):
                report.cost = estimate_cost(predictor, sample, report.labels.n_control_cells, n_perturbations)
                report.findings.append(report.cost.finding())
    return report


def _check_opened(report: Report, cells: OpenedCells) -> None:
    """Add findings about the cells: labels first, as what is wrong with the matrix is raised."""
    panel = GenePanel.from_manifest(report.bundle.manifest)
    report.where, report.n_obs = cells.where, cells.n_obs
    report.findings += check_panel(report.bundle.manifest)
    candidates, findings = np.arange(cells.n_obs, dtype=np.int64), report.findings
    with findings.problems("labels"):
        if cells.n_obs:
            control = cells.find_control_cells(panel)
            candidates = control.rows
            report.labels, found = check_labels(control, cells.n_obs, panel)
            mixed = mixed_notices(cells.obs, control.rows)
            findings += [*found, *(Finding.from_notice("labels", notice) for notice in mixed)]
    report.n_vars = cells.matrix.shape[1]
    with findings.problems("genes"):
        report.genes = check_genes(cells, panel, findings)
    manifest = report.bundle.manifest
    report.values, report.sample = check_values(cells, candidates, findings, report.genes, manifest)
    if report.genes is not None and report.genes.n_found:
        check_blanked(cells, report.genes, sample_rows(candidates), report.sample, findings)
