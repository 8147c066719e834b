"""`scgenept-rt predict`: the main job."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from scgenept_rt.cli.options import (
    AllowUnnormalizedOption,
    BundleArgument,
    CellsArgument,
    ConditionKeyOption,
    ControlLabelOption,
    DeviceOption,
    GeneKeyOption,
    LayerOption,
    MissingGenesOption,
    PrecisionOption,
    ProviderOption,
    ReferenceCheckpointOption,
    ThreadsOption,
    UseRawOption,
    one_of,
)
from scgenept_rt.cli.progress import prediction_progress
from scgenept_rt.errors import pluralize

if TYPE_CHECKING:
    from scgenept_rt.perturbation import PerturbationRequest

_Aggregate = Literal["mean", "cells", "both"]
_Sampling = Literal["all", "random", "upstream"]


def predict(
    bundle: BundleArgument,
    cells: CellsArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="File to write: .h5ad or .zarr.")],
    perturbation: Annotated[
        list[str] | None,
        typer.Option(
            "-p", "--perturbation", metavar="LABEL", help="Such as FOSB+ctrl or SAMD1+ZBTB1; may be repeated."
        ),
    ] = None,
    perturbations: Annotated[
        Path | None,
        typer.Option(
            "--perturbations",
            metavar="FILE",
            help="One label a line (.txt, or - for a pipe), or columns perturbation and optionally n_controls (.csv, "
            ".tsv).",
        ),
    ] = None,
    all_singles: Annotated[bool, typer.Option("--all-singles", help="Every gene of the model, one at a time.")] = False,
    pairs_of: Annotated[
        Path | None, typer.Option("--pairs-of", metavar="FILE", help="All pairs of the genes in a file.")
    ] = None,
    provider: ProviderOption = "auto",
    precision: PrecisionOption = "auto",
    aggregate: Annotated[
        _Aggregate,
        typer.Option(
            "--aggregate",
            metavar="NAME",
            parser=one_of(_Aggregate),
            help="mean: a row a perturbation, with delta and sem; cells: a row a (perturbation, control cell); both.",
        ),
    ] = "mean",
    n_controls: Annotated[
        int | None, typer.Option("--n-controls", metavar="N", min=1, help="Control cells to use; default: all.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the draw of control cells.")] = 0,
    sampling: Annotated[
        _Sampling,
        typer.Option(
            "--sampling",
            metavar="NAME",
            parser=one_of(_Sampling),
            help="all: each once, in order; random: without replacement; upstream: the published code's own draw.",
        ),
    ] = "all",
    max_error: Annotated[
        float | None,
        typer.Option(
            "--max-error",
            metavar="T",
            help="Use only as many control cells (32 or more) as bring every gene's standard error to T.",
        ),
    ] = None,
    batch_size: Annotated[str, typer.Option("--batch-size", metavar="N", help="Cells a batch, or auto.")] = "auto",
    layer: LayerOption = None,
    use_raw: UseRawOption = False,
    gene_key: GeneKeyOption = None,
    condition_key: ConditionKeyOption = None,
    control_label: ControlLabelOption = None,
    missing_genes: MissingGenesOption = "error",
    allow_unnormalized: AllowUnnormalizedOption = False,
    for_cell_eval: Annotated[
        bool, typer.Option("--for-cell-eval", help="Write cells in the form that cell-eval reads (clipped at 0).")
    ] = False,
    cell_eval_column: Annotated[
        str | None,
        typer.Option(
            "--cell-eval-column",
            metavar="COLUMN",
            help="obs column of perturbations in that form; default: as in CELLS.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    reference_checkpoint: ReferenceCheckpointOption = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Run the bundle's reference cells first (milliseconds).")
    ] = True,
) -> None:
    """Predict how the control cells of CELLS respond to perturbations."""
    size = _batch_size(batch_size)
    if not (perturbation or perturbations or all_singles or pairs_of):
        raise typer.BadParameter("give perturbations with -p, --perturbations, --all-singles or --pairs-of")
    if cell_eval_column is not None and not for_cell_eval:
        raise typer.BadParameter("goes with --for-cell-eval alone; add that", param_hint="--cell-eval-column")
    if for_cell_eval and aggregate == "both":
        raise typer.BadParameter("--for-cell-eval writes cells alone; leave it out", param_hint="--aggregate")

    from scgenept_rt.bundle import Bundle
    from scgenept_rt.errors import CellsNotFoundError
    from scgenept_rt.expression import ReadOptions
    from scgenept_rt.perturbation import all_singles as every_single
    from scgenept_rt.predictor import load
    from scgenept_rt.predictor.writing import check_outputs
    from scgenept_rt.reference_check import check_reference

    kind = "cells" if for_cell_eval else aggregate
    # Before the bundle is loaded, which takes longest: a typing error in a path should cost no time.
    check_outputs(out, kind, overwrite=overwrite, resume=resume, cells=cells)
    if not cells.exists():
        if bundle.suffix.lower() in (".h5ad", ".zarr") or bundle.is_file():
            Bundle.open(bundle)  # the two in the wrong order, as its error says
        raise CellsNotFoundError(str(cells))
    listed, pairs = _listed_requests(perturbation or [], perturbations), _pairs(pairs_of)
    started = time.monotonic()
    with load(
        bundle,
        provider=provider,
        precision=precision,
        device_id=device,
        threads=threads,
        reference_checkpoint=reference_checkpoint,
        on_notice=lambda notice: _say(f"note: {notice}"),
    ) as model:
        _say(f"provider: {model.choice_reason}, {model.precision}")
        if check:
            check_reference(model.bundle, model.session).raise_if_missed()
        if model.bundle.manifest.synthetic:
            _say("note: this bundle's weights are synthetic; its predictions mean nothing in biology.")
        requests = [*listed, *(every_single(model.panel) if all_singles else []), *pairs]
        done = _Counter()
        with _interruption_explained(), prediction_progress() as progress:
            paths = model.predict_file(
                cells,
                out,
                requests,
                aggregate=kind,
                n_controls=n_controls,
                seed=seed,
                sampling=sampling,
                max_error=max_error,
                read=ReadOptions(
                    layer=layer,
                    use_raw=use_raw,
                    gene_key=gene_key,
                    condition_key=condition_key,
                    control_label=control_label,
                    missing_genes=missing_genes,
                    allow_unnormalized=allow_unnormalized,
                ),
                batch_size=size,
                overwrite=overwrite,
                resume=resume,
                resume_command=_resume_command(),
                for_cell_eval=for_cell_eval,
                cell_eval_column=cell_eval_column,
                progress=done.then(progress),
                on_notice=lambda notice: _say(f"note: {notice}"),
            )
        seconds = time.monotonic() - started
    if resume and not done.total:
        for path in paths:
            print(f"{path} is complete: an earlier run had predicted all of it, and nothing was predicted now")
        return
    for path in paths:
        print(f"wrote {path}")
    _say(f"{pluralize(done.total, '(perturbation, control cell) pair')} in {seconds:.1f} s")


class _Counter:
    """Keeps the last count of a progress function."""

    def __init__(self) -> None:
        self.total = 0

    def then(self, progress: Any) -> Any:
        def update(done: int, total: int) -> None:
            self.total = total
            progress(done, total)

        return update


def _listed_requests(labels: list[str], file: Path | None) -> list[str | PerturbationRequest]:
    from scgenept_rt.perturbation import read_perturbation_file

    return [*labels, *(read_perturbation_file(file) if file is not None else [])]


def _pairs(file: Path | None) -> list[str]:
    from scgenept_rt.perturbation import pairs_of, read_gene_list

    return pairs_of(read_gene_list(file)) if file is not None else []


def _batch_size(text: str) -> Any:
    if text == "auto":
        return text
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise typer.BadParameter(f"{text!r} is neither auto nor a number from 1 on", param_hint="--batch-size")


def _resume_command() -> str:
    """Return this very command with --resume, in the form in which it was given (the script, or `python -m`)."""
    script = [sys.executable, "-m", "scgenept_rt"] if Path(sys.argv[0]).name == "__main__.py" else ["scgenept-rt"]
    return shlex.join([*script, *(argument for argument in sys.argv[1:] if argument != "--resume"), "--resume"])


@contextmanager
def _interruption_explained() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _say(f"interrupted. Continue with: {_resume_command()}")
        raise


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
