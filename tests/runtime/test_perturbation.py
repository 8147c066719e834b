from __future__ import annotations

import io
import os
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scgenept_rt.errors import (
    EmptyPerturbationError,
    PerturbationError,
    PerturbationFileError,
    PerturbationTypeError,
    RepeatedGeneError,
    UnknownGeneError,
)
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import (
    PerturbationRequest,
    all_singles,
    pairs_of,
    parse_perturbation,
    parse_perturbations,
    read_gene_list,
    read_perturbation_file,
    unmeasured_target_notices,
)

IDS = tuple(f"ENSG{number:011d}" for number in range(1, 9))
PANEL = GenePanel(
    names=("SAMD1", "FOSB", "ZBTB1", "C19orf26", "KIAA1804", "A_B", "CTRL", "X+Y"),
    ids=IDS,
    in_vocab=np.array([True, True, True, False, False, True, True, True]),
)


@pytest.mark.parametrize(
    ("label", "targets", "columns"),
    [
        ("FOSB", ("FOSB",), (1,)),
        ("FOSB+ctrl", ("FOSB",), (1,)),
        ("ctrl+FOSB", ("FOSB",), (1,)),
        (" FOSB + ctrl ", ("FOSB",), (1,)),
        ("control+FOSB", ("FOSB",), (1,)),
        ("FOSB+non-targeting", ("FOSB",), (1,)),
        ("SAMD1+FOSB", ("FOSB", "SAMD1"), (1, 0)),
        ("SAMD1_FOSB", ("FOSB", "SAMD1"), (1, 0)),
        ("FOSB_control", ("FOSB",), (1,)),
        (f"{IDS[1]}.12+ZBTB1", ("FOSB", "ZBTB1"), (1, 2)),
        (f"{IDS[1]}_ZBTB1", ("FOSB", "ZBTB1"), (1, 2)),
        ("A_B", ("A_B",), (5,)),
        ("A_B_FOSB", ("A_B", "FOSB"), (5, 1)),
        ("FOSB_A_B", ("A_B", "FOSB"), (5, 1)),
        ("X+Y", ("X+Y",), (7,)),
        ("CTRL", ("CTRL",), (6,)),
        ("CTRL+ctrl", ("CTRL",), (6,)),
        ("ZBTB1+SAMD1+FOSB", ("FOSB", "SAMD1", "ZBTB1"), (1, 0, 2)),
        ("ctrl", (), ()),
        ("control", (), ()),
        ("ctrl+ctrl", (), ()),
    ],
)
def test_spellings(label, targets, columns):
    perturbation = parse_perturbation(label, PANEL)
    assert perturbation.target_genes == targets
    assert perturbation.columns == columns
    assert perturbation.label == label.strip()
    assert perturbation.canonical == ("+".join(targets) or "ctrl")


def test_other_control_words_replace_the_usual_ones():
    assert parse_perturbation("FOSB+NT", PANEL, control_labels=["NT"]).target_genes == ("FOSB",)
    with pytest.raises(UnknownGeneError, match="ctrl"):
        parse_perturbation("FOSB+ctrl", PANEL, control_labels=["NT"])


@pytest.mark.parametrize("label", ["", "   ", "FOSB+", "+FOSB", "FOSB++ctrl", "+", "FOSB+ "])
def test_empty_labels_and_parts(label):
    with pytest.raises(EmptyPerturbationError, match=r"FOSB\+ctrl or SAMD1\+ZBTB1") as caught:
        parse_perturbation(label, PANEL)
    assert repr(label) in str(caught.value)


@pytest.mark.parametrize("label", ["FOSB+FOSB", f"FOSB+{IDS[1]}", f"{IDS[1]}.3+ctrl+FOSB", "FOSB_FOSB"])
def test_the_same_gene_twice_in_any_spelling(label):
    with pytest.raises(RepeatedGeneError, match=r"names the gene FOSB twice.*FOSB\+ctrl") as caught:
        parse_perturbation(label, PANEL)
    assert label in str(caught.value)
    if "ENSG" in label:
        assert IDS[1] in str(caught.value).split("written")[1]


def test_an_unknown_gene_gets_a_near_spelling():
    with pytest.raises(UnknownGeneError, match=r"gene is not among the model's 8 genes: fosb \(did you mean FOSB\?\)"):
        parse_perturbation("fosb+ctrl", PANEL)


