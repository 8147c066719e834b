"""`scgenept-rt inspect`: what a bundle holds."""

from __future__ import annotations

import dataclasses
import json

from scgenept_rt.cli.options import BundleArgument, JsonOption
from scgenept_rt.errors import pluralize


def inspect(
    bundle: BundleArgument,
    json_output: JsonOption = False,
) -> None:
    """Check a bundle's files and print what it contains."""
    from scgenept_rt.bundle import FORMAT_VERSION, REFERENCE_WEIGHTS_NAME, Bundle

    opened = Bundle.open(bundle)
    manifest = opened.manifest
    dimensions = dataclasses.asdict(manifest.dimensions)
    facts = {
        "variant": manifest.variant,
        "dataset": manifest.dataset,
        "training_perturbations": manifest.training_perturbations,
        "training_total": manifest.training_total,
        "synthetic": manifest.synthetic,
        "n_in_vocab": sum(manifest.in_vocab),
        "n_gene_ids": sum(gene_id is not None for gene_id in manifest.gene_ids),
        "dimensions": dimensions,
        "encoders": list(manifest.encoders),
        "files": [dataclasses.asdict(file) for file in manifest.files],
        "tolerances": {name: dataclasses.asdict(bound) for name, bound in manifest.tolerances.items()},
        "source_checkpoint": dataclasses.asdict(manifest.source_checkpoint),
        "versions": dict(manifest.versions),
        "format_version": FORMAT_VERSION,
        "manifest_digest": opened.digest,
    }
    if json_output:
        print(json.dumps(facts, indent=2))
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
