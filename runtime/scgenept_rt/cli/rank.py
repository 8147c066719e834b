"""`scgenept-rt rank`: which perturbations matter."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scgenept_rt.cli.messages import check_report_paths, note, say, show, show_progress, write_reports
from scgenept_rt.cli.model import PerturbationOptions, open_model, requested
from scgenept_rt.cli.options import CsvFileOption, InGroupOption, with_options
from scgenept_rt.files.text import csv_text
from scgenept_rt.options import EngineOptions, Metric, Option, ReadOptions, SampleOptions

if TYPE_CHECKING:
    from scgenept_rt.ranking import RankBy, Ranking


@with_options(perturbations=("perturbation", "perturbations", "all_singles", "pairs_of"))
def rank(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="A file of means that `predict` wrote, or a bundle.")
    ],
    perturbations: PerturbationOptions,
    up: Annotated[Path | None, Option(None, "Genes that should go up, one per line or .csv.", "FILE")],
    down: Annotated[Path | None, Option(None, "Genes that should go down.", "FILE")],
    weights: Annotated[Path | None, Option(None, "A .csv of genes and weights, negative for down.", "FILE")],
    toward: Annotated[Path | None, Option(None, "Measured cells, .h5ad or .zarr, with the state to reach.", "DATA")],
    group: Annotated[
        str | None,
        Option(
            None, "The state: cells of DATA with this value in obs, or the label of a perturbation.", "COLUMN=VALUE"
        ),
    ],
    start: Annotated[
        str | None, Option(None, "Cells of DATA to start from. Default: its control cells.", "COLUMN=VALUE")
    ],
    metric: Annotated[
        Metric | None,
        Option(
            None,
            "cosine, pearson or distance, between the predicted and the measured change. Default: cosine.",
            "NAME",
        ),
    ],
    in_group: InGroupOption,
    top: Annotated[int, Option(20, "How many to find with a bundle, print and draw.", "K", minimum=1)],
    csv_file: CsvFileOption,
    figure: Annotated[Path | None, Option(None, "Draw the best K: .png, .svg or .pdf.", "FILE")],
    sample: SampleOptions,
    read: ReadOptions,
    engine: EngineOptions,
    cells: Annotated[
        Path | None,
        typer.Argument(metavar="CELLS", help="With a bundle: the cells, .h5ad or .zarr, log1p-normalised."),
    ] = None,
) -> None:
    """Rank perturbations by effect size, by a signature of genes, or by closeness to a state of cells.

    The genes that a perturbation targets are left out of its score. A range of ranks is a tie.

    With a bundle and CELLS instead of predictions, perturbations are predicted only as far as the best K need.
    """
    from scgenept_rt import ranking
    from scgenept_rt.perturbation.files import read_gene_list, read_gene_weights

    if cells is None and (
        any(perturbations.values()) or predictions == Path("demo") or (predictions / "manifest.json").is_file()
    ):
        raise typer.BadParameter("a bundle takes CELLS and perturbations, a file of predictions neither")
    if cells is not None and in_group is not None:
        raise typer.BadParameter("only a file of predictions has groups", param_hint="--in-group")
    check_report_paths((csv_file, figure), (predictions, cells, up, down, weights, toward))
    if figure is not None:
        from scgenept_rt.plotting.drawing import check_figure_path

        check_figure_path(figure)
    by: RankBy = {
        "up": read_gene_list(up, for_pairs=False) if up else None,
        "down": read_gene_list(down, for_pairs=False) if down else None,
        "weights": read_gene_weights(weights) if weights else None,
        "toward": toward,
        "group": group,
        "start": start,
        "metric": metric,
    }

    def report(found: Ranking) -> None:
        table = found.table.assign(synthetic=found.synthetic)
        write_reports([(csv_file, lambda: csv_text(table))], lambda: _print(found, top))
        if figure is not None:
            from scgenept_rt import plotting

            print(f"wrote {plotting.save(plotting.ranking(found, top=top), figure)}")

    if cells is None:
        report(ranking.rank(predictions, in_group=in_group, read=read, on_notice=note, **by))
        return
    labels = requested(perturbations, cells, read)
    with open_model(predictions, engine) as model:
        search = ranking.Search(
            model, cells, labels(model.panel), by, top=top, sample=sample, read=read, on_notice=note
        )
        with closing(search):
            try:
                with show_progress("passes") as progress:
                    search.run(progress)
            except KeyboardInterrupt:
                say(f"interrupted: {search.progress_made}")
                found = search.ranking()
                if len(found.table):
                    report(found)
                raise
            report(search.ranking())
            say(search.progress_made)


def _print(found: Ranking, top: int) -> None:
    table = found.table[:top]
    ranks = found.supported_ranks[:top]
    wide, width = max(map(len, ["rank", *ranks])), max(map(len, ["perturbation", *table["perturbation"]]))
    print(f"{'rank':<{wide}}  {'perturbation':<{width}}  {found.score:>11}  {'error':>8}  {'n_controls':>10}")
    for shown, row in zip(ranks, table.itertuples(), strict=True):
        values = f"{row.score:>11.4g}  {row.error:>8.2g}  {row.n_controls:>10,}"
        show(f"{shown:<{wide}}  {row.perturbation:<{width}}  {values}")
    print(f"{len(table):,} of {len(found.table):,} perturbations; {found.description}")
    if any("-" in shown[1:] for shown in ranks):  # "-" alone is no score
        print("a range of ranks is a tie: two standard errors do not tell these perturbations apart")
    if found.synthetic:
        print("synthetic weights: these ranks mean nothing in biology")
