"""`scgenept-rt plot`: figures of predictions, one command per kind."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer

from scgenept_rt.cli.messages import Command, Group, note
from scgenept_rt.cli.model import open_model
from scgenept_rt.cli.options import InGroupOption, with_options
from scgenept_rt.options import EngineOptions, FigureOptions, Option, ReadOptions, SampleOptions

app = typer.Typer(cls=Group, no_args_is_help=True, help="Draw predictions as .png, .svg or .pdf (needs matplotlib).")

_DataArgument = Annotated[
    Path, typer.Argument(metavar="DATA", help="The measured cells, perturbed and controls, .h5ad or .zarr.")
]
_PredictionsArgument = Annotated[
    Path, typer.Argument(metavar="PREDICTIONS", help="A file of means that `predict` wrote.")
]
_PerturbationOption = Annotated[
    str, Option(..., "Such as FOSB+ctrl or SAMD1+ZBTB1.", "LABEL", flag="-p,--perturbation")
]
_OutOption = Annotated[Path, Option(..., ".png, .svg or .pdf; replaced if it exists.", "FILE", flag="-o,--out")]
_NAMED_GENES = Option(20, "How many genes to show by name.", "N", minimum=1)
_SeparatedGenesOption = Annotated[str | None, Option(None, "Draw these genes instead.", "A,B,...")]


class _FigureOptions(FigureOptions, total=False):
    """How figures are written."""

    size: Annotated[
        str | None, Option(None, "Width and height in inches, such as 3.5x3. Default: by what is drawn.", "WxH")
    ]


class _Predictions(TypedDict):
    predictions: Annotated[
        list[str] | None, Option(None, "A file that `predict` wrote, with its name; may be repeated.", "[NAME=]FILE")
    ]
    bundle: Annotated[list[str] | None, Option(None, "Predict with this bundle; may be repeated.", "[NAME=]BUNDLE")]
    in_group: InGroupOption


class _Changes(TypedDict):
    in_group: InGroupOption
    without_targets: Annotated[bool, Option(False, "Leave out the genes that a perturbation targets.")]


@app.command("top-de", cls=Command)
@with_options()
def top_de(
    data: _DataArgument,
    perturbation: _PerturbationOption,
    out: _OutOption,
    predictions: _Predictions,
    n_genes: Annotated[int, _NAMED_GENES],
    genes: _SeparatedGenesOption,
    figure: _FigureOptions,
    sample: SampleOptions,
    read: ReadOptions,
    engine: EngineOptions,
) -> None:
    """Draw measured change as boxes and predictions as points, for the genes that change most."""
    chosen: dict[str, Any] = {"n_genes": n_genes, "genes": _split(genes), "read": read, **sample}
    _draw("top_de", out, figure, data, perturbation, series=(predictions, engine), on_notice=note, **chosen)


@app.command("agreement", cls=Command)
@with_options()
def agreement(
    data: _DataArgument,
    perturbation: _PerturbationOption,
    out: _OutOption,
    predictions: _Predictions,
    label_genes: Annotated[str | None, Option(None, "Name these genes instead of those that change most.", "A,B,...")],
    figure: _FigureOptions,
    sample: SampleOptions,
    read: ReadOptions,
    engine: EngineOptions,
) -> None:
    """Draw predicted against measured change, one point per gene, with Pearson's r."""
    chosen = {"label_genes": _split(label_genes), "read": read, **sample}
    _draw("agreement", out, figure, data, perturbation, series=(predictions, engine), on_notice=note, **chosen)


@app.command("delta", cls=Command)
@with_options()
def delta(
    predictions: _PredictionsArgument,
    perturbation: _PerturbationOption,
    out: _OutOption,
    n_genes: Annotated[int, _NAMED_GENES],
    changes: _Changes,
    figure: _FigureOptions,
) -> None:
    """Draw the largest predicted changes as bars with their errors; needs no measured cells."""
    _draw("delta", out, figure, predictions, perturbation, n_genes=n_genes, **changes)


