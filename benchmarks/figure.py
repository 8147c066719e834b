"""The README's figure: time and peak memory of the forms of one comparison, as bars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    import matplotlib as mpl
    from matplotlib.figure import Figure

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
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "scgenept-rt", "font.size": 9}):
        figure = Figure(figsize=(8.4, 0.36 * len(names) + 1.1), layout="constrained")
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
        figure.savefig(path, metadata={"Date": None})
