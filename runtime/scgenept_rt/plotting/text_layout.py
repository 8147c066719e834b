"""Text of figures: titles, legends, and gene names at ticks and points."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.plotting.drawing import axes_for, figure_of, inches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

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
    ax: Axes, places: NDArray[np.float64], names: Sequence[str], chosen: Sequence[int], others: NDArray[np.float64]
) -> list[str]:
    """Write names beside points, with a line to each; leave out those without room, and return them.

    No name covers a point or another name, and no line crosses several points. The axes are in their place
    (`settle_layout`), with limits, title and legend.

    `places` are (n, 2) points in data coordinates with their `names`; `chosen` are those to name, the most important
    first, and `others` (m, 2) further points not to cover.
    """
    from adjustText import adjust_text

    points = np.concatenate([places, others])
    unit = figure_of(ax).dpi / 72
    # The memory of adjustText grows with the square of the points: one of each 3 x 3 typographic points will do.
    _, sparse = np.unique(np.round(ax.transData.transform(points) / (3 * unit)), axis=0, return_index=True)
    texts = [
        ax.text(x, y, names[index], fontsize=_GENE_NAME) for index, (x, y) in zip(chosen, places[chosen], strict=True)
    ]
    for text in texts:
        text.set_in_layout(False)  # else the layout moves the axes to make room for them
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
