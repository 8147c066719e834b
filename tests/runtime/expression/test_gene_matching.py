"""The model's genes among those of an input; `tests/runtime/test_genes.py` has the rules."""

from __future__ import annotations

import itertools

import h5py
import numpy as np
import pandas as pd
import pytest

from scgenept_rt.errors import Caution, CellsFormatError, GeneMatchError
from scgenept_rt.genes import GenePanel
from tests.runtime.expression.inputs import CONTROL_ROWS, GENES, assert_controls, cells, log1p_values, proposed, read


def test_missing_genes_are_an_error_or_zero():
    x = log1p_values()
    adata = cells(x[:, :5], GENES[:5])
    with pytest.raises(GeneMatchError, match="3 of the model's 8 genes are missing from var_names: F, G, H") as caught:
        read(adata)
    assert proposed(caught) == {"missing_genes": "zero"}
    assert caught.value.genes == ("F", "G", "H")
    with pytest.raises(GeneMatchError, match="one of the model's 8 genes is missing from var_names: H"):
        read(cells(x[:, :7], GENES[:7]))
    control = read(adata, missing_genes="zero")
    assert_controls(control, np.hstack([x[:, :5], np.zeros((len(x), 3))]))
    assert "Genes of the model that the input lacks were taken as not expressed (3): F, G, H." in control.notices
    assert any("5 of the model's 8 genes were found" in notice for notice in control.notices)


def test_missing_genes_point_at_raw_where_it_has_more(tmp_path):
    x = log1p_values()
    adata = cells(x)
    adata.raw = adata
    adata = adata[:, :5].copy()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        with pytest.raises(GeneMatchError, match="raw, which has 8 genes") as caught:
            read(source)
        assert proposed(caught) == {"missing_genes": "zero", "use_raw": True}
        assert_controls(read(source, use_raw=True), x)


def test_no_gene_at_all_is_never_taken_as_zero():
    adata = cells(log1p_values(), [f"probe{number}" for number in range(8)])
    with pytest.raises(
        GeneMatchError, match=r"none of the model's 8 genes was found; var_names holds probe0, probe1, probe2"
    ) as caught:
        read(adata, missing_genes="zero")
    assert proposed(caught) == {}
    adata.var["mine"] = pd.Categorical(GENES)
    adata.var["mean"] = 0.5
    adata.var["biotype"] = "protein_coding"
    with pytest.raises(GeneMatchError, match=r"gene_key=\.\.\. to name the column .*\(mine, biotype\)"):
        read(adata)
    assert read(adata, gene_key="mine").match.n_found == 8


@pytest.mark.parametrize(("n_found", "share"), [(1, "Less than 1%"), (2, "Only 1%"), (8, "Only 4%")])
def test_an_input_with_few_of_the_genes_is_warned_of(n_found, share):
    names = tuple(f"gene{number}" for number in range(200))
    panel = GenePanel(names, (None,) * 200, np.ones(200, dtype=bool))
    control = read(cells(log1p_values(n_vars=n_found), names[:n_found]), panel, missing_genes="zero")
    assert any(notice.startswith(f"{share} of what the model reads is") for notice in control.notices)
    were = "was" if n_found == 1 else "were"
    assert any(f"{n_found} of the model's 200 genes {were} found" in notice for notice in control.notices)


def test_gene_key_takes_any_column(tmp_path):
    x = log1p_values()
    adata = cells(x)
    adata.var["symbol"] = list(reversed(GENES))
    adata.var_names.name = "index_of_mine"
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        control = read(source, gene_key="symbol")
        assert_controls(control, x[:, ::-1])
        assert read(source, gene_key="index_of_mine").match.n_found == 8


# --- symbols and ids of one file --------------------------------------------------------------------------------------

SYMBOLS = ("FOSB", "HLA-A", "RP11-34P13.8", "7SK", "C19orf26", "MARCH2", "WARS", "SEPT9", "TBCE", "KLF1", "JUN", "IRF1")
PANEL_IDS = (
    *("ENSG00000125740", "ENSG00000206503", "ENSG00000239945", "ENSG00000202198", "ENSG00000099625"),
    *("ENSG00000099785", "ENSG00000140105", "ENSG00000184640", "ENSG00000116957", "ENSG00000105610"),
    *("ENSG00000177606", "ENSG00000125347"),
)
HUMAN = GenePanel(SYMBOLS, PANEL_IDS, np.ones(12, dtype=bool))
OTHER_ID = "ENSG00000999999"


def values_of(names, x, options=None, **columns):
    """Return the values that are read of cells with these names of genes, and what is said."""
    adata = cells(x, names)
    for column, texts in columns.items():
        adata.var[column] = list(texts)
    control = read(adata, HUMAN, **(options or {}))
    return control.values.dense(0, control.n_obs), control


