"""Figures of predictions and measurements, as `scgenept_rt.pl`; they need the extra `plot` (matplotlib, adjustText).

Every function returns the Axes that it drew into, takes `ax=`, and changes no settings of matplotlib and pyplot.
"""

from scgenept_rt.plotting.changes import delta, volcano
from scgenept_rt.plotting.comparison import agreement, top_de
from scgenept_rt.plotting.drawing import save
from scgenept_rt.plotting.evaluation_figures import evaluation_figures
from scgenept_rt.plotting.heatmap import heatmap
from scgenept_rt.plotting.ranking import ranking

__all__ = ["agreement", "delta", "evaluation_figures", "heatmap", "ranking", "save", "top_de", "volcano"]
