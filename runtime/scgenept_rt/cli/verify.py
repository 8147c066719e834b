"""`scgenept-rt verify`: a provider's outputs against the eager model's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scgenept_rt.cli.messages import note
from scgenept_rt.cli.options import BundleArgument, JsonOption, with_options
from scgenept_rt.files.text import json_text
from scgenept_rt.options import EngineOptions
from scgenept_rt.options.declaration import Option

if TYPE_CHECKING:
    from scgenept_rt.verification import Verified


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
    for verified in verify_bundle(
        Bundle.open(bundle),
        against_torch=against == "torch",
        n_cells=cells,
        seed=seed,
        on_notice=note,
        **engine,
    ):
        results.append(verified)
        if not json_output:
            print(_lines(verified), flush=True)
    if json_output:
        print(json_text([_figures(verified) for verified in results]))
    if not all(verified.comparison.passed for verified in results):
        raise typer.Exit(1)


def _lines(verified: Verified) -> str:
    comparison, bound = verified.comparison, verified.tolerance
    outcome = "ok  " if comparison.passed else "MISS"
    of = "largest output" if bound.relative_to_largest else "output"
    device = "" if verified.device_id is None else f" on device {verified.device_id}"
    kernel = f"; attention: {verified.attention_kernel}" if verified.attention_kernel else ""
    return (
        f"{outcome}  {verified.provider} {verified.precision}{device}, {verified.graph} against {verified.against}, "
        f"{verified.cells}{kernel}\n"
        f"      largest difference {comparison.max_difference:.2e}, {comparison.max_relative:.2e} of the largest "
        f"output; {comparison.worst:.2g} of the tolerance {bound.atol:.2g} + {bound.rtol:.2g} x |{of}|"
    )


def _figures(verified: Verified) -> dict[str, object]:
    return {
        "provider": verified.provider,
        "device": verified.device_id,
        "precision": verified.precision,
        "graph": verified.graph,
        "against": verified.against,
        "cells": verified.cells,
        "max_difference": verified.comparison.max_difference,
        "max_relative": verified.comparison.max_relative,
        "times_tolerance": verified.comparison.worst,
        "passed": verified.comparison.passed,
        "attention_kernel": verified.attention_kernel or None,
    }
