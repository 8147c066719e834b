from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import scgenept_rt as sgr
from scgenept_rt.errors import (
    LabelNotFoundError,
    MissingPackageError,
    OutputError,
    PlotError,
    PredictionFileError,
    UnknownGeneError,
)
from tests.runtime.plotting.screen import GENES, LABELS, SINGLE, draw

KINDS = ("top_de", "delta", "heatmap")


@pytest.mark.parametrize("kind", KINDS)
def test_axes_are_taken_and_returned_of_figures_without_a_canvas_too(kind, data, means, tmp_path) -> None:
    figure = Figure(figsize=(9, 9), layout="constrained")
    first, second = figure.subplots(2, 1)
    assert draw(kind, data, means, ax=second) is second
    assert not first.lines
    assert not first.images
    assert sgr.pl.save(figure, tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_no_formulas(kind, data, means, tmp_path) -> None:
    """TeX may not be installed, and would take the underscore of a name for a subscript; matplotlib reads dollars."""
    renamed = means.copy()
    if kind in ("delta", "heatmap"):
        renamed.var_names = [f"Y_${name}^{{$" for name in means.var_names]
    renamed.uns = {"scgenept_rt": {"variant": "$x^{$ and $\\frac$"}}
    with mpl.rc_context({"text.usetex": True}):
        assert sgr.pl.save(draw(kind, data, renamed), tmp_path / "figure.svg").stat().st_size > 1000


def test_equal_figures_are_equal_files(data, means, tmp_path) -> None:
    for kind, ending in (("delta", ".png"), ("delta", ".pdf"), ("agreement", ".svg")):
        first, second = (sgr.pl.save(draw(kind, data, means), tmp_path / f"{n}{ending}") for n in (1, 2))
        assert first.read_bytes() == second.read_bytes()


def test_settings_and_backend_are_left_alone(data, means_file) -> None:
    before = dict(mpl.rcParams)
    for kind in KINDS:
        draw(kind, data, means_file)
    assert dict(mpl.rcParams) == before
    # No figure chooses the backend of the process; pyplot comes with adjustText and does not by itself.
    code = (
        "import sys, scgenept_rt as sgr; sgr.pl.top_de; assert 'matplotlib' not in sys.modules\n"
        f"for draw in sgr.pl.top_de, sgr.pl.agreement: draw(sys.argv[1], {SINGLE!r}, sys.argv[2])\n"
        "import matplotlib; assert matplotlib.rcParams._get_backend_or_none() is None"
    )
    unset = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    subprocess.run([sys.executable, "-c", code, str(data), str(means_file)], check=True, env=unset)


def test_what_is_not_there_is_an_error(data, means, tmp_path) -> None:
    near = GENES[1].lower()
    for figure in (lambda label: sgr.pl.delta(means, label), lambda label: sgr.pl.top_de(data, label, means)):
        with pytest.raises(LabelNotFoundError, match="GENE30"):
            figure("GENE30+GENE33")
        with pytest.raises(LabelNotFoundError, match=rf"Did you mean {re.escape(LABELS[1])}\b"):
            figure(near)
    with pytest.raises(PredictionFileError, match="may be measured cells"):
        sgr.pl.heatmap(data)
    with pytest.raises(LabelNotFoundError, match="ctrl"):
        sgr.pl.agreement(data, "ctrl", means)
    with pytest.raises(PlotError, match="0 series of predictions"):
        sgr.pl.top_de(data, SINGLE, {})
    with pytest.raises(UnknownGeneError):
        sgr.pl.heatmap(means, genes=["no such gene"])
    with pytest.raises(PlotError, match=r"'\.jpg' is unknown, expected one of \.png, \.svg, \.pdf"):
        sgr.pl.save(sgr.pl.delta(means, SINGLE), tmp_path / "a.jpg")
    with pytest.raises(OutputError, match="does not exist"):
        sgr.pl.save(sgr.pl.delta(means, SINGLE), tmp_path / "no" / "a.png")


def test_without_matplotlib(monkeypatch) -> None:
    monkeypatch.setattr("scgenept_rt.plotting.drawing.find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=r"\[plot\]"):
        sgr.pl.delta("x.h5ad", "A")


def test_commands_do_not_need_the_backend_of_a_notebook(command_line, means, tmp_path) -> None:
    means.write_h5ad(tmp_path / "means.h5ad")
    command = ("plot", "delta", "means.h5ad", "-p", SINGLE, "--out", "delta.png")
    environment = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    assert command_line(*command, cwd=tmp_path, environment=environment).returncode == 0
    assert (tmp_path / "delta.png").stat().st_size > 1000


def test_title_and_real_text(tmp_path: Path) -> None:
    figure = Figure(figsize=(4, 3))
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    ax.set_title("GENE1\nmodel (synthetic weights)", loc="left", parse_math=False)
    written = sgr.pl.save(ax, tmp_path / "figure.svg", title="My $title").read_text()
    assert "My $title (synthetic weights)</text>" in written
    assert "GENE1" not in written
    assert b"/CIDFontType2" in sgr.pl.save(ax, tmp_path / "figure.pdf").read_bytes()  # TrueType, not outlines
