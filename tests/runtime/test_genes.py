from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scgenept_rt.errors import GeneMatchError, UnknownGeneError
from scgenept_rt.genes import GenePanel, match_columns

IDS = tuple(f"ENSG{number:011d}" for number in range(1, 6))
PANEL = GenePanel(
    names=("FOSB", "SAMD1", "ZBTB1", "HLA-A", "C19orf26"),
    ids=(*IDS[:3], None, IDS[4]),
    in_vocab=np.array([True, True, True, True, False]),
)
# The model itself has TBCE at positions 1 and 3.
TWICE = GenePanel(
    names=("FOSB", "TBCE", "SAMD1", "TBCE"),
    ids=IDS[:4],
    in_vocab=np.ones(4, dtype=bool),
)


@pytest.mark.parametrize(
    ("name", "position"),
    [("FOSB", 0), ("HLA-A", 3), (IDS[1], 1), (f"{IDS[1]}.14", 1), (f"{IDS[4]}.2", 4)],
)
def test_position_by_symbol_and_by_id_with_or_without_version(name, position):
    assert PANEL.position(name) == position
    assert name in PANEL


def test_a_repeated_name_gives_its_first_column_and_its_ids_give_each():
    assert f"{IDS[0]}.3_PAR_Y" not in PANEL  # another gene
    panel = GenePanel(("A", "ENSG00000000009.3"), ("ENSG00000000001.7", None), np.ones(2, dtype=bool))
    assert [panel.position("ENSG00000000001"), panel.position("ENSG00000000009")] == [0, 1]
    assert TWICE.position("TBCE") == 1
    assert [TWICE.position(gene_id) for gene_id in IDS[:4]] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "suggested"),
    [("fosb", "FOSB"), ("FOSBB", "FOSB"), ("HLA_A", "HLA-A"), ("hlaa", "HLA-A"), ("c19ORF26", "C19orf26")],
)
def test_an_unknown_gene_is_named_with_near_spellings_and_how_to_list_genes(name, suggested):
    with pytest.raises(UnknownGeneError) as caught:
        PANEL.position(name)
    message = str(caught.value)
    assert f"{name} (did you mean {suggested}" in message
    assert "5 genes" in message
    assert "`scgenept-rt genes BUNDLE`" in message
    assert name not in PANEL


def test_find_searches_names_and_ids_in_any_case():
    assert PANEL.find("sb") == [0]
    assert PANEL.find("orf") == [4]
    assert PANEL.find("ensg0000000000") == [0, 1, 2, 4]
    assert PANEL.find("nothing") == []


def test_columns_in_any_order_with_extras():
    match = match_columns(PANEL, {"var_names": ["X1", "C19orf26", "HLA-A", "X2", "ZBTB1", "SAMD1", "FOSB"]})
    assert match.columns.dtype == np.int64
    assert match.columns.tolist() == [6, 5, 4, 2, 1]
    assert (match.n_found, match.n_found_in_vocab, match.n_extra, match.missing) == (5, 4, 2, ())
    assert match.notices == ("2 genes of the input are not in the model and are ignored.",)


def test_the_source_that_covers_most_wins_and_is_named():
    names = {"var_names": ["0", "1", "FOSB"], "gene_name": ["SAMD1", "FOSB", "ZBTB1"]}
    match = match_columns(PANEL, names)
    assert match.source == "gene_name"
    assert match.columns.tolist() == [1, 0, 2, -1, -1]
    assert "Gene names were taken from the var column 'gene_name'." in match.notices
    assert match_columns(PANEL, dict(reversed(names.items())), gene_key="var_names").columns.tolist() == [2] + [-1] * 4
    tie = match_columns(PANEL, {"feature_name": ["SAMD1", "FOSB"], "var_names": ["FOSB", "SAMD1"]})
    assert (tie.source, tie.columns[:2].tolist()) == ("var_names", [0, 1])


@pytest.mark.parametrize("spelling", ["FOSB", f"{IDS[0]}.4"])
def test_two_columns_for_one_gene_are_an_error_that_says_what_to_do(spelling):
    with pytest.raises(GeneMatchError) as caught:
        match_columns(PANEL, {"var_names": [spelling, "SAMD1", spelling, "SAMD1", "ZBTB1"]})
    assert caught.value.genes == ("FOSB", "SAMD1")
    message = str(caught.value)
    assert "(var_names)" in message
    assert "FOSB (2 of the input), SAMD1 (2 of the input)" in message
    assert [option.name for option in caught.value.options] == ["gene_key"]


def test_a_symbol_beside_its_own_id_is_a_duplicate_unless_the_id_decides():
    # Both columns claim FOSB; only the second says so by id, so it is the one.
    match = match_columns(PANEL, {"var_names": ["FOSB", IDS[0]]})
    assert match.columns[0] == 1
    assert "Columns of one name were told apart by their Ensembl ids: FOSB." in match.notices


def test_duplicate_symbols_are_told_apart_by_ids_of_another_column():
    names = {"var_names": ["FOSB", "FOSB", "SAMD1"], "gene_ids": ["ENSG00000999999", f"{IDS[0]}.1", "?"]}
    match = match_columns(PANEL, names, gene_key="var_names")
    assert match.columns[:2].tolist() == [1, 2]
    assert any("told apart by their Ensembl ids: FOSB" in notice for notice in match.notices)


def test_an_unambiguous_source_is_preferred_at_equal_coverage():
    names = {"var_names": ["FOSB", "FOSB"], "gene_name": ["FOSB", "FOSB-2"]}
    match = match_columns(PANEL, names)
    assert (match.source, int(match.columns[0])) == ("gene_name", 0)


class TestNamesThatTheModelHasTwice:
    def test_by_id_in_any_order(self):
        match = match_columns(TWICE, {"var_names": [IDS[3], IDS[2], IDS[1], IDS[0]]})
        assert match.columns.tolist() == [3, 2, 1, 0]

    def test_by_id_of_another_column(self):
        names = {"var_names": ["TBCE", "SAMD1", "TBCE", "FOSB"], "gene_ids": [IDS[3], IDS[2], IDS[1], IDS[0]]}
        match = match_columns(TWICE, names, gene_key="var_names")
        assert match.columns.tolist() == [3, 2, 1, 0]

    def test_by_occurrence_in_the_models_own_order(self):
        match = match_columns(TWICE, {"var_names": ["FOSB", "extra", "TBCE", "SAMD1", "TBCE"]})
        assert match.columns.tolist() == [0, 2, 3, 4]

    @pytest.mark.parametrize(
        "names",
        [["TBCE", "FOSB", "SAMD1", "TBCE"], ["FOSB", "TBCE", "SAMD1"], ["FOSB", "SAMD1", "TBCE"] + ["TBCE"] * 2],
    )
    def test_otherwise_an_error_that_counts_both_sides(self, names):
        with pytest.raises(GeneMatchError, match=rf"TBCE \({names.count('TBCE')} of the input, 2 of the model\)"):
            match_columns(TWICE, {"var_names": names})


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_any_order_of_columns_finds_the_same_genes(seed, with_ids):
    spellings = [
        gene_id if with_ids and gene_id else name for name, gene_id in zip(PANEL.names, PANEL.ids, strict=True)
    ]
    names = [*spellings, "X1", "X2", "X3"]
    random.Random(seed).shuffle(names)
    match = match_columns(PANEL, {"var_names": names})
    assert [names[column] for column in match.columns] == spellings