PLAIN = log1p_values(n_vars=12)
EXPECTED = PLAIN[CONTROL_ROWS].astype(np.float32)


def with_copies(genes, separator):
    """Return names, ids and values where other loci without counts have the names of genes, as make_unique leaves."""
    names, ids, values = [], [], []
    for gene, gene_id, column in zip(SYMBOLS, PANEL_IDS, PLAIN.T, strict=True):
        if gene in genes:
            names += [gene, f"{gene}{separator}1"]
            ids += [f"ENSG0000099{len(names):04d}", gene_id]
            values += [np.zeros(len(column)), column]
        else:
            names, ids, values = [*names, gene], [*ids, gene_id], [*values, column]
    return names, ids, np.stack(values, axis=1)


@pytest.mark.parametrize(("separator", "column"), [("-", "gene_ids"), (".", "Accession"), ("_", "gene_ids")])
def test_ids_tell_which_of_the_columns_that_make_unique_renamed_is_the_gene(separator, column):
    names, ids, x = with_copies(["TBCE", "HLA-A", "KLF1", "JUN", "WARS", "FOSB"], separator)
    for options in ({}, {"gene_key": "var_names"}):
        values, control = values_of(names, x, options, **{column: [f"{gene_id}.4" for gene_id in ids]})
        np.testing.assert_array_equal(values, EXPECTED)
        assert any("told apart by their Ensembl ids" in notice for notice in control.notices)


def test_copies_are_told_of_where_there_are_no_ids():
    names, ids, x = with_copies(["TBCE"], "-")
    values, _ = values_of(ids, x, gene_symbols=names)
    np.testing.assert_array_equal(values, EXPECTED)
    _, control = values_of(names, x)
    assert any(isinstance(notice, Caution) and "TBCE, TBCE-1" in notice for notice in control.notices)


@pytest.mark.parametrize("ids_first", [True, False])
def test_few_contradictions_are_resolved_by_ids_and_told(ids_first):
    symbols = [*SYMBOLS]
    symbols[0], symbols[9] = symbols[9], symbols[0]
    values, control = (
        values_of(PANEL_IDS, PLAIN, gene_name=symbols) if ids_first else values_of(symbols, PLAIN, gene_ids=PANEL_IDS)
    )
    np.testing.assert_array_equal(values, EXPECTED)
    told = [notice for notice in control.notices if "contradict" in notice]
    assert len(told) == 1
    assert "FOSB" in told[0]
    assert "KLF1" in told[0]


@pytest.mark.parametrize("ids_first", [True, False])
@pytest.mark.parametrize("symbols", [SYMBOLS[::-1], (*SYMBOLS[1:], SYMBOLS[0])], ids=["reversed", "shifted"])
def test_many_contradictions_are_refused_until_one_column_is_chosen(ids_first, symbols):
    index, column = (PANEL_IDS, symbols) if ids_first else (symbols, PANEL_IDS)
    with pytest.raises(GeneMatchError) as caught:
        values_of(index, PLAIN, gene_id=column)
    assert "gene_key" in proposed(caught)
    assert "var_names" in str(caught.value)
    assert "gene_id" in str(caught.value)
    order = [symbols.index(name) for name in SYMBOLS]
    for key in ("var_names", "gene_id"):
        values, control = values_of(index, PLAIN, {"gene_key": key}, gene_id=column)
        by_id = (key == "var_names") == ids_first
        np.testing.assert_array_equal(values, EXPECTED if by_id else EXPECTED[:, order])
        assert any("contradict" in notice for notice in control.notices)


def test_columns_of_symbols_without_ids_are_held_against_each_other():
    swapped = [SYMBOLS[1], SYMBOLS[0], *SYMBOLS[2:]]
    values, control = values_of(SYMBOLS, PLAIN, gene_name=swapped)
    np.testing.assert_array_equal(values, EXPECTED)
    (told,) = [notice for notice in control.notices if "different genes" in notice]
    assert isinstance(told, Caution)
    assert "var_names decided" in told
    with pytest.raises(GeneMatchError) as caught:
        values_of(SYMBOLS, PLAIN, gene_name=SYMBOLS[::-1])
    assert "gene_key" in proposed(caught)
    values, control = values_of(SYMBOLS, PLAIN, {"gene_key": "gene_name"}, gene_name=SYMBOLS[::-1])
    np.testing.assert_array_equal(values, EXPECTED[:, ::-1])
    assert any("gene_name decided" in notice for notice in control.notices)


