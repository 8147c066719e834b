"""`scgenept-rt plot`: figures of predictions, one command per kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from scgenept_rt.cli.messages import Command, Group, note
from scgenept_rt.cli.model import open_model
from scgenept_rt.cli.options import InGroupOption, with_options
from scgenept_rt.options import EngineOptions, FigureOptions, ReadOptions, SampleOptions

app = typer.Typer(cls=Group, no_args_is_help=True, help="Draw predictions as .png, .svg or .pdf (needs matplotlib).")

_DataArgument = Annotated[
    Path, typer.Argument(metavar="DATA", help="The measured cells, perturbed and controls, .h5ad or .zarr.")
]
_PredictionsArgument = Annotated[
    Path, typer.Argument(metavar="PREDICTIONS", help="A file of means that `predict` wrote.")
]
_PerturbationOption = Annotated[
    str, typer.Option("-p", "--perturbation", metavar="LABEL", help="Such as FOSB+ctrl or SAMD1+ZBTB1.")
]
_PredictionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--predictions", metavar="[NAME=]FILE", help="A file that `predict` wrote, with its name; may be repeated."
    ),
]
_BundleOption = Annotated[
    list[str] | None,
    typer.Option("--bundle", metavar="[NAME=]BUNDLE", help="Predict with this bundle; may be repeated."),
]
_OutOption = Annotated[
    Path, typer.Option("--out", "-o", metavar="FILE", help=".png, .svg or .pdf; replaced if it exists.")
]
_GenesOption = Annotated[int, typer.Option("--n-genes", metavar="N", min=1, help="How many genes to show by name.")]
_SeparatedGenesOption = Annotated[
    str | None, typer.Option("--genes", metavar="A,B,...", help="Draw these genes instead.")
]
_WithoutTargetsOption = Annotated[
    bool, typer.Option("--without-targets", help="Leave out the genes that a perturbation targets.")
]


def _parse_size(text: str) -> tuple[float, float]:
    try:
        width, height = map(float, text.lower().split("x"))
    except ValueError:
        width = height = 0.0
    if not (1 <= width <= 50 and 1 <= height <= 50):
        raise typer.BadParameter(f"{text!r} is not a width and a height from 1 to 50 inches, such as 3.5x3")
    return width, height


_SizeOption = Annotated[
    Any,
    typer.Option(
        "--size",
        metavar="WxH",
        parser=_parse_size,
        help="Width and height in inches, such as 3.5x3. Default: by what is drawn.",
        rich_help_panel="The figure",
    ),
]


@app.command("top-de", cls=Command)
@with_options()
def top_de(
    data: _DataArgument,
    perturbation: _PerturbationOption,
    out: _OutOption,
    figure: FigureOptions,
    sample: SampleOptions,
    read: ReadOptions,
    engine: EngineOptions,
    predictions: _PredictionsOption = None,
    bundle: _BundleOption = None,
    in_group: InGroupOption = None,
    n_genes: _GenesOption = 20,
    genes: _SeparatedGenesOption = None,
    size: _SizeOption = None,
) -> None:
    """Draw measured change as boxes and predictions as points, for the genes that change most."""
    with _series(perturbation, predictions, bundle, in_group, engine) as series:
        chosen = {"n_genes": n_genes, "genes": _split(genes), "read": read, "in_group": in_group, **sample}
        _draw("top_de", out, figure, size, data, perturbation, series, on_notice=note, **chosen)


@app.command("agreement", cls=Command)
@with_options()
def agreement(
    data: _DataArgument,
    perturbation: _PerturbationOption,
    out: _OutOption,
    figure: FigureOptions,
    sample: SampleOptions,
    read: ReadOptions,
    engine: EngineOptions,
    predictions: _PredictionsOption = None,
    bundle: _BundleOption = None,
    in_group: InGroupOption = None,
    label_genes: Annotated[
        str | None,
        typer.Option("--label-genes", metavar="A,B,...", help="Name these genes instead of those that change most."),
    ] = None,
    size: _SizeOption = None,
) -> None:
    """Draw predicted against measured change, one point per gene, with Pearson's r."""
    with _series(perturbation, predictions, bundle, in_group, engine) as series:
        chosen = {"label_genes": _split(label_genes), "read": read, "in_group": in_group, **sample}
        _draw("agreement", out, figure, size, data, perturbation, series, on_notice=note, **chosen)


