"""The tables and figures of docs/benchmarks.md, from the measurements in benchmarks/results.

The page is written by hand; a table stands between `<!-- FILE.json: TABLE -->` and `<!-- end -->`.

python benchmarks/tables.py            # writes tables and figures (needs the extra `plot`)
python benchmarks/tables.py --check    # fails if the tables are not those of the measurements
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import figure
from scgenept_rt.benchmark.work import encoder_flops
from scgenept_rt.bundle import Dimensions

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "benchmarks.md"
DRAWN, FIGURE = RESULTS / "cpu-xeon-2-cores.json", ROOT / "docs" / "figures" / "benchmark.svg"
SCREENS, SCREENS_FIGURE = RESULTS / "cpu-epyc-2-cores-screens.json", ROOT / "docs" / "figures" / "screens.svg"
_TABLE = re.compile(r"(?<=<!-- )(\S+\.json): (\w+)( -->\n\n).*?(?=\n\n<!-- end -->)", re.DOTALL)
_MERGED_ON_CPU = ("scgenept-rt-fp32", "scgenept-rt-files")
WAYS = {"all": ", all there are", "some": "", "difference": ", difference estimator"}
_SECONDS = ("seconds", "cpu_seconds")
_OPERATORS = {
    "MultiHeadAttention": "attention (products and softmax in one kernel)",
    "MatMul": "projections and linear layers",
    "SkipLayerNormalization": "sums and norms",
}


def side_by_side_table(result: dict[str, Any]) -> str:
    """Return a table of the forms of a comparison: time, rate, memory and error."""
    on_gpu = result["device"] != "cpu"
    digits = 5 if on_gpu else 2  # hundredths of a millisecond
    published = next((form for form in result["forms"] if form["name"] == "published" and is_timed(form)), None)
    heads = ["", "form", "s per cell", "(range)", "CPU s per cell", "x published", "GFLOP/s", "of matrix rate"]
    heads += ["peak memory, MB", *(["device memory, MB"] if on_gpu else []), "largest error", "of its tolerance"]
    rows = []
    for form in result["forms"]:
        row = [form["letter"], form["what"]]
        if is_timed(form):
            seconds = seconds_per_cell(form)
            merged = form["name"] in _MERGED_ON_CPU and not on_gpu
            rate = (merged_gflop(result) if merged else result["gflop_a_cell"]) / seconds
            fastest, slowest = (limit(form["seconds"]) / form["cells"] for limit in (min, max))
            row += [
                f"{seconds:.{digits}f}",
                f"{fastest:.{digits}f} to {slowest:.{digits}f}",
                f"{median(form['cpu_seconds']) / form['cells']:.2f}",
                f"{seconds_per_cell(published) / seconds:.2f}" if published else "-",
                f"{rate:,.0f}",
                f"{rate / result['matrix_gflops']:.0%}",
                _megabytes(form.get("peak_bytes")),
                *([_megabytes(form.get("device_bytes"))] if on_gpu else []),
                f"{form['max_difference']:.1e}",
                f"{form['times_tolerance']:.2f}",
            ]
        else:
            row += [form["problem"] or "not timed", *[""] * (len(heads) - 3)]
        rows.append(row)
    return _markdown(heads, rows, n_text=2)


def operator_table(result: dict[str, Any]) -> str:
    """Return a table of the time of one cell by operator."""
    operators = result["operators"]
    total = sum(row["seconds"] for row in operators.values())
    rest = [row for name, row in operators.items() if name not in _OPERATORS]
    parts = [(text, operators[name]) for name, text in _OPERATORS.items() if name in operators]
    parts.append(("everything else", {key: sum(row[key] for row in rest) for key in ("seconds", "gflop")}))
    rows = []
    for text, part in parts:
        rate = part["gflop"] / part["seconds"] if part["seconds"] else 0.0
        rates = [f"{part['gflop']:,.0f}", f"{rate:,.0f}", f"{rate / result['matrix_gflops']:.0%}"]
        row = [text, f"{part['seconds']:.2f}", f"{part['seconds'] / total:.0%}"]
        rows.append(row + (rates if part["gflop"] else ["-"] * 3))
    return _markdown(["part", "s", "share", "GFLOP", "GFLOP/s", "of matrix rate"], rows)


def genes_table(result: dict[str, Any]) -> str:
    """Return a table of the cost of one cell by number of genes."""
    heads = ["genes", "s per cell", "CPU s per cell", "GFLOP", "GFLOP/s", "peak memory, MB"]
    rows = []
    for row in result["genes"]:
        found = [row["problem"], *[""] * 4]
        if not row["problem"]:
            rates = [f"{row['gflop']:,.0f}", f"{row['gflop'] / row['seconds']:,.0f}"]
            found = [f"{row['seconds']:.2f}", f"{row['cpu_seconds']:.2f}", *rates, _megabytes(row["peak_bytes"])]
        rows.append([f"{row['genes']:,}", *found])
    return _markdown(heads, rows, n_text=0)


def growth_table(result: dict[str, Any], what: str) -> str:
    """Return a table of the cost of `predict` by number of ``cells`` or ``perturbations``."""
    rows = [
        [
            f"{row[what]:,}",
            f"{row['seconds']:.2f}",
            f"{row['cpu_seconds']:.2f}",
            f"{row['cpu_seconds'] / (row['cells'] * row['perturbations']):.3f}",
            _megabytes(row["peak_bytes"]),
        ]
        for row in result[what]
    ]
    return _markdown([what, "s", "CPU s", "CPU s per prediction", "peak memory, MB"], rows, n_text=0)


def screens_table(result: dict[str, Any]) -> str:
    """Return a table of what the means of a screen cost and how wrong they are, by network and control cells."""
    heads = ["network", "means from", "passes", "of all", "s", "CPU s", "rms error", "largest error", "covered"]
    rows = []
    for network in result["networks"]:
        whole = network["ways"][0]
        for row in network["ways"]:
            every = row is whole
            # Means over all cells are what the others are held against.
            errors = [f"(sem {row['rms']:.1e})", ""] if every else [f"{row['rms']:.1e}", f"{row['largest']:.1e}"]
            rows.append(
                [
                    network["name"] if every else "",
                    f"{row['n']} cells{WAYS[row['way']]}",
                    f"{row['passes']:,}",
                    f"{row['passes'] / whole['passes']:.1%}",
                    f"{row['seconds']:.1f}" if "seconds" in row else "",
                    f"{row['cpu_seconds']:.1f}" if "seconds" in row else "",
                    *errors,
                    f"{row['covered']:.2f}" if "covered" in row else "",
                ]
            )
    return _markdown(heads, rows, n_text=2)


def devices_table(result: dict[str, Any]) -> str:
    """Return a table of simulated devices: how much faster several are, and what the host could feed at most."""
    heads = [
        "output",
        "devices",
        "s",
        "predictions/s",
        "x one device",
        "of linear",
        "CPUs used",
        "predictions per CPU s",
    ]
    alone = {row["aggregate"]: row for row in result["devices"] if row["devices"] == 1}
    host = {row["aggregate"]: row["passes"] / row["cpu_seconds"] for row in result["host"]}
    rows = []
    for row in result["devices"]:
        first = row is alone[row["aggregate"]]
        gain = alone[row["aggregate"]]["seconds"] / row["seconds"]
        rows.append(
            [
                row["aggregate"] if first else "",
                f"{row['devices']}",
                f"{row['seconds']:.1f}",
                f"{row['passes'] / row['seconds']:,.0f}",
                f"{gain:.2f}",
                f"{gain / row['devices']:.1%}",
                f"{row['cpu_seconds'] / row['seconds']:.2f}",
                f"{host[row['aggregate']]:,.0f}" if first else "",
            ]
        )
    return _markdown(heads, rows)


def processes_table(result: dict[str, Any]) -> str:
    """Return a table of runs in one and in several processes."""
    rows = [
        [row["case"], f"{row['predictions']:,}" if row["predictions"] else "", *(f"{row[k]:.1f}" for k in _SECONDS)]
        for row in result["processes"]
    ]
    return _markdown(["", "predictions", "s", "CPU s"], rows)


def is_timed(form: dict[str, Any]) -> bool:
    """Return whether a form has times, and did not fail."""
    return bool(form["seconds"]) and not form["problem"]


def seconds_per_cell(form: dict[str, Any]) -> float:
    """Return the median time per cell."""
    return median(form["seconds"]) / form["cells"]


def merged_gflop(result: dict[str, Any]) -> float:
    """Return the work for one cell when identical tokens are merged."""
    return encoder_flops(Dimensions(**result["dimensions"]), round(result["tokens_computed"])) / 1e9


def with_tables(page: str) -> str:
    """Return the page with every table made anew."""

    def renewed(match: re.Match[str]) -> str:
        file, name, end = match.groups()
        result = json.loads((RESULTS / file).read_text("utf-8"))
        tables = {"forms": side_by_side_table, "operators": operator_table, "genes": genes_table}
        tables |= {"networks": screens_table, "devices": devices_table, "processes": processes_table}
        return f"{file}: {name}{end}{tables[name](result) if name in tables else growth_table(result, name)}"

    return _TABLE.sub(renewed, page)


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], n_text: int = 1) -> str:
    rule = ["---"] * n_text + ["---:"] * (len(heads) - n_text)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if a table is not up to date")
    page = PAGE.read_text("utf-8")
    if parser.parse_args().check:
        if with_tables(page) != page:
            raise SystemExit(f"tables in {PAGE.relative_to(ROOT)} are out of date: run python benchmarks/tables.py")
        return
    PAGE.write_text(with_tables(page), encoding="utf-8")
    result = json.loads(DRAWN.read_text("utf-8"))
    timed = {form["name"]: form for form in result["forms"] if is_timed(form) and form.get("peak_bytes")}
    figure.draw(result, {name: (seconds_per_cell(form), form["peak_bytes"]) for name, form in timed.items()}, FIGURE)
    figure.draw_screens(json.loads(SCREENS.read_text("utf-8")), SCREENS_FIGURE)


if __name__ == "__main__":
    main()
