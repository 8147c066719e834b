"""`scgenept-rt verify`: a provider's outputs against the eager model's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from scgenept_rt.cli.messages import note
from scgenept_rt.cli.options import BundleArgument, JsonOption, with_options
from scgenept_rt.files.text import json_text
from scgenept_rt.options import EngineOptions, Option


@with_options()
def verify(
    bundle: BundleArgument,
    engine: EngineOptions,
    against: Annotated[
        Literal["torch"] | None,
        Option(None, "Also compare fresh random cells with PyTorch (needs the extra export).", "torch"),
    ],
    cells: Annotated[int, Option(8, "Fresh cells to compare.", "N", minimum=1)],
    seed: Annotated[int, Option(0, "Seed of the fresh cells.", "N", minimum=0)],
    json_output: JsonOption,
) -> None:
    """Run the bundle's reference cells through every graph that a provider can run, and compare with PyTorch.

    With --precision auto, all precisions of the bundle. Exit code 1 if a difference is larger than the tolerance.
    """
    from scgenept_rt.bundle import Bundle
    from scgenept_rt.verification import verify_bundle

    results = []
    for figures in verify_bundle(
        Bundle.open(bundle), against_torch=against == "torch", n_cells=cells, seed=seed, on_notice=note, **engine
    ):
        results.append(figures)
        if not json_output:
            print(_lines(figures), flush=True)
    if json_output:
        print(json_text(results))
    if not all(figures["passed"] for figures in results):
        raise typer.Exit(1)


def _lines(figures: dict[str, Any]) -> str:
    bound = figures["tolerance"]
    of = "largest output" if bound["relative_to_largest"] else "output"
    device = "" if figures["device"] is None else f" on device {figures['device']}"
    kernel = f"; attention: {figures['attention_kernel']}" if figures["attention_kernel"] else ""
    return (
        f"{'ok  ' if figures['passed'] else 'MISS'}  {figures['provider']} {figures['precision']}{device}, "
        f"{figures['graph']} against {figures['against']}, {figures['cells']}{kernel}\n"
        f"      largest difference {figures['max_difference']:.2e}, {figures['max_relative']:.2e} of the largest "
        f"output; {figures['times_tolerance']:.2g} of the tolerance {bound['atol']:.2g} + {bound['rtol']:.2g} x |{of}|"
    )
