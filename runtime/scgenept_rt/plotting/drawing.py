"""Axes, colours and files of all figures; matplotlib is imported when a figure is drawn, and pyplot never."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scgenept_rt.plotting.errors import FigureFormatError, FigureWriteError, MatplotlibMissingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")

# Okabe and Ito (2008), told apart with every common colour blindness; markers tell series apart without colour too.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
UP, DOWN = "#D55E00", "#0072B2"
NEUTRAL = "#6E6E6E"
DIVERGING = "RdBu_r"


def require_matplotlib() -> None:
    """Raise if figures cannot be drawn.

    Raises
    ------
    MatplotlibMissingError
        If matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MatplotlibMissingError


def check_figure_path(path: str | Path) -> Path:
    """Return the path if a figure can be written there, before anything is computed for it.

    Raises
    ------
    MatplotlibMissingError, FigureFormatError, OutputDirectoryError, OutputKindError
        If matplotlib is missing, the ending is unknown, the directory does not exist, or the path is one.
    """
    from scgenept_rt.errors import OutputDirectoryError, OutputKindError

    require_matplotlib()
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise FigureFormatError(path, FORMATS)
    if not path.parent.is_dir():
        raise OutputDirectoryError(path, "does not exist")
    if path.is_dir():
        raise OutputKindError(path, "a directory", "a file")
    return path


def axes_for(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return `ax`, or the axes of a new figure of this size in inches that no global state knows."""
    if ax is not None:
        return ax
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def style_of(index: int) -> dict[str, Any]:
    """Return colour and marker of the series of this number."""
    return {"color": PALETTE[index % len(PALETTE)], "marker": MARKERS[index % len(MARKERS)]}


def label_genes(ax: Axes, names: Sequence[str], *, axis: str = "x") -> None:
    """Label positions 0, 1, ... with gene names, small enough not to touch."""
    figure = figure_of(ax)
    inches = figure.get_size_inches()[0 if axis == "x" else 1] * (ax.get_position().width if axis == "x" else 0.8)
    # A line of text takes about 1.25 times its size; names on the x axis stand upright.
    size = max(5.0, min(10.0, 72 * float(inches) / max(len(names), 1) / 1.25))
    positions = list(range(len(names)))
    if axis == "x":
        ax.set_xticks(positions, list(names), rotation=90, fontsize=size)
    else:
        ax.set_yticks(positions, list(names), fontsize=size)


def legend_text(name: str) -> str:
    """Return a name as a legend shows it: matplotlib leaves out what begins with an underscore."""
    return f" {name}" if name.startswith("_") else name


def plain(ax: Axes) -> None:
    """Take away the frame's upper and right side."""
    ax.spines[["top", "right"]].set_visible(False)


def save(ax_or_figure: Axes | Figure, path: str | Path, *, dpi: int = 200) -> Path:
    """Write a figure to a .png, .svg or .pdf file.

    Raises
    ------
    FigureFormatError
        If the path has another ending.
    OutputError
        If the file cannot be written.
    """
    path = check_figure_path(path)
    from matplotlib import rc_context

    try:
        with rc_context({"svg.hashsalt": "scgenept-rt"}):  # else ids in .svg files are random
            figure_of(ax_or_figure).savefig(path, dpi=dpi, metadata=_dateless(path))
    except OSError as error:
        raise FigureWriteError(path, error.strerror or str(error)) from error
    return path


def figure_of(ax_or_figure: Axes | Figure) -> Figure:
    """Return the figure that axes are part of."""
    figure: Any = ax_or_figure
    while getattr(figure, "figure", None) is not None and figure.figure is not figure:
        figure = figure.figure
    return figure  # type: ignore[no-any-return]


def svg_of(ax_or_figure: Axes | Figure, prefix: str) -> str:
    """Return a figure as an <svg> element for a page, whose ids begin with `prefix`: those of a page have to differ."""
    from io import StringIO

    stream = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure_of(ax_or_figure).savefig(stream, format="svg", metadata=nothing, dpi=150)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # matplotlib draws some ids at random; numbered, equal figures are equal texts.
    new = {old: f"{prefix}-{number}" for number, old in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', text)))}

    def renamed(match: re.Match[str]) -> str:
        return f"{match[1]}{new.get(match[2], match[2])}{match[3]}"

    return re.sub(r'(\bid="|href="#|url\(#)([^")]+)(["\)])', renamed, text)


def _dateless(path: Path) -> dict[str, Any]:
    """Return metadata without the date, so that equal figures are equal files."""
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower(), {})
