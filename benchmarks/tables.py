"""The tables and figures of docs/, from the measurements in benchmarks/results.

The pages are written by hand; a table stands between `<!-- FILE.json: TABLE -->` and `<!-- end -->`.

python benchmarks/tables.py            # writes tables and figures (needs the extra `plot`)
python benchmarks/tables.py --check    # fails if the tables are not those of the measurements
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from string import Formatter
from typing import Annotated, Any

import typer

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

Row = Mapping[str, Any]


class _Cells(Formatter):
    """Formats cells of tables: bytes in megabytes with `:MB`, and what is not known as a dash."""

    def format_field(self, value: Any, spec: str) -> str:
        if value is None:
            return "-"
        return f"{value / 1e6:,.0f}" if spec == "MB" else format(value, spec)


def _table(rows: Iterable[Row], head: str, cells: str, n_text: int = 1) -> str:
    """Return a table: a cell is a format of a row's values, empty where they are missing; some first are of text."""

    def filled(cell: str, row: Row) -> str:
        try:
            return _Cells().vformat(cell, (), row)
        except KeyError:
            return ""

    heads, formats = head.split(" | "), cells.split(" | ")
    rule = ["---"] * n_text + ["---:"] * (len(heads) - n_text)
    lines = [heads, rule, *([filled(cell, row) for cell in formats] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def side_by_side_table(result: dict[str, Any]) -> str:
    """Return a table of the forms of a comparison: time, rate, memory and error."""
    on_gpu = result["device"] != "cpu"
    unit, scale = ("ms", 1e3) if on_gpu else ("s", 1.0)
    published = next((form for form in result["forms"] if form["name"] == "published" and is_timed(form)), None)

    def row(form: dict[str, Any]) -> Row:
        shown = {"letter": form["letter"], "what": form["what"]}
        if not is_timed(form):
            return shown | {"time": form["problem"] or "not timed"}
        per_cell = [seconds / form["cells"] * scale for seconds in form["seconds"]]
        merged = form["name"] in _MERGED_ON_CPU and not on_gpu
        rate = (merged_gflop(result) if merged else result["gflop_a_cell"]) / seconds_per_cell(form)
        return {"peak_bytes": None, "device_bytes": None} | form | {
            "time": f"{median(per_cell):.2f}",
            "range": f"{min(per_cell):.2f} to {max(per_cell):.2f}",
            "cpu": median(form["cpu_seconds"]) / form["cells"] * scale,
            "gain": f"{seconds_per_cell(published) / seconds_per_cell(form):.2f}" if published else None,
            "rate": rate,
            "of_matrix": rate / result["matrix_gflops"],
        }  # fmt: skip

    device = " | device memory, MB" if on_gpu else ""
    head = f" | form | {unit} per cell | (range) | CPU {unit} per cell | x published | GFLOP/s | of matrix rate"
    head += f" | peak memory, MB{device} | largest error | of its tolerance"
    cells = "{letter} | {what} | {time} | {range} | {cpu:.2f} | {gain} | {rate:,.0f} | {of_matrix:.0%}"
    cells += f" | {{peak_bytes:MB}}{' | {device_bytes:MB}' if on_gpu else ''} | {{max_difference:.1e}}"
    cells += " | {times_tolerance:.2f}"
    return _table(map(row, result["forms"]), head, cells, 2)


def genes_table(result: dict[str, Any]) -> str:
    """Return a table of the cost of one cell by number of genes."""
    rows = [
        {"genes": row["genes"], "time": row["problem"]}
        if row["problem"]
        else {**row, "time": f"{row['seconds']:.2f}", "rate": row["gflop"] / row["seconds"]}
        for row in result["genes"]
    ]
    head = "genes | s per cell | CPU s per cell | GFLOP | GFLOP/s | peak memory, MB"
    cells = "{genes:,} | {time} | {cpu_seconds:.2f} | {gflop:,.0f} | {rate:,.0f} | {peak_bytes:MB}"
    return _table(rows, head, cells, 0)


def screens_table(result: dict[str, Any]) -> str:
    """Return a table of what the means of a screen cost and how wrong they are, by network and control cells."""
    rows = []
    for network in result["networks"]:
        whole, *others = network["ways"]
        # Means over all cells are what the others are compared with.
        rows.append({**whole, "network": network["name"], "error": f"(sem {whole['rms']:.1e})", "share": 1.0})
        del rows[-1]["largest"]
        rows += [{**way, "error": f"{way['rms']:.1e}", "share": way["passes"] / whole["passes"]} for way in others]
    head = "network | means from | passes | of all | s | CPU s | rms error | largest error | covered"
    cells = "{network} | {n} cells{way} | {passes:,} | {share:.1%} | {seconds:.1f} | {cpu_seconds:.1f}"
    cells += " | {error} | {largest:.1e} | {covered:.2f}"
    return _table([row | {"way": WAYS[row["way"]]} for row in rows], head, cells, 2)


def devices_table(result: dict[str, Any]) -> str:
    """Return a table of simulated devices: how much faster several are, and what the host could feed at most."""
    alone = {row["aggregate"]: row["seconds"] for row in result["devices"] if row["devices"] == 1}
    host = {row["aggregate"]: row["passes"] / row["cpu_seconds"] for row in result["host"]}
    rows = []
    for row in result["devices"]:
        gain = alone[row["aggregate"]] / row["seconds"]
        first = {"output": row["aggregate"], "host": host[row["aggregate"]]} if row["devices"] == 1 else {}
        rate, cpus = row["passes"] / row["seconds"], row["cpu_seconds"] / row["seconds"]
        rows.append({**row, **first, "rate": rate, "cpus": cpus, "gain": gain, "linear": gain / row["devices"]})
    head = "output | devices | s | predictions/s | x one device | of linear | CPUs used | predictions per CPU s"
    cells = "{output} | {devices} | {seconds:.1f} | {rate:,.0f} | {gain:.2f} | {linear:.1%} | {cpus:.2f} | {host:,.0f}"
    return _table(rows, head, cells)


def processes_table(result: dict[str, Any]) -> str:
    """Return a table of runs in one and in several processes."""
    rows = [
        {**row, "shown": row["predictions"], "rate": row["predictions"] / row["cpu_seconds"]}
        if row["predictions"]
        else row
        for row in result["processes"]
    ]
    head = " | predictions | s | CPU s | predictions per CPU s"
    cells = "{case} | {shown:,} | {seconds:.1f} | {cpu_seconds:.1f} | {rate:,.0f}"
    return _table(rows, head, cells)


def memory_table(result: dict[str, Any]) -> str:
    """Return a table of peak memory by number of predicted rows."""
    head = "predicted rows | output, MB | peak memory, MB"
    cells = "{rows:,} | {output_bytes:MB} | {peak_bytes:MB}"
    return _table(result["memory"], head, cells, 0)


def batches_table(result: dict[str, Any]) -> str:
    """Return a table of time, rate and memory by batch size on a GPU."""
    rows = []
    for benchmark in result["benchmarks"]:
        form = benchmark["reference"]["precision"] + (", CUDA graphs" if benchmark.get("cuda_graphs") else "")
        for timing in benchmark["timings"]:
            rows.append({**timing, "form": form, "ms": timing["p50_ms"] / timing["batch_size"]})
            form = ""
    head = "precision | cells per batch | ms per cell | cells/s | GFLOP/s | device memory, MB"
    cells = "{form} | {batch_size} | {ms:.2f} | {cells_per_second:,.0f} | {gflops:,.0f} | {peak_device_bytes:MB}"
    return _table(rows, head, cells)


def kernels_table(result: dict[str, Any]) -> str:
    """Return a table of where the time of a batch goes on a GPU."""
    (profiled,) = (step for step in result["steps"] if step["step"] == "kernels")
    kinds: dict[str, Counter[str]] = {}
    for kernel in result["kernels"]:
        kind = next(what for part, what in _KERNELS.items() if part in kernel["name"])
        kinds.setdefault(kind, Counter()).update({"calls": kernel["calls"], "ms": kernel["ms"]})
    rows = [
        {"kind": kind, **sums, "us": sums["ms"] / sums["calls"] * 1e3, "share": sums["ms"] / profiled["kernel_ms"]}
        for kind, sums in kinds.items()
    ]
    head = "kernels | calls | ms per batch | us per call | share"
    cells = "{kind} | {calls:.0f} | {ms:.2f} | {us:.0f} | {share:.1%}"
    return _table(rows, head, cells)


def graphs_table(result: dict[str, Any]) -> str:
    """Return a table of the bare graph on a GPU, in other forms, sizes and sessions."""
    head = "graph | ms per cell | (fastest) | largest error"
    cells = "{what} | {ms_per_cell:.3f} | {best_ms_per_cell:.3f} | {max_error_to_fp32:.1e}"
    return _table([step for step in result["steps"] if step["step"] == "variants"], head, cells)


def searches_table(result: dict[str, Any]) -> str:
    """Return a table of what the best of large screens cost to find."""
    head = "screen | passes | of the full screen | found"
    cells = "{candidates:,} {screen}, {cells:,} control cells | {passes:,} | {share:.1%} | {found} of {top}"
    rows = [row | {"share": row["passes"] / (row["candidates"] * row["cells"])} for row in result["searches"]]
    return _table(rows, head, cells)


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


def main(check: Annotated[bool, typer.Option("--check", help="fail if a table is not up to date")] = False) -> None:
    pages = {path: path.read_text("utf-8") for path in PAGES}
    if check:
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
    typer.run(main)
