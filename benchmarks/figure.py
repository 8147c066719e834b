"""The figure of the README: seconds a cell and peak memory of the forms of one committed comparison, as bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from form_figures import seconds_a_cell

SHOWN = {
    "published": "published code, as it comes",
    "published-no-mask": "published, without its empty mask",
    "published-no-fast-path": "published, PyTorch's fast path off",
    "torch-compile": "torch.compile of the folded network",
    "default-export-opset20": "ONNX Runtime, exported by default",
    "scgenept-rt-fp32": "scgenept-rt",
    "scgenept-rt-fp16": "scgenept-rt, fp16",
}
"""Forms by name, from the top; those that a device was not timed with are left out."""

_OWN, _OTHER = "#0072b2", "#b0b0b0"  # told apart by colour-blind readers, and in grey


def labels(result: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return, by form, what stands beside its two bars."""
    unit = "s" if result["device"] == "cpu" else "ms"
    scale, digits = (1, 2) if unit == "s" else (1e3, 2)
    return {
        form["name"]: (
            f"{seconds_a_cell(form) * scale:.{digits}f} {unit}",
            f"{form['peak_bytes'] / 1e6:,.0f} MB",
        )
        for form in _shown(result)
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw a comparison; texts stay texts in the file, so that it can be checked against the figures."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    forms = _shown(result)
    texts = labels(result)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "scgenept-rt", "font.size": 9}):
        figure = Figure(figsize=(8.4, 0.36 * len(forms) + 1.1), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        values = (
            [seconds_a_cell(form) for form in forms],
            [form["peak_bytes"] / 1e6 for form in forms],
        )
        colours = [_OWN if form["name"].startswith("scgenept-rt") else _OTHER for form in forms]
        for column, (ax, title) in enumerate(zip(axes, ("time of one cell", "peak memory"), strict=True)):
            bars = ax.barh([SHOWN[form["name"]] for form in forms], values[column], color=colours)
            ax.bar_label(bars, [texts[form["name"]][column] for form in forms], padding=3)
            ax.set_title(title, loc="left", fontsize=10)
            ax.set_xlim(0, max(values[column]) * 1.22)
            ax.set_xticks([])
            ax.spines[["top", "right", "bottom"]].set_visible(False)
            ax.tick_params(length=0)
        axes[0].invert_yaxis()
        machine = result["machine"]
        on_cpu = result["device"] == "cpu"
        where = f"{machine['threads']} cores of {machine['cpu']}" if on_cpu else machine["gpu"]["name"]
        figure.supxlabel(
            f"{result['genes']:,} genes, {result['layers']} layers, {result['cells']} cells a batch; {where}; "
            f"medians of {result['rounds']} rounds of one run",
            fontsize=8,
        )
        figure.savefig(path, metadata={"Date": None})


def _shown(result: dict[str, Any]) -> list[dict[str, Any]]:
    own = "scgenept-rt-fp16" if result["device"] == "cpu" else "scgenept-rt-fp32"  # of the other device
    timed = {form["name"]: form for form in result["forms"] if form["seconds"] and not form["problem"]}
    return [timed[name] for name in SHOWN if name in timed and name != own]