@pytest.mark.parametrize("ids_first", [True, False])
def test_a_symbol_with_an_id_that_the_model_does_not_know_is_matched_and_told(ids_first):
    ids = [OTHER_ID, *PANEL_IDS[1:]]
    values, control = values_of(ids, PLAIN, gene_name=SYMBOLS) if ids_first else values_of(SYMBOLS, PLAIN, gene_ids=ids)
    np.testing.assert_array_equal(values, EXPECTED)
    assert any("another Ensembl id" in notice and "FOSB" in notice for notice in control.notices)


def test_a_symbol_that_the_model_does_not_know_is_matched_by_its_id():
    ids = [PANEL_IDS[0], OTHER_ID, *PANEL_IDS[2:]]
    values, control = values_of(["renamed", *SYMBOLS[1:]], PLAIN, gene_ids=ids)
    np.testing.assert_array_equal(values, EXPECTED)
    assert control.match.n_by_id == 1


@pytest.mark.parametrize(
    ("index", "columns"),
    [
        (SYMBOLS, {}),
        (PANEL_IDS, {}),
        (PANEL_IDS, {"gene_name": SYMBOLS}),
        (SYMBOLS, {"gene_ids": PANEL_IDS}),
        (PANEL_IDS, {"feature_name": SYMBOLS, "feature_biotype": ["gene"] * 12, "feature_is_filtered": [False] * 12}),
        (SYMBOLS, {"gene_id": [f"ENSMUSG{number:011d}" for number in range(12)]}),
        (SYMBOLS, {"gene_name": SYMBOLS, "ncounts": range(12), "mt": [False] * 12}),
    ],
)
def test_right_files_give_no_warning(index, columns):
    values, control = values_of(index, PLAIN, **columns)
    np.testing.assert_array_equal(values, EXPECTED)
    assert not [notice for notice in control.notices if "Warning" in notice or "spelling" in notice]


# --- other spellings --------------------------------------------------------------------------------------------------

SPELLINGS = {
    "GRCh38_": lambda name, _: f"GRCh38_{name}",
    "GRCh38______": lambda name, _: f"GRCh38______{name}",
    "hg19_": lambda name, _: f"hg19_{name}",
    "premrna": lambda name, _: f"GRCh38premrna-{name}",
    "prefix and id": lambda _, gene_id: f"GRCh38_{gene_id}.2",
    "id_symbol": lambda name, gene_id: f"{gene_id}_{name}",
    "symbol_id": lambda name, gene_id: f"{name}_{gene_id}.12",
    "pipes": lambda name, gene_id: f"{gene_id}|{name}|protein_coding",
    "Entrez beside": lambda name, _: f"{name}|{sum(map(ord, name))}",
    "Entrez behind": lambda name, _: f"{name} ({sum(map(ord, name))})",
    "blank behind": lambda name, _: f"{name} ",
    "blank before": lambda name, _: f"  {name}",
    "quotes": lambda name, _: f'"{name}"',
    "R's make.names": lambda name, _: ("X" if name[0].isdigit() else "") + name.replace("-", "."),
    "underscores": lambda name, _: name.replace("-", "_").replace(".", "_"),
    "lower case": lambda name, _: name.lower(),
    "upper case": lambda name, _: name.upper(),
    "ids in lower case": lambda _, gene_id: gene_id.lower(),
    "HGNC": lambda name, _: {"MARCH2": "MARCHF2", "WARS": "WARS1", "SEPT9": "SEPTIN9"}.get(name, name),
    "HGNC, lower case beside": lambda name, _: {"MARCH2": "MARCHF2", "WARS": "IFI53"}.get(name, name.lower()),
    "prefix and R": lambda name, _: f"GRCh38_{name.replace('-', '.')}",
}


@pytest.mark.parametrize(("kind", "column"), list(zip(SPELLINGS, itertools.cycle(["var_names", "symbol"]))))
def test_genes_in_another_spelling_are_found_and_counted(kind, column):
    names = [SPELLINGS[kind](name, gene_id) for name, gene_id in zip(SYMBOLS, PANEL_IDS, strict=True)]
    order = np.random.default_rng(0).permutation(12)
    x, names = PLAIN[:, order], [names[at] for at in order]
    if column == "var_names":
        values, control = values_of(names, x)
    else:
        values, control = values_of([f"probe{number}" for number in range(12)], x, symbol=names)
    np.testing.assert_array_equal(values, EXPECTED)
    assert any("another spelling" in notice or "are Ensembl ids" in notice for notice in control.notices)


