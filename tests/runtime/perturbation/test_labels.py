from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scgenept_rt.errors import ArgumentError, PerturbationError, UnknownGeneError
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import PerturbationRequest, parse_perturbation, parse_perturbations
from scgenept_rt.perturbation.labels import all_singles, pairs_of, unmeasured_target_notices
from tests.runtime.perturbation.panel import IDS, PANEL


@pytest.mark.parametrize(
    ("label", "targets", "columns"),
    [
        ("FOSB", ("FOSB",), (1,)),
        ("FOSB+ctrl", ("FOSB",), (1,)),
        ("ctrl+FOSB", ("FOSB",), (1,)),
        (" FOSB + ctrl ", ("FOSB",), (1,)),
        ("FOSB+non-targeting", ("FOSB",), (1,)),
        ("SAMD1_FOSB", ("FOSB", "SAMD1"), (1, 0)),
        ("FOSB_control", ("FOSB",), (1,)),
        (f"{IDS[1]}.12+ZBTB1", ("FOSB", "ZBTB1"), (1, 2)),
        ("A_B", ("A_B",), (5,)),
        ("FOSB_A_B", ("A_B", "FOSB"), (5, 1)),
        ("X+Y", ("X+Y",), (7,)),
        ("CTRL", ("CTRL",), (6,)),
        ("CTRL+ctrl", ("CTRL",), (6,)),
        ("ZBTB1+SAMD1+FOSB", ("FOSB", "SAMD1", "ZBTB1"), (1, 0, 2)),
        ("ctrl", (), ()),
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
    assert parse_perturbations("FOSB+NT", PANEL, ["NT"])[0][0].target_genes == ("FOSB",)
    with pytest.raises(UnknownGeneError, match="ctrl"):
        parse_perturbations("FOSB+ctrl", PANEL, ["NT"])


@pytest.mark.parametrize("label", ["FOSB_FOSB", f"{IDS[1]}.3+ctrl+FOSB"])
def test_the_same_gene_twice_in_any_spelling(label):
    with pytest.raises(PerturbationError, match=r"names the gene FOSB twice.*FOSB\+ctrl") as caught:
        parse_perturbation(label, PANEL)
    assert label in str(caught.value)
    if "ENSG" in label:
        assert IDS[1] in str(caught.value).split("written")[1]


@pytest.mark.parametrize("label", ["SAMD1|FOSB", "FOSB : SAMD1", "FOSB;SAMD1;ctrl"])
def test_separators_that_no_list_of_perturbations_has_join_genes(label):
    assert parse_perturbation(label, PANEL).target_genes == ("FOSB", "SAMD1")
    with pytest.raises(UnknownGeneError):
        parse_perturbation(f"{label};NOPE1", PANEL)


@pytest.mark.parametrize("label", ["FOSB,SAMD1", "FOSB & SAMD1", "FOSB-SAMD1"])
def test_genes_that_are_not_joined_by_a_plus(label):
    with pytest.raises(UnknownGeneError, match=r"\(did you mean FOSB\+SAMD1\?\)"):
        parse_perturbation(label, PANEL)
    with pytest.raises(UnknownGeneError) as caught:
        parse_perturbation("FOSB,NOPE1", PANEL)
    assert "FOSB+NOPE1" not in str(caught.value)


def test_target_genes_that_the_input_lacks_are_told():
    perturbations, _ = parse_perturbations(["FOSB+SAMD1", "FOSB", "ZBTB1"], PANEL)
    columns = np.arange(8)
    assert unmeasured_target_notices(perturbations, columns) == []
    columns[:2] = -1
    (notice,) = unmeasured_target_notices(perturbations, columns)
    assert "2 target genes are not in the input (FOSB, SAMD1)" in notice
    assert unmeasured_target_notices(parse_perturbations(["ctrl"], PANEL)[0], columns) == []


@pytest.mark.parametrize(
    ("label", "meant"),
    [("A549_FOSB+ctrl_1+1", "FOSB+ctrl"), ("rpe1_p53_A_B+SAMD1_1+1", "A_B+SAMD1"), ("fosb+ctrl", "FOSB")],
)
def test_what_may_have_been_meant(label, meant):
    with pytest.raises(UnknownGeneError) as caught:
        parse_perturbation(label, PANEL)
    assert f"{label.removesuffix('+ctrl')} (did you mean {meant}?)" in str(caught.value)
    with pytest.raises(UnknownGeneError, match="genes: A549_NOPE1"):
        parse_perturbation("A549_NOPE1+ctrl_1+1", PANEL)


@pytest.mark.parametrize("label", ["", "   ", "FOSB++ctrl", "FOSB+ "])
def test_empty_labels_and_parts(label):
    with pytest.raises(PerturbationError, match=rf"{re.escape(repr(label))} .*, expected .* FOSB\+ctrl"):
        parse_perturbation(label, PANEL)


def test_a_label_that_splits_two_ways_is_not_guessed_at():
    panel = GenePanel(("A", "B_C", "A_B", "C"), (None,) * 4, np.ones(4, dtype=bool))
    with pytest.raises(UnknownGeneError, match=r"A_B_C \(did you mean A\+B_C or A_B\+C\?\)"):
        parse_perturbation("A_B_C", panel)


def test_all_unknown_genes_of_all_labels_come_in_one_error():
    with pytest.raises(UnknownGeneError) as caught:
        parse_perturbations(["FOSB", "fosb+NOPE1", "ZBTB1+NOPE2", "NOPE1"], PANEL)
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
        "Three or more genes at once (FOSB+SAMD1+ZBTB1): the published model was never evaluated on more than two.",
        "2 target genes are not in the model's vocabulary (C19orf26, KIAA1804): "
        "the model cannot tell such genes apart by name.",
    ]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (["FOSB", float("nan")], r"perturbations\[1\] is nan \(float\), .*Leave out entries that are none"),
        ([pd.NA], r"perturbations\[0\] is <NA> \(NAType\), .*Leave out entries that are none"),
        ([PerturbationRequest(None)], r"perturbations\[0\] is None \(NoneType\)"),
        (["FOSB", ("FOSB", "SAMD1")], r"perturbations\[1\] is .*by a plus: 'FOSB\+SAMD1'"),
        (np.array([["FOSB", "SAMD1"]]), r"perturbations\[0\] is .*by a plus: 'FOSB\+SAMD1'"),
        ([b"FOSB"], r"perturbations\[0\] is b'FOSB' \(bytes\), expected a label such as FOSB\+ctrl\.$"),
        (None, "perturbations is None .*, expected a label .*, or a list of labels"),
        (np.array("FOSB"), "perturbations is array.*, or a list of labels"),
    ],
)
def test_what_is_no_list_of_labels(labels, problem):
    with pytest.raises(ArgumentError, match=f"^{problem}"):
        parse_perturbations(labels, PANEL)
    with pytest.raises(ArgumentError, match=r"^perturbation is .*, expected one label such as FOSB\+ctrl"):
        parse_perturbation(labels, PANEL)
    with pytest.raises(PerturbationError, match="no perturbation was given"):
        parse_perturbations([], PANEL)


@pytest.mark.parametrize("form", [np.array, iter, pd.Series])
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


def test_all_singles_are_labels_that_parse_back_to_every_gene():
    perturbations, notices = parse_perturbations(all_singles(PANEL), PANEL)
    assert [entry.columns for entry in perturbations] == [(position,) for position in range(8)]
    assert not any("repeat" in notice for notice in notices)
    assert all_singles(PANEL)[0] == "SAMD1+ctrl"
    assert pairs_of(["C", "A", "B", "A"]) == ["C+A", "C+B", "A+B"]
