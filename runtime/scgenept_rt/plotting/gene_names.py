"""Names of points among many others, each with a line to its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.plotting.drawing import figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = 7.0
_RADIUS = 2.4
"""What a point takes around its centre, in typographic points."""

_DISTANCES = (5.0, 8.0, 12.0, 17.0, 23.0, 30.0, 38.0, 47.0)
_ANGLES = np.deg2rad(np.arange(0, 360, 15))
_SHORT = 9.0
"""Up to this length a line is hardly seen: the name belongs to the point that is nearest to it."""

_CROSSED = 12.0
"""Length of line that is as bad as a line across another point."""

_MOST_CROSSED = 1
"""Names whose line would lie on more points than these are left out: it would be anyone's."""


def name_points(
    ax: Axes,
    places: NDArray[np.float64],
    names: Sequence[str],
    chosen: Sequence[int],
    others: NDArray[np.float64],
) -> list[str]:
    """Write names beside points where they cover no point, name or line; those without such a place are left out.

    Parameters
    ----------
    ax
        Axes whose limits, title and legend are set: names are placed for this size of the axes.
    places, names
        (n, 2) in data coordinates, and their names.
    chosen
        Which of them to name, the most important first.
    others
        (m, 2) further points that names must not cover.

    Returns
    -------
    list of str
        The names that were written.
    """
    from matplotlib.lines import Line2D
    from matplotlib.text import Text
    from matplotlib.transforms import Affine2D, ScaledTranslation

    figure = figure_of(ax)
    figure.draw_without_rendering()
    to_points = 72 / figure.dpi
    low, high = ax.get_window_extent().get_points() * to_points
    dots = np.asarray(ax.transData.transform(np.concatenate([places, others]))) * to_points
    # The lines at no change and, as both axes have the same limits, of equal change.
    zero = np.asarray(ax.transData.transform((0.0, 0.0))) * to_points
    boxes: list[NDArray[np.float64]] = []
    lines: list[NDArray[np.float64]] = []
    written: list[str] = []
    for index in chosen:
        measured = Text(0, 0, names[index], fontsize=_SIZE, parse_math=False)
        measured.set_figure(figure)
        extent = measured.get_window_extent()
        half = np.array([extent.width, extent.height]) * to_points / 2
        anchor = dots[index]
        near = dots[(np.abs(dots - anchor) < max(_DISTANCES) + 2 * half + _RADIUS).all(axis=1)]
        best: tuple[float, NDArray[np.float64], NDArray[np.float64]] | None = None
        for distance in _DISTANCES:
            for angle in _ANGLES:
                direction = np.array([np.cos(angle), np.sin(angle)])
                centre = anchor + direction * (distance + half)
                box = np.array([centre - half, centre + half])
                line = np.array([anchor, np.clip(anchor, *box)])
                length = float(np.hypot(*(line[1] - line[0])))
                if best is not None and length >= best[0]:
                    continue
                if (box[0] < low).any() or (box[1] > high).any() or _covers(box, near, _RADIUS).any():
                    continue
                if any(_overlap(box, taken) or _crosses_box(line, taken) for taken in boxes):
                    continue
                if any(_crosses_box(taken, box) or _cross(line, taken) for taken in lines):
                    continue
                apart = near[np.hypot(*(near - anchor).T) > 0.3]  # not the point itself, nor one that it hides
                crossed = int((_distances(apart, line) < _RADIUS - 0.4).sum())
                if crossed > _MOST_CROSSED:
                    continue
                if length < _SHORT and (_away_from(box, apart) < length + 3.0).any():
                    continue
                cost = length + _CROSSED * crossed + _guides(box, low, zero)
                if best is None or cost < best[0]:
                    best = (cost, centre, line)
        if best is None:
            continue
        _, centre, line = best
        boxes.append(np.array([centre - half - 1.5, centre + half + 1.5]))
        lines.append(line)
        x, y = (float(value) for value in places[index])
        end = line[1] - anchor
        length = float(np.hypot(*end))
        start = end / length * min(length, _RADIUS - 0.4)
        points = Affine2D().scale(1 / 72) + figure.dpi_scale_trans + ScaledTranslation(x, y, ax.transData)  # type: ignore[arg-type]
        ax.add_artist(
            Line2D([start[0], end[0]], [start[1], end[1]], transform=points, color="black", linewidth=0.5, zorder=3)
        )
        ax.annotate(
            names[index],
            (x, y),
            xytext=tuple(centre - anchor),
            textcoords="offset points",
            fontsize=_SIZE,
            ha="center",
            va="center",
            parse_math=False,
        )
        written.append(names[index])
    return written


def _covers(box: NDArray[np.float64], dots: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    covered: NDArray[np.bool_] = ((dots > box[0] - radius) & (dots < box[1] + radius)).all(axis=1)
    return covered


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool((one[0] < other[1]).all() and (other[0] < one[1]).all())


def _distances(dots: NDArray[np.float64], line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far dots are from a line between two points."""
    along = line[1] - line[0]
    share = np.clip((dots - line[0]) @ along / max(float(along @ along), 1e-9), 0.0, 1.0)
    away: NDArray[np.float64] = np.hypot(*(dots - line[0] - share[:, None] * along).T)
    return away


def _away_from(box: NDArray[np.float64], dots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far dots are from a box."""
    away: NDArray[np.float64] = np.hypot(*(dots - np.clip(dots, *box)).T)
    return away


def _crosses_box(line: NDArray[np.float64], box: NDArray[np.float64]) -> bool:
    """Whether a line between two points meets a box: its stretches between the box's opposite sides overlap."""
    start, along = line[0], line[1] - line[0]
    along = np.where(np.abs(along) < 1e-9, 1e-9, along)
    at = np.sort((box - start) / along, axis=0)
    return bool(max(at[0].max(), 0.0) <= min(at[1].min(), 1.0))


def _cross(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether two lines between points cross."""

    def side(line: NDArray[np.float64], point: NDArray[np.float64]) -> float:
        along, to = line[1] - line[0], point - line[0]
        return float(along[0] * to[1] - along[1] * to[0])

    return side(one, other[0]) * side(one, other[1]) < 0 and side(other, one[0]) * side(other, one[1]) < 0


def _guides(box: NDArray[np.float64], corner: NDArray[np.float64], zero: NDArray[np.float64]) -> float:
    """Return what it costs that a name lies on a guide line: the ones at no change and that of equal change."""
    cost = 3.0 * float(((box[0] < zero) & (zero < box[1])).sum())
    inside = box - corner
    if inside[0, 0] - inside[1, 1] < 0 < inside[1, 0] - inside[0, 1]:
        cost += 8.0
    return cost