@pytest.mark.parametrize("label", ["FOSB,SAMD1", "FOSB, SAMD1", "FOSB/SAMD1", "FOSB & SAMD1", "FOSB SAMD1"])
def test_genes_that_are_not_joined_by_a_plus(label):
    with pytest.raises(UnknownGeneError, match=r"\(did you mean FOSB\+SAMD1\?\)"):
        parse_perturbation(label, PANEL)
    with pytest.raises(UnknownGeneError) as caught:
        parse_perturbation("FOSB,NOPE1", PANEL)
    assert "FOSB+NOPE1" not in str(caught.value)


def test_a_control_word_in_other_case_is_explained():
    panel = GenePanel(("FOSB",), (None,), np.ones(1, dtype=bool))
    with pytest.raises(UnknownGeneError, match=r"Ctrl \(did you mean ctrl\?\)"):
        parse_perturbation("FOSB+Ctrl", panel)


@pytest.mark.parametrize(
    ("label", "meant"),
    [
        ("A549_FOSB+ctrl_1+1", "FOSB+ctrl"),
        ("K562(?)_ctrl+FOSB_1+1", "ctrl+FOSB"),
        ("rpe1_p53_A_B+SAMD1_1+1", "A_B+SAMD1"),
        ("A549_ctrl_1", "ctrl"),
    ],
)
def test_the_condition_in_a_condition_name_of_gears(label, meant):
    with pytest.raises(UnknownGeneError) as caught:
        parse_perturbation(label, PANEL)
    assert caught.value.unknown == {label: (meant,)}
    assert f"{label} (did you mean {meant}?)" in str(caught.value)
    assert parse_perturbation(meant, PANEL).label == meant


def test_what_only_looks_like_a_condition_name_is_reported_by_its_genes():
    with pytest.raises(UnknownGeneError) as caught:
        parse_perturbation("A549_NOPE1+ctrl_1+1", PANEL)
    assert "A549_NOPE1" in caught.value.unknown


@pytest.mark.parametrize("name", ["ENSG00000999999", "ENSG00000999999.3", "ENSMUSG00000000001"])
def test_an_unknown_id_is_not_to_be_searched_by_what_all_ids_begin_with(name):
    with pytest.raises(UnknownGeneError, match=r"List the genes with `scgenept-rt genes BUNDLE`\.$"):
        parse_perturbation(name, PANEL)


def test_target_genes_that_the_input_lacks_are_told():
    perturbations, _ = parse_perturbations(["FOSB+SAMD1", "FOSB", "ZBTB1"], PANEL)
    columns = np.arange(8)
    assert unmeasured_target_notices(perturbations, columns) == []
    columns[1] = -1
    assert unmeasured_target_notices(perturbations, columns) == [
        "Warning: 1 target gene is not in the input (FOSB): its expression in the control cells is taken as zero."
    ]
    columns[0] = -1
    assert unmeasured_target_notices(perturbations, columns) == [
        "Warning: 2 target genes are not in the input (FOSB, SAMD1): "
        "their expression in the control cells is taken as zero."
    ]
    assert unmeasured_target_notices(parse_perturbations(["ctrl"], PANEL)[0], columns) == []


def test_a_label_that_splits_two_ways_is_not_guessed_at():
    panel = GenePanel(("A", "B_C", "A_B", "C"), (None,) * 4, np.ones(4, dtype=bool))
    with pytest.raises(UnknownGeneError, match=r"A_B_C \(did you mean A\+B_C or A_B\+C\?\)"):
        parse_perturbation("A_B_C", panel)


def test_all_unknown_genes_of_all_labels_come_in_one_error():
    with pytest.raises(UnknownGeneError) as caught:
        parse_perturbations(["FOSB", "fosb+NOPE1", "ZBTB1+NOPE2", "NOPE1"], PANEL)
    assert list(caught.value.unknown) == ["fosb", "NOPE1", "NOPE2"]
    message = str(caught.value)
    assert all(name in message for name in ("fosb (did you mean FOSB?)", "NOPE1", "NOPE2", "3 genes are"))


