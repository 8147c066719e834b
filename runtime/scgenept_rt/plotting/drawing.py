"""Axes, colours and files of all figures; matplotlib is imported when a figure is drawn."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from scgenept_rt.errors import MissingPackageError, PlotError, UseOption
from scgenept_rt.files.durable import check_report_path, write_report
from scgenept_rt.options import FigureOptions, resolve

if TYPE_CHECKING:
    from typing import Unpack

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
