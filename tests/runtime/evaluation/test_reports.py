from __future__ import annotations

import dataclasses
import json
import re
from unittest.mock import Mock

import pytest

pytest.importorskip("matplotlib")

from scgenept_rt.cli.messages import write_reports
from scgenept_rt.errors import OutputError
from scgenept_rt.evaluation import Evaluation, evaluate
from scgenept_rt.evaluation.reports import csv_report, html_report, json_report, text_report
from scgenept_rt.evaluation.result import ALL_TESTED
from scgenept_rt.plotting import evaluation_figures
from tests.runtime.evaluation.page import check_page


@pytest.fixture(scope="module")
def result(perfect, h5ad, split) -> Evaluation:
    return evaluate(perfect, h5ad, split)


@pytest.fixture(scope="module")
def figures(result) -> list[tuple[str, str]]:
    return evaluation_figures(result)


def test_reports_of_undefined_figures(result, figures) -> None:
    result = dataclasses.replace(result)
    result.summary.loc[0, "mse"] = float("nan")
    assert json.loads(json_report(result))["summary"][0]["mse"] is None
    assert any(line.split()[-4:].count("-") for line in text_report(result) if line.startswith("  model"))
    assert "Nothing here is biology: the cells are synthetic." in list(text_report(result))
    assert all("the cells are synthetic" in caption for caption, _ in figures)
    assert csv_report(result).startswith("perturbation,subgroup,method,n_cells,n_controls,mse,pearson")
    check_page(html_report(result, figures))


def test_page_explains_what_it_shows(result, figures) -> None:
    text = html_report(result, figures)
    assert "Nothing here is biology: the cells are synthetic." in text
    assert '<abbr title="lower is better">' in text
    # Over all that was tested the additive baseline, which predicts pairs alone, is no candidate for the best.
    overall = text[text.index("all tested: 6 perturbations") :]
    rows = dict(re.findall(r'<th scope="row">([a-z ]+)</th><td>(\d.*?)</tr>', overall[: overall.index("</tbody>")]))
    assert "<b>" in rows["model"]
    assert "<b>" not in rows["additive"]
    assert rows["additive"].startswith("2<"), "its number of perturbations"
    # The published table has this evaluation's figures above it.
    published = text[text.index("Published figures") :]
    assert published.index("here: model") < published.index("here: training mean") < published.index("scGPT")
    real = dataclasses.replace(result, provenance={**result.provenance, "synthetic_data": False})
    assert "biology" not in html_report(real)


def test_published_table_has_our_columns_and_rows(result) -> None:
    lines = list(text_report(result))
    start = next(number for number, line in enumerate(lines) if line.startswith("published (")) + 2
    assert lines[start].split() == ["pearson_delta", "pearson_delta_de", "mse", "mse_de"], "as in the tables above"
    rows = {line[2:30].strip(): line.split()[-4:] for line in lines[start + 1 :]}
    assert list(rows)[:3] == ["here: model", "here: training mean", "scGPT"]
    assert rows["scGPT"] == ["0.534", "0.665", "0.00421", "0.223"]
    own = result.summary.set_index(["subgroup", "method"]).loc[(ALL_TESTED, "training mean")]
    assert float(rows["here: training mean"][0]) == pytest.approx(own["pearson_delta"], abs=1e-3)


def test_an_old_report_survives_a_failure(tmp_path, monkeypatch, capsys) -> None:
    old = tmp_path / "report.csv"
    old.write_text("old")
    link = tmp_path / "link.csv"
    link.symlink_to(old)
    full = OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr("scgenept_rt.files.durable.sync_data", Mock(side_effect=full))
        with pytest.raises(OutputError, match="No space left on device"):
            write_reports([(link, lambda: "new")], lambda: print("the table"))
    assert capsys.readouterr().out == "the table\n"
    assert old.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [link, old]
    with pytest.raises(BrokenPipeError):  # nobody reads the table
        write_reports([(link, lambda: "new")], Mock(side_effect=BrokenPipeError))
    assert link.is_symlink()
    assert old.read_text() == "new"


def test_a_name_cannot_write_into_the_page(predict, mean_of, h5ad, split) -> None:
    name = "<script>alert(1)</script>"
    result = evaluate(predict({"G1+G2": mean_of("G1+G2")}, name), h5ad, split)
    text = html_report(result)
    assert name not in text
    assert "&lt;script&gt;" in text
