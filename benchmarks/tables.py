"""The tables and figures of docs/, from the measurements in benchmarks/results.

The pages are written by hand; a table stands between `<!-- FILE.json: TABLE -->` and `<!-- end -->`.

python benchmarks/tables.py            # writes tables and figures (needs the extra `plot`)
python benchmarks/tables.py --check    # fails if the tables are not those of the measurements
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from scgenept_rt.benchmark.work import encoder_flops
from scgenept_rt.bundle import Dimensions

ROOT = Path(__file__).resolve().parents[1]
RESULTS, DOCS = ROOT / "benchmarks" / "results", ROOT / "docs"
PAGES = [DOCS / name for name in ("benchmarks.md", "output.md", "ranking.md")]
DRAWN, FIGURE = RESULTS / "cpu-xeon-2-cores.json", DOCS / "figures" / "benchmark.svg"
SCREENS, SCREENS_FIGURE = RESULTS / "cpu-epyc-2-cores-screens.json", DOCS / "figures" / "screens.svg"
_TABLE = re.compile(r"(?<=<!-- )(\S+\.json): (\w+) -->\n.*?(?=\n<!-- end -->)", re.DOTALL)
_MERGED_ON_CPU = ("scgenept-rt-fp32", "scgenept-rt-files")
_KERNELS = {
    "sdpa": "attention (cuDNN)",
    "nvjet": "matrix products (cuBLAS)",
    "SkipLayerNorm": "residual and norm",
    "OP_Max": "bias and ReLU",
    "OP_Add": "other additions",
    "": "all others",
}
"""What part of a kernel's name tells what it does; the first that fits."""
WAYS = {"all": ", all there are", "some": "", "difference": ", difference estimator"}

Cell = Callable[[Any], str]


def side_by_side_table(result: dict[str, Any]) -> str:
    """Return a table of the forms of a comparison: time, rate, memory and error."""
    on_gpu = result["device"] != "cpu"
    unit, scale = ("ms", 1e3) if on_gpu else ("s", 1.0)
    published = next((form for form in result["forms"] if form["name"] == "published" and is_timed(form)), None)

    def times(form: dict[str, Any]) -> str:
        fastest, slowest = (limit(form["seconds"]) / form["cells"] for limit in (min, max))
        return f"{fastest * scale:.2f} to {slowest * scale:.2f}"

    def rate(form: dict[str, Any]) -> float:
        merged = form["name"] in _MERGED_ON_CPU and not on_gpu
        return (merged_gflop(result) if merged else result["gflop_a_cell"]) / seconds_per_cell(form)

    measured: dict[str, Cell] = {
        "(range)": times,
        f"CPU {unit} per cell": lambda form: f"{median(form['cpu_seconds']) / form['cells'] * scale:.2f}",
        "x published": lambda form: f"{seconds_per_cell(published) / seconds_per_cell(form):.2f}" if published else "-",
        "GFLOP/s": lambda form: f"{rate(form):,.0f}",
        "of matrix rate": lambda form: f"{rate(form) / result['matrix_gflops']:.0%}",
        "peak memory, MB": lambda form: _megabytes(form.get("peak_bytes")),
        **({"device memory, MB": lambda form: _megabytes(form.get("device_bytes"))} if on_gpu else {}),
        "largest error": lambda form: f"{form['max_difference']:.1e}",
        "of its tolerance": lambda form: f"{form['times_tolerance']:.2f}",
    }
    columns: dict[str, Cell] = {
        "": lambda form: form["letter"],
        "form": lambda form: form["what"],
        f"{unit} per cell": lambda form: (
            f"{seconds_per_cell(form) * scale:.2f}" if is_timed(form) else form["problem"] or "not timed"
        ),
        **{head: lambda form, cell=cell: cell(form) if is_timed(form) else "" for head, cell in measured.items()},
    }
    return _table(result["forms"], columns, n_text=2)


def genes_table(result: dict[str, Any]) -> str:
    """Return a table of the cost of one cell by number of genes."""
    measured: dict[str, Cell] = {
        "CPU s per cell": lambda row: f"{row['cpu_seconds']:.2f}",
        "GFLOP": lambda row: f"{row['gflop']:,.0f}",
        "GFLOP/s": lambda row: f"{row['gflop'] / row['seconds']:,.0f}",
        "peak memory, MB": lambda row: _megabytes(row["peak_bytes"]),
    }
    columns: dict[str, Cell] = {
        "genes": lambda row: f"{row['genes']:,}",
        "s per cell": lambda row: row["problem"] or f"{row['seconds']:.2f}",
        **{head: lambda row, cell=cell: "" if row["problem"] else cell(row) for head, cell in measured.items()},
    }
    return _table(result["genes"], columns, n_text=0)