def test_duplicates_are_kept_once_in_the_first_spelling_and_reported():
    labels = ["ctrl+FOSB", "SAMD1+ZBTB1", "FOSB", "FOSB+ctrl", "ZBTB1_SAMD1"]
    perturbations, notices = parse_perturbations(labels, PANEL)
    assert [entry.label for entry in perturbations] == ["ctrl+FOSB", "SAMD1+ZBTB1"]
    assert notices == [
        "3 perturbations repeat others and are predicted once: "
        "FOSB (as ctrl+FOSB), FOSB+ctrl (as ctrl+FOSB), ZBTB1_SAMD1 (as SAMD1+ZBTB1)."
    ]


def test_requests_keep_their_n_controls_and_a_conflict_is_told():
    perturbations, notices = parse_perturbations(
        [PerturbationRequest("FOSB", 5), PerturbationRequest("ZBTB1"), PerturbationRequest("ctrl+FOSB", 7)], PANEL
    )
    assert [entry.n_controls for entry in perturbations] == [5, None]
    assert "Repeats ask for different n_controls; that of the first is used: FOSB." in notices


def test_three_genes_and_targets_out_of_vocabulary_are_noted():
    perturbations, notices = parse_perturbations(["FOSB+SAMD1+ZBTB1", "KIAA1804", "C19orf26+FOSB"], PANEL)
    assert len(perturbations) == 3
    assert notices == [
        "Warning: three or more genes at once (FOSB+SAMD1+ZBTB1): "
        "the published model was never evaluated on more than two.",
        "2 target genes are not in the model's vocabulary (C19orf26, KIAA1804): "
        "the model cannot tell these apart by name.",
    ]


def test_plain_labels_give_no_notice():
    assert parse_perturbations(["FOSB+ctrl", "SAMD1+ZBTB1", "ctrl"], PANEL)[1] == []


def test_one_string_is_one_label_not_a_list_of_letters():
    assert [entry.target_genes for entry in parse_perturbations("FOSB+ctrl", PANEL)[0]] == [("FOSB",)]


def test_no_label_at_all():
    with pytest.raises(EmptyPerturbationError, match="no perturbation was given"):
        parse_perturbations([], PANEL)


@pytest.mark.parametrize("label", [["FOSB+ctrl"], ("FOSB",), None, 3, b"FOSB", PerturbationRequest("FOSB")])
def test_one_label_of_another_type(label):
    with pytest.raises(
        PerturbationTypeError, match=r"^perturbation is .*, expected one label such as FOSB\+ctrl"
    ) as caught:
        parse_perturbation(label, PANEL)
    assert type(label).__name__ in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, PerturbationError)


@pytest.mark.parametrize("entry", [None, 3, float("nan"), b"FOSB", ["FOSB"], PerturbationRequest(None)])
def test_an_entry_of_another_type_is_named_with_its_position(entry):
    value = entry.label if isinstance(entry, PerturbationRequest) else entry
    with pytest.raises(
        PerturbationTypeError, match=r"perturbations\[1\] is .*Leave out entries that are none"
    ) as caught:
        parse_perturbations(["FOSB", entry, "ZBTB1"], PANEL)
    assert f"is {value!r} ({type(value).__name__})" in str(caught.value)


@pytest.mark.parametrize("labels", [None, 3, b"FOSB", np.array("FOSB"), PerturbationRequest("FOSB")])
def test_what_is_no_list_of_labels(labels):
    with pytest.raises(PerturbationTypeError, match=r"^perturbations is .*, expected a label .*, or a list of labels"):
        parse_perturbations(labels, PANEL)


@pytest.mark.parametrize("form", [tuple, np.array, iter, pd.Series])
def test_labels_in_any_kind_of_list(form):
    parsed = parse_perturbations(form(["FOSB+ctrl", "ZBTB1"]), PANEL)[0]
    assert [entry.label for entry in parsed] == ["FOSB+ctrl", "ZBTB1"]


SPELLED = {"FOSB": ("FOSB", IDS[1], f"{IDS[1]}.9"), "ZBTB1": ("ZBTB1", IDS[2]), "SAMD1": ("SAMD1", f"{IDS[0]}.1")}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_spelling_order_and_control_words_never_change_the_targets(data):
    genes = data.draw(st.lists(st.sampled_from(sorted(SPELLED)), unique=True, min_size=1))
    parts = [data.draw(st.sampled_from(SPELLED[gene])) for gene in genes]
    parts += data.draw(st.lists(st.sampled_from(["ctrl", "control", "non-targeting"]), max_size=2))
    parts = data.draw(st.permutations(parts))
    spaces = st.sampled_from(["", " ", "  "])
    separator = data.draw(st.sampled_from(["+", "_"])) if len(parts) == 2 else "+"
    label = separator.join(data.draw(spaces) + part + data.draw(spaces) for part in parts)
    expected = parse_perturbation("+".join(genes), PANEL)
    perturbation = parse_perturbation(label, PANEL)
    assert (perturbation.target_genes, perturbation.columns) == (expected.target_genes, expected.columns)


