"""`scgenept-rt predict`: the main job."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from scgenept_rt import options
from scgenept_rt.cli.messages import note, resume_command, resume_hint, say, show_progress
from scgenept_rt.cli.model import PerturbationOptions, open_model, requested
from scgenept_rt.cli.options import BundleArgument, CellsArgument, with_options
from scgenept_rt.errors import CellsNotFoundError
from scgenept_rt.wording import pluralize


class ClusterOptions(TypedDict):
    """Several machines."""

    ray: Annotated[
        str | None,
        options.Option(
            None,
            "Predict on workers of a Ray cluster; without an address on that of this machine, or a new one on it.",
            "[HOST:PORT]",
        ),
    ]
    workers: Annotated[
        int | None,
        options.Option(
            None,
            "Workers on the Ray cluster, one GPU (or --threads CPUs) each; default: as many as there is room for.",
            "N",
            minimum=1,
        ),
    ]


@with_options()
def predict(
    bundle: BundleArgument,
    cells: CellsArgument,
    out: Annotated[Path, options.Option(..., "File to write: .h5ad or .zarr.", "OUT", flag="-o,--out")],
    check: Annotated[
        bool, options.Option(True, "Run the bundle's reference cells first (milliseconds).", flag="--check/--no-check")
    ],
    perturbations: PerturbationOptions,
    chosen: options.PredictOptions,
    read: options.ReadOptions,
    engine: options.EngineOptions,
    output: options.FileOptions,
    cluster: ClusterOptions,
) -> None:
    """Predict how the control cells of CELLS respond to perturbations."""
    labels = requested(perturbations, cells, read)
    if cluster["workers"] is not None and cluster["ray"] is None:
        raise typer.BadParameter("needs --ray", param_hint="--workers")
    if output["for_cell_eval"]:
        if chosen["aggregate"] == "both":
            raise typer.BadParameter("--for-cell-eval writes cells only; leave it out", param_hint="--aggregate")
        chosen["aggregate"] = "cells"
    else:
        for name in ("cell_eval_column", "predicted_controls"):
            if output.get(name):
                raise typer.BadParameter("needs --for-cell-eval", param_hint=f"--{name.replace('_', '-')}")

    from scgenept_rt.bundle import Bundle
    from scgenept_rt.cluster import ClusterPredictor
    from scgenept_rt.predictor.writing import check_outputs

    # Before the bundle is loaded, which takes longest: a typing error should cost no time.
    check_outputs(out, options.resolve(options.PredictFileOptions, {**chosen, **output}), cells=cells)
    if not cells.exists():
        if bundle.suffix.lower() in (".h5ad", ".zarr") or bundle.is_file():
            Bundle.open(bundle)  # its error says that the two are in the wrong order
        raise CellsNotFoundError("there is no such file or directory", "Check the path", where=cells)
    output["resume_command"] = resume_command()
    started = time.monotonic()
    n_rows, n_before = 0, None

    with open_model(bundle, engine, check=check, **cluster) as model:
        shorter = [options.FEWER_CONTROLS]
        if chosen["aggregate"] == "mean" and chosen["max_error"] is None:
            shorter.insert(0, options.FEWER_PREDICTIONS)
        with resume_hint(), show_progress("cells", shorter=shorter) as progress:

            def count(done: int, total: int) -> None:
                nonlocal n_rows, n_before
                n_rows, n_before = total, done if n_before is None else n_before
                also = [pluralize(model.n_workers, "worker")] if isinstance(model, ClusterPredictor) else []
                progress(done, total, *also)

            paths = model.predict_file(
                cells,
                out,
                labels(model.panel),
                read=read,
                progress=count,
                on_notice=note,
                **chosen,
                **output,
            )
        seconds = time.monotonic() - started
    if output["resume"] and not n_rows:
        for path in paths:
            print(f"{path} is complete already: nothing was predicted")
        return
    for path in paths:
        print(f"wrote {path}")
    if output["for_cell_eval"] and output["shard"] is None:
        from scgenept_rt.output.destination import stored_entry
        from scgenept_rt.predictor.cell_eval import CELL_EVAL_COLUMN, CONTROL_LABEL

        column, label = (stored_entry(out, name) for name in (CELL_EVAL_COLUMN, CONTROL_LABEL))
        say(f"compare with: {shlex.join(cell_eval_command(out, cells, column, label))}")
    say(f"{pluralize(n_rows - (n_before or 0), '(perturbation, control cell) pair')} in {seconds:.1f} s")


def cell_eval_command(predicted: Path, cells: Path, column: str, control_label: str) -> list[str]:
    """Return the command that compares a file in the format of cell-eval with the cells that it was made for."""
    files = ["-ap", str(predicted), "-ar", str(cells)]
    return ["cell-eval", "run", *files, "--pert-col", column, "--control-pert", control_label]
