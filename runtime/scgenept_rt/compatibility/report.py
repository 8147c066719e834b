"""The whole check of a file against a bundle."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scgenept_rt.bundle import Bundle
from scgenept_rt.compatibility.alternatives import layer_names, option_arguments, working_options
from scgenept_rt.compatibility.conditions import Conditions, examine_labels
from scgenept_rt.compatibility.cost import Cost, estimate_cost
from scgenept_rt.compatibility.coverage import Coverage, examine_genes
from scgenept_rt.compatibility.findings import Finding, problem_from
from scgenept_rt.compatibility.values import MAX_CELLS, Values, examine_values
from scgenept_rt.errors import ArgumentTypeError, ReadOptionError, ScgeneptError, check_argument
from scgenept_rt.expression import ReadOptions, Sampling, read_control_cells
from scgenept_rt.expression.cells_source import CellsSource, check_source, open_cells
from scgenept_rt.genes import GenePanel
from scgenept_rt.predictor import Predictor, load
from scgenept_rt.reference_check import check_reference

if TYPE_CHECKING:
    from anndata import AnnData

JSON_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Report:
    """What a check found; parts that could not be looked at are None.

    Attributes
    ----------
    works
        Whether `predict` would work with these options (by up to 256 control cells, see `Values`).
    findings
        Everything found, in the order of the page.
    suggestion
        Reading options with which the file would work, tried out; None if it works, or if there are none.
    example
        A perturbation that the model can predict, for a command to try.
    """

    bundle: Bundle
    where: str
    n_obs: int | None
    n_vars: int | None
    matrix: str
    options: ReadOptions
    findings: tuple[Finding, ...]
    conditions: Conditions | None
    coverage: Coverage | None
    values: Values | None
    cost: Cost | None
    suggestion: ReadOptions | None
    example: str

    @property
    def works(self) -> bool:
        """Whether no finding is a problem."""
        return not self.problem_topics

    @property
    def matches_genes(self) -> bool:
        """Whether a gene of the model was found; true of a file of which nothing could be read, too."""
        match = None if self.coverage is None else self.coverage.match
        return self.coverage is None or (match is not None and match.n_found > 0)

    @property
    def problem_topics(self) -> set[str]:
        """What the problems are about."""
        return {finding.topic for finding in self.findings if finding.status == "problem"}

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain values for JSON; keys are only ever added to."""
        manifest = self.bundle.manifest
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
            "options": dataclasses.asdict(self.options),
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "labels": _labels_json(self.conditions),
            "genes": _genes_json(self.coverage),
            "values": _values_json(self.values),
            "run": None
            if self.cost is None
            else {**dataclasses.asdict(self.cost), "n_pairs": self.cost.n_pairs, "seconds": self.cost.seconds},
            "suggested_options": None if self.suggestion is None else option_arguments(self.suggestion),
        }


