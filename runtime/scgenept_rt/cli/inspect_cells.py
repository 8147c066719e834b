"""What `scgenept-rt inspect` shows of cells that are no predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scgenept_rt.cli.check import PREDICT_FLAGS
from scgenept_rt.errors import compose
from scgenept_rt.wording import join_limited, pluralize

_ROLES = {
    "control": "perturbations; controls: ",
    "perturbation": "seems to tell perturbed cells; controls: ",
    "group": "groups of cells, for --groupby",
}


def cells_page(cells: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is shown of cells: names and texts."""
    yield "cells", f"{cells['path']}: {pluralize(cells['n_obs'], 'cell')} x {pluralize(cells['n_vars'], 'gene')}"
    others = [*(f"layer {name}" for name in cells["layers"]), *(["raw"] if cells["has_raw"] else [])]
    if others:
        yield "besides X", join_limited(others, 12)
    for source, names in cells["gene_names"].items():
        where = source if source == "var_names" else f"var column {source}"
        yield "genes", f"{where}: {join_limited(names)}, ..."
    for column in cells["obs"]:
        yield "obs", _described(column)
    for finding in cells["findings"]:
        yield f"{finding.topic}", compose(finding.text)
        step = finding.step(PREDICT_FLAGS)
        if step:
            yield "", f"-> {step}"


def after_cells(cells: dict[str, Any]) -> list[list[str]]:
    """Return the commands that can be run on cells next."""
    check = ["check", "BUNDLE", cells["path"]]
    if any(finding.status == "problem" for finding in cells["findings"]):
        return [["scgenept-rt", *check]]
    label = ["-p", next(iter(cells["labels"]), "GENE+ctrl")]
    commands = [check, ["predict", "BUNDLE", cells["path"], *label, "--out", "predictions.h5ad"]]
    if cells["labels"]:
        commands += [
            ["predict", "BUNDLE", cells["path"], "--all-measured", "--out", "predictions.h5ad"],
            ["plot", "top-de", cells["path"], *label, "--bundle", "BUNDLE", "--out", "top_de.png"],
        ]
    return [["scgenept-rt", *command] for command in commands]


def _described(column: dict[str, Any]) -> str:
    values = "" if column["n_values"] is None else f": {pluralize(column['n_values'], 'value')}"
    if column["examples"]:
        shown = ", ".join(f"{value} ({count:,})" for value, count in column["examples"].items())
        values += f": {shown}{', ...' if len(column['examples']) < (column['n_values'] or 0) else ''}"
    role = _ROLES.get(column["role"], "")
    if role.endswith(": "):
        role += join_limited(column["controls"]) or "none found"
    return f"{column['name']}{values}{f'  <- {role}' if role else ''}"
