"""`scgenept-rt verify`: a provider's outputs against the eager model's."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from scgenept_rt.cli.options import BundleArgument, DeviceOption, ProviderOption, ThreadsOption


def verify(
    bundle: BundleArgument,
    provider: ProviderOption = "auto",
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Run the bundle's reference cells through a provider, in every precision, and compare with PyTorch's outputs."""
    from scgenept_rt.bundle import Bundle
    from scgenept_rt.predictor import load
    from scgenept_rt.reference_check import check_reference

    opened = Bundle.open(bundle)
    results = []
    for precision in opened.manifest.tolerances:
        with load(opened, provider=provider, precision=precision, device_id=device, threads=threads) as model:
            results.append(check_reference(opened, model.session))
    if json_output:
        figures = [
            {
                "provider": result.provider,
                "precision": result.precision,
                "max_difference": result.comparison.max_difference,
                "max_relative": result.comparison.max_relative,
                "times_tolerance": result.comparison.worst,
                "passed": result.comparison.passed,
            }
            for result in results
        ]
        print(json.dumps(figures, indent=2))
    else:
        for result in results:
            comparison = result.comparison
            print(
                f"{result.provider:<12} {result.precision}  {'ok  ' if comparison.passed else 'MISS'}  "
                f"largest difference {comparison.max_difference:.2e}, {comparison.max_relative:.2e} of the largest "
                f"output, {comparison.worst:.2f} of the tolerance ({result.n_cells} cells x {result.n_genes} genes)"
            )
    if not all(result.comparison.passed for result in results):
        raise typer.Exit(1)
