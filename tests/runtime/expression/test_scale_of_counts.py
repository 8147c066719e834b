"""Files whose values have been through something else than normalisation and log1p, and the step that mends each."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from scgenept_rt.errors import ExpressionValueError, Notice
from scgenept_rt.genes import GenePanel
from tests.runtime.expression.inputs import read

N_GENES = 600
NAMES = tuple(f"G{number}" for number in range(N_GENES))
PANEL = GenePanel(NAMES, (None,) * N_GENES, np.ones(N_GENES, dtype=bool))
FORMS = (scipy.sparse.csr_matrix, scipy.sparse.csc_matrix, np.asarray)


def counts(n_cells=40, seed=0):
    rng = np.random.default_rng(seed)
    rates = rng.lognormal(0.0, 1.5, N_GENES)
    return rng.poisson(rng.lognormal(0.0, 0.3, (n_cells, 1)) * rates).astype(np.float64)


COUNTS = counts()
DEPTH = COUNTS.sum(axis=1, keepdims=True)
FRACTIONS = COUNTS / DEPTH
NORMALISED = FRACTIONS * np.median(DEPTH)
TO_10_000 = FRACTIONS * 1e4
RIGHT = np.log1p(NORMALISED)
CORRECTED = COUNTS * np.where(np.random.default_rng(1).random(COUNTS.shape) < 0.3, 0.9, 1.0)


def cells(values, *, names=NAMES, base=False, form=scipy.sparse.csr_matrix):
    obs = pd.DataFrame({"condition": "ctrl"}, index=[f"cell{row}" for row in range(len(values))])
    uns = {} if base is False else {"log1p": {"base": base}}
    return anndata.AnnData(form(values.astype(np.float32)), obs=obs, var=pd.DataFrame(index=list(names)), uns=uns)


def run_step(adata, message):
    """Execute the code that a message gives, with the parts of scanpy that it uses."""

    class Scanpy:
        class pp:  # noqa: N801
            @staticmethod
            def normalize_total(adata, target_sum=None):
                values = np.asarray(scipy.sparse.csr_matrix(adata.X).todense())
                total = values.sum(axis=1, keepdims=True)
                adata.X = values / total * (target_sum or np.median(total))

            @staticmethod
            def log1p(adata):
                adata.X = np.log1p(adata.X)

    code = re.search(r"`((?:adata|sc)\..*?)`", message)
    assert code is not None, message
    exec(code[1], {"adata": adata, "np": np, "scipy": scipy, "sc": Scanpy})
    return np.asarray(scipy.sparse.csr_matrix(adata.X).todense())


KEPT = np.random.default_rng(9).random(N_GENES) < 0.3


def centred_log_ratios(values, axis):
    """Return what Seurat's CLR makes of counts."""
    return np.log1p(values / np.exp(np.log1p(values).mean(axis=axis, keepdims=True)))


WRONG = {
    "log2": (np.log2(1 + NORMALISED), "log2", RIGHT),
    "log2 of counts per million": (np.log2(1 + FRACTIONS * 1e6), "log2", np.log1p(TO_10_000)),
    "log2 of counts": (np.log2(1 + COUNTS), "log2", RIGHT),
    "log10": (np.log10(1 + NORMALISED), "log10", RIGHT),
    "log10 of counts per million": (np.log10(1 + FRACTIONS * 1e6), "log10", np.log1p(TO_10_000)),
    "log10 of 10,000": (np.log10(1 + TO_10_000), "log10", np.log1p(TO_10_000)),
    "twice": (np.log1p(RIGHT), "log1p twice", RIGHT),
    "twice, 10,000": (np.log1p(np.log1p(TO_10_000)), "log1p twice", np.log1p(TO_10_000)),
    "twice, counts": (np.log1p(np.log1p(COUNTS)), "log1p twice", RIGHT),
    "square roots": (np.sqrt(NORMALISED), "square roots", RIGHT),
    "square roots of counts": (np.sqrt(COUNTS), "square roots", RIGHT),
    "square roots of 10,000": (np.sqrt(TO_10_000), "square roots", np.log1p(TO_10_000)),
    "arcsinh": (np.arcsinh(NORMALISED), "arcsinh", RIGHT),
    "fractions": (FRACTIONS, "no logarithm", np.log1p(TO_10_000)),
    "log1p of fractions": (np.log1p(FRACTIONS), "total of 1", np.log1p(TO_10_000)),
    "percent": (FRACTIONS * 100, "no logarithm", np.log1p(TO_10_000)),
    "not logged": (NORMALISED, "no logarithm", RIGHT),
    "not logged, 10,000": (TO_10_000, "no logarithm", np.log1p(TO_10_000)),
    "not logged, per million": (FRACTIONS * 1e6, "no logarithm", np.log1p(TO_10_000)),
    "log1p of counts per million": (np.log1p(FRACTIONS * 1e6), "total of", np.log1p(TO_10_000)),
    "log-ratios of genes": (centred_log_ratios(COUNTS, 0), "CLR", None),
    "corrected counts": (CORRECTED, "corrected or estimated", None),
    "counts": (COUNTS, "raw counts", RIGHT),
}


