"""`scgenept-rt evaluate`: predictions against measured cells, beside baselines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scgenept_rt.cli.options import (
    AllowUnnormalizedOption,
    ConditionKeyOption,
    ControlLabelOption,
    DeviceOption,
    GeneKeyOption,
    LayerOption,
    MissingGenesOption,
    PrecisionOption,
    ProviderOption,
    ThreadsOption,
    UseRawOption,
    one_of,
)
from scgenept_rt.cli.progress import prediction_progress
from scgenept_rt.cli.report_files import check_report_paths, write_reports

if TYPE_CHECKING:
    from scgenept_rt.evaluation import Evaluation, PredictedMeans
    from scgenept_rt.expression import ReadOptions

_Protocol = Literal["all", "published"]


def evaluate(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="BUNDLE DATA",
            help="The bundle, and the measured cells, .h5ad or .zarr; with --predictions DATA alone.",
        ),
    ],
    split: Annotated[
        str,
        typer.Option("--split", metavar="NAME|FILE.json", help="norman-simulation-1, adamson-simulation-1, or a file."),
    ],
    subgroup: Annotated[
        list[str] | None,
        typer.Option("--subgroup", metavar="NAME", help="Test this subgroup alone; may be repeated. Default: all."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", metavar="FILE", help="Evaluate this prediction file instead of predicting."),
    ] = None,
    protocol: Annotated[
        _Protocol,
        typer.Option(
            "--protocol",
            metavar="NAME",
            parser=one_of(_Protocol),
            help="all: mean prediction over all control cells; published: one random control cell for each test cell.",
        ),
    ] = "all",
    n_controls: Annotated[
        int | None,
        typer.Option("--n-controls", metavar="N", min=1, help="Control cells to predict from; default: all."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw of control cells.")] = 0,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write every metric of every perturbation there.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
    html_file: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with tables and plots there (needs matplotlib)."),
    ] = None,
    provider: ProviderOption = "auto",
    precision: PrecisionOption = "auto",
    layer: LayerOption = None,
    use_raw: UseRawOption = False,
    gene_key: GeneKeyOption = None,
    condition_key: ConditionKeyOption = None,
    control_label: ControlLabelOption = None,
    missing_genes: MissingGenesOption = "error",
    allow_unnormalized: AllowUnnormalizedOption = False,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Compare predictions with the measured cells of DATA by GEARS's metrics, beside baselines.

    Baselines: no change, the mean of the training cells, and for pairs the sum of the single changes.
    """
    data = _data(inputs, predictions)
    if predictions is not None and (n_controls is not None or protocol != "all"):
        raise typer.BadParameter(
            "--predictions are evaluated as they are; --n-controls and --protocol have no part in that"
        )

    from scgenept_rt.bundle import Bundle
    from scgenept_rt.evaluation import evaluate as evaluate_predictions
    from scgenept_rt.evaluation import load_split, read_predictions
    from scgenept_rt.expression import ReadOptions
    from scgenept_rt.predictor import load
    from scgenept_rt.verification import check_reference

    check_report_paths((csv_file, json_file, html_file), (*inputs, predictions, Path(split)))
    if html_file is not None:
        from scgenept_rt.plotting.drawing import require_matplotlib

        require_matplotlib()
    chosen = load_split(split)
    if subgroup:
        chosen = chosen.restricted(subgroup)
    options: ReadOptions = ReadOptions(
        layer=layer,
        use_raw=use_raw,
        gene_key=gene_key,
        condition_key=condition_key,
        control_label=control_label,
        missing_genes=missing_genes,
        allow_unnormalized=allow_unnormalized,
    )
    if predictions is not None:
        means = read_predictions(predictions)
        if len(inputs) == 2:
            _check_origin(means, Bundle.open(inputs[0], check_files=False))
        result = evaluate_predictions(means, data, chosen, read=options)
    else:
        with (
            load(inputs[0], provider=provider, precision=precision, device_id=device, threads=threads) as model,
            prediction_progress("predictions") as progress,
        ):
            _say(f"provider: {model.choice_reason}, {model.precision}")
            check_reference(model.bundle, model.session).raise_if_missed()
            if model.bundle.manifest.synthetic:
                _say("note: this bundle's weights are synthetic; its predictions mean nothing in biology.")
            result = evaluate_predictions(
                model,
                data,
                chosen,
                protocol=protocol,
                n_controls=n_controls,
                seed=seed,
                read=options,
                progress=progress,
            )
    _write(result, csv_file, json_file, html_file)


def _data(inputs: list[Path], predictions: Path | None) -> Path:
    if len(inputs) == 2 or (len(inputs) == 1 and predictions is not None):
        return inputs[-1]
    given = " ".join(map(str, inputs))
    if len(inputs) == 1:
        raise typer.BadParameter(f"{given!r} is one path; give BUNDLE and DATA, or DATA with --predictions FILE")
    raise typer.BadParameter(f"{given!r} are {len(inputs)} paths; give BUNDLE and DATA")


def _check_origin(means: PredictedMeans, bundle: object) -> None:
    recorded = means.provenance.get("manifest_digest")
    digest = getattr(bundle, "digest", None)
    if recorded is not None and recorded != digest:
        _say(
            f"note: {means.where} was predicted with another bundle (its manifest is {recorded}, this one's {digest})."
        )


def _write(result: Evaluation, csv_file: Path | None, json_file: Path | None, html_file: Path | None) -> None:
    from scgenept_rt.evaluation.report import csv_report, json_report, text_report

    def page() -> str:
        from scgenept_rt.evaluation.html_report import html_report
        from scgenept_rt.plotting import evaluation_figures

        return html_report(result, evaluation_figures(result))

    def show() -> None:
        for line in text_report(result):
            print(line)

    write_reports(
        [(csv_file, lambda: csv_report(result)), (json_file, lambda: json_report(result)), (html_file, page)], show
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
