"""Whether the words of a figure can be read."""

from __future__ import annotations

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from scgenept_rt.plotting.drawing import figure_of


def texts(labels) -> list[str]:
    return [label.get_text() for label in labels if label.get_text()]


def drawn_labels(axis, *limits: float) -> list:
    """The labels of ticks within the axes: matplotlib keeps some beyond them."""
    low, high = sorted(limits)
    ticks = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
    return [label for place, label in ticks if low <= place <= high]


def check_legible(ax: Axes) -> None:
    """No tick label or gene name covers another, and none leaves the figure."""
    figure = figure_of(ax)
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    page = figure.bbox.padded(1)
    groups = [drawn_labels(ax.xaxis, *ax.get_xlim()), drawn_labels(ax.yaxis, *ax.get_ylim()), list(ax.texts)]
    if ax.get_legend() is not None:
        groups.append(ax.get_legend().get_texts())
    groups.append([ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label])
    boxes = []
    for group in groups:
        own = [(text, text.get_window_extent(renderer)) for text in group if text.get_text() and text.get_visible()]
        visible = [(text, box) for text, box in own if box.overlaps(page)]
        for (one, first), (other, second) in combinations(visible, 2):
            assert not first.overlaps(second), f"{one.get_text()!r} covers {other.get_text()!r}"
        for text, box in visible:
            corners = (box.min, box.max)
            assert all(page.contains(*corner) for corner in corners), f"{text.get_text()!r} is cut"
        boxes.append(visible)
    for (one, first), (other, second) in combinations([pair for group in boxes for pair in group], 2):
        assert not first.overlaps(second), f"{one.get_text()!r} covers {other.get_text()!r}"