def _add_command(kind: str, n_genes_by_default: int, text: str) -> None:
    """Add the command that draws the changes of one perturbation."""

    @app.command(kind, cls=Command, help=text)
    @with_options()
    def command(
        predictions: _PredictionsArgument,
        perturbation: _PerturbationOption,
        out: _OutOption,
        figure: FigureOptions,
        n_genes: _GenesOption = n_genes_by_default,
        in_group: InGroupOption = None,
        without_targets: _WithoutTargetsOption = False,
        size: _SizeOption = None,
    ) -> None:
        chosen = {"n_genes": n_genes, "in_group": in_group, "without_targets": without_targets}
        _draw(kind, out, figure, size, predictions, perturbation, **chosen)


_add_command("delta", 20, "Draw the largest predicted changes as bars with their errors; needs no measured cells.")
_add_command("volcano", 10, "Draw predicted effects against the number of their errors; needs no measured cells.")


@app.command("heatmap", cls=Command)
@with_options()
def heatmap(
    predictions: _PredictionsArgument,
    out: _OutOption,
    figure: FigureOptions,
    perturbation: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--perturbation",
            metavar="LABEL",
            help="A row; may be repeated. Default: those of the largest predicted change.",
        ),
    ] = None,
    n_perturbations: Annotated[
        int | None,
        typer.Option(
            "--n-perturbations", metavar="N", min=1, help="How many rows without -p. Default: all, at most 100."
        ),
    ] = None,
    n_genes: _GenesOption = 40,
    genes: _SeparatedGenesOption = None,
    in_group: InGroupOption = None,
    without_targets: _WithoutTargetsOption = False,
    cluster: Annotated[
        bool, typer.Option("--cluster/--no-cluster", help="Put similar rows and columns side by side.")
    ] = True,
    size: _SizeOption = None,
) -> None:
    """Draw predicted changes, perturbations x genes, as colours; needs no measured cells."""
    chosen = {"n_genes": n_genes, "genes": _split(genes), "n_perturbations": n_perturbations, "cluster": cluster}
    also = {"in_group": in_group, "without_targets": without_targets, "on_notice": note}
    _draw("heatmap", out, figure, size, predictions, perturbation, **chosen, **also)


@contextmanager
def _series(
    perturbation: str,
    predictions: list[str] | None,
    bundles: list[str] | None,
    in_group: str | None,
    engine: EngineOptions,
) -> Iterator[dict[str, Any]]:
    """Yield the predictions to draw by name: what was read of files, and opened bundles."""
    if not predictions and not bundles:
        raise typer.BadParameter("give --predictions FILE or --bundle BUNDLE")
    from scgenept_rt.errors import PlotError
    from scgenept_rt.evaluation import read_predictions

    with ExitStack() as stack:
        found: list[tuple[str, Any]] = []
        for name, path in map(_name_and_path, predictions or []):
            means = read_predictions(path, name=name, labels=[perturbation], in_group=in_group)
            found.append((means.name, means))
        for name, path in map(_name_and_path, bundles or []):
            model = stack.enter_context(open_model(path, engine))
            found.append((name or model.variant, model))
        named = dict(found)
        if len(named) < len(found):
            twice = next(name for name, entry in found if named[name] is not entry)
            raise PlotError(f"two series are called {twice!r}", "Name them with NAME=FILE or NAME=BUNDLE")
        yield named


def _name_and_path(text: str) -> tuple[str | None, Path]:
    name, equals, path = text.partition("=")
    return (None, Path(text)) if not equals or Path(text).exists() else (name, Path(path))


def _split(genes: str | None) -> list[str] | None:
    return None if genes is None else [gene.strip() for gene in genes.split(",") if gene.strip()]


def _draw(
    kind: str, out: Path, figure: FigureOptions, size: tuple[float, float] | None, *inputs: Any, **chosen: Any
) -> None:
    """Draw a figure of `scgenept_rt.plotting`; without a size, that follows from what is drawn."""
    from scgenept_rt import plotting
    from scgenept_rt.plotting.drawing import check_figure_path, new_figure

    check_figure_path(out)  # before minutes of prediction
    ax = None if size is None else new_figure(*size).add_subplot()
    drawn = getattr(plotting, kind)(*inputs, ax=ax, **chosen)
    print(f"wrote {plotting.save(drawn, out, **figure)}")
