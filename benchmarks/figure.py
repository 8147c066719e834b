"""The figures of benchmarks: time and peak memory of the forms of a comparison, and errors of screens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

_SHOWN = {
    "published": "published code, as it comes",
    "published-no-mask": "published, without its empty mask",
    "published-no-fast-path": "published, PyTorch's fast path off",
    "torch-compile": "torch.compile of the folded network",
    "default-export-opset20": "ONNX Runtime, exported by default",
    "scgenept-rt-fp32": "scgenept-rt",
}
_OWN, _OTHER = "#0072b2", "#b0b0b0"  # told apart by colour-blind readers, and in grey


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw seconds per cell and peak memory of the forms of a comparison on a CPU."""
    forms = {form["name"]: form for form in result["forms"] if "per_cell" in form}
    names = [name for name in _SHOWN if name in forms]
    colours = [_OWN if name.startswith("scgenept-rt") else _OTHER for name in names]
    with _written(path, 0.36 * len(names) + 1.1) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        columns = (("time per cell", "per_cell", 1, "{:.2f} s"), ("peak memory", "peak_bytes", 1e6, "{:,.0f} MB"))
        for ax, (title, key, unit, label) in zip(axes, columns, strict=True):
            values = [forms[name][key] / unit for name in names]
            bars = ax.barh([_SHOWN[name] for name in names], values, color=colours)
            ax.bar_label(bars, [label.format(value) for value in values], padding=3)
            ax.set_title(title, loc="left")
            ax.set(xlim=(0, max(values) * 1.22), xticks=[])
            ax.spines["bottom"].set_visible(False)
            ax.tick_params(length=0)
        axes[0].invert_yaxis()
        figure.supxlabel(
            f"{result['genes']:,} genes, {result['layers']} layers, {result['cells']} cells per batch; "
            f"{result['machine']['threads']} cores of {result['machine']['cpu']}; "
            f"medians of {result['rounds']} rounds of one run",
            fontsize=8,
        )


def draw_screens(result: dict[str, Any], path: Path) -> None:
    """Draw the rms error of a screen's means against the share of the passes, one panel per network."""
    networks = result["networks"]
    lines = (("some", "mean over some cells", _OTHER, "s"), ("difference", "difference estimator", _OWN, "o"))
    with _written(path, 3.0) as figure:
        for ax, network in zip(figure.subplots(1, len(networks), squeeze=False, sharey=True)[0], networks, strict=True):
            for way, label, colour, marker in lines:
                ways = [row for row in network["ways"] if row["way"] == way]
                x, y = [100 * row["share"] for row in ways], [row["rms"] for row in ways]
                ax.plot(x, y, label=label, markersize=5, color=colour, marker=marker)
                for row, *place in zip(ways, x, y, strict=True):
                    ax.annotate(row["n"], place, xytext=(0, 5), textcoords="offset points", ha="center", fontsize=7)
            ax.axhline(network["sem"], color="black", linestyle="--", linewidth=0.8, label="sem of all cells")
            ax.set(xscale="log", yscale="log")
            ax.set_title(f"{network['name']}: {network['genes']:,} genes, {network['layers']} layers")
            ax.set_xticks([5, 10, 20, 50], ["5%", "10%", "20%", "50%"])
            ax.minorticks_off()
            ax.margins(0.1, 0.15)
        figure.axes[0].set_ylabel("rms error of means (log1p)")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
        figure.supxlabel(
            f"passes, of those for all {networks[0]['cells']} control cells x {networks[0]['perturbations']} "
            "perturbations; numbers: cells per perturbation",
            fontsize=8,
        )


@contextmanager
def _written(path: Path, height: float) -> Iterator[Figure]:
    """Yield a figure of this height in inches, which is written at the end."""
    style = {"font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "scgenept-rt", **style}):
        figure = Figure(figsize=(8.4, height), layout="constrained")
        yield figure
        figure.savefig(path, metadata={"Date": None})
