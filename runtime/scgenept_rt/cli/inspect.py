"""`scgenept-rt inspect`: what a bundle, predictions or cells hold."""

from __future__ import annotations

import dataclasses
import glob
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from scgenept_rt.cli.check import PREDICT_FLAGS, wrapped
from scgenept_rt.cli.messages import show
from scgenept_rt.cli.options import JsonOption, with_options
from scgenept_rt.cli.predict import cell_eval_command
from scgenept_rt.errors import ShardsError, compose
from scgenept_rt.files.text import json_text
from scgenept_rt.wording import join_limited, pluralize

_DATA = "DATA.h5ad"
_SHOWN_APART = ("variant", "dataset", "training_perturbations", "manifest_digest", "versions", "groupby", "run_digest")
_RUNS_ON = {
    "ort": "for cpu and cuda",
    "merged": "for cpu: computes identical tokens once; shares its weights with ort",
    "portable": "for tensorrt, tensorrt-rtx and other engines",
}


@with_options()
def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE|FILE", help="A bundle, or predictions or cells, .h5ad or .zarr (also an --out in progress)."
        ),
    ],
    json_output: JsonOption,
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

    run, source = _progress_of_run(path)
    facts: dict[str, Any]
    with open_cells(source) as cells:
        if holds_predictions(cells):
            predicted = summarize_predictions(cells)
            lines, commands = list(_of_predictions(predicted, run)), _after_predictions(predicted, run)
            facts = {"kind": "predictions", **predicted, **run}
            if predicted["synthetic"] and not json_output:
                print("SYNTHETIC weights: these predictions mean nothing in biology.\n")
        else:
            summary = summarize_cells(cells)
            lines, commands = list(_of_cells(summary)), _after_cells(summary)
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


def _progress_of_run(path: Path) -> tuple[dict[str, Any], Path]:
    """Return the progress of the run that writes an output, and the file to read its predictions from.

    `path` is the file asked for, `output` that of the whole run; `n_rows` and `n_safe`, the rows of an unfinished
    output and those that are safe, are None if it is finished; `missing` says why parts cannot be merged.
    """
    from scgenept_rt.output.destination import find_unfinished
    from scgenept_rt.output.shards import find_parts, output_of_part
    from scgenept_rt.output.work_directory import data_path

    path = path.with_suffix("") if path.suffix == ".partial" else path
    output, ending = output_of_part(path) or (path, path.suffix)
    parts, missing = [], ""
    try:
        parts = find_parts(output, ending)
    except ShardsError as error:
        missing = error.problem
        if not path.exists() and any(path.parent.glob(f"{glob.escape(path.stem)}.shard-*-of-*")):
            raise
    source, left = path, None if path.exists() else find_unfinished(path)
    n_rows = n_safe = None
    if left is not None:
        (journal, n_safe), source = left, data_path(path)
        n_rows = journal.table["n_rows"]
    elif parts and not path.exists():
        source = path = parts[0]
    return {"path": path, "output": output, "missing": missing, "n_rows": n_rows, "n_safe": n_safe}, source


def _of_predictions(predicted: dict[str, Any], run: dict[str, Any]) -> Iterator[tuple[str, str]]:
    settings, controls = predicted["settings"], predicted["settings"].get("control_label", "")
    counts = {label: count for label, count in predicted["perturbations"].items() if label != controls}
    rows = pluralize(predicted["n_rows"], "mean" if predicted["aggregate"] == "mean" else "cell")
    layers = f", layers {', '.join(predicted['layers'])}" if predicted["layers"] else ""
    yield "predictions", f"{run['path']}: {rows} x {pluralize(predicted['n_genes'], 'gene')}{layers}"
    if "cell_eval_column" in settings:
        yield "format", f"of cell-eval, with {pluralize(predicted['perturbations'].get(controls, 0), 'control cell')}"
    if run["n_rows"] is not None:
        safe = f"{run['n_safe']:,} of {pluralize(run['n_rows'], 'row')} are safe"
        yield "unfinished", f"{safe}; if no run writes it now, repeat its command with --resume"
    if predicted["shard"]:
        ready = run["missing"] or "all parts are there"
        yield "part", f"{predicted['shard']['number']} of {predicted['shard']['count']} of {run['output']}; {ready}"
    yield "labels", f"{pluralize(len(counts), 'perturbation')}: {join_limited(list(counts))}"
    fewest, most = min(counts.values()), max(counts.values())
    cells = pluralize(most, "control cell") if fewest == most else f"{fewest:,} to {most:,} control cells"
    yield "cells", f"{cells} each{', over all groups' if len(predicted['groups']) > 1 else ''}"
    if predicted["groupby"]:
        yield "groups", f"{predicted['groupby']}: {join_limited(predicted['groups'], 12)}"
    if settings:
        known = settings.get("training_perturbations", "unknown")
        trained = settings.get("dataset", "unknown") + ("" if known == "unknown" else f": {known}")
        yield "model", f"{settings.get('variant', 'unknown')}, trained on {trained}"
        yield "bundle", f"digest {str(settings.get('manifest_digest'))[:16]}..."
        others = (f"{name.replace('_', ' ')} {settings[name]}" for name in settings if name not in _SHOWN_APART)
        yield "settings", ", ".join(others)
        yield "versions", ", ".join(f"{name} {number}" for name, number in settings.get("versions", {}).items())
    for notice in predicted["notices"]:
        yield "note", notice


