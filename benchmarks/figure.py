"""The figures of benchmarks: time and peak memory of the forms of a comparison, and errors of screens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    "scgenept-rt-fp16": "scgenept-rt, fp16",
}
_OWN, _OTHER = "#0072b2", "#b0b0b0"  # told apart by colour-blind readers, and in grey


def draw(result: dict[str, Any], measured: Mapping[str, tuple[float, int]], path: Path) -> None:
    """Draw seconds per cell and peak bytes of the forms of a comparison, by name."""
    on_cpu, machine = result["device"] == "cpu", result["machine"]
    hidden = "scgenept-rt-fp16" if on_cpu else "scgenept-rt-fp32"  # meant for the other device
    names = [name for name in _SHOWN if name in measured and name != hidden]
    scale, unit = (1, "s") if on_cpu else (1e3, "ms")
    times = [measured[name][0] * scale for name in names]
    memory = [measured[name][1] / 1e6 for name in names]
    columns = (
        ("time per cell", times, [f"{value:.2f} {unit}" for value in times]),
        ("peak memory", memory, [f"{value:,.0f} MB" for value in memory]),
    )
    colours = [_OWN if name.startswith("scgenept-rt") else _OTHER for name in names]
    with _written(path, 0.36 * len(names) + 1.1) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        for ax, (title, values, labels) in zip(axes, columns, strict=True):
            ax.bar_label(ax.barh([_SHOWN[name] for name in names], values, color=colours), labels, padding=3)
            ax.set_title(title, loc="left", fontsize=10)
            ax.set_xlim(0, max(values) * 1.22)
            ax.set_xticks([])
            ax.spines[["top", "right", "bottom"]].set_visible(False)
            ax.tick_params(length=0)
        axes[0].invert_yaxis()
        where = f"{machine['threads']} cores of {machine['cpu']}" if on_cpu else machine["gpu"]["name"]
        figure.supxlabel(
            f"{result['genes']:,} genes, {result['layers']} layers, {result['cells']} cells per batch; {where}; "
            f"medians of {result['rounds']} rounds of one run",
            fontsize=8,
        )


def draw_screens(result: dict[str, Any], path: Path) -> None:
    """Draw the rms error of a screen's means against the share of the passes, one panel per network."""
    networks = result["networks"]
    lines = (
        ("some", "mean over some cells", {"color": _OTHER, "marker": "s"}),
        ("difference", "difference estimator", {"color": _OWN, "marker": "o"}),
    )
    with _written(path, 3.0) as figure:
        for ax, network in zip(figure.subplots(1, len(networks), squeeze=False, sharey=True)[0], networks, strict=True):
            whole, *others = network["ways"]
            for way, label, style in lines:
                ways = [row for row in others if row["way"] == way]
                x, y = [100 * row["passes"] / whole["passes"] for row in ways], [row["rms"] for row in ways]
                ax.plot(x, y, label=label, markersize=5, **style)
                for row, *place in zip(ways, x, y, strict=True):
                    ax.annotate(row["n"], place, xytext=(0, 5), textcoords="offset points", ha="center", fontsize=7)
            ax.axhline(whole["rms"], color="black", linestyle="--", linewidth=0.8, label="sem of all cells")
            ax.set_title(f"{network['name']}: {network['genes']:,} genes, {network['layers']} layers", fontsize=9)
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xticks([5, 10, 20, 50], ["5%", "10%", "20%", "50%"])
            ax.minorticks_off()
            ax.margins(0.1, 0.15)
            ax.spines[["top", "right"]].set_visible(False)
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
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "scgenept-rt", "font.size": 9}):
        figure = Figure(figsize=(8.4, height), layout="constrained")
        yield figure
        figure.savefig(path, metadata={"Date": None})
