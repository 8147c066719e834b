"""The command line `scgenept-export`; commands import PyTorch in their bodies, so that `--help` answers at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from scgenept_rt.cli.download import MirrorOption
from scgenept_rt.cli.messages import Command, note, say
from scgenept_rt.cli.options import with_options
from scgenept_rt.cli.program import new_program, run_program
from scgenept_rt.errors import MissingPackageError
from scgenept_rt.options.declaration import Option
from scgenept_rt.wording import pluralize

if TYPE_CHECKING:
    from scgenept_rt.bundle import Bundle

app = new_program(
    "scgenept-export", "Turn trained scGenePT checkpoints into ONNX bundles for scgenept-rt (needs PyTorch)."
)


def _parse_precisions(text: str) -> Any:
    wanted = {part.strip() for part in text.split(",")}
    if not wanted <= {"fp32", "fp16"}:
        raise typer.BadParameter(f"{text!r} is not one of fp32, fp16 and fp32,fp16")
    return sorted(wanted, reverse=True)


PrecisionsOption = Annotated[
    Any,
    typer.Option(
        "--precision", metavar="NAME", parser=_parse_precisions, help="Precisions of the graphs: fp32, fp16 or both."
    ),
]
PortableOption = Annotated[
    bool, typer.Option("--portable", help="Also write graphs of standard operators (TensorRT and other engines).")
]
KeepWeightsOption = Annotated[
    bool,
    typer.Option("--keep-reference-weights", help="Also keep the weights, for `scgenept-rt ... --provider torch`."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]


@app.command("bundle", cls=Command)
def bundle(
    checkpoint: Annotated[Path, typer.Option(metavar="FILE.pt", help="Trained weights, as published.")],
    genes: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Genes that the model predicts, in order: .h5ad, .csv or .tsv with gene_name, one name per line, or "
            "norman or adamson.",
        ),
    ],
    variant: Annotated[
        str, typer.Option(metavar="NAME", help="Upstream's model type; `scgenept-export variants` lists them.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory of the bundle.")],
    vocab: Annotated[
        Path | None,
        typer.Option(metavar="vocab.json", help="scGPT's vocabulary; default: the published census vocabulary."),
    ] = None,
    dataset: Annotated[str, typer.Option(metavar="NAME", help="Data that the variant was trained on.")] = "unknown",
    training_total: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Total per cell to which these data were normalised; default: that of a .h5ad in --genes.",
        ),
    ] = None,
    n_heads: Annotated[
        int, typer.Option("--nhead", metavar="N", help="Attention heads: the one size that a checkpoint does not hold.")
    ] = 8,
    precisions: PrecisionsOption = "fp32,fp16",
    portable: PortableOption = False,
    keep_reference_weights: KeepWeightsOption = False,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="Mark the bundle's weights as made up.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Export a checkpoint into a bundle, and check every graph against PyTorch."""
    _require_export_extra()
    from scgenept_export.bundle_export import export_bundle

    made = export_bundle(
        checkpoint,
        genes,
        variant,
        out,
        vocab=vocab,
        dataset=dataset,
        training_total=training_total,
        n_heads=n_heads,
        precisions=precisions,
        portable=portable,
        keep_reference_weights=keep_reference_weights,
        synthetic=synthetic,
        overwrite=overwrite,
        progress=_progress(),
        on_notice=note,
    )
    _summarize(made)


