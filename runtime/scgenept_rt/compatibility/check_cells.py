"""The whole check of cells against a bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from scgenept_rt.bundle import Bundle
from scgenept_rt.compatibility.checks import Finding, Findings, check_controls, check_labels, check_values
from scgenept_rt.errors import Caution
from scgenept_rt.expression import OpenedCells, check_source, open_cells
from scgenept_rt.expression.labels import find_control_rows
from scgenept_rt.expression.missing_genes import accept_blanked, accept_missing
from scgenept_rt.genes import GeneMatch, GenePanel, panel_warnings
from scgenept_rt.options import FEWER_CONTROLS, FEWER_PREDICTIONS, EngineOptions, ReadOptions, resolve
from scgenept_rt.predictor import Predictor, load
from scgenept_rt.session import devices_of
from scgenept_rt.verification import check_reference
from scgenept_rt.wording import format_duration, pluralize

if TYPE_CHECKING:
    from anndata import AnnData

_ENOUGH_SECONDS, _MAX_TIMED_CELLS = 1.0, 32


@dataclass(eq=False)
class Report:
    """What a check found; parts that could not be looked at are None.

    `labels` are what `check_labels` returns, `values` what `check_values`, and `run` what `estimate_run`.
    """

    bundle: Bundle
    where: str
    read: ReadOptions
    n_obs: int | None = None
    n_vars: int | None = None
    findings: Findings = field(default_factory=Findings)
    labels: dict[str, Any] | None = None
    genes: GeneMatch | None = None
    values: dict[str, Any] | None = None
    run: dict[str, Any] | None = None

    @property
    def problems(self) -> list[Finding]:
        """The findings for which `predict` would not work with these options (judged by up to 256 control cells)."""
        return [finding for finding in self.findings if finding.status == "problem"]

    def to_json(self, flags: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the facts as plain values for JSON; `flags` word the options, see `compose`."""
        manifest, genes = self.bundle.manifest, None
        if self.genes is not None:
            names = ("source", "n_found", "n_by_id", "n_found_in_vocab", "n_extra", "missing")
            genes = {name: getattr(self.genes, name) for name in names}
        return {
            "format": 2,
            "works": not self.problems,
            "bundle": {"path": str(self.bundle.directory), "variant": manifest.variant, "digest": self.bundle.digest},
            "cells": {"path": self.where, "n_obs": self.n_obs, "n_vars": self.n_vars},
            "options": dict(self.read),
            "findings": [entry.to_json(flags) for entry in self.findings],
            "labels": self.labels,
            "genes": genes,
            "values": self.values,
            "run": self.run,
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
    findings, sample = report.findings, None
    with findings.problems("file"), open_cells(source, report.read) as cells:
        sample = _check_opened(report, cells)
    with findings.problems("provider"), load(bundle, **options) as predictor:
        findings.add("provider", f"{predictor.choice_reason}, {predictor.precision}")
        check_reference(bundle, predictor.session).raise_if_missed()
        if report.labels is not None and report.genes is not None and report.genes.n_found:
            with findings.problems("run"):
                report.run = estimate_run(predictor, None if report.problems else sample, report.labels, findings)
    return report


def _check_opened(report: Report, cells: OpenedCells) -> Any:
    """Add findings about the cells, and return a sample of control cells.

    Labels come first, as what is wrong with the matrix is raised.
    """
    manifest, findings = report.bundle.manifest, report.findings
    panel = GenePanel.from_manifest(manifest)
    report.where, report.n_obs = cells.where, cells.n_obs
    if not manifest.synthetic:  # made-up weights were trained on no genes
        findings.add_notices("vocabulary", panel_warnings(manifest.dataset, manifest.gene_names, manifest.in_vocab))
    candidates = np.arange(cells.n_obs, dtype=np.int64)
    with findings.problems("labels"):
        if cells.n_obs:
            control = find_control_rows(cells, panel)
            candidates = control.rows
            check_controls(control, cells.obs, findings)
            report.labels = check_labels(control, panel, findings)
    report.n_vars = cells.matrix.shape[1]
    with findings.problems("genes"):
        report.genes = _check_genes(cells, panel, findings)
    report.values, rows, sample = check_values(cells, candidates, findings, report.genes, manifest)
    if report.genes is not None and report.genes.n_found:
        expressed = np.zeros(len(panel), dtype=np.bool_)
        expressed[sample.indices] = True
        with findings.problems("genes"):
            accepted = accept_blanked(cells, report.genes, rows, expressed)
            findings.add_notices("genes", accepted.unmeasured[len(report.genes.unmeasured) :])
    return sample


def _check_genes(cells: OpenedCells, panel: GenePanel, findings: Findings) -> GeneMatch:
    """Match the genes as `predict` does."""
    match = cells.match_genes(panel)
    source = match.source if match.source == "var_names" else f"var column {match.source!r}"
    text = f"{match.n_found:,} of the model's {len(panel):,} genes found in {source}"
    text += f", {match.n_by_id:,} by Ensembl id" if match.n_by_id else ""
    text += f", {match.n_respelled:,} in another spelling" if match.n_respelled else ""
    text += f"; {pluralize(match.n_extra, 'other gene')} ignored" if match.n_extra else ""
    if match.n_found:
        findings.add("genes", text)
    with findings.problems("genes"):
        notices = accept_missing(cells, match)
        if notices:
            remedy = "Use the cells before genes were filtered, if you have them"
            findings[-1] = Finding("genes", "note", " ".join([f"{text}.", *notices]), remedy)
    if match.n_found:
        text = (
            f"{match.n_found_in_vocab:,} of the {pluralize(match.n_found, 'gene')} found are in the vocabulary, which "
            f"has {np.count_nonzero(panel.in_vocab):,} of the model's {len(panel):,} genes; it cannot tell the others "
            "apart by name"
        )
        findings.add("vocabulary", text)
    findings.add_notices("genes", [notice for notice in match.notices if isinstance(notice, Caution)])
    return match


def estimate_run(predictor: Predictor, sample: Any, labels: dict[str, Any], findings: Findings) -> dict[str, Any]:
    """Time one small batch, one cell or as many as fit into about a second; add and return what a whole run takes.

    `sample` are control cells, `csr_array` [n_cells, n_genes] in model gene order; None to time empty ones.
    """
    n_controls, n_perturbations = labels["n_control_cells"], max(len(labels["perturbations"]), 1)
    timed, seconds = 1, _seconds(predictor, sample, 1)
    if seconds < _ENOUGH_SECONDS:
        # The first cell also paid for what a session sets up once.
        fits = max(1, int(_ENOUGH_SECONDS / max(seconds, 1e-3)))
        timed = min(predictor.automatic_batch_size(), n_controls * n_perturbations, fits, _MAX_TIMED_CELLS)
        if predictor.session.fixed_batches and timed > 1:
            _seconds(predictor, sample, timed)
        seconds = _seconds(predictor, sample, timed)
    per_cell, n_devices = max(seconds / timed, 1e-6), len(devices_of(predictor.session))
    total = n_controls * n_perturbations * per_cell / n_devices
    rate = f"{1 / per_cell:,.3g} cells/s" + (f" on each of {n_devices} devices" if n_devices > 1 else "")
    findings.add(
        "run",
        f"About {format_duration(max(total, 1))} for {pluralize(n_controls, 'control cell')} x "
        f"{pluralize(n_perturbations, 'perturbation')} ({rate}), estimated from one batch of "
        f"{pluralize(timed, 'cell')} on {predictor.provider}, {predictor.precision}",
        options=(FEWER_PREDICTIONS, FEWER_CONTROLS) if total >= 3600 else (),
    )
    return {
        "provider": predictor.provider,
        "precision": predictor.precision,
        "timed_cells": timed,
        "seconds_per_cell": per_cell,
        "n_controls": n_controls,
        "n_perturbations": n_perturbations,
        "n_devices": n_devices,
        "seconds": total,
    }


def _seconds(predictor: Predictor, sample: Any, n_cells: int) -> float:
    values = np.zeros((n_cells, len(predictor.panel)), dtype=np.float32)
    if sample is not None:
        values[:] = sample[np.arange(n_cells) % sample.shape[0]].toarray()
    started = time.perf_counter()
    predictor.predict_array(values, predictor.gene_names[0], batch_size=n_cells)
    return time.perf_counter() - started