# --- sets ---


def test_all_singles_are_labels_that_parse_back_to_every_gene():
    perturbations, notices = parse_perturbations(all_singles(PANEL), PANEL)
    assert [entry.columns for entry in perturbations] == [(position,) for position in range(8)]
    assert not any("repeat" in notice for notice in notices)
    assert all_singles(PANEL)[0] == "SAMD1+ctrl"


def test_all_singles_in_vocabulary_only():
    labels = all_singles(PANEL, in_vocab_only=True)
    assert labels == ["SAMD1+ctrl", "FOSB+ctrl", "ZBTB1+ctrl", "A_B+ctrl", "CTRL+ctrl", "X+Y"]


def test_a_name_that_the_model_has_twice_is_one_single():
    panel = GenePanel(("A", "B", "A"), (None,) * 3, np.ones(3, dtype=bool))
    assert all_singles(panel) == ["A+ctrl", "B+ctrl"]


def test_pairs_are_unordered_and_of_different_genes():
    assert pairs_of(["C", "A", "B", "A"]) == ["C+A", "C+B", "A+B"]


# --- files ---


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_text_file_skips_blanks_and_comments(tmp_path):
    path = write(tmp_path, "p.txt", "# screen\nFOSB+ctrl\n\n  SAMD1+ZBTB1  \r\n#FOSB\nctrl")
    assert [request.label for request in read_perturbation_file(path)] == ["FOSB+ctrl", "SAMD1+ZBTB1", "ctrl"]


@pytest.mark.parametrize("column", ["perturbation", "condition"])
@pytest.mark.parametrize(("ending", "separator"), [("csv", ","), ("tsv", "\t"), ("CSV", ",")])
def test_tables_with_counts(tmp_path, column, ending, separator):
    rows = [["note", column, "n_controls"], ["# skipped", "", ""], ["x", "FOSB+ctrl", "50"], ["", "", ""]]
    rows += [["y", '"SAMD1+ZBTB1"', ""], ["z", "ZBTB1", "7.0"], ["short", "SAMD1"]]
    path = write(tmp_path, f"p.{ending}", "\ufeff" + "\n".join(separator.join(row) for row in rows))
    assert read_perturbation_file(path) == [
        PerturbationRequest("FOSB+ctrl", 50),
        PerturbationRequest("SAMD1+ZBTB1", None),
        PerturbationRequest("ZBTB1", 7),
        PerturbationRequest("SAMD1", None),
    ]


def test_table_without_counts(tmp_path):
    path = write(tmp_path, "p.csv", "perturbation\nFOSB\n")
    assert read_perturbation_file(path) == [PerturbationRequest("FOSB", None)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("perturbation\nFOSB,KLF1\n", "line 2: the row has 2 cells, and the header 1 column. Write FOSB+KLF1 to"),
        ("perturbation,\nFOSB,KLF1\n", "line 2: the row has 2 cells, and the header 1 column. Write FOSB+KLF1 to"),
        ("n_controls,condition\n5,FOSB\n5, FOSB ,KLF1,\n", "line 3: the row has 3 cells, and the header 2 columns."),
        ("perturbation,n_controls\nFOSB,KLF1,5\n", "line 2: the row has 3 cells, and the header 2 columns. Name every"),
        ("perturbation;n\nFOSB;1;KLF1\n", "line 2: the row has 3 cells, and the header 2 columns. Name every"),
        ("perturbation\nFOSB,50\n", "line 2: the row has 2 cells, and the header 1 column. Name every"),
        ("perturbation\nFOSB,of my own\n", "line 2: the row has 2 cells, and the header 1 column. Name every"),
    ],
)
def test_a_row_longer_than_the_header_may_be_a_pair_and_is_refused(tmp_path, text, says):
    path = write(tmp_path, "p.csv", text)
    with pytest.raises(PerturbationFileError) as caught:
        read_perturbation_file(path)
    assert f"{path}, {says}" in str(caught.value)
    assert "FOSB+KLF1" in str(caught.value)


