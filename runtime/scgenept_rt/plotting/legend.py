"""Legends and titles that keep to their room: long names take several lines, and figures grow, not axes shrink."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from scgenept_rt.plotting.drawing import figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNBREAKABLE = "\u00a0"
"""A space in a legend's entry at which no line ends; shown as a space."""

_SIZE = "small"
_HANDLE, _GAP, _BORDER, _COLUMN_GAP = 2.0, 0.8, 0.4, 2.0
"""matplotlib's own lengths of a legend, in units of its font size."""

_LINE_INCHES = 0.25

_PIECES = re.compile(r"[^ _+\-/,;|]*[ _+\-/,;|]+|[^ _+\-/,;|]+")


def add_legend(ax: Axes, *, columns: int = 1, beside_title: bool = False, grow: bool = False) -> None:
    """Put the legend above the axes and their left title, no wider than the axes.

    Parameters
    ----------
    ax
        Axes with labelled artists, whose title is set.
    columns
        At most so many columns, fewer where entries are long.
    beside_title
        Put it to the right of the title if there is room.
    grow
        Make the figure as much higher as the legend is, so that the axes keep their size.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.transforms import ScaledTranslation

    figure = figure_of(ax)
    figure.draw_without_rendering()  # else the axes are not yet where the layout puts them
    dots = figure.dpi / 72
    em = FontProperties(size=_SIZE).get_size_in_points() * dots
    width = ax.get_window_extent().width
    handles, labels = ax.get_legend_handles_labels()
    beside = (_HANDLE + _GAP) * em
    entries = [wrapped(figure, label, width - beside - 2 * _BORDER * em, _SIZE) for label in labels]
    widest = max(_width(figure, entry, _SIZE) for entry in entries) + beside
    columns = max(1, min(columns, int((width - 2 * _BORDER * em + _COLUMN_GAP * em) / (widest + _COLUMN_GAP * em))))
    title = ax.get_title(loc="left")
    taken = columns * (widest + _COLUMN_GAP * em)
    if title and beside_title and _width(figure, title, "medium") + taken < width:
        place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.2}
    else:
        above = 4.0 if not title else 10.0 + 1.2 * FontProperties(size="medium").get_size_in_points()
        raised = ax.transAxes + ScaledTranslation(0, above / 72, figure.dpi_scale_trans)
        place = {
            "loc": "lower left",
            "bbox_to_anchor": (0.0, 1.0),
            "bbox_transform": raised,
            "borderaxespad": 0.0,
            "borderpad": 0.0 if not beside_title else _BORDER,
        }
    legend = ax.legend(
        handles,
        [entry.replace(UNBREAKABLE, " ") for entry in entries],
        frameon=False,
        fontsize=_SIZE,
        ncols=columns,
        handlelength=_HANDLE,
        handletextpad=_GAP,
        columnspacing=_COLUMN_GAP,
        **place,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # names are text, whatever dollar signs they have
    if grow:
        wide, high = figure.get_size_inches()
        there = _LINE_INCHES if "bbox_transform" not in place else 0.0  # beside the title there is room for one line
        figure.set_size_inches(wide, high + max(0.0, legend.get_window_extent().height / figure.dpi - there))


def fit_height(ax: Axes) -> None:
    """Make the figure of these axes alone as high as square axes and their legend are at the figure's width.

    Without this the layout centres the square in what height there is, and cuts what is above and below it.
    """
    figure = figure_of(ax)
    wide, high = (float(side) for side in figure.get_size_inches())
    legend = ax.get_legend()
    if legend is not None:
        high += float(legend.get_window_extent().height) / figure.dpi
    ax.set_box_aspect(None)  # the layout of axes of a fixed aspect takes many passes to settle
    for _ in range(3):
        figure.set_size_inches(wide, high)
        figure.draw_without_rendering()
        frame = ax.get_window_extent()
        high += float(frame.width - frame.height) / figure.dpi
    figure.set_size_inches(wide, high)
    figure.draw_without_rendering()
    ax.set_box_aspect(1)


def wrapped(figure: Figure, text: str, width: float, size: str) -> str:
    """Return a text in lines of at most `width` pixels, broken after spaces and the signs that join parts of names."""
    lines: list[str] = []
    for given in text.split("\n"):
        line = ""
        for piece in _PIECES.findall(given) if _width(figure, given, size) > width else [given]:
            if _width(figure, (line + piece).rstrip(), size) <= width:
                line += piece
                continue
            if line:
                lines.append(line.rstrip())
            line = piece
            while len(line) > 1 and _width(figure, line.rstrip(), size) > width:  # a piece that fills lines of its own
                end = next(
                    end for end in range(len(line) - 1, 0, -1) if end == 1 or _width(figure, line[:end], size) <= width
                )
                lines.append(line[:end])
                line = line[end:]
        lines.append(line.rstrip(" "))
    return "\n".join(lines)


def wrapped_title(ax: Axes, text: str) -> str:
    """Return the text of a small title at the left in lines that end within the figure.

    Titles have no part in the layout: what is too long is cut at the figure's edge.
    """
    figure = figure_of(ax)
    figure.draw_without_rendering()
    frame = ax.get_window_extent()
    room = figure.bbox.x1 - frame.x0 if len(figure.axes) == 1 else frame.width
    return wrapped(figure, text, room - 0.05 * figure.dpi, _SIZE)


def _width(figure: Figure, text: str, size: str) -> float:
    from matplotlib.text import Text

    shown = Text(0, 0, text, fontsize=size, parse_math=False)
    shown.set_figure(figure)
    return float(shown.get_window_extent().width)