def screens_table(result: dict[str, Any]) -> str:
    """Return a table of what the means of a screen cost and how wrong they are, by network and control cells."""
    rows = [
        {**row, "network": network["name"] if row["way"] == "all" else "", "share": row["passes"] / whole["passes"]}
        for network in result["networks"]
        for whole in network["ways"][:1]
        for row in network["ways"]
    ]
    columns: dict[str, Cell] = {
        "network": lambda row: row["network"],
        "means from": lambda row: f"{row['n']} cells{WAYS[row['way']]}",
        "passes": lambda row: f"{row['passes']:,}",
        "of all": lambda row: f"{row['share']:.1%}",
        "s": lambda row: f"{row['seconds']:.1f}" if "seconds" in row else "",
        "CPU s": lambda row: f"{row['cpu_seconds']:.1f}" if "seconds" in row else "",
        # Means over all cells are what the others are compared with.
        "rms error": lambda row: f"(sem {row['rms']:.1e})" if row["way"] == "all" else f"{row['rms']:.1e}",
        "largest error": lambda row: "" if row["way"] == "all" else f"{row['largest']:.1e}",
        "covered": lambda row: f"{row['covered']:.2f}" if "covered" in row else "",
    }
    return _table(rows, columns, n_text=2)


def devices_table(result: dict[str, Any]) -> str:
    """Return a table of simulated devices: how much faster several are, and what the host could feed at most."""
    alone = {row["aggregate"]: row for row in result["devices"] if row["devices"] == 1}
    host = {row["aggregate"]: row["passes"] / row["cpu_seconds"] for row in result["host"]}

    def is_first(row: dict[str, Any]) -> bool:
        return row is alone[row["aggregate"]]

    def gain(row: dict[str, Any]) -> float:
        return float(alone[row["aggregate"]]["seconds"] / row["seconds"])

    columns: dict[str, Cell] = {
        "output": lambda row: row["aggregate"] if is_first(row) else "",
        "devices": lambda row: f"{row['devices']}",
        "s": lambda row: f"{row['seconds']:.1f}",
        "predictions/s": lambda row: f"{row['passes'] / row['seconds']:,.0f}",
        "x one device": lambda row: f"{gain(row):.2f}",
        "of linear": lambda row: f"{gain(row) / row['devices']:.1%}",
        "CPUs used": lambda row: f"{row['cpu_seconds'] / row['seconds']:.2f}",
        "predictions per CPU s": lambda row: f"{host[row['aggregate']]:,.0f}" if is_first(row) else "",
    }
    return _table(result["devices"], columns)


def processes_table(result: dict[str, Any]) -> str:
    """Return a table of runs in one and in several processes."""
    columns: dict[str, Cell] = {
        "": lambda row: row["case"],
        "predictions": lambda row: f"{row['predictions']:,}" if row["predictions"] else "",
        "s": lambda row: f"{row['seconds']:.1f}",
        "CPU s": lambda row: f"{row['cpu_seconds']:.1f}",
        "predictions per CPU s": lambda row: (
            f"{row['predictions'] / row['cpu_seconds']:,.0f}" if row["predictions"] else ""
        ),
    }
    return _table(result["processes"], columns)


def memory_table(result: dict[str, Any]) -> str:
    """Return a table of peak memory by number of predicted rows."""
    columns: dict[str, Cell] = {
        "predicted rows": lambda row: f"{row['rows']:,}",
        "output, MB": lambda row: _megabytes(row["output_bytes"]),
        "peak memory, MB": lambda row: _megabytes(row["peak_bytes"]),
    }
    return _table(result["memory"], columns, n_text=0)


