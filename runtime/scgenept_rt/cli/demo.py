"""`scgenept-rt demo`: a prediction from end to end with what ships in the package."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from scgenept_rt.cli.messages import show_progress
from scgenept_rt.cli.options import with_options
from scgenept_rt.files.failures import failed_writes
from scgenept_rt.options import EngineOptions, FileOptions, Option
from scgenept_rt.wording import pluralize

_SHOWN_GENES = 8
_CELLS_FILE, _PREDICTIONS_FILE = "cells.h5ad", "predictions.h5ad"


@with_options(engine=("provider",), output=("overwrite",))
def demo(
    engine: EngineOptions,
    output: FileOptions,
    out: Annotated[Path | None, Option(None, f"Also write {_CELLS_FILE} and {_PREDICTIONS_FILE} there.", "DIR")],
    screen: Annotated[
        Path | None,
        Option(
            None,
            "Only write a synthetic screen there, with the genes, labels and layout of the Norman data.",
            "FILE.h5ad",
        ),
    ],
    cells: Annotated[
        int | None,
        Option(None, "Control cells to make; default: 8, for a screen 64.", "N", minimum=1, maximum=100_000),
    ],
) -> None:
    """Predict two perturbations of made-up control cells with a small synthetic network, in seconds."""
    if screen is not None:
        if out is not None:
            raise typer.BadParameter("give --out or --screen, not both", param_hint="--screen")
        _write_screen(screen, cells, output["overwrite"])
        return
    from scgenept_rt.bundle import DEMO_NAME, demo_bundle_path
    from scgenept_rt.demo import responses as made
    from scgenept_rt.evaluation import change_tables
    from scgenept_rt.files.stores import write_h5ad
    from scgenept_rt.output.destination import check_destination
    from scgenept_rt.predictor import load

    files = [(out or Path()) / name for name in (_CELLS_FILE, _PREDICTIONS_FILE)]
    if out is not None:
        with failed_writes(out, "the directory cannot be made"):
            out.mkdir(parents=True, exist_ok=True)
        for path in files:
            check_destination(path, overwrite=output["overwrite"])
    model = load(demo_bundle_path(), **engine)
    print(made.NOTICE)
    labels, cells = made.DEMO_PERTURBATIONS, cells or made.DEMO_CELLS
    controls = made.demo_control_cells(cells)
    started = time.perf_counter()
    with show_progress("cells") as progress:
        predicted = model.predict(controls, labels, progress=progress)
    seconds = (time.perf_counter() - started) / (cells * len(labels))
    print(
        f"Predicted {' and '.join(labels)} for {pluralize(cells, 'synthetic control cell')} of "
        f"{controls.n_vars:,} genes: provider {model.provider}, {model.precision}, {seconds * 1e3:,.0f} ms per cell."
    )
    formats = dict.fromkeys(("control", "predicted", "delta", "delta_sem"), "{:.2f}".format)
    formats["delta"] = "{:+.2f}".format
    for label, table in zip(labels, change_tables(predicted, top=_SHOWN_GENES), strict=True):
        print(f"\n{label}: the genes that change most (mean log1p expression; synthetic, no biology)")
        shown = table.set_index("gene")[[*formats]].rename_axis(index=None, columns="gene")  # names on the left
        print(shown.to_string(formatters=formats, na_rep="-"))
    flags = " ".join(f"-p {label}" for label in labels)
    if out is None:
        print("\nKeep the files of this demo:\n  scgenept-rt demo --out demo-output")
    else:
        for adata, path in zip((controls, predicted), files, strict=True):
            write_h5ad(adata, path)
        # A directory of that name, perhaps --out itself, would be taken for the bundle.
        shipped = demo_bundle_path() if Path(DEMO_NAME).exists() else DEMO_NAME
        bundle, cells_file, predictions_file = (shlex.quote(str(path)) for path in (shipped, *files))
        chosen = "" if engine["provider"] == "auto" else f" --provider {engine['provider']}"
        print(
            f"\nWrote {cells_file} and {predictions_file} (synthetic too). The same predictions by hand:\n"
            f"  scgenept-rt predict {bundle} {cells_file} --out {predictions_file} {flags}{chosen} --overwrite"
        )
    print(
        "\nNext, on your own data, with a checkpoint trained on the Norman data, whose genes it predicts:\n"
        "  scgenept-export bundle --checkpoint best_model.pt --genes norman --dataset norman "
        "--variant scgenept_go_c_gpt_concat --out BUNDLE\n"
        "  scgenept-rt check BUNDLE CELLS.h5ad\n"
        f"  scgenept-rt predict BUNDLE CELLS.h5ad --out predictions.h5ad {flags}"
    )


def _write_screen(path: Path, n_controls: int | None, overwrite: bool) -> None:
    if path.suffix.lower() != ".h5ad":
        raise typer.BadParameter(f"{str(path)!r} does not end in .h5ad", param_hint="--screen")
    from scgenept_rt.demo import demo_screen
    from scgenept_rt.demo.screen import MIN_SCREEN_CONTROLS, SCREEN_CONTROLS
    from scgenept_rt.evaluation import load_split
    from scgenept_rt.files.stores import write_h5ad
    from scgenept_rt.output.destination import check_destination

    n_controls = n_controls or SCREEN_CONTROLS
    if n_controls < MIN_SCREEN_CONTROLS:
        raise typer.BadParameter(f"a screen needs {MIN_SCREEN_CONTROLS} control cells or more", param_hint="--cells")
    check_destination(path, overwrite=overwrite)
    split = load_split("norman-simulation-1")
    labels = [label for label in (*(split.train or ()), *split.val, *split.tested) if label != "ctrl"]
    made = demo_screen(labels, n_controls=n_controls)
    write_h5ad(made, path)
    counts = f"{n_controls:,} control cells and {made.n_obs - n_controls:,} perturbed ones"
    print(f"wrote {path}: {counts}, {len(labels)} perturbations, {made.n_vars:,} genes")
    print("The cells are synthetic: no biology. They respond as the bundle `demo` was trained to.")