@pytest.mark.parametrize(("name", "form"), list(zip(WRONG, itertools.cycle(FORMS))))
def test_other_scales_are_refused_by_name_and_the_step_mends_them(name, form):
    values, named, right = WRONG[name]
    if form is scipy.sparse.csc_matrix and right is not None and "million" in name and values.max() < 14:
        right = None  # of a column store only the model's genes are read
    adata = cells(values, form=form)
    with pytest.raises(ExpressionValueError) as caught:
        read(adata, PANEL)
    assert named in str(caught.value)
    mended = run_step(adata, str(caught.value))
    if right is not None:
        np.testing.assert_allclose(mended, right, rtol=1e-3, atol=1e-4)
    assert read(cells(mended), PANEL).notices == []
    accepted = read(cells(values, form=form), PANEL, allow_unnormalized=True)
    assert accepted.notices


@pytest.mark.parametrize("form", [scipy.sparse.csr_matrix, np.asarray], ids=str)
@pytest.mark.parametrize("depth", [0.3, 1, 20])
def test_log_ratios_of_cells_are_refused_and_the_step_mends_them(depth, form):
    whole = np.random.default_rng(11).poisson(COUNTS * depth + 0.01)
    adata = cells(centred_log_ratios(whole, 1), form=form)
    with pytest.raises(ExpressionValueError, match="CLR") as caught:
        read(adata, PANEL)
    mended = np.expm1(run_step(adata, str(caught.value)))
    share = whole / whole.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mended / mended.sum(axis=1, keepdims=True), share, rtol=1e-3, atol=1e-6)
    assert read(cells(np.log1p(mended)), PANEL).notices == []


def kept(values):
    """Return cells of which most genes were dropped, and their panel."""
    names = [gene for gene, chosen in zip(NAMES, KEPT, strict=True) if chosen]
    panel = GenePanel(tuple(names), (None,) * len(names), np.ones(len(names), dtype=bool))
    return cells(values[:, KEPT], names=names), panel


def test_what_a_part_of_the_genes_shows_is_told():
    (notice,) = read(*kept(centred_log_ratios(COUNTS, 1))).notices
    assert "CLR" in notice
    adata, panel = kept(np.log1p(FRACTIONS * 100))
    (notice,) = read(adata, panel).notices
    assert "percent" in notice
    np.testing.assert_allclose(run_step(adata, notice), np.log1p(TO_10_000)[:, KEPT], rtol=1e-4, atol=1e-6)
    with pytest.raises(ExpressionValueError, match="CLR"):
        read(*kept(centred_log_ratios(COUNTS, 0)))


@pytest.mark.parametrize("name", ["log2", "log10", "twice", "square roots", "not logged"])
def test_few_cells_show_it_too(name):
    values, named, _ = WRONG[name]
    for n_cells in (1, 2, 8):
        with pytest.raises(ExpressionValueError, match=re.escape(named)):
            read(cells(values[:n_cells]), PANEL)


def test_a_part_of_the_cells_on_another_scale_is_named():
    with pytest.raises(ExpressionValueError, match=r"1\d of 32 cells are log2"):
        read(cells(some_rows(RIGHT, 3, np.log2(1 + NORMALISED))), PANEL)


def test_a_logarithm_that_was_normalised_again_is_not_converted_as_if_there_were_none():
    again = RIGHT / RIGHT.sum(axis=1, keepdims=True) * 100
    with pytest.raises(ExpressionValueError, match="one total") as caught:
        read(cells(again), PANEL)
    assert "adata.X =" not in str(caught.value)


def test_totals_show_the_scale_of_values_that_are_not_whole_multiples():
    estimated = COUNTS * np.random.default_rng(3).uniform(0.5, 1, COUNTS.shape)
    millions = estimated / estimated.sum(axis=1, keepdims=True) * 1e6
    with pytest.raises(ExpressionValueError, match="log2"):
        read(cells(np.log2(1 + millions)), PANEL)
    with pytest.raises(ExpressionValueError, match="total of 1,000,000"):
        read(cells(np.log1p(millions)), PANEL)
    assert read(cells(np.log1p(millions / 100)), PANEL).notices == []