def test_a_gene_list_with_rows_longer_than_its_header_is_refused(tmp_path):
    with pytest.raises(PerturbationFileError, match=r"line 2: the row has 2 cells.* one gene a row"):
        read_gene_list(write(tmp_path, "g.csv", "gene\nFOSB,KLF1\nZBTB1\n"))


def test_blank_cells_beyond_the_header_are_no_cells(tmp_path):
    path = write(tmp_path, "p.csv", "perturbation,,\nFOSB,,\nZBTB1, ,,,\n")
    assert [request.label for request in read_perturbation_file(path)] == ["FOSB", "ZBTB1"]


@pytest.mark.parametrize(
    ("name", "separator"), [("p.csv", ";"), ("p.csv", "\t"), ("p.tsv", ","), ("p.tsv", ";"), ("p.CSV", ";")]
)
def test_a_table_is_read_by_the_separator_that_its_header_shows(tmp_path, name, separator):
    rows = [["perturbation", "n_controls"], ["FOSB+ctrl", "50"], ['"SAMD1+ZBTB1"', ""]]
    path = write(tmp_path, name, "\ufeff# screen, of today; all\n" + "\n".join(separator.join(row) for row in rows))
    requests = read_perturbation_file(path)
    assert requests == [PerturbationRequest("FOSB+ctrl", 50), PerturbationRequest("SAMD1+ZBTB1", None)]
    assert [request.place for request in requests] == [(path, 3), (path, 4)]
    genes = write(tmp_path, f"genes{path.suffix}", f"n{separator}gene_name\n1{separator}FOSB\n2{separator}ZBTB1\n")
    assert read_gene_list(genes) == ["FOSB", "ZBTB1"]


@pytest.mark.parametrize("count", ["0", "-3", "1.5", "many", "nan", "inf"])
def test_a_bad_count_names_file_line_and_column(tmp_path, count):
    path = write(tmp_path, "p.csv", f"perturbation,n_controls\nFOSB,5\n\nZBTB1,{count}\n")
    with pytest.raises(PerturbationFileError) as caught:
        read_perturbation_file(path)
    assert str(caught.value).startswith(f"{path}, line 4, column 'n_controls': '{count}' is not a number of cells")
    assert (caught.value.line, caught.value.column) == (4, "n_controls")


def test_an_empty_cell_names_line_and_column(tmp_path):
    path = write(tmp_path, "p.tsv", "n_controls\tcondition\n5\tFOSB\n6\t\n")
    with pytest.raises(PerturbationFileError, match=r"p\.tsv, line 3, column 'condition': the cell is empty"):
        read_perturbation_file(path)


def test_a_table_without_the_column_lists_its_columns(tmp_path):
    path = write(tmp_path, "p.csv", "gene,n\nFOSB,1\n")
    with pytest.raises(
        PerturbationFileError, match=r"line 1: its header has no column perturbation or condition \(it has: gene, n\)"
    ):
        read_perturbation_file(path)


@pytest.mark.parametrize(
    "row",
    ['"FOSB+ctrl,5', '"FOSB"+ctrl,5', 'FOSB,"5\n'],
    ids=["label is not closed", "text after", "count is not closed"],
)
def test_an_unclosed_quote_names_the_line_on_which_its_row_begins(tmp_path, row):
    text = f'# a "comment, with "quotes" of its own\nperturbation,n_controls\n\n"ZBTB1",3\n{row}\nSAMD1,3\n'
    path = write(tmp_path, "p.csv", text)
    with pytest.raises(PerturbationFileError, match=r"p\.csv, line 5: the row that begins here .* Check its quotes"):
        read_perturbation_file(path)
    path.write_text(text.replace(row, '"SAMD1+FOSB",7'))
    requests = [("ZBTB1", 3), ("SAMD1+FOSB", 7), ("SAMD1", 3)]
    assert read_perturbation_file(path) == [PerturbationRequest(*request) for request in requests]


@pytest.mark.parametrize("header", ["perturbation,Perturbation", "n_controls,perturbation,N_Controls"])
def test_two_columns_of_one_name_are_refused(tmp_path, header):
    path = write(tmp_path, "p.csv", f"{header}\n5,FOSB,6\n")
    with pytest.raises(PerturbationFileError, match=r"p\.csv, line 1: its header has 2 columns '.*Rename all but one"):
        read_perturbation_file(path)


