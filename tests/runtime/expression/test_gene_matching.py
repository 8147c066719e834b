"""The model's genes among those of an input; `tests/runtime/test_genes.py` has the rules."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scgenept_rt.errors import GeneMatchError
from scgenept_rt.genes import GenePanel
from tests.runtime.expression.inputs import CONTROL_ROWS, ENCODINGS, GENES, IDS, cells, log1p_values, proposed, read


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
    expected = np.hstack([x[CONTROL_ROWS, :5], np.zeros((10, 3))]).astype(np.float32)
    np.testing.assert_array_equal(control.dense(0, 10), expected)
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
        np.testing.assert_array_equal(read(source, use_raw=True).dense(0, 10), x[CONTROL_ROWS].astype(np.float32))


def test_missing_genes_that_are_there_in_other_case():
    names = [name.lower() if name in ("F", "G") else name for name in GENES]
    with pytest.raises(GeneMatchError, match=r"2 of them are there in other case \(f, g\)") as caught:
        read(cells(log1p_values(), names))
    assert caught.value.genes == ("F", "G")
    with pytest.raises(GeneMatchError, match=r"none of .* 8 of them are there in other case"):
        read(cells(log1p_values(), [name.lower() for name in GENES]))


def test_no_gene_at_all_is_never_taken_as_zero():
    adata = cells(log1p_values(), [f"probe{number}" for number in range(8)])
    with pytest.raises(
        GeneMatchError, match=r"none of the model's 8 genes was found; var_names holds probe0, probe1, probe2"
    ) as caught:
        read(adata, missing_genes="zero")
    assert proposed(caught) == {}
    adata.var["symbol"] = pd.Categorical(GENES)
    adata.var["mean"] = 0.5
    adata.var["biotype"] = "protein_coding"
    with pytest.raises(GeneMatchError, match=r"gene_key=\.\.\. to name the column .*\(symbol, biotype\)"):
        read(adata)
    assert read(adata, gene_key="symbol").match.n_found == 8


def test_symbols_where_scanpy_puts_them_beside_ids():
    adata = cells(log1p_values(), [f"probe{number}" for number in range(8)])
    adata.var["gene_symbols"] = GENES
    assert read(adata).match.source == "gene_symbols"


@pytest.mark.parametrize(("n_found", "share"), [(1, "less than 1%"), (2, "only 1%"), (8, "only 4%")])
def test_an_input_with_few_of_the_genes_is_warned_of(n_found, share):
    names = tuple(f"gene{number}" for number in range(200))
    panel = GenePanel(names, (None,) * 200, np.ones(200, dtype=bool))
    control = read(cells(log1p_values(n_vars=n_found), names[:n_found]), panel, missing_genes="zero")
    assert any(notice.startswith(f"Warning: {share} of what the model reads is") for notice in control.notices)
    were = "was" if n_found == 1 else "were"
    assert any(f"{n_found} of the model's 200 genes {were} found" in notice for notice in control.notices)


def test_an_input_with_most_of_the_genes_gives_no_warning():
    notices = read(cells(log1p_values()[:, :7], GENES[:7]), missing_genes="zero").notices
    assert not any("Warning" in notice for notice in notices)


def test_duplicate_names_that_the_model_needs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = cells(log1p_values(n_vars=9), [*GENES, "B"])
    with pytest.raises(GeneMatchError, match=r"B \(2 of the input\)"):
        read(adata)


def test_gene_key_takes_any_column(tmp_path):
    x = log1p_values()
    adata = cells(x)
    adata.var["symbol"] = list(reversed(GENES))
    adata.var_names.name = "index_of_mine"
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        control = read(source, gene_key="symbol")
        np.testing.assert_array_equal(control.dense(0, 10), x[CONTROL_ROWS, ::-1].astype(np.float32))
        assert read(source, gene_key="index_of_mine").match.n_found == 8


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    order=st.permutations(range(10)),
    encoding=st.sampled_from(sorted(ENCODINGS)),
    spelling=st.sampled_from(["symbols", "ids", "versioned ids", "gene_name"]),
)
def test_the_order_and_spelling_of_genes_never_change_values(seed, order, encoding, spelling):
    x = log1p_values(seed, n_vars=10)
    expected = read(cells(x, [*GENES, "other1", "other2"]))
    names = np.array([*(IDS if "ids" in spelling else GENES), "other1", "other2"], dtype=object)[order]
    if spelling == "versioned ids":
        names = np.array([f"{name}.{place}" if name.startswith("ENSG") else name for place, name in enumerate(names)])
    adata = cells(ENCODINGS[encoding](x[:, order]), names)
    if spelling == "gene_name":
        adata.var["gene_name"] = names
        adata.var_names = [str(number) for number in range(10)]
    control = read(adata)
    assert control.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(control.dense(0, control.n_obs), expected.dense(0, expected.n_obs))
    assert control.match.source == ("gene_name" if spelling == "gene_name" else "var_names")
    assert control.match.n_by_id == (8 if "ids" in spelling else 0)
