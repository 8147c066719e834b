"""`scgenept-rt table`: predictions as .csv, .tsv or .parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scgenept_rt.cli.options import InGroupOption
from scgenept_rt.cli.report_files import check_report_paths
from scgenept_rt.wording import pluralize


def table(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="A file that `predict` wrote.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help=".csv, .tsv or .parquet; replaced if it exists.")
    ],
    perturbation: Annotated[
        list[str] | None,
        typer.Option("-p", "--perturbation", metavar="LABEL", help="May be repeated. Default: all."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", metavar="N", min=1, help="Only the N genes that change most in each perturbation."),
    ] = None,
    genes: Annotated[
        Path | None, typer.Option("--genes", metavar="FILE", help="Only these genes, one per line or .csv.")
    ] = None,
    in_group: InGroupOption = None,
) -> None:
    """Write predictions as a table: perturbation, gene, control, predicted, delta, delta_sem, effect, synthetic.

    Predictions with --groupby have the group as second column.
    """
    from scgenept_rt.evaluation.change_table import change_tables, check_ending, write_tables
    from scgenept_rt.perturbation import read_gene_list

    check_ending(out)
    check_report_paths((out,), (predictions, genes))
    wanted = None if genes is None else read_gene_list(genes, for_pairs=False)
    tables = change_tables(predictions, perturbation, genes=wanted, top=top, in_group=in_group)
    print(f"wrote {out}: {pluralize(write_tables(tables, out), 'row')}")