def check_cells(
    bundle: Bundle,
    source: str | Path | AnnData,
    *,
    options: ReadOptions | None = None,
    provider: str = "auto",
    precision: Any = "auto",
    device_id: int | None = None,
    threads: int | None = None,
) -> Report:
    """Find out whether `predict` would work on a file and what it would cost; no problem hides the next.

    Parameters
    ----------
    bundle
        An opened bundle.
    source
        Path of an .h5ad file or a .zarr directory, or an AnnData.
    options
        What to read, as for `predict`.
    provider, precision, device_id, threads
        As for `load`.

    Returns
    -------
    Report
        Problems with the file or the provider are findings in it and are not raised.

    Raises
    ------
    ArgumentTypeError, CellsTypeError
        If an argument is of another type.
    """
    check_argument("bundle", bundle, (Bundle,), "an opened bundle: `Bundle.open(PATH)`")
    check_source(source)
    options = ReadOptions.given(options)
    panel = GenePanel.from_manifest(bundle.manifest)
    looked = _look(bundle, panel, source, options)
    suggestion = None
    problems = looked.problem_topics
    # Which cells are controls only the user can say: other problems are solved beside that one.
    unsolved = problems & {"labels"}
    if problems - unsolved and looked.conditions is not None:
        suggestion = working_options(
            source, options, len(panel), lambda candidate: _n_found(bundle, panel, source, candidate, unsolved)
        )
    findings = [_with_step(finding, options, suggestion) for finding in looked.findings]
    if unsolved:
        suggestion = None
    cost = None
    try:
        with load(bundle, provider=provider, precision=precision, device_id=device_id, threads=threads) as predictor:
            findings.append(Finding("provider", "ok", f"{predictor.choice_reason}, {predictor.precision}."))
            check_reference(bundle, predictor.session).raise_if_missed()
            if looked.matches_genes:  # what a run takes depends on the values of the model's genes
                cost, finite = _cost(predictor, looked)
                findings.append(cost.finding())
                if not finite:
                    findings.append(_not_finite(predictor))
    except ArgumentTypeError:
        raise  # of the call, not of the machine
    except ScgeneptError as error:
        findings.append(problem_from("provider", error))
    return dataclasses.replace(
        looked, findings=tuple(findings), cost=cost, suggestion=suggestion, example=_example(panel, looked)
    )


def _with_step(finding: Finding, options: ReadOptions, suggestion: ReadOptions | None) -> Finding:
    """Name the matrix that was tried and found good, in place of the general advice on a bad one."""
    if suggestion is None or (finding.topic, finding.status) != ("scale", "problem"):
        return finding
    matrix, asked = ((chosen.layer, chosen.use_raw) for chosen in (suggestion, options))
    if matrix == asked:
        return finding
    arguments = " ".join(option_arguments(ReadOptions(*matrix))) or "neither --layer nor --use-raw"
    return dataclasses.replace(finding, step=f"{_matrix_name(*matrix)} holds log-normalised values: {arguments}.")


def _not_finite(predictor: Predictor) -> Finding:
    step = "Use --precision fp32." if predictor.precision == "fp16" else "Run `scgenept-rt verify BUNDLE`."
    return Finding("run", "problem", "Predictions of a control cell are NaN or infinite.", step)


def _cost(predictor: Predictor, looked: Report) -> tuple[Cost, bool]:
    conditions, n_controls, n_perturbations, sample = looked.conditions, 1, 1, None
    if conditions is not None:
        n_controls = len(conditions.control_rows) if conditions.control_rows is not None else 1
        n_perturbations = max(len(conditions.perturbations), 1)
    if looked.values is not None and looked.works:
        sample = looked.values.sample
    return estimate_cost(predictor, sample, n_controls, n_perturbations)


def _look(bundle: Bundle, panel: GenePanel, source: str | Path | AnnData, options: ReadOptions) -> Report:
    """Look at the file alone."""
    findings: list[Finding] = []
    conditions = coverage = values = None
    cells, matrix = None, _matrix_name(options.layer, options.use_raw)
    with ExitStack() as stack:
        try:
            cells, matrix, refused = _open(stack, source, options)
        except ScgeneptError as error:
            findings.append(problem_from("file", error))
        else:
            findings.extend(refused)
        if cells is not None and cells.obs.n_rows and cells.var.n_rows:
            conditions = examine_labels(cells.obs, cells.where, panel, options)
            coverage = examine_genes(cells, panel, options)
            findings += [*conditions.findings, *coverage.findings]
            try:
                rows, match = conditions.control_rows, coverage.match
                values = examine_values(cells, panel, match, rows, options, bundle.manifest.dataset)
                findings += values.findings
            except ScgeneptError as error:
                findings.append(problem_from("file", error))
    if all(finding.status != "problem" for finding in findings):
        # The last word is that of the very function that `predict` calls.
        try:
            n_available = len(conditions.control_rows) if conditions and conditions.control_rows is not None else 0
            sampling = Sampling("all", MAX_CELLS if n_available > MAX_CELLS else None)
            read_control_cells(source, panel, options=options, sampling=sampling).close()
        except ScgeneptError as error:
            findings.append(problem_from("file", error))
    return Report(
        bundle=bundle,
        where=cells.where if cells is not None else str(source),
        n_obs=None if cells is None else cells.obs.n_rows,
        n_vars=None if cells is None else cells.var.n_rows,
        matrix=matrix,
        options=options,
        findings=tuple(findings),
        conditions=conditions,
        coverage=coverage,
        values=values,
        cost=None,
        suggestion=None,
        example="",
    )


