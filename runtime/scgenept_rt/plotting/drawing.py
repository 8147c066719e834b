"""Axes, colours, text and files of all figures; matplotlib is imported when a figure is drawn."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.util import find_spec
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import MissingPackageError, PlotError, UseOption
from scgenept_rt.files.durable import check_report_path, write_report
from scgenept_rt.options import FigureOptions, resolve

if TYPE_CHECKING:
    from typing import Unpack

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_P = ParamSpec("_P")
_R = TypeVar("_R")

FORMATS = (".png", ".svg", ".pdf")

# Okabe and Ito (2008), distinct with every common colour blindness; markers distinguish series without colour too.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_RELATIVE_SIZE = {"s": 0.95, "^": 1.25, "v": 1.25, "D": 0.95, "P": 1.3, "X": 1.25}
"""Size of a marker that looks as large as a dot of size 1."""

MAX_SERIES = len(PALETTE) * len(MARKERS)
MAX_NAMED_GENES = 300
"""Genes of a figure that names each: its length grows with them, and thousands take gigabytes and minutes."""

_MANY_POINTS = 2000
UP, DOWN, NEUTRAL = "#D55E00", "#0072B2", "#6E6E6E"

NO_BREAK = "\u00a0"
"""A space at which `wrapped` does not break a line."""

SMALL, MEDIUM = 8.33, 10.0
"""Font sizes in typographic points, as matplotlib's "small" and "medium"."""

_LEAST, _USUAL_WIDTH = 6.0, 3.6
"""Font size of legends in figures for narrow columns, and the inches of axes from which on they have the usual one."""

_SMALLEST, _GENE_NAME = 5.0, 7.0
_CHARACTER = 0.62
"""Mean width of a character, in units of the font size."""

_POINT_RADIUS = 2.4


def require_matplotlib() -> None:
    """Raise `MissingPackageError` unless the packages of the extra ``plot`` are installed."""
    for package in ("matplotlib", "adjustText"):
        if find_spec(package) is None:
            raise MissingPackageError(package, "drawing figures", "plot")


