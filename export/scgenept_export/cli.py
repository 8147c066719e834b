"""The command line `scgenept-export`; commands import PyTorch in their bodies, so that `--help` answers at once."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from scgenept_export.errors import ExportExtraMissingError
from scgenept_rt.cli.failure import exit_on_user_error
from scgenept_rt.errors import pluralize

if TYPE_CHECKING:
    from scgenept_rt.bundle import Bundle, Precision

app = typer.Typer(
    name="scgenept-export",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turn trained scGenePT checkpoints into ONNX bundles for scgenept-rt (needs PyTorch).",
)


@app.callback()
def _global_options(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
    pass


@app.command("bundle")
def bundle(
    checkpoint: Path = typer.Option(..., "--checkpoint", metavar="FILE.pt", help="Trained weights, as published."),
    genes: Path = typer.Option(
        ...,
        "--genes",
        metavar="FILE",
        help="Genes that the model predicts, in order: .h5ad, .csv with a gene_name column, or one name a line.",
    ),
    variant: str = typer.Option(..., "--variant", metavar="NAME", help="Upstream's model type; see `variants`."),
    out: Path = typer.Option(..., "--out", metavar="DIR", help="Directory of the bundle."),
    vocab: Path | None = typer.Option(
        None, "--vocab", metavar="vocab.json", help="scGPT's vocabulary. Default: the published census vocabulary."
    ),
    dataset: str = typer.Option("unknown", "--dataset", metavar="NAME", help="Data that the variant was trained on."),
    nhead: int = typer.Option(8, "--nhead", help="Attention heads: the one size that a checkpoint does not hold."),
    precision: str = typer.Option("fp32,fp16", "--precision", help="Forms of the graphs: fp32, fp16 or both."),
    portable: bool = typer.Option(False, "--portable", help="Also write graphs of standard operators (TensorRT)."),
    keep_reference_weights: bool = typer.Option(
        False, "--keep-reference-weights", help="Also keep the weights for `scgenept-rt ... --provider torch`."
    ),
    synthetic: bool = typer.Option(False, "--synthetic", help="Mark the bundle's weights as made up."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a bundle that lies at --out."),
) -> None:
    """Export a checkpoint into a bundle, and check every graph against PyTorch."""
    _require_export_extra()
    from scgenept_export.bundle_export import export_bundle

    with _progress() as progress, _warnings_in_words():
        made = export_bundle(
            checkpoint,
            genes,
            variant,
            out,
            vocab=vocab,
            dataset=dataset,
            n_heads=nhead,
            precisions=_precisions(precision),
            portable=portable,
            keep_reference_weights=keep_reference_weights,
            synthetic=synthetic,
            overwrite=overwrite,
            progress=progress,
        )
    _summarise(made)


@app.command("from-release")
def from_release(
    variant: str = typer.Argument(..., metavar="VARIANT", help="Released variant, such as scgenept_go_c."),
    dataset: Literal["norman", "adamson"] = typer.Option("norman", "--dataset", help="Data that it was trained on."),
    out: Path | None = typer.Option(
        None, "--out", metavar="DIR", help="Directory of the bundle. Default: bundles/VARIANT_DATASET."
    ),
    genes: str | None = typer.Option(
        None,
        "--genes",
        metavar="FILE|norman|adamson",
        help="Genes that the model predicts, in order. Default: the downloaded data set's, else the list shipped here.",
    ),
    directory: Path | None = typer.Option(
        None, "--dir", metavar="DIR", help="Download directory, as for `scgenept-rt download`."
    ),
    mirror: str | None = typer.Option(
        None, "--mirror", metavar="URL", help="Take this address in place of every host's."
    ),
    offline: bool = typer.Option(False, "--offline", help="Download nothing; use what was downloaded or placed."),
    precision: str = typer.Option("fp32,fp16", "--precision", help="Forms of the graphs: fp32, fp16 or both."),
    portable: bool = typer.Option(False, "--portable", help="Also write graphs of standard operators (TensorRT)."),
    keep_reference_weights: bool = typer.Option(
        False, "--keep-reference-weights", help="Also keep the weights for `scgenept-rt ... --provider torch`."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a bundle that lies at --out."),
) -> None:
    """Download a released variant with its vocabulary, and export it into a bundle."""
    from scgenept_rt.cli.download import check_mirror

    check_mirror(mirror)
    _require_export_extra()
    from scgenept_export.release import export_release, released_checkpoint
    from scgenept_rt.cli.download import download_progress
    from scgenept_rt.download import DownloadDirectory, default_directory

    name = released_checkpoint(variant, dataset).name
    with download_progress() as listener, _warnings_in_words():
        made = export_release(
            variant,
            dataset,
            out or Path("bundles") / f"{name}_{dataset}",
            downloads=DownloadDirectory(
                directory or default_directory(), mirror=mirror, offline=offline, listener=listener
            ),
            genes=genes,
            precisions=_precisions(precision),
            portable=portable,
            keep_reference_weights=keep_reference_weights,
            overwrite=overwrite,
            progress=listener.say,
        )
    _summarise(made)


@app.command("tensorrt-rtx")
def tensorrt_rtx(
    bundle: Path = typer.Argument(..., metavar="BUNDLE", help="Directory of a bundle with portable graphs."),
    compute_capability: list[str] = typer.Option(
        ..., "--compute-capability", metavar="SM", help="Such as sm89 (or 8.9); may be repeated."
    ),
    precision: str = typer.Option("fp16", "--precision", metavar="[fp16|fp32]", help="Which portable graph."),
    max_batch: int = typer.Option(32, "--max-batch", metavar="N", min=1, help="Most cells in a batch."),
    out: Path | None = typer.Option(
        None, "--out", metavar="DIR", help="Directory of the engines. Default: BUNDLE-tensorrt-rtx, beside it."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace engines that exist."),
) -> None:
    """Build TensorRT-RTX engines from a bundle, on a machine that needs no GPU."""
    from scgenept_export.tensorrt_rtx import build_engines
    from scgenept_rt.bundle import Bundle

    opened = Bundle.open(bundle)
    wanted = _precisions(precision)
    if len(wanted) != 1:
        raise typer.BadParameter(f"{precision!r}: an engine has one precision", param_hint="--precision")
    out = bundle.with_name(f"{bundle.name}-tensorrt-rtx") if out is None else out
    with _progress() as progress:
        engines = build_engines(
            opened,
            compute_capability,
            out,
            precision=wanted[0],
            max_batch=max_batch,
            overwrite=overwrite,
            progress=progress,
        )
    for engine in engines:
        print(
            f"wrote {engine.path}: {engine.size / 1e6:.1f} MB for {engine.compute_capability}, "
            f"all {pluralize(engine.n_nodes, 'node')}, up to {pluralize(max_batch, 'cell')} x "
            f"{pluralize(opened.manifest.dimensions.n_genes, 'gene')}"
        )


@app.command("variants")
def variants() -> None:
    """List the model types that can be exported."""
    _require_export_extra()
    from scgenept_export.variants import RELEASED, VARIANTS

    for name, encoders in VARIANTS.items():
        print(f"{name:<46}{'released  ' if name in RELEASED else '          '}{', '.join(encoders) or '-'}")


@app.command("synthetic-checkpoint")
def synthetic_checkpoint(
    out: Path = typer.Argument(..., metavar="FILE.pt", help="File to write."),
    variant: str = typer.Option("scgenept_go_c_gpt_concat", "--variant", metavar="NAME", help="Upstream's model type."),
    seed: int = typer.Option(0, "--seed", help="Seed of the weights."),
    layers: int = typer.Option(12, "--layers", min=1, help="Transformer layers."),
) -> None:
    """Write a checkpoint of the published size with made-up weights, to try or to benchmark the runtime."""
    _require_export_extra()
    from scgenept_export.errors import ExportOptionError
    from scgenept_export.synthetic import write_synthetic_checkpoint

    if out.exists():
        raise ExportOptionError(f"{out} exists. Remove it or choose another path.")
    if not out.parent.is_dir():
        raise ExportOptionError(f"{out} cannot be written: there is no directory {out.parent}.")
    write_synthetic_checkpoint(out, variant, seed=seed, n_layers=layers)
    print(f"wrote {out}: synthetic weights, their predictions mean nothing in biology")


def _require_export_extra() -> None:
    missing = [name for name in ("torch", "onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ExportExtraMissingError(missing)


def _precisions(text: str) -> tuple[Precision, ...]:
    known: tuple[Precision, ...] = ("fp32", "fp16")
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in wanted if part not in known]
    if unknown or not wanted:
        raise typer.BadParameter(f"{text!r} is not of fp32, fp16 or fp32,fp16", param_hint="--precision")
    return tuple(name for name in known if name in wanted)


def _summarise(made: Bundle) -> None:
    manifest = made.manifest
    size = sum(file.size for file in manifest.files) / 1e6
    n_in_vocab = sum(manifest.in_vocab)
    print(f"wrote {made.directory}: {manifest.variant}, {manifest.dimensions.n_genes:,} genes ", end="")
    print(f"({n_in_vocab:,} in the vocabulary), {pluralize(manifest.dimensions.n_layers, 'layer')}, {size:.1f} MB")
    for file in made.graphs():
        print(f"  {file.path}: {file.size / 1e6:.1f} MB, within its tolerance of the eager model")
    largest = ", ".join(f"{part} {value:,.4g}" for part, value in manifest.activation_range.items())
    print(f"  largest activations on the reference cells (fp16 ends at 65,504): {largest}")


@contextmanager
def _warnings_in_words() -> Iterator[None]:
    """Print the export's own warnings as one line on standard error, without the source line that Python adds."""
    from scgenept_export.activation_range import ActivationRangeWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", ActivationRangeWarning)
        show = warnings.showwarning

        def in_words(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
            if issubclass(category, ActivationRangeWarning):
                print(f"warning: {message}", file=sys.stderr, flush=True)
            else:
                show(message, category, *where, **options)

        warnings.showwarning = in_words
        yield


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show steps on standard error: one line that changes on a terminal, plain lines elsewhere."""
    started = time.monotonic()
    if not sys.stderr.isatty():
        yield lambda step: print(f"[{time.monotonic() - started:6.1f} s] {step}", file=sys.stderr, flush=True)
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda step: bar.update(task, description=step)


def main() -> None:
    """Run the command line; errors of the user's input end in one message and exit code 1."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    with exit_on_user_error(debug=debug):
        app(args=[argument for argument in arguments if argument != "--debug"])