def _open(
    stack: ExitStack, source: str | Path | AnnData, options: ReadOptions
) -> tuple[CellsSource, str, list[Finding]]:
    """Open the matrix asked for, else another one, so that labels and genes can be looked at all the same."""
    refused: ReadOptionError | None = None
    asked: tuple[str | None, bool] = (options.layer, options.use_raw)
    for layer, use_raw in dict.fromkeys(
        [asked, (None, False), (None, True), *((name, False) for name in layer_names(source))]
    ):
        try:
            cells = stack.enter_context(open_cells(source, layer=layer, use_raw=use_raw))
        except ReadOptionError as error:
            refused = refused or error
            continue
        matrix = _matrix_name(layer, use_raw)
        if refused is None:
            return cells, matrix, []
        finding = problem_from("file", refused)
        text = f"{finding.text} What follows is about {matrix} instead."
        return cells, matrix, [Finding("file", "problem", text, finding.step)]
    assert refused is not None
    raise refused


def _matrix_name(layer: str | None, use_raw: bool) -> str:
    return "raw" if use_raw else "X" if layer is None else f"layer {layer!r}"


def _n_found(
    bundle: Bundle, panel: GenePanel, source: str | Path | AnnData, options: ReadOptions, unsolved: set[str]
) -> int | None:
    looked = _look(bundle, panel, source, options)
    if looked.problem_topics - unsolved or looked.coverage is None or looked.coverage.match is None:
        return None
    return looked.coverage.match.n_found


def _example(panel: GenePanel, looked: Report) -> str:
    """Return a label of the file that the model can predict, else a gene that both have."""
    if looked.conditions is not None and looked.conditions.perturbations:
        return looked.conditions.perturbations[0].label
    match = None if looked.coverage is None else looked.coverage.match
    for position, name in enumerate(panel.names):
        if panel.in_vocab[position] and (match is None or not match.n_found or match.columns[position] >= 0):
            return f"{name}+ctrl"
    return f"{panel.names[0]}+ctrl"


# --- JSON -------------------------------------------------------------------------------------------------------------


def _labels_json(conditions: Conditions | None) -> dict[str, Any] | None:
    if conditions is None:
        return None
    return {
        "condition_key": conditions.condition_key,
        "control_label": conditions.control_label,
        "n_control_cells": None if conditions.control_rows is None else len(conditions.control_rows),
        "n_other_labels": len(conditions.labels),
        "n_predictable": conditions.n_predictable,
        "perturbations": [entry.canonical for entry in conditions.perturbations],
        "unpredictable": list(conditions.unpredictable),
        "targets_out_of_vocab": list(conditions.out_of_vocab),
    }


def _genes_json(coverage: Coverage | None) -> dict[str, Any] | None:
    match = None if coverage is None else coverage.match
    if match is None:
        return None
    return {
        "source": match.source,
        "n_found": match.n_found,
        "n_by_symbol": match.n_found - match.n_by_id,
        "n_by_id": match.n_by_id,
        "n_found_in_vocab": match.n_found_in_vocab,
        "n_extra": match.n_extra,
        "missing": list(match.missing),
    }


def _values_json(values: Values | None) -> dict[str, Any] | None:
    if values is None:
        return None
    facts = {name: value for name, value in vars(values).items() if name not in ("sample", "findings")}
    for name in ("total", "total_of_file", "n_expressed"):
        facts[name] = None if facts[name] is None else dataclasses.asdict(facts[name])
    return facts