def own_settings(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Draw with these settings, whatever the user's.

    Underscores and dollar signs in names are no formulas, and equal figures are equal files: without the salt, ids in
    .svg files are random.
    """

    @wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        require_matplotlib()
        from matplotlib import rc_context

        with rc_context({"text.usetex": False, "text.parse_math": False, "svg.hashsalt": "scgenept-rt"}):
            return draw(*args, **kwargs)

    return drawn


def check_figure_path(path: str | Path) -> Path:
    """Return the path if a figure can be written there, else raise; call it before computing the figure."""
    require_matplotlib()
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise PlotError(
            f"the suffix {path.suffix!r} is unknown, expected one of {', '.join(FORMATS)}", where=f"figure {path}"
        )
    check_report_path(path)
    return path


def check_count(what: str, count: int, maximum: int, *options: UseOption) -> None:
    """Raise `PlotError` unless from 1 to `maximum` genes or perturbations were requested; `options` choose fewer."""
    if count < 1:
        raise PlotError(f"{count} {what} were requested, expected 1 or more")
    if count > maximum:
        raise PlotError(f"{count:,} {what} were requested, this figure shows at most {maximum:,}", options=options)


def axes_for(ax: Axes | None, width: float, height: float) -> Axes:
    """Return `ax`, or the axes of a new figure of this size in inches."""
    return new_figure(width, height).add_subplot() if ax is None else ax


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of this size in inches that pyplot does not manage."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def figure_of(ax: Axes | Figure) -> Figure:
    """Return the figure that axes are in, also within a subfigure."""
    found: Any = ax
    while found.figure is not found:
        found = found.figure
    return found  # type: ignore[no-any-return]


def inches(ax: Axes) -> tuple[float, float]:
    """Return width and height of axes before the layout adjusts them."""
    (width, height), place = figure_of(ax).get_size_inches(), ax.get_position()
    return float(width * place.width), float(height * place.height)


def settle_layout(figure: Figure) -> None:
    """Place the axes; the constrained layout of square axes takes several passes."""
    for _ in range(3):
        figure.draw_without_rendering()


def style_of(index: int, size: float = 6.0) -> dict[str, Any]:
    """Return colour, marker and marker size of a series; the first `MAX_SERIES` differ in colour or marker."""
    again, colour = divmod(index, len(PALETTE))
    marker = MARKERS[(colour + again) % len(MARKERS)]
    return {"color": PALETTE[colour], "marker": marker, "markersize": size * _RELATIVE_SIZE.get(marker, 1.0)}


def draw_points(ax: Axes, x: Any, y: Any, **style: Any) -> None:
    """Draw points without a line; of thousands, vector files hold a picture and not a path for each."""
    if style.get("label", "").startswith("_"):  # matplotlib would leave it out of the legend
        style["label"] = f" {style['label']}"
    ax.plot(x, y, **{"linestyle": "none", "markeredgewidth": 0, "rasterized": len(x) > _MANY_POINTS, **style})


def square_axes(ax: Axes, low: float, high: float) -> None:
    """Make axes square, of equal limits, with a dashed diagonal."""
    ax.plot((low, high), (low, high), color=NEUTRAL, linewidth=0.8, linestyle="--", zorder=0)
    ax.set(xlim=(low, high), ylim=(low, high), box_aspect=1)


def plain(ax: Axes) -> None:
    """Remove the upper and right side of the frame."""
    ax.spines[["top", "right"]].set_visible(False)


class _NameWrapper(textwrap.TextWrapper):
    """Breaks lines after spaces and after the signs that join parts of names."""

    wordsep_re = re.compile(r"( +|[^ _+\-/]*[_+\-/]+)")


def wrapped(text: str, width: float, size: float = SMALL) -> str:
    """Break a text into lines of about this width in inches."""
    wrapper = _NameWrapper(max(8, int(72 * width / (_CHARACTER * size))))
    return "\n".join(wrapper.fill(line) for line in text.split("\n")).replace(NO_BREAK, " ")


def set_small_title(ax: Axes, title: str) -> None:
    """Set a title of small lines at the left that end within the figure."""
    ax.set_title(wrapped(title, inches(ax)[0]), fontsize=SMALL, loc="left", parse_math=False)


def add_legend(ax: Axes, title: str = "", *, grow: bool = False) -> None:
    """Put a title above the axes and the legend, no wider than the axes, between the two.

    With `grow` the figure becomes higher by the legend, so that the axes keep their size.
    """
    figure, width = figure_of(ax), inches(ax)[0]
    size = max(_LEAST, SMALL * min(1.0, width / _USUAL_WIDTH))
    handles, labels = ax.get_legend_handles_labels()
    handle = 3.2 * size / 72  # with its distance from the text
    entries = [wrapped(label, width - handle, size) for label in labels]
    longest = max(len(line) for entry in entries for line in entry.split("\n"))
    column = handle + (1.5 + longest * _CHARACTER) * size / 72
    legend = ax.legend(
        handles,
        entries,
        ncols=max(1, min(len(entries), int(width / column))),
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.2,
        borderpad=0.2,
        columnspacing=1.5,
        frameon=False,
        fontsize=size,
    )
    height = float(legend.get_window_extent().height) / figure.dpi
    size *= MEDIUM / SMALL
    ax.set_title(wrapped(title, width, size), fontsize=size, loc="left", pad=72 * height + 5, parse_math=False)
    if grow:
        figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + height)


def row_axes(ax: Axes | None, names: Sequence[str]) -> Axes:
    """Return axes with a named row per entry, the first on top: those given, or of a new figure."""
    ax = axes_for(ax, 5.2, max(2.4, 0.2 * len(names) + 1.2))
    ax.set_ylim(len(names) - 0.4, -0.6)
    label_genes(ax, names, axis="y")
    ax.locator_params(axis="x", nbins=5)
    return ax


def label_genes(ax: Axes, names: Sequence[str], *, axis: str = "x", unless_small: bool = False) -> bool:
    """Label positions 0, 1, ... with gene names, small enough not to touch.

    With `unless_small` labels that would be too small to read are left out. Returns whether they are drawn.
    """
    # A line of text takes about 1.25 times its size; names on the x axis are vertical.
    size = min(10.0, 72 * inches(ax)[axis == "y"] / max(len(names), 1) / 1.25)
    ticks = ax.xaxis if axis == "x" else ax.yaxis
    if unless_small and size < _SMALLEST:
        ticks.set_ticks([])
        return False
    ticks.set_ticks(range(len(names)), names, rotation=90 if axis == "x" else 0, fontsize=max(_SMALLEST, size))
    return True


def name_points(
    ax: Axes, places: NDArray[np.float64], names: Sequence[str], chosen: Sequence[int], *others: NDArray[np.float64]
) -> list[str]:
    """Write names beside points, with a line to each; leave out those without room, and return them.

    No name covers a point or another name, and no line crosses several points. The axes are in their place
    (`settle_layout`), with limits, title and legend.

    `places` are (n, 2) points in data coordinates with their `names`; `chosen` are those to name, the most important
    first, and each of `others` (m, 2) further points not to cover.
    """
    from adjustText import adjust_text

    points = np.concatenate([places, *others])
    unit = figure_of(ax).dpi / 72
    # The memory of adjustText grows with the square of the points: one of each 3 x 3 typographic points will do.
    _, sparse = np.unique(np.round(ax.transData.transform(points) / (3 * unit)), axis=0, return_index=True)
    # In the layout they would move the axes to make room for them.
    style: dict[str, Any] = {"fontsize": _GENE_NAME, "in_layout": False}
    texts = [ax.text(places[index, 0], places[index, 1], names[index], **style) for index in chosen]
    adjust_text(
        texts,
        *points[sparse].T,
        ax=ax,
        iter_lim=300,  # the default is a time limit, with which figures differ from run to run
        expand=(1.25, 1.9),
        force_text=(0.3, 0.5),
        force_static=(0.2, 0.3),
        force_explode=(0.2, 0.6),
    )
    dots = np.asarray(ax.transData.transform(points))  # adjustText may have moved the axes a little
    radius = _POINT_RADIUS * unit
    written: list[tuple[Bbox, NDArray[np.float64]]] = []
    left_out: list[str] = []
    for text, index in zip(texts, chosen, strict=True):
        box = text.get_window_extent()
        line = np.linspace(dots[index], np.clip(dots[index], box.min, box.max), 20)
        distances = np.linalg.norm(dots[:, None] - line, axis=2)
        crossed = (distances.min(axis=1) < 0.8 * radius) & (distances[:, 0] > unit)
        if (
            box.padded(radius).count_contains(dots)
            or np.count_nonzero(crossed) > 1  # the line's own point would not be recognisable
            or any(
                box.overlaps(other) or box.count_contains(its) or other.count_contains(line) for other, its in written
            )
        ):
            text.remove()
            left_out.append(names[index])
            continue
        written.append((box, line))
        ends = ax.transData.inverted().transform(line[[0, -1]])
        ax.plot(*ends.T, color="black", linewidth=0.5, zorder=3, scalex=False, scaley=False)
    return left_out


@own_settings
def save(ax_or_figure: Axes | Figure, path: str | Path, **options: Unpack[FigureOptions]) -> Path:
    """Write a figure to a .png, .svg or .pdf file, without a date, so that equal figures are equal files.

    Text stays text in .svg and .pdf files, so that it can be edited and searched.

    Parameters
    ----------
    **options
        `scgenept_rt.options.FigureOptions`: title, dpi.

    Raises
    ------
    PlotError
        If the path has another suffix.
    OutputError
        If the file cannot be written.
    """
    path = check_figure_path(path)
    from matplotlib import rc_context

    resolved = resolve(FigureOptions, options)
    figure = figure_of(ax_or_figure)
    if resolved["title"] is not None:
        _replace_title(figure.axes[0], resolved["title"])
    suffix, drawn = path.suffix.lower(), BytesIO()
    metadata: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})
    with rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(drawn, format=suffix[1:], dpi=resolved["dpi"], metadata=metadata)
    write_report(path, drawn.getvalue())
    return path


def _replace_title(ax: Axes, title: str) -> None:
    from matplotlib.text import Text

    old = ax.get_title("left")
    if "synthetic weights" in old:
        title = f"{title} (synthetic weights)"
    for text in ax.findobj(Text) if old else [ax.title]:
        if text.get_text() == old:
            text.set_text(title)  # where it stands, above a legend or not


def svg_of(figure: Figure, prefix: str) -> str:
    """Return a figure as an <svg> element whose ids begin with `prefix`, so that a page can hold several."""
    settle_layout(figure)
    stream = StringIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), dpi=150)
    text = stream.getvalue()
    return re.sub(r'\bid="|href="#|url\(#', rf"\g<0>{prefix}-", text[text.index("<svg") :])
