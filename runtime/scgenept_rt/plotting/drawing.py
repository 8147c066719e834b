"""Axes, colours and files of all figures; matplotlib is imported when a figure is drawn, and pyplot never."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scgenept_rt.plotting.errors import FigureFormatError, FigureWriteError, MatplotlibMissingError, PlotError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")

# Okabe and Ito (2008), told apart with every common colour blindness; markers tell series apart without colour too.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LOOKS_LIKE_A_DOT = {"s": 0.95, "^": 1.25, "v": 1.25, "D": 0.95, "P": 1.3, "X": 1.25}
"""How much larger than a dot's a marker's size has to be for it to look as large."""

MAX_SERIES = len(PALETTE) * len(MARKERS)
MAX_NAMED_GENES = 300
_SMALLEST = 5.0  # typographic points
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


def style_of(index: int, size: float = 6.0) -> dict[str, Any]:
    """Return colour and marker, as large as a dot of this size, of a series; the first `MAX_SERIES` all differ.

    Each round of the colours begins at another marker: the eighth series has the first one's colour, not its marker.
    """
    again, colour = divmod(index, len(PALETTE))
    marker = MARKERS[(colour + again) % len(MARKERS)]
    return {"color": PALETTE[colour], "marker": marker, "markersize": size * _LOOKS_LIKE_A_DOT.get(marker, 1.0)}


def label_genes(ax: Axes, names: Sequence[str], *, axis: str = "x", unless_small: bool = False) -> bool:
    """Label positions 0, 1, ... with gene names, small enough not to touch.

    With `unless_small` labels are left out where they would be too small to read. Returns whether they are there.
    """
    wide, high = figure_of(ax).get_size_inches()
    inches = wide * ax.get_position().width if axis == "x" else high * ax.get_position().height
    # A line of text takes about 1.25 times its size; names on the x axis stand upright.
    size = min(10.0, 72 * float(inches) / max(len(names), 1) / 1.25)
    if unless_small and size < _SMALLEST:
        ax.set_xticks([]) if axis == "x" else ax.set_yticks([])
        return False
    size = max(_SMALLEST, size)
    positions = list(range(len(names)))
    if axis == "x":
        ax.set_xticks(positions, list(names), rotation=90, fontsize=size)
    else:
        ax.set_yticks(positions, list(names), fontsize=size)
    return True


def check_named_genes(n_genes: int) -> None:
    """Raise if a figure that names each of its genes is to have more of them than anybody reads.

    Its length grows with them: thousands take gigabytes of memory and minutes.

    Raises
    ------
    PlotError
        If there are more than `MAX_NAMED_GENES`, or none.
    """
    if n_genes < 1:
        raise PlotError(f"n_genes is {n_genes}. Expected 1 or more.")
    if n_genes > MAX_NAMED_GENES:
        raise PlotError(
            f"{n_genes:,} genes were asked for; this figure names every gene and holds at most {MAX_NAMED_GENES:,}. "
            "Ask for fewer with --n-genes (n_genes) or --genes (genes)."
        )


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
