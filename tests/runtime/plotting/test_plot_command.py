"""`scgenept-rt plot`: what it writes, says and refuses."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("matplotlib")

from matplotlib import image

from tests.runtime.plotting.screen import GENES, PAIR, SINGLE


def test_commands(run, data, means_file, tmp_path) -> None:
    for ending, arguments in {
        "png": ("top-de", data, "-p", SINGLE, "--predictions", f"A={means_file}", "--predictions", means_file),
        "svg": ("agreement", data, "-p", PAIR, "--predictions", means_file),
        "pdf": ("delta", means_file, "-p", SINGLE, "--n-genes", 5),
        "SVG": ("volcano", means_file, "-p", PAIR, "--n-genes", 3, "--without-targets"),
        "PNG": ("heatmap", means_file, "-p", SINGLE, "-p", PAIR, "--genes", f"{GENES[0]}, {GENES[1]}", "--no-cluster"),
    }.items():
        out = tmp_path / f"figure.{ending}"
        code, printed, err = run("plot", *arguments, "--out", out)
        assert (code, printed) == (0, f"wrote {out}\n"), err
        assert out.stat().st_size > 1000


def test_size_is_that_of_the_file_and_names_without_room_are_said(run, data, means_file, tmp_path) -> None:
    out = tmp_path / "figure.png"
    chosen = ("-p", PAIR, "--predictions", means_file, "--label-genes", ",".join(GENES[40:50]))
    code, _, err = run("plot", "agreement", data, *chosen, "--size", "2x2.5", "--dpi", 100, "--out", out)
    assert code == 0
    assert "no room for the names of " in err
    assert image.imread(out).shape[:2] == (250, 200)


def test_fewer_genes_than_asked_for_are_said(run, data, means_file, tmp_path) -> None:
    out = tmp_path / "figure.png"
    code, _, err = run(
        "plot", "top-de", data, "-p", SINGLE, "--predictions", means_file, "--n-genes", 130, "--out", out
    )
    assert code == 0
    assert re.match(r"note: 1?\d\d genes are drawn instead of 130: .*not dropouts", err)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("delta", "MEANS", "-p", SINGLE, "--n-genes", "5045", "-o", "a.png"), 1, "5,045 genes were requested"),
        (("top-de", "DATA", "-p", SINGLE, "-o", "a.png"), 2, "give --predictions FILE or --bundle"),
        (("top-de", "DATA", "-p", SINGLE, "-o", "a.gif", "--predictions", "MEANS"), 1, "the suffix '.gif' is unknown"),
        (("heatmap", "MEANS", "-o", "a.png", "--size", "3"), 2, "a width and a height"),
        (("heatmap", "MEANS", "--genes", ",", "-o", "a.png"), 1, "0 genes were requested"),
        (("delta", "MEANS", "-p", SINGLE, "-o", "FOLDER"), 1, "a directory, expected a file"),
        (
            ("top-de", "DATA", "-p", SINGLE, "-o", "a.png", "--predictions", "MEANS", "--predictions", "MEANS"),
            1,
            "two series are called",
        ),
    ],
)
def test_commands_refuse(run, data, means_file, arguments, code, message, tmp_path) -> None:
    (tmp_path / "folder.png").mkdir()
    named = {"DATA": data, "MEANS": means_file, "FOLDER": tmp_path / "folder.png"}
    found, _, err = run("plot", *(named.get(argument, argument) for argument in arguments))
    assert found == code
    assert message in " ".join(err.replace("│", " ").split())