def batches_table(result: dict[str, Any]) -> str:
    """Return a table of time, rate and memory by batch size on a GPU."""
    rows = [(benchmark, timing) for benchmark in result["benchmarks"] for timing in benchmark["timings"]]

    def form(benchmark: dict[str, Any]) -> str:
        return benchmark["reference"]["precision"] + (", CUDA graphs" if benchmark.get("cuda_graphs") else "")

    columns = {
        "precision": lambda row: form(row[0]) if row[1] is row[0]["timings"][0] else "",
        "cells per batch": lambda row: f"{row[1]['batch_size']}",
        "ms per cell": lambda row: f"{row[1]['p50_ms'] / row[1]['batch_size']:.2f}",
        "cells/s": lambda row: f"{row[1]['cells_per_second']:,.0f}",
        "GFLOP/s": lambda row: f"{row[1]['gflops']:,.0f}",
        "device memory, MB": lambda row: _megabytes(row[1]["peak_device_bytes"]),
    }
    return _table(rows, columns)


def kernels_table(result: dict[str, Any]) -> str:
    """Return a table of where the time of a batch goes on a GPU."""
    (profiled,) = (step for step in result["steps"] if step["step"] == "kernels")
    kinds: dict[str, list[float]] = {}
    for kernel in result["kernels"]:
        kind = next(what for part, what in _KERNELS.items() if part in kernel["name"])
        sums = kinds.setdefault(kind, [0.0, 0.0])
        sums[0] += kernel["calls"]
        sums[1] += kernel["ms"]
    columns = {
        "kernels": lambda row: row[0],
        "calls": lambda row: f"{row[1][0]:.0f}",
        "ms per batch": lambda row: f"{row[1][1]:.2f}",
        "us per call": lambda row: f"{row[1][1] / row[1][0] * 1e3:.0f}",
        "share": lambda row: f"{row[1][1] / profiled['kernel_ms']:.1%}",
    }
    return _table(kinds.items(), columns)


def graphs_table(result: dict[str, Any]) -> str:
    """Return a table of the bare graph on a GPU, in other forms, sizes and sessions."""
    columns = {
        "graph": lambda row: row["what"],
        "ms per cell": lambda row: f"{row['ms_per_cell']:.3f}",
        "(fastest)": lambda row: f"{row['best_ms_per_cell']:.3f}",
        "largest error": lambda row: f"{row['max_error_to_fp32']:.1e}",
    }
    return _table([step for step in result["steps"] if step["step"] == "variants"], columns)


def searches_table(result: dict[str, Any]) -> str:
    """Return a table of what the best of large screens cost to find."""
    columns: dict[str, Cell] = {
        "screen": lambda row: f"{row['candidates']:,} {row['screen']}, {row['cells']:,} control cells",
        "passes": lambda row: f"{row['passes']:,}",
        "of the full screen": lambda row: f"{row['passes'] / (row['candidates'] * row['cells']):.1%}",
        "found": lambda row: f"{row['found']} of {row['top']}",
    }
    return _table(result["searches"], columns)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "forms": side_by_side_table,
    "genes": genes_table,
    "networks": screens_table,
    "devices": devices_table,
    "processes": processes_table,
    "memory": memory_table,
    "searches": searches_table,
    "batches": batches_table,
    "kernels": kernels_table,
    "graphs": graphs_table,
}


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
    """Return the page with every table renewed."""

    def renewed(match: re.Match[str]) -> str:
        file, name = match.groups()
        return f"{file}: {name} -->\n\n{TABLES[name](json.loads((RESULTS / file).read_text('utf-8')))}\n"

    return _TABLE.sub(renewed, page)


def _table(rows: Iterable[Any], columns: Mapping[str, Cell], n_text: int = 1) -> str:
    rule = ["---"] * n_text + ["---:"] * (len(columns) - n_text)
    lines = [columns, rule, *([cell(row) for cell in columns.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if a table is not up to date")
    pages = {path: path.read_text("utf-8") for path in PAGES}
    if parser.parse_args().check:
        old = [str(path.relative_to(ROOT)) for path, page in pages.items() if with_tables(page) != page]
        if old:
            raise SystemExit(f"tables in {', '.join(old)} are out of date: run python benchmarks/tables.py")
        return
    import figure

    for path, page in pages.items():
        path.write_text(with_tables(page), encoding="utf-8")
    result = json.loads(DRAWN.read_text("utf-8"))
    timed = {form["name"]: form for form in result["forms"] if is_timed(form) and form.get("peak_bytes")}
    figure.draw(result, {name: (seconds_per_cell(form), form["peak_bytes"]) for name, form in timed.items()}, FIGURE)
    figure.draw_screens(json.loads(SCREENS.read_text("utf-8")), SCREENS_FIGURE)


if __name__ == "__main__":
    main()