def test_the_base_in_uns_counts_where_values_do_not_show_it():
    smooth = np.random.default_rng(4).gamma(2.0, 0.5, COUNTS.shape)
    with pytest.raises(ExpressionValueError, match="log2") as caught:
        read(cells(smooth, base=2), PANEL)
    adata = cells(smooth, base=2)
    np.testing.assert_allclose(run_step(adata, str(caught.value)), smooth * np.log(2), rtol=1e-5)
    assert adata.uns["log1p"]["base"] is None
    with pytest.raises(ExpressionValueError, match="log3"):
        read(cells(np.log1p(NORMALISED) / np.log(3), base=3), PANEL)
    for base in (None, np.e, float(np.e), "e", 2):  # the values themselves are natural logarithms
        assert read(cells(RIGHT, base=base), PANEL).notices == []


SMOOTHED = {
    "averaged": np.stack([RIGHT[[row, (row + 1) % 40, (row + 2) % 40]].mean(axis=0) for row in range(40)]),
    "denoised to one total": np.log1p(FRACTIONS[:20] * 0.5e4 + FRACTIONS[20:] * 0.5e4 + FRACTIONS.mean(axis=0)),
    "denoised": np.log1p(NORMALISED * np.random.default_rng(5).gamma(20, 1 / 20, COUNTS.shape)),
    "imputed": RIGHT + (RIGHT == 0) * np.random.default_rng(6).uniform(0, 0.3, COUNTS.shape),
    "corrected for batches": RIGHT * np.random.default_rng(8).uniform(0.9, 1.1, (1, N_GENES)),
}


@pytest.mark.parametrize("name", SMOOTHED)
def test_values_without_trace_of_counts_are_told_and_not_refused(name):
    (notice,) = read(cells(SMOOTHED[name]), PANEL).notices
    assert isinstance(notice, Notice)
    assert "no trace of counts" in notice


def scaled(values):
    return (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-9)


FITTED = DEPTH * COUNTS.sum(axis=0) / COUNTS.sum()
LOGARITHMS = np.log(COUNTS + 1)
NEGATIVE = {
    "z-scores": (scaled(RIGHT), "z-scores"),
    "z-scores, clipped": (scaled(RIGHT).clip(-2, 2), "z-scores"),
    "Pearson residuals": ((COUNTS - FITTED) / np.sqrt(FITTED + FITTED**2 / 100 + 1e-9), "residuals"),
    "log-ratios": (LOGARITHMS - LOGARITHMS.mean(axis=1, keepdims=True), "CLR"),
}
CORRECTED_BELOW_ZERO = {
    "by gene": RIGHT + np.random.default_rng(10).normal(0, 0.1, (1, N_GENES)),
    "by cell": RIGHT + np.random.default_rng(10).normal(0, 0.1, RIGHT.shape),
    "by batch, few genes": (RIGHT + np.random.default_rng(10).normal(0, 0.2, (2, N_GENES))[np.arange(40) % 2])[:, :24],
}


@pytest.mark.parametrize(("name", "form"), list(zip(NEGATIVE, itertools.cycle(FORMS[1:]))))
def test_negative_values_are_refused_by_name(name, form):
    values, named = NEGATIVE[name]
    adata = cells(values, form=form)
    adata.layers["lognorm"] = cells(RIGHT).X
    with pytest.raises(ExpressionValueError, match=named) as caught:
        read(adata, PANEL)
    assert {option.name: option.value for option in caught.value.options}["layer"] == "lognorm"
    assert read(adata, PANEL, layer="lognorm").notices == []


@pytest.mark.parametrize(("name", "form"), list(zip(CORRECTED_BELOW_ZERO, itertools.cycle(FORMS[1:]))))
def test_logarithms_corrected_below_zero_are_told_and_not_refused(name, form):
    values = CORRECTED_BELOW_ZERO[name]
    n_genes = values.shape[1]
    panel = GenePanel(NAMES[:n_genes], (None,) * n_genes, np.ones(n_genes, dtype=bool))
    adata = cells(values, names=panel.names, form=form)
    (notice,) = read(adata, panel).notices
    assert "batches" in notice
    adata.X = np.asarray(values)
    assert run_step(adata, notice).min() == 0
    wrong = cells(np.where(values == values.max(), -1, np.maximum(RIGHT[:, :n_genes], 0)), names=panel.names)
    with pytest.raises(ExpressionValueError, match="is negative"):  # damage is no correction
        read(wrong, panel)


def some_rows(values, step, others):
    """Return values of which every few rows are others."""
    values = values.copy()
    values[::step] = others[::step]
    return values