def test_columns_are_found_in_any_case(tmp_path):
    path = write(tmp_path, "p.csv", "Condition,Perturbation,N_CONTROLS\nx,FOSB,5\n,ZBTB1,many\n")
    with pytest.raises(PerturbationFileError, match=r"line 3, column 'n_controls': 'many' is not a number of cells"):
        read_perturbation_file(path)
    path.write_text("Condition,Perturbation,N_CONTROLS\nx,FOSB,5\n")
    assert read_perturbation_file(path) == [PerturbationRequest("FOSB", 5)]
    assert read_gene_list(write(tmp_path, "g.csv", "Gene\nFOSB\nZBTB1\n")) == ["FOSB", "ZBTB1"]


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("p.txt", b"\n# nothing\n", "holds no perturbation"),
        ("p.csv", b"", r"no column perturbation or condition \(it has: none\)"),
        ("p.csv", b"perturbation\n", "holds no perturbation"),
        ("p.txt", b"FOSB\xff\xfe", "not UTF-8"),
        ("p", b"FOSB", r"p: its name has no ending\. Expected \.txt, \.csv or \.tsv"),
        ("p.txt", b"# x\nPerturbation\nFOSB\n", r"line 2: 'Perturbation' is the header of .*Remove the line, or name"),
        ("p.txt", b"condition,n_controls\nFOSB,5\n", r"line 1: 'condition,n_controls' is the header of a table"),
        ("p.xlsx", b"PK", r"unknown file ending '\.xlsx'\. Expected \.txt, \.csv or \.tsv"),
    ],
)
def test_unusable_files(tmp_path, name, content, fact):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PerturbationFileError, match=fact) as caught:
        read_perturbation_file(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_or_a_directory(tmp_path):
    with pytest.raises(PerturbationFileError, match=r"none\.txt: there is no such file"):
        read_perturbation_file(tmp_path / "none.txt")
    with pytest.raises(PerturbationFileError, match=r"none: there is no such file"):
        read_perturbation_file(tmp_path / "none")
    with pytest.raises(PerturbationFileError, match="it is a directory"):
        read_perturbation_file(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(PerturbationFileError, match=r"folder\.csv: it cannot be read"):
        read_perturbation_file(tmp_path / "folder.csv")


def test_gene_lists(tmp_path):
    assert read_gene_list(write(tmp_path, "g.txt", "FOSB\n# no\nZBTB1\n")) == ["FOSB", "ZBTB1"]
    assert read_gene_list(write(tmp_path, "g.csv", "n,gene_name\n1,FOSB\n2,ZBTB1\n")) == ["FOSB", "ZBTB1"]
    with pytest.raises(PerturbationFileError, match="names 1 gene"):
        read_gene_list(write(tmp_path, "one.txt", "FOSB\nFOSB\n"))
    with pytest.raises(PerturbationFileError, match="line 1: 'gene_name' is the header"):
        read_gene_list(write(tmp_path, "header.txt", "gene_name\nFOSB\nZBTB1\n"))


@pytest.mark.parametrize("text", ["FOSB+ctrl\n# no\nSAMD1+ZBTB1\n", "\ufeffFOSB+ctrl\r\nSAMD1+ZBTB1"])
def test_pipes_hold_one_label_a_line(monkeypatch, tmp_path, text):
    expected = [PerturbationRequest("FOSB+ctrl"), PerturbationRequest("SAMD1+ZBTB1")]
    read_end, write_end = os.pipe()
    os.write(write_end, text.encode())
    os.close(write_end)
    try:
        assert read_perturbation_file(f"/dev/fd/{read_end}") == expected
    finally:
        os.close(read_end)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert read_perturbation_file("-") == expected


def test_a_table_through_a_pipe_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"perturbation,n_controls\nFOSB,5\n")))
    with pytest.raises(PerturbationFileError, match=r"^standard input, line 1: .* comes through a pipe must have none"):
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
    for text, error in (("FOSB\nFOSB+FOSB\n", RepeatedGeneError), ("FOSB\nFOSB+\n", EmptyPerturbationError)):
        with pytest.raises(error, match=r"p\.txt, line 2: perturbation 'FOSB\+"):
            parse_perturbations(read_perturbation_file(write(tmp_path, "p.txt", text)), PANEL)
