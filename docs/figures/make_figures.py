"""Draw the figures of the documentation: synthetic cells, the synthetic demo network, and a note saying so.

    python docs/figures/make_figures.py [DIR]

needs the extras `cpu` and `plot`, and a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.axes import Axes

import scgenept_rt as sgr
from scgenept_rt.demo import demo_screen
from scgenept_rt.plotting.drawing import figure_of

HERE = Path(__file__).parent
LABELS = ("POU3F2+ctrl", "SAMD1+ZBTB1", "FOXA1+FOXL2", "FOSB+ctrl")
N_CELLS, N_CONTROLS, N_PREDICTED_FROM = 60, 64, 16
_NOTE_INCHES = 0.25
NOTE = "synthetic cells and a synthetic network: no biology"


def draw(directory: Path) -> list[Path]:
    """Draw every figure into a directory, and return their paths."""
    screen = demo_screen(LABELS, n_cells=N_CELLS, n_controls=N_CONTROLS)
    with sgr.load("demo", provider="cpu") as model:
        predicted = model.predict(screen, LABELS, n_controls_per_perturbation=N_PREDICTED_FROM)
    series = {"demo network": predicted}
    return [
        _save(sgr.pl.top_de(screen, "POU3F2+ctrl", series), directory / "top_de.png"),
        _save(sgr.pl.agreement(screen, "FOXA1+FOXL2", series), directory / "agreement.png"),
        _save(sgr.pl.volcano(predicted, "FOXA1+FOXL2"), directory / "volcano.png"),
        _save(sgr.pl.ranking(sgr.rank(predicted)), directory / "ranking.png"),
    ]


def _save(ax: Axes, path: Path) -> Path:
    ax.annotate(
        NOTE, (0.0, 0.0), xycoords="figure fraction", xytext=(4, 4), textcoords="offset points",
        fontsize="small", fontstyle="italic", color="#555555", annotation_clip=False,
    ).set_in_layout(False)  # fmt: skip
    figure = figure_of(ax)
    wide, high = figure.get_size_inches()
    figure.set_size_inches(wide, high + _NOTE_INCHES)  # the figure stays as it is: its names are placed for its size
    figure.get_layout_engine().set(rect=(0, _NOTE_INCHES / (high + _NOTE_INCHES), 1, high / (high + _NOTE_INCHES)))
    return sgr.pl.save(ax, path, dpi=110)


if __name__ == "__main__":
    for written in draw(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE):
        print(f"wrote {written}")