def _after_predictions(predicted: dict[str, Any], run: dict[str, Any]) -> list[list[str]]:
    if run["n_rows"] is not None:
        return []
    if predicted["shard"]:
        return [] if run["missing"] else [["scgenept-rt", "merge", str(run["output"])]]
    path, settings = str(run["path"]), predicted["settings"]
    if "cell_eval_column" in settings:
        return [cell_eval_command(run["path"], Path(_DATA), settings["cell_eval_column"], settings["control_label"])]
    group = ["--in-group", predicted["groups"][0]] if len(predicted["groups"]) > 1 else []
    label = ["-p", next(iter(predicted["perturbations"]))]
    commands = [["table", path, "--out", str(run["path"].with_suffix(".csv"))]]
    if "delta" in predicted["layers"]:
        commands[0] += ["--top", "50"]
        commands += [["rank", path, *group], ["plot", "delta", path, *label, *group, "--out", "delta.png"]]
    split = "norman-simulation-1" if settings.get("dataset") == "norman" else "SPLIT.json"
    commands += [
        ["plot", "top-de", _DATA, *label, "--predictions", path, *group, "--out", "top_de.png"],
        ["evaluate", _DATA, "--split", split, "--predictions", path],
    ]
    return [["scgenept-rt", *command] for command in commands]


def _of_cells(cells: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "cells", f"{cells['path']}: {pluralize(cells['n_obs'], 'cell')} x {pluralize(cells['n_vars'], 'gene')}"
    others = [*(f"layer {name}" for name in cells["layers"]), *(["raw"] if cells["has_raw"] else [])]
    if others:
        yield "besides X", join_limited(others, 12)
    for source, names in cells["gene_names"].items():
        where = source if source == "var_names" else f"var column {source}"
        yield "genes", f"{where}: {join_limited(names)}, ..."
    for column in cells["obs"]:
        text = column["name"]
        if column["examples"]:
            shown = ", ".join(f"{value} ({count:,})" for value, count in column["examples"].items())
            more = ", ..." if len(column["examples"]) < column["n_values"] else ""
            text += f": {pluralize(column['n_values'], 'value')}: {shown}{more}"
        yield "obs", text
    for finding in cells["findings"]:
        yield finding.topic, compose(finding.text)
        if step := finding.step(PREDICT_FLAGS):
            yield "", f"-> {step}"


def _after_cells(cells: dict[str, Any]) -> list[list[str]]:
    commands = [["check", "BUNDLE", cells["path"]]]
    if not any(finding.status == "problem" for finding in cells["findings"]):
        label, predict = ["-p", next(iter(cells["labels"]), "GENE+ctrl")], ["predict", "BUNDLE", cells["path"]]
        commands.append([*predict, *label, "--out", "predictions.h5ad"])
        if cells["labels"]:
            commands += [
                [*predict, "--all-measured", "--out", "predictions.h5ad"],
                ["plot", "top-de", cells["path"], *label, "--bundle", "BUNDLE", "--out", "top_de.png"],
            ]
    return [["scgenept-rt", *command] for command in commands]


def _inspect_bundle(path: Path, json_output: bool) -> None:
    """Check a bundle's files and print what it contains."""
    from scgenept_rt.bundle import FORMAT_VERSION, REFERENCE_WEIGHTS_NAME, Bundle

    opened = Bundle.open(path)
    manifest, size = opened.manifest, opened.manifest.dimensions
    n_in_vocab, n_ids = sum(manifest.in_vocab), sum(gene_id is not None for gene_id in manifest.gene_ids)
    if json_output:
        facts = dataclasses.asdict(manifest) | {
            "training_perturbations": manifest.training_perturbations,
            "n_in_vocab": n_in_vocab,
            "n_gene_ids": n_ids,
            "format_version": FORMAT_VERSION,
            "manifest_digest": opened.digest,
        }
        for name in ("gene_names", "gene_ids", "in_vocab"):  # `scgenept-rt genes` lists them
            del facts[name]
        print(json_text(facts))
        return
    if manifest.synthetic:
        print("SYNTHETIC weights: predictions of this bundle mean nothing in biology.\n")
    total = "" if manifest.training_total is None else f", normalised to {manifest.training_total:,.0f} per cell"
    network = f"{pluralize(size.n_layers, 'layer')}, width {size.d_model}, {pluralize(size.n_heads, 'head')}"
    lines = {
        "variant": manifest.variant,
        "trained on": f"{manifest.training_data}{total}",
        "genes": f"{size.n_genes:,}, {n_in_vocab:,} in the vocabulary, {n_ids:,} with Ensembl id",
        "network": f"{network}, feed-forward {size.d_ff}; encoders: {', '.join(manifest.encoders) or 'none'}",
        "checkpoint": f"{manifest.source_checkpoint.name}, sha256 {manifest.source_checkpoint.sha256[:16]}...",
        "exported by": ", ".join(f"{name} {number}" for name, number in manifest.versions.items()),
        "format": f"{FORMAT_VERSION}, digest {opened.digest[:16]}...",
    }
    for name, text in lines.items():
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
