from __future__ import annotations

import io
import os
import sys

import pytest

from scgenept_rt.errors import PerturbationError, PerturbationFileError, UnknownGeneError
from scgenept_rt.perturbation import PerturbationRequest, parse_perturbations
from scgenept_rt.perturbation.files import read_gene_list, read_perturbation_file
from tests.runtime.perturbation.panel import PANEL


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("ending", "separator"), [("tsv", "\t"), ("CSV", ",")])
def test_tables_with_counts(tmp_path, ending, separator):
    rows = [
        ["note", "perturbation", "n_controls", "", ""],
        ["# skipped", "", ""],
        ["x", "FOSB+ctrl", "50"],
        ["", "", ""],
    ]
    rows += [["y", '"SAMD1+ZBTB1"', ""], ["z", "ZBTB1", "7.0"], ["short", "SAMD1"]]
    path = write(tmp_path, f"p.{ending}", "\ufeff" + "\n".join(separator.join(row) for row in rows))
    assert read_perturbation_file(path) == [
        PerturbationRequest("FOSB+ctrl", 50),
        PerturbationRequest("SAMD1+ZBTB1", None),
        PerturbationRequest("ZBTB1", 7),
        PerturbationRequest("SAMD1", None),
    ]


@pytest.mark.parametrize(("name", "separator"), [("p.csv", ";"), ("p.csv", "\t"), ("p.tsv", ",")])
def test_a_table_is_read_by_the_separator_that_its_header_shows(tmp_path, name, separator):
    rows = [["perturbation", "n_controls"], ["FOSB+ctrl", "50"], ['"SAMD1+ZBTB1"', ""]]
    path = write(tmp_path, name, "\ufeff# screen, of today; all\n" + "\n".join(separator.join(row) for row in rows))
    requests = read_perturbation_file(path)
    assert requests == [PerturbationRequest("FOSB+ctrl", 50), PerturbationRequest("SAMD1+ZBTB1", None)]
    assert [request.place for request in requests] == [(path, 3), (path, 4)]
    genes = write(tmp_path, f"genes{path.suffix}", f"n{separator}gene_name\n1{separator}FOSB\n2{separator}ZBTB1\n")
    assert read_gene_list(genes) == ["FOSB", "ZBTB1"]


@pytest.mark.parametrize(
    "row",
    ['"FOSB+ctrl,5', '"FOSB"+ctrl,5', 'FOSB,"5\n'],
    ids=["label is not closed", "text after", "count is not closed"],
)
def test_an_unclosed_quote_names_the_line_on_which_its_row_begins(tmp_path, row):
    text = f'# a "comment, with "quotes"\nperturbation,n_controls\n"# quoted, too"\n"ZBTB1",3\n{row}\nSAMD1,3\n'
    path = write(tmp_path, "p.csv", text)
    with pytest.raises(PerturbationFileError, match=r"p\.csv, line 5: the row that begins here .* Check its quotes"):
        read_perturbation_file(path)
    path.write_text(text.replace(row, '"SAMD1+FOSB",7'))
    requests = [("ZBTB1", 3), ("SAMD1+FOSB", 7), ("SAMD1", 3)]
    assert read_perturbation_file(path) == [PerturbationRequest(*request) for request in requests]


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("p.txt", b"\n# nothing\n", ": it holds no perturbation"),
        ("p.csv", b"", r": its header has no column perturbation or condition \(it has: none\)"),
        ("p.csv", b"perturbation\n", ": it holds no perturbation"),
        ("p.txt", b"FOSB\xff\xfe", ": .*not UTF-8"),
        ("p.txt", b"# x\nPerturbation\nFOSB\n", ", line 2: 'Perturbation' is the header of .*Remove the line"),
        ("p.txt", b"condition,n_controls\nFOSB,5\n", ", line 1: 'condition,n_controls' is the header of a table"),
        ("p.csv", b"perturbation,\nFOSB,KLF1\n", r", line 2: the row has 2 cells, .* FOSB\+KLF1"),
        ("p.csv", b"n_controls,perturbation,N_Controls\n5,FOSB,6\n", ", line 1: its header has 2 columns .*Rename all"),
        ("p.csv", b"perturbation,n_controls\nFOSB,5\n\nFOSB,0\n", ", line 4, column 'n_controls': '0' is not a number"),
        ("p.csv", b"Condition,Perturbation,N_CONTROLS\nx,FOSB,many\n", ", line 2, column 'n_controls': 'many' is not"),
        ("p.tsv", b"n_controls\tcondition\n5\tFOSB\n6\t\n", ", line 3, column 'condition': the cell is empty"),
        ("none/p.txt", None, ": there is no such file"),
        ("", None, ": it cannot be read"),
    ],
)
def test_unusable_files(tmp_path, name, content, fact):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PerturbationFileError, match=f"^{path}{fact}"):
        read_perturbation_file(path)


