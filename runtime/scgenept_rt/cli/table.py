"""`scgenept-rt table`: predictions as .csv, .tsv or .parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scgenept_rt.cli.messages import check_report_paths
from scgenept_rt.cli.options import InGroupOption, with_options
from scgenept_rt.options import Option
from scgenept_rt.wording import pluralize


@with_options()
def table(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="A file that `predict` wrote.")],
    out: Annotated[Path, Option(..., ".csv, .tsv or .parquet; replaced if it exists.", "FILE", flag="-o,--out")],
    perturbation: Annotated[
        list[str] | None, Option(None, "May be repeated. Default: all.", "LABEL", flag="-p,--perturbation")
    ],
    top: Annotated[int | None, Option(None, "Only the N genes that change most in each perturbation.", "N", minimum=1)],
    genes: Annotated[Path | None, Option(None, "Only these genes, one per line or .csv.", "FILE")],
    in_group: InGroupOption,
) -> None:
    """Write predictions as a table: perturbation, gene, control, predicted, delta, delta_sem, effect, synthetic.

    Predictions with --groupby have the group as second column.
    """
    from scgenept_rt.evaluation.change_table import change_tables, check_ending, write_tables
    from scgenept_rt.perturbation.files import read_gene_list

    check_ending(out)
    check_report_paths((out,), (predictions, genes))
    wanted = None if genes is None else read_gene_list(genes, for_pairs=False)
    tables = change_tables(predictions, perturbation, genes=wanted, top=top, in_group=in_group)
    print(f"wrote {out}: {pluralize(write_tables(tables, out), 'row')}")
