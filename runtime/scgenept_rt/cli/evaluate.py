"""`scgenept-rt evaluate`: predictions against measured cells, beside baselines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scgenept_rt.cli.messages import note, show, worded
from scgenept_rt.cli.model import open_model
from scgenept_rt.cli.options import CsvFileOption, InGroupOption, JsonFileOption, with_options
from scgenept_rt.cli.progress import show_progress
from scgenept_rt.cli.report_files import check_report_paths, write_reports
from scgenept_rt.options import FEWER_CONTROLS, EngineOptions, ReadOptions, SampleOptions
from scgenept_rt.options.declaration import Option

if TYPE_CHECKING:
    from scgenept_rt.evaluation import Evaluation


@with_options()
def evaluate(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="BUNDLE DATA",
            help="The bundle, and the measured cells, .h5ad or .zarr; with --predictions DATA alone.",
        ),
    ],
    split: Annotated[str, Option(..., "norman-simulation-1, adamson-simulation-1, or a file.", "NAME|FILE.json")],
    subgroups: Annotated[
        list[str] | None,
        Option(None, "Test only this subgroup of the split; may be repeated. Default: all.", "NAME", flag="--subgroup"),
    ],
    predictions: Annotated[Path | None, Option(None, "Evaluate this prediction file instead of predicting.", "FILE")],
    in_group: InGroupOption,
    protocol: Annotated[
        Literal["all", "published"],
        Option(
            "all",
            "all: mean prediction over all control cells; published: one random control cell per test cell.",
            "NAME",
        ),
    ],
    csv_file: CsvFileOption,
    json_file: JsonFileOption,
    html_file: Annotated[
        Path | None,
        Option(None, "Write a page with tables and plots there (needs matplotlib).", "FILE", flag="--html"),
    ],
    sample: SampleOptions,
    read: ReadOptions,
    engine: EngineOptions,
) -> None:
    """Compare predictions with the measured cells of DATA by GEARS's metrics, beside baselines.

    Baselines: no change, the mean of the training cells, and for pairs the sum of the single changes.
    """
    data = _data(inputs, predictions)
    if predictions is None and in_group is not None:
        raise typer.BadParameter("needs --predictions", param_hint="--in-group")
    if predictions is not None and (sample["n_controls"] is not None or protocol != "all"):
        raise typer.BadParameter("--n-controls and --protocol do not apply to --predictions; leave them out")

    from scgenept_rt.bundle import Bundle
    from scgenept_rt.evaluation import evaluate as evaluate_predictions
    from scgenept_rt.evaluation import load_split, read_groups, read_predictions

    check_report_paths((csv_file, json_file, html_file), (*inputs, predictions, Path(split)))
    if html_file is not None:
        from scgenept_rt.plotting.drawing import require_matplotlib

        require_matplotlib()
    chosen = load_split(split)
    if subgroups:
        chosen.restricted(subgroups)  # refuses an unknown one before the bundle is opened
    if predictions is not None:
        groups = read_groups(predictions) if in_group is None else [read_predictions(predictions, in_group=in_group)]
        means = groups[0]
        recorded = means.provenance.get("manifest_digest")
        if len(inputs) == 2 and recorded is not None:
            digest = Bundle.open(inputs[0], check_files=False).digest
            if recorded != digest:
                note(f"{means.where} was predicted with another bundle (manifest {recorded}, this one's {digest}).")
        result = evaluate_predictions(groups, data, chosen, subgroups=subgroups or (), read=read)
    else:
        shorter = [FEWER_CONTROLS] if protocol == "all" else []
        with open_model(inputs[0], engine) as model, show_progress("cells", shorter=shorter) as progress:
            result = evaluate_predictions(
                model,
                data,
                chosen,
                subgroups=subgroups or (),
                protocol=protocol,
                read=read,
                progress=progress,
                **sample,
            )
    result = replace(result, notices=tuple(map(worded, result.notices)))
    _write(result, csv_file, json_file, html_file)


def _data(inputs: list[Path], predictions: Path | None) -> Path:
    if len(inputs) == 2 or (len(inputs) == 1 and predictions is not None):
        return inputs[-1]
    given = " ".join(map(str, inputs))
    raise typer.BadParameter(f"{given!r}: give BUNDLE and DATA, or DATA with --predictions FILE")


def _write(result: Evaluation, csv_file: Path | None, json_file: Path | None, html_file: Path | None) -> None:
    from scgenept_rt.evaluation.report_formats import csv_report, json_report, text_report

    def page() -> str:
        from scgenept_rt.evaluation.html_report import html_report
        from scgenept_rt.plotting import evaluation_figures

        return html_report(result, evaluation_figures(result))

    write_reports(
        [(csv_file, lambda: csv_report(result)), (json_file, lambda: json_report(result)), (html_file, page)],
        lambda: show("\n".join(text_report(result))),
    )