COUNTED = some_rows(COUNTS, 40, 2 * COUNTS)  # a cell without a count of 1
TOLD = {
    "few cells on another scale": (some_rows(RIGHT, 10, np.log2(1 + NORMALISED)), "log2", None),
    "two totals": (
        some_rows(np.log1p(TO_10_000), 3, np.log1p(FRACTIONS * 1e6)), "10,000, 1,000,000", np.log1p(TO_10_000)
    ),
    "counts": (
        np.log1p(COUNTED), "not normalised", np.log1p(COUNTED / COUNTED.sum(1)[:, None] * np.median(COUNTED.sum(1)))
    ),
    "a total that is far but not absurd": (np.log1p(FRACTIONS * 1e5), "total of 100,000", np.log1p(TO_10_000)),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_what_may_be_right_is_told_with_the_step(name):
    values, named, right = TOLD[name]
    adata = cells(values)
    (notice,) = read(adata, PANEL).notices
    assert named in notice
    if right is not None:
        np.testing.assert_allclose(run_step(adata, notice), right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("total", "ok"), [(1e6, True), (700_000, True), (1e5, False), (1e4, False)])
def test_a_stated_total_of_the_training_data_is_what_cells_are_compared_with(total, ok):
    panel = dataclasses.replace(PANEL, training_total=1e6)
    deep = np.random.default_rng(3).poisson(COUNTS * 20)  # a count comes to less than in any cell of few genes
    adata = cells(np.log1p(deep / deep.sum(axis=1, keepdims=True) * total))
    if ok:
        assert read(adata, panel).notices == []
        return
    if total < 5e4:
        with pytest.raises(ExpressionValueError) as caught:
            read(adata, panel)
        message = str(caught.value)
    else:
        (message,) = read(adata, panel).notices
    assert "training data have 1,000,000" in message
    np.testing.assert_allclose(np.expm1(run_step(adata, message)).sum(axis=1), 1e6, rtol=1e-3)


@pytest.mark.parametrize("n_kept", [24, 100])
def test_percent_are_told_with_any_number_of_genes(n_kept):
    few = COUNTS[:, :n_kept]
    adata = cells(np.log1p(few / few.sum(axis=1, keepdims=True) * 100), names=NAMES[:n_kept])
    (notice,) = read(adata, GenePanel(NAMES[:n_kept], (None,) * n_kept, np.ones(n_kept, dtype=bool))).notices
    assert "percent" in notice
    np.testing.assert_allclose(np.expm1(run_step(adata, notice)).sum(axis=1), 1e4, rtol=1e-3)


GOOD = {
    "median total": RIGHT,
    "10,000": np.log1p(TO_10_000),
    "total 3,217": np.log1p(FRACTIONS * 3217),
    "float16": np.log1p(TO_10_000).astype(np.float16),
    "median total, float16": RIGHT.astype(np.float16),
    "three decimals": RIGHT.round(3),
    "two decimals": RIGHT.round(2),
    "one cell": RIGHT[:1],
    "eight cells": RIGHT[:8],
    "size factors": np.log1p(COUNTS / (DEPTH / DEPTH.mean()) * np.random.default_rng(2).uniform(0.8, 1.2, (40, 1))),
    "some counts estimated": np.log1p(CORRECTED / CORRECTED.sum(axis=1, keepdims=True) * 1e4),
    "low total": np.log1p(FRACTIONS * 1000),
    "size factors of another method": np.log1p(COUNTS / DEPTH**0.9 * 1000),
    "cells of one depth": np.log1p(np.random.default_rng(2).multinomial(1000, FRACTIONS) * 1.7),
    "deep cells": np.log1p(counts() * 1.0 / DEPTH * 2000),
}


@pytest.mark.parametrize(("name", "form"), list(zip(GOOD, itertools.cycle(FORMS))))
def test_right_files_give_no_notice(name, form):
    assert read(cells(GOOD[name], form=form), PANEL).notices == []


@pytest.mark.parametrize("name", [name for name in GOOD if name != "deep cells"])
def test_genes_dropped_after_normalising_give_no_notice(name):
    assert read(*kept(GOOD[name])).notices == []


def test_what_scanpy_writes():
    scanpy = pytest.importorskip("scanpy")
    for base, expected in ((None, contextlib.nullcontext()), (2, pytest.raises(ExpressionValueError, match="log2"))):
        adata = cells(COUNTS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scanpy.pp.normalize_total(adata)
            scanpy.pp.log1p(adata, base=base)
        with expected:
            assert read(adata, PANEL).notices == []
