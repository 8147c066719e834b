"""`scgenept-rt gi`: genetic interactions of predicted pairs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from scgenept_rt.cli.messages import check_report_paths, note, show, show_progress, write_reports
from scgenept_rt.cli.model import open_model
from scgenept_rt.cli.options import BundleArgument, CellsArgument, CsvFileOption, JsonFileOption, with_options
from scgenept_rt.files.text import csv_text, json_text
from scgenept_rt.options import FEWER_CONTROLS, EngineOptions, Option, ReadOptions, SampleOptions
from scgenept_rt.wording import pluralize

_COLUMNS = (
    ("c1", "c1"),
    ("c2", "c2"),
    ("magnitude", "magnitude"),
    ("model_fit", "fit"),
    ("dominance", "dominance"),
    ("equality_of_contribution", "equality"),
    ("similarity", "similarity"),
)


@with_options()
def gi(
    bundle: BundleArgument,
    cells: CellsArgument,
    perturbation: Annotated[
        list[str] | None, Option(None, "A pair; may be repeated.", "A+B", flag="-p,--perturbation")
    ],
    perturbations: Annotated[Path | None, Option(None, "Pairs, one per line, as for `predict`.", "FILE")],
    min_control_mean: Annotated[
        float,
        Option(
            0.25, "Score only genes with at least this mean in control cells (log1p); 0: all genes.", "M", minimum=0
        ),
    ],
    csv_file: CsvFileOption,
    json_file: JsonFileOption,
    sample: SampleOptions,
    read: ReadOptions,
    engine: EngineOptions,
) -> None:
    """Score how predicted pairs relate to their singles: synergy, suppression, dominance (Norman 2019, GEARS)."""
    if not perturbation and perturbations is None:
        raise typer.BadParameter("give pairs with -p A+B or --perturbations FILE")

    import pandas as pd

    from scgenept_rt.genetic_interactions import predicted_interactions
    from scgenept_rt.perturbation.files import read_perturbation_file

    check_report_paths((csv_file, json_file), (cells, perturbations))
    pairs = list(perturbation or [])
    if perturbations is not None:
        pairs += [request.label for request in read_perturbation_file(perturbations)]
    with open_model(bundle, engine) as model, show_progress("cells", shorter=[FEWER_CONTROLS]) as progress:
        found = predicted_interactions(
            model,
            cells,
            pairs,
            min_control_mean=min_control_mean,
            read=read,
            progress=progress,
            on_notice=note,
            **sample,
        )
        synthetic = model.bundle.manifest.synthetic
    rows = [{**row, "synthetic": synthetic} for row in found]
    write_reports(
        [
            (csv_file, lambda: csv_text(pd.DataFrame(rows))),
            (json_file, lambda: json_text(rows, indent=1) + "\n"),
        ],
        lambda: _print(found, synthetic),
    )


def _print(found: list[dict[str, Any]], synthetic: bool) -> None:
    width = max(len("pair"), *(len(row["perturbation"]) for row in found))
    print(f"{'pair':<{width}}" + "".join(f"{head:>11}" for _, head in _COLUMNS) + "  reads as")
    for row in found:
        figures = "".join(f"{_shown(row[key]):>11}" for key, _ in _COLUMNS)
        dominant = f", {row['dominant']} dominates" if row["dominant"] else ""
        alike = " (unreliable: singles alike)" if row["singles_alike"] else ""
        show(f"{row['perturbation']:<{width}}{figures}  {row['kind']}{dominant}{alike}")
    if any(row["singles_alike"] for row in found):
        print(
            "singles alike: the model predicts nearly the same change for both genes, so the coefficients are not "
            "determined and the kind of interaction means little"
        )
    if synthetic:
        print("synthetic weights: these scores mean nothing in biology")
    first = found[0]
    print(
        f"over {first['n_genes']:,} genes, {pluralize(first['n_controls'], 'control cell')}; double = c1 first + c2 "
        "second (Theil-Sen); changes that add up have magnitude 1.41 and dominance 0"
    )


def _shown(value: Any) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"
