"""`scgenept-rt evaluate`: predictions against measured cells, beside baselines."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from scgenept_rt.cli.messages import check_report_paths, note, show, show_progress, worded, write_reports
from scgenept_rt.cli.model import open_model
from scgenept_rt.cli.options import CsvFileOption, InGroupOption, JsonFileOption, with_options
from scgenept_rt.options import FEWER_CONTROLS, EngineOptions, Option, ReadOptions, SampleOptions


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
    if len(inputs) != 2 and (len(inputs) != 1 or predictions is None):
        given = " ".join(map(str, inputs))
        raise typer.BadParameter(f"{given!r}: give BUNDLE and DATA, or DATA with --predictions FILE")
    if predictions is None and in_group is not None:
        raise typer.BadParameter("needs --predictions", param_hint="--in-group")
    if predictions is not None and (sample["n_controls"] is not None or protocol != "all"):
        raise typer.BadParameter("--n-controls and --protocol do not apply to --predictions; leave them out")

    from scgenept_rt import evaluation
    from scgenept_rt.bundle import Bundle
    from scgenept_rt.evaluation import reports

    check_report_paths((csv_file, json_file, html_file), (*inputs, predictions, Path(split)))
    if html_file is not None:
        from scgenept_rt.plotting.drawing import require_matplotlib

        require_matplotlib()
    chosen = evaluation.load_split(split)
    if subgroups:
        chosen.restricted(subgroups)  # refuses an unknown one before the bundle is opened
    compare = partial(evaluation.evaluate, data=inputs[-1], split=chosen, subgroups=subgroups or (), read=read)
    if predictions is None:
        shorter = [FEWER_CONTROLS] if protocol == "all" else []
        with open_model(inputs[0], engine) as model, show_progress("cells", shorter=shorter) as progress:
            result = compare(model, protocol=protocol, progress=progress, **sample)
    else:
        if in_group is None:
            groups = evaluation.read_groups(predictions)
        else:
            groups = [evaluation.read_predictions(predictions, in_group=in_group)]
        recorded = groups[0].provenance.get("manifest_digest")
        if recorded is not None and len(inputs) == 2:
            digest = Bundle.open(inputs[0], check_files=False).digest
            if digest != recorded:
                note(f"{groups[0].where} was predicted with another bundle (manifest {recorded}, this one's {digest}).")
        result = compare(groups)
    result = replace(result, notices=tuple(map(worded, result.notices)))

    def page() -> str:
        from scgenept_rt.plotting import evaluation_figures

        return reports.html_report(result, evaluation_figures(result))

    write_reports(
        [
            (csv_file, lambda: reports.csv_report(result)),
            (json_file, lambda: reports.json_report(result)),
            (html_file, page),
        ],
        lambda: show("\n".join(reports.text_report(result))),
    )