@app.command("from-release", cls=Command)
@with_options()
def from_release(
    variant: Annotated[str, typer.Argument(metavar="VARIANT", help="Released variant, such as scgenept_go_c.")],
    dataset: Annotated[
        Literal["norman", "adamson"], Option("norman", "Data that it was trained on: norman or adamson.", "NAME")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Directory of the bundle; default: bundles/VARIANT_DATASET."),
    ] = None,
    genes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Genes that the model predicts, in order; default: the data set's list, which ships with the package.",
        ),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Download directory, as for `scgenept-rt download`.")
    ] = None,
    mirror: MirrorOption = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Download nothing; use what was downloaded or placed.")
    ] = False,
    precisions: PrecisionsOption = "fp32,fp16",
    portable: PortableOption = False,
    keep_reference_weights: KeepWeightsOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Download a released variant with its vocabulary, and export it into a bundle."""
    _require_export_extra()
    from scgenept_export.bundle_export import export_release
    from scgenept_rt.cli.download import download_progress
    from scgenept_rt.download import DownloadDirectory, default_directory

    with download_progress() as progress:
        here = directory or default_directory()
        downloads = DownloadDirectory(here, mirror=mirror, offline=offline, progress=progress)
        made = export_release(
            variant,
            dataset,
            out,
            downloads=downloads,
            genes=genes,
            precisions=precisions,
            portable=portable,
            keep_reference_weights=keep_reference_weights,
            overwrite=overwrite,
            progress=say,
            on_notice=note,
        )
    _summarize(made)


@app.command("tensorrt-rtx", cls=Command)
def tensorrt_rtx(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory of a bundle with portable graphs.")],
    compute_capability: Annotated[list[str], typer.Option(metavar="SM", help="Such as sm89; may be repeated.")],
    precision: Annotated[
        Literal["fp16", "fp32"], typer.Option(metavar="NAME", help="Precision of the portable graph: fp16 or fp32.")
    ] = "fp16",
    max_batch: Annotated[int, typer.Option(metavar="N", min=1, help="Most cells per batch.")] = 32,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Directory of the engines; default: BUNDLE-tensorrt-rtx, beside it."),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Build TensorRT-RTX engines from a bundle, on a machine that needs no GPU."""
    from scgenept_export.tensorrt_rtx import build_engines
    from scgenept_rt.bundle import Bundle

    opened, out = Bundle.open(bundle), out or bundle.with_name(f"{bundle.name}-tensorrt-rtx")
    options: Any = {"precision": precision, "max_batch": max_batch, "overwrite": overwrite}
    engines = build_engines(opened, compute_capability, out, **options, progress=_progress())
    most = f"{pluralize(max_batch, 'cell')} x {pluralize(opened.manifest.dimensions.n_genes, 'gene')}"
    for engine in engines:
        print(f"wrote {engine}: {engine.stat().st_size / 1e6:.1f} MB, up to {most}")


@app.command("triton", cls=Command)
def triton(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory of a bundle, or demo.")],
    out: Annotated[Path, typer.Option(metavar="REPO", help="Model repository; it may hold other models.")],
    max_batch: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most cells per batch; each size is run once when Triton starts.")
    ] = 32,
    precision: Annotated[
        Literal["fp32", "fp16"], typer.Option(metavar="NAME", help="Precision of the graph: fp32, or fp16 for GPUs.")
    ] = "fp32",
    overwrite: OverwriteOption = False,
) -> None:
    """Write a bundle as a model for Triton Inference Server, whose requests are batched."""
    _require_export_extra()
    from scgenept_export.triton import write_triton_model
    from scgenept_rt.bundle import Bundle

    opened = Bundle.open(bundle)
    model = write_triton_model(opened, out, precision=precision, max_batch=max_batch, overwrite=overwrite)
    size = sum(file.stat().st_size for file in model.rglob("*") if file.is_file())
    print(
        f"wrote {model}: {precision}, {pluralize(opened.manifest.dimensions.n_genes, 'gene')}, "
        f"up to {pluralize(max_batch, 'cell')} per batch, {size / 1e6:.1f} MB"
    )
    if precision == "fp32" and any(file.precision == "fp16" for file in opened.graphs()):
        print("  for GPUs, --precision fp16 is faster")
    print(f"  start Triton with: tritonserver --model-repository {out}")


@app.command("variants", cls=Command)
def variants() -> None:
    """List the model types that can be exported."""
    from scgenept_export.variants import RELEASED, VARIANTS

    for name, encoders in VARIANTS.items():
        print(f"{name:<46}{'released' if name in RELEASED else '':<10}{', '.join(encoders) or '-'}")


def _require_export_extra() -> None:
    missing = [name for name in ("torch", "onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise MissingPackageError(", ".join(missing), "exporting", "export,cpu")


def _summarize(made: Bundle) -> None:
    manifest = made.manifest
    size = sum(file.size for file in manifest.files) / 1e6
    n_in_vocab = sum(manifest.in_vocab)
    print(f"wrote {made.directory}: {manifest.variant}, {manifest.dimensions.n_genes:,} genes ", end="")
    print(f"({n_in_vocab:,} in the vocabulary), {pluralize(manifest.dimensions.n_layers, 'layer')}, {size:.1f} MB")
    for file in made.graphs():
        print(f"  {file.path}: {file.size / 1e6:.1f} MB, within its tolerance of the eager model")
    largest = ", ".join(f"{part} {value:,.4g}" for part, value in manifest.activation_range.items())
    print(f"  largest activations on the reference cells (fp16 ends at 65,504): {largest}")


def _progress() -> Callable[[str], None]:
    started = time.monotonic()
    return lambda step: say(f"[{time.monotonic() - started:6.1f} s] {step}")


def main() -> None:
    """Run the command line; errors of the user's input end in one message and exit code 1."""
    run_program(app)
