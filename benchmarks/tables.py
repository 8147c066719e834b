"""The tables and figures of docs/, from the measurements in benchmarks/results.

The pages are written by hand; a table stands between `<!-- FILE.json: TABLE -->` and `<!-- end -->`.

python benchmarks/tables.py            # writes tables and figures (needs the extra `plot`)
python benchmarks/tables.py --check    # fails if the tables are not those of the measurements
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from string import Formatter
from typing import Annotated, Any

import typer

RESULTS, DOCS = (Path(__file__).resolve().parents[1] / name for name in ("benchmarks/results", "docs"))
PAGES = [DOCS / name for name in ("benchmarks.md", "output.md", "ranking.md")]
_TABLE = re.compile(r"(?<=<!-- )(\S+\.json): ([\w.]+) -->\n.*?(?=\n<!-- end -->)", re.DOTALL)

TABLES = {
    "forms": " = {letter} | form = {what} | {unit} per cell = {per_cell:.2f} | (range) = {fastest:.2f} to {slowest:.2f}"
    " | CPU {unit} per cell = {cpu_per_cell:.2f} | x published = {gain:.2f} | GFLOP/s = {rate:,.0f}"
    " | of matrix rate = {of_matrix:.0%} | peak memory, MB = {peak_bytes:MB} | device memory, MB = {device_bytes:MB}"
    " | largest error = {max_difference:.1e} | of its tolerance = {times_tolerance:.2f}",
    "genes": "genes = {genes:,} | s per cell = {seconds:.2f} | CPU s per cell = {cpu_seconds:.2f}"
    " | GFLOP = {gflop:,.0f} | GFLOP/s = {rate:,.0f} | peak memory, MB = {peak_bytes:MB}",
    "networks.ways": "network = {name} | means from = {what} | passes = {passes:,} | of all = {share:.1%}"
    " | s = {seconds:.1f} | CPU s = {cpu_seconds:.1f} | rms error = {rms:.1e} | largest error = {largest:.1e}"
    " | covered = {covered:.2f}",
    "devices": "output = {aggregate} | devices = {devices:d} | s = {seconds:.1f} | predictions/s = {rate:,.0f}"
    " | x one device = {gain:.2f} | of linear = {linear:.1%} | CPUs used = {cpus:.2f}"
    " | predictions per CPU s = {host:,.0f}",
    "processes": " = {case} | predictions = {predictions:,} | s = {seconds:.1f} | CPU s = {cpu_seconds:.1f}"
    " | predictions per CPU s = {rate:,.0f}",
    "memory": "predicted rows = {rows:,} | output, MB = {output_bytes:MB} | peak memory, MB = {peak_bytes:MB}",
    "searches": "screen = {screen} | passes = {passes:,} | of the full screen = {share:.1%}"
    " | found = {found:d} of {top}",
    "benchmarks.timings": "precision = {reference[precision]} | cells per batch = {batch_size:d}"
    " | ms per cell = {cells_per_second:ms} | cells/s = {cells_per_second:,.0f} | GFLOP/s = {gflops:,.0f}"
    " | device memory, MB = {peak_device_bytes:MB}",
    "kinds": "kernels = {kind} | calls = {calls:.0f} | ms per batch = {ms:.2f} | us per call = {us:.0f}"
    " | share = {share:.1%}",
    "graphs": "graph = {what} | ms per cell = {ms_per_cell:.3f} | (fastest) = {best_ms_per_cell:.3f}"
    " | largest error = {max_error_to_fp32:.1e}",
}
"""By what a table lists: its columns, each with the format of a row's figures."""


class _Figures(Formatter):
    """Formats bytes in megabytes (`MB`), a rate per second as time (`ms`), and what is not known as a dash."""

    def format_field(self, value: Any, spec: str) -> str:
        if value is None:
            return "-"
        if spec == "MB":
            return f"{value / 1e6:,.0f}"
        return f"{1e3 / value:.2f}" if spec == "ms" else format(value, spec)


def table(result: dict[str, Any], name: str) -> str:
    """Return a table of a result.

    A problem takes the place of a row's first figure that is missing, and the others are empty. A first cell like the
    one above is left out, and so are columns without a figure.
    """
    heads, formats = zip(*(column.split(" = ") for column in TABLES[name].split(" | ")), strict=True)
    outer, *inner = name.split(".")
    rows = result[outer]
    for key in inner:
        rows = [{**group, **row} for group in rows for row in group[key]]
    columns: list[list[str]] = [[] for _ in heads]
    for row in rows:
        problem = row.get("problem", "")
        for column, cell in zip(columns, formats, strict=True):
            try:
                column.append(_Figures().vformat(cell, (), row))
            except KeyError:
                column.append(problem)
                problem = ""
    columns[0] = ["" if cell == above else cell for above, cell in pairwise(["", *columns[0]])]
    shown = [
        (head.format_map(result), "---:" if ":" in cell else "---", *column)
        for head, cell, column in zip(heads, formats, columns, strict=True)
        if set(column) - {"", "-"}
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*shown, strict=True))


def stored(file: str) -> dict[str, Any]:
    return json.loads((RESULTS / file).read_text("utf-8"))


def _renewed(match: re.Match[str]) -> str:
    file, name = match.groups()
    return f"{file}: {name} -->\n\n{table(stored(file), name)}\n"


def main(check: Annotated[bool, typer.Option("--check", help="fail if a table is not up to date")] = False) -> None:
    renewed = {path: _TABLE.sub(_renewed, path.read_text("utf-8")) for path in PAGES}
    if check:
        if old := [path.name for path, page in renewed.items() if path.read_text("utf-8") != page]:
            raise SystemExit(f"tables in {', '.join(old)} are out of date: run python benchmarks/tables.py")
        return
    import figure

    for path, page in renewed.items():
        path.write_text(page, encoding="utf-8")
    figure.draw(stored("cpu-xeon-2-cores.json"), DOCS / "figures" / "benchmark.svg")
    figure.draw_screens(stored("cpu-epyc-2-cores-screens.json"), DOCS / "figures" / "screens.svg")


if __name__ == "__main__":
    typer.run(main)
