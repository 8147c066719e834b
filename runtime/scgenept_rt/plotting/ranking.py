"""The first perturbations of a ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scgenept_rt.errors import UseOption
from scgenept_rt.plotting import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scgenept_rt.ranking import Ranking


@drawing.own_settings
def ranking(ranking: Ranking, *, top: int = 20, ax: Axes | None = None) -> Axes:
    """Draw the first perturbations of a ranking with two standard errors; filled where the rank is certain.

    Parameters
    ----------
    ranking
        What `scgenept_rt.rank` returned.
    top
        Number of perturbations; at most 300.
    ax
        Axes to draw into; by default those of a new figure.

    Raises
    ------
    PlotError
        If `top` is out of range.
    """
    drawing.check_count("perturbations", top, drawing.MAX_NAMED_GENES, UseOption("top", "draw fewer"))
    shown = ranking.table[ranking.table["rank"].notna()][:top]
    ax = drawing.row_axes(ax, shown["perturbation"].tolist())
    scores, errors = shown["score"].to_numpy(), 2 * shown["error"].fillna(0.0).to_numpy()
    places = np.arange(len(shown))
    tied = (shown["best_rank"] != shown["worst_rank"]).to_numpy(dtype=bool)
    ax.errorbar(scores, places, xerr=errors, fmt="none", ecolor=drawing.NEUTRAL, elinewidth=1.2, capsize=2)
    for chosen, face, label in ((~tied, drawing.UP, "rank certain"), (tied, "white", "tied within errors")):
        if chosen.any():
            ax.plot(scores[chosen], places[chosen], "o", color=drawing.UP, mfc=face, markersize=5, label=label)
    ranks = ax.secondary_yaxis("right")
    ranks.set_yticks(
        places, ranking.supported_ranks[: len(shown)], fontsize=ax.yaxis.get_ticklabels()[0].get_fontsize()
    )
    ranks.set_ylabel("rank")
    ranks.spines["right"].set_visible(False)
    ranks.tick_params(length=0)
    ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel(f"{ranking.score}\nwith two standard errors")
    ax.legend(loc="best", fontsize="small", frameon=False)
    drawing.plain(ax)
    drawing.settle_layout(drawing.figure_of(ax))  # long names make the axes narrow, and the title follows
    name = f"{ranking.name} (synthetic weights)" if ranking.synthetic else ranking.name
    drawing.set_small_title(ax, f"{name}, first {len(shown):,} of {len(ranking.table):,}\n{ranking.description}")
    return ax
