"""`scgenept-rt inspect`: what a bundle, predictions or cells hold."""

from __future__ import annotations

import dataclasses
import glob
import shlex
from pathlib import Path
from typing import Annotated

import typer

from scgenept_rt.cli.check import PREDICT_FLAGS, wrapped
from scgenept_rt.cli.inspect_cells import after_cells, cells_page
from scgenept_rt.cli.inspect_predictions import RunState, after_predictions, predictions_page
from scgenept_rt.cli.messages import show
from scgenept_rt.cli.options import JsonOption
from scgenept_rt.errors import ShardsError
from scgenept_rt.files.text import json_text
from scgenept_rt.wording import pluralize


def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE|FILE", help="A bundle, or predictions or cells, .h5ad or .zarr (also an --out in progress)."
        ),
    ],
    json_output: JsonOption = False,
) -> None:
    """Print what a bundle, predictions or cells hold, and what can be done with them next."""
    if path.suffix.lower() in (".h5ad", ".zarr", ".partial") or path.is_file():
        _inspect_file(path, json_output)
    else:
        _inspect_bundle(path, json_output)


def _inspect_file(path: Path, json_output: bool) -> None:
    from scgenept_rt.compatibility import summarize_cells
    from scgenept_rt.evaluation import holds_predictions, summarize_predictions
    from scgenept_rt.expression import open_cells

    state, source = _state(path)
    with open_cells(source) as cells:
        if holds_predictions(cells):
            predicted = summarize_predictions(cells)
            lines, commands = list(predictions_page(predicted, state)), after_predictions(predicted, state)
            facts = {"kind": "predictions", **dataclasses.asdict(predicted), **dataclasses.asdict(state)}
            if predicted.synthetic and not json_output:
                print("SYNTHETIC weights: these predictions mean nothing in biology.\n")
        else:
            summary = summarize_cells(cells)
            lines, commands = list(cells_page(summary)), after_cells(summary)
            findings = [finding.to_json(PREDICT_FLAGS) for finding in summary["findings"]]
            facts = {"kind": "cells", **summary, "findings": findings}
    if json_output:
        print(json_text({**facts, "next": list(map(shlex.join, commands))}))
        return
    for name, text in lines:
        for line in wrapped(text, f"{name:<12} ", " " * 13):
            show(line)
    if commands:
        print("\nnext")
        for command in commands:
            show(f"  {shlex.join(command)}")


def _state(path: Path) -> tuple[RunState, Path]:
    """Return the progress of the run that writes an output, and the file to read its predictions from."""
    from scgenept_rt.output import find_parts, find_unfinished, output_of_part

    path = path.with_suffix("") if path.suffix == ".partial" else path
    output, ending = output_of_part(path) or (path, path.suffix)
    parts, missing = [], ""
    try:
        parts = find_parts(output, ending)
    except ShardsError as error:
        missing = error.problem
        if not path.exists() and any(path.parent.glob(f"{glob.escape(path.stem)}.shard-*-of-*")):
            raise
    if not path.exists() and (left := find_unfinished(path)):
        return RunState(path, output, left.n_rows, left.n_safe, missing), left.data
    if not path.exists() and parts:
        path = parts[0]
    return RunState(path, output, missing=missing), path


def _inspect_bundle(path: Path, json_output: bool) -> None:
    """Check a bundle's files and print what it contains."""
    from scgenept_rt.bundle import FORMAT_VERSION, REFERENCE_WEIGHTS_NAME, Bundle

    opened = Bundle.open(path)
    manifest = opened.manifest
    dimensions = dataclasses.asdict(manifest.dimensions)
    facts = dataclasses.asdict(manifest) | {
        "training_perturbations": manifest.training_perturbations,
        "n_in_vocab": sum(manifest.in_vocab),
        "n_gene_ids": sum(gene_id is not None for gene_id in manifest.gene_ids),
        "format_version": FORMAT_VERSION,
        "manifest_digest": opened.digest,
    }
    for name in ("gene_names", "gene_ids", "in_vocab"):  # `scgenept-rt genes` lists them
        del facts[name]
    if json_output:
        print(json_text(facts))
        return
    if manifest.synthetic:
        print("SYNTHETIC weights: predictions of this bundle mean nothing in biology.\n")
    total = "" if manifest.training_total is None else f", normalised to {manifest.training_total:,.0f} per cell"
    lines = [
        ("variant", manifest.variant),
        ("trained on", f"{manifest.training_data}{total}"),
        (
            "genes",
            f"{dimensions['n_genes']:,}, {facts['n_in_vocab']:,} in the vocabulary, "
            f"{facts['n_gene_ids']:,} with Ensembl id",
        ),
        (
            "network",
            f"{pluralize(dimensions['n_layers'], 'layer')}, width {dimensions['d_model']}, "
            f"{pluralize(dimensions['n_heads'], 'head')}, "
            f"feed-forward {dimensions['d_ff']}; encoders: {', '.join(manifest.encoders) or 'none'}",
        ),
        ("checkpoint", f"{manifest.source_checkpoint.name}, sha256 {manifest.source_checkpoint.sha256[:16]}..."),
        ("exported by", ", ".join(f"{name} {number}" for name, number in manifest.versions.items())),
        ("format", f"{FORMAT_VERSION}, digest {opened.digest[:16]}..."),
    ]
    for name, text in lines:
        print(f"{name:<12} {text}")
    print("\nfiles, all with the sha256 that the manifest states")
    for file in manifest.files:
        if file.target is not None:
            runs_on = _RUNS_ON[file.target] if file.is_known_graph else "for another version of scgenept-rt"
            use = f"{file.precision}, {runs_on}"
        else:
            use = "weights for torch" if file.path == REFERENCE_WEIGHTS_NAME else "outputs to verify with"
        print(f"  {file.path:<20} {file.size / 1e6:8.2f} MB  {use}")
    for precision, bound in manifest.tolerances.items():
        relative = "of the largest output" if bound.relative_to_largest else "of the output"
        print(f"tolerance    {precision}: {bound.atol:.2g} + {bound.rtol:.2g} {relative}")


_RUNS_ON = {
    "ort": "for cpu and cuda",
    "merged": "for cpu: computes identical tokens once; shares its weights with ort",
    "portable": "for tensorrt, tensorrt-rtx and other engines",
}
