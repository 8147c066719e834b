"""Write the drawing of docs/architecture.md from the real imports: `python docs/make_architecture.py`."""

from __future__ import annotations

import inspect
import re
import tomllib
from importlib import import_module
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by docs/make_architecture.py -->\n", "<!-- end of the drawing -->\n"
RUNTIME, EXPORT = "scgenept_rt", "scgenept_export"


def floors() -> list[list[str]]:
    """Return the packages of each floor, from the contract in pyproject.toml."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [re.findall(r"\w+", layer) for layer in layers]


def imports() -> dict[str, set[str]]:
    """Return which packages each package of the runtime imports, and which the export stage does."""
    graph = grimp.build_graph(RUNTIME, EXPORT, cache_dir=None)
    found: dict[str, set[str]] = {}
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            above, below = _package(importer), _package(imported)
            if above != below and not {RUNTIME, "__main__"} & {above, below}:
                found.setdefault(above, set()).add(below)
    return found


def needed_arrows(arrows: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the arrows without those that follow from others."""

    def reach(package: str) -> set[str]:
        below = arrows.get(package, set())
        return below.union(*(reach(each) for each in below))

    return sorted(
        (above, below)
        for above, targets in arrows.items()
        for below in targets
        if not any(below in reach(other) for other in targets - {below})
    )


def drawing() -> str:
    """Return the Mermaid block and the table of floors."""
    arrows = [f"    {above} --> {below}" for above, below in needed_arrows(imports())]
    rows = [f"| {'<br>'.join(map(purpose, packages))} |" for packages in floors()]
    return "\n".join(
        ["```mermaid", "flowchart TD", *arrows, "```", "", "| floors, from the top down |", "| --- |", *rows, ""]
    )


def purpose(package: str) -> str:
    """Return the first sentence of a package's docstring."""
    first, _, _ = (inspect.getdoc(import_module(f"{RUNTIME}.{package}")) or "").partition("\n\n")
    return f"**{package}**: {' '.join(first.split()).replace('|', '/')}"


def page() -> str:
    """Return the page with the drawing of today."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{drawing()}{END}{after}"


def _package(module: str) -> str:
    top, _, rest = module.partition(".")
    return EXPORT if top == EXPORT else rest.partition(".")[0] or RUNTIME


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
