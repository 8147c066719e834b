from __future__ import annotations

import pytest

from scgenept_rt.bundle import Bundle, demo_bundle_path
from scgenept_rt.genes import panel_warnings

NORMAN = list(Bundle.open(demo_bundle_path()).manifest.gene_names)
KNOWN = [True] * len(NORMAN)


def test_the_published_genes_give_no_doubt():
    assert panel_warnings("norman", NORMAN, KNOWN) == []
    demo = Bundle.open(demo_bundle_path()).manifest
    assert panel_warnings("norman", demo.gene_names, demo.in_vocab) == []
    assert panel_warnings("unknown", ["A", "B"], [True, True]) == []


@pytest.mark.parametrize("names", [NORMAN[:-1], sorted(NORMAN), ["MARCHF2" if n == "MARCH2" else n for n in NORMAN]])
def test_other_genes_another_order_and_other_spellings_do(names):
    (doubt,) = panel_warnings("norman", names, [True] * len(names))
    assert f"{len(names):,} genes are not the 5,045" in doubt


@pytest.mark.parametrize(("n_known", "doubts"), [(20, 0), (16, 0), (14, 1), (0, 1)])
def test_few_genes_in_the_vocabulary_do(n_known, doubts):
    assert len(panel_warnings("mine", [f"G{n}" for n in range(20)], [n < n_known for n in range(20)])) == doubts