@app.command("volcano", cls=Command)
@with_options()
def volcano(
    predictions: _PredictionsArgument,
    perturbation: _PerturbationOption,
    out: _OutOption,
    n_genes: Annotated[int, replace(_NAMED_GENES, default=10)],
    changes: _Changes,
    figure: _FigureOptions,
) -> None:
    """Draw predicted effects against the number of their errors; needs no measured cells."""
    _draw("volcano", out, figure, predictions, perturbation, n_genes=n_genes, **changes)


@app.command("heatmap", cls=Command)
@with_options()
def heatmap(
    predictions: _PredictionsArgument,
    out: _OutOption,
    perturbation: Annotated[
        list[str] | None,
        Option(
            None,
            "A row; may be repeated. Default: those of the largest predicted change.",
            "LABEL",
            flag="-p,--perturbation",
        ),
    ],
    n_perturbations: Annotated[
        int | None, Option(None, "How many rows without -p. Default: all, at most 100.", "N", minimum=1)
    ],
    n_genes: Annotated[int, replace(_NAMED_GENES, default=40)],
    genes: _SeparatedGenesOption,
    changes: _Changes,
    cluster: Annotated[bool, Option(True, "Put similar rows and columns side by side.", flag="--cluster/--no-cluster")],
    figure: _FigureOptions,
) -> None:
    """Draw predicted changes, perturbations x genes, as colours; needs no measured cells."""
    chosen: dict[str, Any] = {"n_genes": n_genes, "genes": _split(genes), "n_perturbations": n_perturbations}
    _draw("heatmap", out, figure, predictions, perturbation, cluster=cluster, on_notice=note, **chosen, **changes)


def _draw(
    kind: str,
    out: Path,
    figure: _FigureOptions,
    *inputs: Any,
    series: tuple[_Predictions, EngineOptions] | None = None,
    **chosen: Any,
) -> None:
    """Draw a figure of `scgenept_rt.plotting`; without a size, that follows from what is drawn."""
    size = _size(figure["size"])
    from scgenept_rt import plotting
    from scgenept_rt.plotting.drawing import check_figure_path, new_figure

    check_figure_path(out)  # before minutes of prediction
    with ExitStack() as models:
        if series is not None:
            chosen["in_group"] = series[0]["in_group"]
            chosen["predictions"] = _by_name(inputs[-1], *series, models)
        ax = None if size is None else new_figure(*size).add_subplot()
        drawn = getattr(plotting, kind)(*inputs, ax=ax, **chosen)
    print(f"wrote {plotting.save(drawn, out, title=figure['title'], dpi=figure['dpi'])}")


def _by_name(perturbation: str, chosen: _Predictions, engine: EngineOptions, models: ExitStack) -> dict[str, Any]:
    """Return the predictions to draw by name: what was read of files, and bundles that are opened as models."""
    if not chosen["predictions"] and not chosen["bundle"]:
        raise typer.BadParameter("give --predictions FILE or --bundle BUNDLE")
    from scgenept_rt.errors import PlotError
    from scgenept_rt.evaluation import read_predictions

    found: list[tuple[str, Any]] = []
    for name, path in map(_name_and_path, chosen["predictions"] or []):
        means = read_predictions(path, name=name, labels=[perturbation], in_group=chosen["in_group"])
        found.append((means.name, means))
    for name, path in map(_name_and_path, chosen["bundle"] or []):
        model = models.enter_context(open_model(path, engine))
        found.append((name or model.variant, model))
    named = dict(found)
    if len(named) < len(found):
        twice = next(name for name, entry in found if named[name] is not entry)
        raise PlotError(f"two series are called {twice!r}", "Name them with NAME=FILE or NAME=BUNDLE")
    return named


def _name_and_path(text: str) -> tuple[str | None, Path]:
    name, equals, path = text.partition("=")
    return (None, Path(text)) if not equals or Path(text).exists() else (name, Path(path))


def _split(genes: str | None) -> list[str] | None:
    return None if genes is None else [gene.strip() for gene in genes.split(",") if gene.strip()]


def _size(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    with suppress(ValueError):
        width, height = map(float, text.lower().split("x"))
        if 1 <= width <= 50 and 1 <= height <= 50:
            return width, height
    problem = f"{text!r} is not a width and a height from 1 to 50 inches, such as 3.5x3"
    raise typer.BadParameter(problem, param_hint="--size")
