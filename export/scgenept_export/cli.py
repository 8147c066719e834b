"""The command line `scgenept-export`; commands import PyTorch in their bodies, so that `--help` answers at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import typer

from scgenept_rt.cli.download import MirrorOption
from scgenept_rt.cli.messages import Command, note, say
from scgenept_rt.cli.options import with_options
from scgenept_rt.cli.program import new_program, run_program
from scgenept_rt.errors import MissingPackageError
from scgenept_rt.options import Option
from scgenept_rt.wording import pluralize

if TYPE_CHECKING:
    from scgenept_rt.bundle import Bundle

app = new_program(
    "scgenept-export", "Turn trained scGenePT checkpoints into ONNX bundles for scgenept-rt (needs PyTorch)."
)

OverwriteOption = Annotated[bool, Option(False, "Replace an output that exists.")]


class WrittenOptions(TypedDict):
    """What is written."""

    precisions: Annotated[
        Literal["fp32", "fp16", "fp32,fp16", "fp16,fp32"],
        Option("fp32,fp16", "Precisions of the graphs: fp32, fp16 or both.", "NAME", flag="--precision"),
    ]
    portable: Annotated[bool, Option(False, "Also write graphs of standard operators (TensorRT and other engines).")]
    keep_reference_weights: Annotated[
        bool, Option(False, "Also keep the weights, for `scgenept-rt ... --provider torch`.")
    ]
    overwrite: OverwriteOption


class BundleInputs(TypedDict):
    """What is exported."""

    checkpoint: Annotated[Path, Option(..., "Trained weights, as published.", "FILE.pt")]
    genes: Annotated[
        Path,
        Option(
            ...,
            "Genes that the model predicts, in order: .h5ad, .csv or .tsv with gene_name, one name per line, or norman "
            "or adamson.",
            "FILE",
        ),
    ]
    variant: Annotated[str, Option(..., "Upstream's model type; `scgenept-export variants` lists them.", "NAME")]
    out: Annotated[Path, Option(..., "Directory of the bundle.", "DIR")]
    vocab: Annotated[
        Path | None, Option(None, "scGPT's vocabulary; default: the published census vocabulary.", "vocab.json")
    ]
    dataset: Annotated[str, Option("unknown", "Data that the variant was trained on.", "NAME")]
    training_total: Annotated[
        float | None,
        Option(
            None,
            "Total per cell to which these data were normalised; default: that of a .h5ad in --genes.",
            "N",
            minimum=1,
        ),
    ]
    n_heads: Annotated[
        int, Option(8, "Attention heads: the one size that a checkpoint does not hold.", "N", flag="--nhead")
    ]
    synthetic: Annotated[bool, Option(False, "Mark the bundle's weights as made up.")]


@app.command("bundle", cls=Command)
@with_options()
def bundle(inputs: BundleInputs, written: WrittenOptions) -> None:
    """Export a checkpoint into a bundle, and check every graph against PyTorch."""
    _require_export_extra()
    from scgenept_export.bundle_export import export_bundle

    _export(export_bundle, written, **inputs)


@app.command("from-release", cls=Command)
@with_options()
def from_release(
    variant: Annotated[str, typer.Argument(metavar="VARIANT", help="Released variant, such as scgenept_go_c.")],
    dataset: Annotated[
        Literal["norman", "adamson"], Option("norman", "Data that it was trained on: norman or adamson.", "NAME")
    ],
    out: Annotated[Path | None, Option(None, "Directory of the bundle; default: bundles/VARIANT_DATASET.", "DIR")],
    genes: Annotated[
        str | None,
        Option(
            None,
            "Genes that the model predicts, in order; default: the data set's list, which ships with the package.",
            "FILE",
        ),
    ],
    directory: Annotated[
        Path | None, Option(None, "Download directory, as for `scgenept-rt download`.", "DIR", flag="--dir")
    ],
    offline: Annotated[bool, Option(False, "Download nothing; use what was downloaded or placed.")],
    written: WrittenOptions,
    mirror: MirrorOption = None,
) -> None:
    """Download a released variant with its vocabulary, and export it into a bundle."""
    _require_export_extra()
    from scgenept_export.bundle_export import export_release
    from scgenept_rt.cli.download import download_progress
    from scgenept_rt.download import DownloadDirectory, default_directory

    with download_progress() as progress:
        here = directory or default_directory()
        downloads = DownloadDirectory(here, mirror=mirror, offline=offline, progress=progress)
        inputs = {"variant": variant, "dataset": dataset, "out": out, "genes": genes}
        _export(export_release, written, **inputs, downloads=downloads)


@app.command("tensorrt-rtx", cls=Command)
@with_options()
def tensorrt_rtx(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory of a bundle with portable graphs.")],
    compute_capability: Annotated[list[str], Option(..., "Such as sm89; may be repeated.", "SM")],
    precision: Annotated[
        Literal["fp16", "fp32"], Option("fp16", "Precision of the portable graph: fp16 or fp32.", "NAME")
    ],
    max_batch: Annotated[int, Option(32, "Most cells per batch.", "N", minimum=1)],
    out: Annotated[
        Path | None, Option(None, "Directory of the engines; default: BUNDLE-tensorrt-rtx, beside it.", "DIR")
    ],
    overwrite: OverwriteOption,
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
@with_options()
def triton(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory of a bundle, or demo.")],
    out: Annotated[Path, Option(..., "Model repository; it may hold other models.", "REPO")],
    max_batch: Annotated[
        int, Option(32, "Most cells per batch; each size is run once when Triton starts.", "N", minimum=1)
    ],
    precision: Annotated[
        Literal["fp32", "fp16"], Option("fp32", "Precision of the graph: fp32, or fp16 for GPUs.", "NAME")
    ],
    overwrite: OverwriteOption,
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


def _export(export: Callable[..., Bundle], written: WrittenOptions, **inputs: Any) -> None:
    """Call a function that exports, show its steps, and say what it wrote."""
    options: Any = {**written, "precisions": sorted(written["precisions"].split(","), reverse=True)}
    made = export(**inputs, **options, progress=_progress(), on_notice=note)
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