def test_former_and_present_symbols_are_one_gene_unless_ids_say_otherwise():
    panel = GenePanel(("MARCH2", "KLF1"), (None, None), np.ones(2, dtype=bool))
    assert panel.position("MARCHF2") == 0
    assert read(cells(PLAIN[:, :2], ["KLF1", "MARCHF2"]), panel).match.columns.tolist() == [1, 0]
    assert HUMAN.position("MARCHF2") == SYMBOLS.index("MARCH2")
    assert "MARCHF2" not in GenePanel(("MARCH2",), (OTHER_ID,), np.ones(1, dtype=bool))
    assert "NA" not in GenePanel(("XK",), (None,), np.ones(1, dtype=bool)), "a former symbol, but a word too"


@pytest.mark.parametrize(
    "changed",
    [
        {"MARCH2": "2-Mar"},
        {"SEPT9": "Sep-09"},
        {"HLA-A": "HLAA"},
        {name: name.capitalize() for name in SYMBOLS},  # as genes of mice are written
    ],
)
def test_zero_is_not_proposed_for_genes_that_may_be_there_in_another_spelling(changed):
    names = [changed.get(name, name) for name in SYMBOLS]
    with pytest.raises(GeneMatchError) as caught:
        values_of(names, PLAIN)
    assert "missing_genes" not in proposed(caught)
    assert "another spelling" in str(caught.value)
    assert ("orthologs" in caught.value.remedy) == (len(changed) == len(SYMBOLS))
    assert set(caught.value.genes) <= set(changed)


# --- genes that are blank in X ----------------------------------------------------------------------------------------


def blanked_cells(genes, *, flag=None, raw=True, layer=None):
    adata = cells(PLAIN.copy(), SYMBOLS)
    if raw:
        adata.raw = adata.copy()
    if layer:
        adata.layers[layer] = np.rint(np.expm1(PLAIN) * 3)
    adata.X[:, genes] = 0
    if flag:
        adata.var["feature_is_filtered"] = pd.Series(np.isin(np.arange(12), genes), adata.var_names).map(flag)
    return adata


@pytest.mark.parametrize(
    ("how", "form"),
    [
        ({"raw": False, "layer": "counts"}, "h5ad"),
        ({"raw": False, "layer": "UMI"}, "memory"),
        ({"raw": False, "layer": "raw_data"}, "memory"),
        ({"flag": bool}, "h5ad"),
        ({"flag": lambda lost: str(lost).upper()}, "h5ad"),
        ({"flag": int}, "memory"),
        ({}, "h5ad"),
        ({}, "memory"),
    ],
)
def test_genes_blanked_in_x_count_as_missing(how, form, tmp_path):
    source = blanked_cells([2, 5], **how)
    if form == "h5ad":
        source.write_h5ad(tmp_path / "cells.h5ad")
        source = tmp_path / "cells.h5ad"
    with pytest.raises(GeneMatchError, match=r"blanked in X|zero in X") as caught:
        read(source, HUMAN)
    assert caught.value.genes == (SYMBOLS[2], SYMBOLS[5])
    assert "missing_genes" not in proposed(caught)
    control = read(source, HUMAN, missing_genes="zero")
    assert control.match.missing == (SYMBOLS[2], SYMBOLS[5])
    if how.get("raw", True):
        assert proposed(caught)["use_raw"] is True
        assert_controls(read(source, HUMAN, use_raw=True), PLAIN)


def test_counts_in_raw_of_other_cells_are_refused(tmp_path):
    blanked_cells([2]).write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        del file["raw/X"]
        file["raw/X"] = PLAIN[:20]
    with pytest.raises(CellsFormatError, match=r"its raw is 20 x 12, but obs has 30 rows and raw\.var 12"):
        read(tmp_path / "cells.h5ad", HUMAN)


def test_a_flagged_gene_that_the_model_lacks_and_a_gene_without_counts_are_no_matter():
    adata = blanked_cells([2], raw=False)
    adata.raw = adata.copy()
    assert read(adata, HUMAN).match.missing == ()
    adata = cells(np.hstack([PLAIN, np.zeros((len(PLAIN), 1))]), [*SYMBOLS, "OTHER"])
    adata.var["feature_is_filtered"] = [False] * 12 + [True]
    assert not [notice for notice in read(adata, HUMAN).notices if "blanked" in notice]


@pytest.mark.parametrize(
    ("column", "kind", "gene"),
    [("feature_types", "Antibody Capture", "Gene Expression"), ("modality", "prot", "rna")],
)
def test_an_antibody_or_guide_with_the_name_of_a_gene_is_not_the_gene(column, kind, gene):
    x = log1p_values()
    adata = cells(np.hstack([np.full((len(x), 1), -2.0), x]), ["A", *GENES])
    adata.var[column] = [kind, *[gene] * 8]
    assert_controls(read(adata), x)
    with pytest.raises(GeneMatchError, match="missing from var_names: A"):
        read(adata[:, np.arange(9) != 1].copy())