def test_gene_lists(tmp_path):
    assert read_gene_list(write(tmp_path, "g.txt", "FOSB\n# no\nZBTB1\n")) == ["FOSB", "ZBTB1"]
    assert read_gene_list(write(tmp_path, "g.csv", "n,Gene\n1,FOSB\n2,ZBTB1\n")) == ["FOSB", "ZBTB1"]
    with pytest.raises(PerturbationFileError, match="names 1 gene"):
        read_gene_list(write(tmp_path, "one.txt", "FOSB\nFOSB\n"))


def test_text_files_and_pipes_hold_one_label_a_line(monkeypatch, tmp_path):
    text = "\ufeff# screen\nFOSB+ctrl\n\n  SAMD1+ZBTB1  \r\n#FOSB\nctrl"
    expected = [PerturbationRequest(label) for label in ("FOSB+ctrl", "SAMD1+ZBTB1", "ctrl")]
    assert read_perturbation_file(write(tmp_path, "p.txt", text)) == expected
    read_end, write_end = os.pipe()
    os.write(write_end, text.encode())
    os.close(write_end)
    assert read_perturbation_file(f"/dev/fd/{read_end}") == expected
    os.close(read_end)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert read_perturbation_file("-") == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"perturbation,n_controls\nFOSB,5\n")))
    with pytest.raises(PerturbationFileError, match=r"^standard input, line 1: .* is the header of a table"):
        read_perturbation_file("-")


def test_labels_of_a_file_that_do_not_parse_are_named_with_file_and_line(tmp_path):
    one = read_perturbation_file(write(tmp_path, "one.txt", "FOSB\nNOPE1\nNOPE1+FOSB\n"))
    with pytest.raises(
        UnknownGeneError, match=r"one\.txt, line 2: gene is not among the model's 8 genes: NOPE1\. List"
    ):
        parse_perturbations(one, PANEL)
    table = read_perturbation_file(write(tmp_path, "two.csv", "perturbation\nFOSB\n\nfosb\nZBTB1+NOPE2\n"))
    with pytest.raises(
        UnknownGeneError,
        match=r"two\.csv: 2 genes are not among .*: fosb \(line 4; did you mean FOSB\?\), NOPE2 \(line 5\)",
    ):
        parse_perturbations(table, PANEL)
    with pytest.raises(
        UnknownGeneError,
        match=r"^3 genes are not among .*: X1, NOPE1 \(.*one\.txt, line 2\), fosb \(.*two\.csv, line 4;",
    ):
        parse_perturbations(["X1", one[1], table[1]], PANEL)
    for text, error in (("FOSB\nFOSB+FOSB\n", PerturbationError), ("FOSB\nFOSB+\n", PerturbationError)):
        with pytest.raises(error, match=r"p\.txt, line 2: perturbation 'FOSB\+"):
            parse_perturbations(read_perturbation_file(write(tmp_path, "p.txt", text)), PANEL)
