"""Control cells in the conventions of public data sets: perturbed cells never pass for them, right files stay right."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from scgenept_rt.errors import Caution, ControlCellsError
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation.spellings import guide_targets, is_control_word
from tests.runtime.expression.inputs import IDS, cells, log1p_values, proposed, read

GENES = ("KLF1", "BAK1", "CEBPA", "HLA-A", "FOXA1", "CD4", "SPI1", "GATA1")
PANEL = GenePanel(GENES, IDS, np.ones(8, dtype=bool))
N_OBS = 12


def screen(**columns):
    adata = cells(log1p_values(n_obs=N_OBS), names=GENES, conditions=False)
    for name, values in columns.items():
        adata.obs[name] = (list(values) * N_OBS)[:N_OBS]
    return adata


@pytest.mark.parametrize(
    "word",
    [
        *("NT", "NTC", "NTg1", "sgNT-1", "NegCtrl0_NegCtrl0__NegCtrl0_NegCtrl0", "neg_ctrl_3", "negative_control"),
        *("safe-targeting", "safe_harbor_1", "non_targeting", "nontargeting", "Non-Targeting", "non-targeting_0001"),
        *("non-targeting_00001|non-targeting_00002", "scramble", "scrambled", "AAVS1", "AAVS1_2", "ROSA26"),
        *("INTERGENIC216151", "luciferase", "EGFP", "LacZ", "mock", "vehicle", "DMSO_TF", "unperturbed", "CTRL"),
        *("ctrl_iegfp", "ctrl+ctrl", "NO-TARGET", "WT", "wild-type", "CTL_2", "empty vector", "no_perturbation"),
        *("Non_Targeting_Human_0001", "NT1_g2", "guide_NT_3", "siNC", "shSCR-2", "NO_SITE_12", "ONE_NON-GENE_SITE_3"),
        *("untransduced", "PBS", "sgmCherry", "no_gRNA", "non-perturbed", "Kontrolle", "[('DMSO_TF', 0.0, 'uM')]"),
    ],
)
def test_usual_words_for_controls(word):
    assert is_control_word(word)
    with pytest.raises(ControlCellsError) as caught:
        read(screen(arm=[word, "KLF1", "BAK1"]), PANEL)
    options = proposed(caught)
    assert options["condition_key"] == "arm"
    assert read(screen(arm=[word, "KLF1", "BAK1"]), PANEL, **options).n_obs == 4


@pytest.mark.parametrize(
    "label",
    [
        *("KLF1", "CD4 T", "NK", "nan", "", "K562", "5", "*", "G1", "P1P2", "control lane", "NTN1", "untargeted"),
        *("SCRG1", "1" * 99),
    ],
)
def test_what_is_no_word_for_controls(label):
    assert not is_control_word(label)


@pytest.mark.parametrize(
    ("label", "targets"),
    [
        ("KLF1_g2", ["KLF1"]),
        ("sgKLF1", ["KLF1"]),
        ("KLF1-1", ["KLF1"]),
        ("p_sgKLF1_3", ["KLF1"]),
        ("KLF1;BAK1", ["BAK1", "KLF1"]),
        ("KLF1+AAVS1", ["KLF1"]),
        ("KLF1_NegCtrl0__KLF1_NegCtrl0", ["KLF1"]),
        ("KLF1_BAK1__KLF1_BAK1", ["BAK1", "KLF1"]),
        (f"5_KLF1_P1P2_{IDS[0]}", ["KLF1"]),
        ("KLF1_-_12870.23-P1P2|KLF1_+_12871.23-P1P2", ["KLF1"]),
        ("SPI1_pDS255", ["SPI1"]),
        ("KLF1 KO", ["KLF1"]),
        ("HLA-A_1", ["HLA-A"]),
        ("CD4 T", []),
        ("CD4+ T cell", []),
        ("NOPE_g1", []),
        ("NT", []),
    ],
)
def test_targets_of_guides(label, targets):
    assert list(guide_targets(label, PANEL)) == targets


@pytest.mark.parametrize(
    ("column", "labels"),
    [
        ("guide_identity", ["KLF1_NegCtrl0__KLF1_NegCtrl0", "BAK1_KLF1__BAK1_KLF1"]),
        ("sgRNA", ["sgKLF1", "sgKLF1"]),
        ("assigned", ["KLF1_g1", "BAK1_g2"]),
        ("feature_call", ["KLF1-1|NT-2", "No guide"]),
        ("gene_target", ["ABCD1", "ABCD2"]),
        ("mixscape_class", ["KLF1 KO", "KLF1 NP"]),
        ("is_control", [True, False, False]),
        ("control", [1, 0]),
        ("nperts", [0, 1, 2]),
        ("drug", ["DMSO_TF", "Bosutinib"]),
        ("condition_name", ["A549_ctrl_1", "A549_KLF1+ctrl_1+1", "A549_KLF1+BAK1_1+1"]),
        ("cov_drug_dose_name", ["hTERT_RPE1_ctrl_1", "K562_ctrl_1", "K562_KLF1_1"]),
        ("x", ["K562|control", "K562|KLF1", "RPE1|control"]),
    ],
)
def test_perturbed_cells_without_a_column_of_a_usual_name_are_refused(column, labels):
    with pytest.raises(ControlCellsError) as caught:
        read(screen(**{column: labels}), PANEL)
    assert proposed(caught)["condition_key"] == column


@pytest.mark.parametrize("names", [("KLF1", "BAK1"), ("sgKLF1", "BAK1_g2"), IDS[:2]])
@pytest.mark.parametrize("kind", [bool, int, float])
def test_perturbed_cells_of_a_design_matrix_are_refused(names, kind):
    adata = screen(**{name: np.arange(N_OBS) % 3 == at for at, name in enumerate(names)})
    adata.obs = adata.obs.astype(kind)
    with pytest.raises(ControlCellsError, match=r"adata\.obs\['condition'\] = ") as caught:
        read(adata, PANEL)
    exec(re.search("`(adata.*)`", str(caught.value))[1], {"adata": adata, "genes": list(names)})
    assert read(adata, PANEL).n_obs == N_OBS / 3


@pytest.mark.parametrize(
    "columns",
    [
        {"cell_type": ["CD4", "KLF1"], "batch": ["1", "2"], "donor_id": ["Control_1", "AD_2"], "leiden": ["0", "1"]},
        {"disease": ["normal", "COVID-19"], "tissue": ["blood"], "assay": ["10x 3' v3"], "sex": ["male", "female"]},
        {"phase": ["G1", "S", "G2M"], "sample": ["control_1", "case_2"], "cluster": ["CD4", "FOXA1"]},
        {"guide_identity": ["non-targeting_1", "non-targeting_2"]},
        {"KLF1": [0.5, 1.2, 0.0], "CD4": [0, 3, 1], "SPI1": [True, False]},
        {"n_genes": [5, 7], "doublet": [True, False], "orig.ident": ["P1_control", "P2_case"]},
    ],
)
def test_an_atlas_without_perturbations_is_all_controls(columns):
    assert read(screen(**columns), PANEL).n_obs == N_OBS


PLAIN = {
    "GEARS": {
        "condition": ["ctrl", "KLF1+ctrl", "KLF1+BAK1"],
        "cell_type": ["A549"],
        "dose_val": ["1", "1+1", "1+1"],
        "control": [1, 0, 0],
        "condition_name": ["A549_ctrl_1", "A549_KLF1+ctrl_1+1", "A549_KLF1+BAK1_1+1"],
    },
    "scPerturb": {
        "perturbation": ["control", "KLF1", "KLF1_BAK1"],
        "guide_id": ["NegCtrl0_NegCtrl0", "KLF1_NegCtrl0", "KLF1_BAK1"],
        "nperts": [0, 1, 2],
        "perturbation_type": ["CRISPR"],
        "perturbation_2": ["IFNg", "none", "IFNg"],
        "celltype": ["lymphoblasts"],
    },
    "Replogle": {
        "gene": ["non-targeting", "KLF1", "BAK1"],
        "gene_id": ["non-targeting", IDS[0], IDS[1]],
        "transcript": ["non-targeting", "P1P2", "P1"],
        "gene_transcript": ["10_non-targeting_non-targeting_non-targeting", f"1_KLF1_P1P2_{IDS[0]}", "2_BAK1_P1_x"],
        "sgID_AB": ["non-targeting_1|non-targeting_2", "KLF1_+_1.23-P1P2|KLF1_-_1.23-P1P2", "BAK1_+_1.23-P1"],
        "gem_group": [1, 2, 3],
    },
    "Virtual Cell Challenge": {
        "target_gene": ["non-targeting", "KLF1", "BAK1"],
        "guide_id": ["non-targeting_00123", "KLF1_P1P2_A|KLF1_P1P2_B", "BAK1_P1_A"],
        "batch": ["Flex_1_01"],
    },
    "CELLxGENE": {"condition": ["control", "KLF1", "BAK1"], "cell_type": ["CD4"], "disease": ["normal"]},
}


@pytest.mark.parametrize("source", PLAIN)
def test_plain_files_need_no_option_and_give_no_warning(source):
    control = read(screen(**PLAIN[source]), PANEL)
    assert control.n_obs == 4
    assert not any("control" in notice for notice in control.notices), control.notices


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ({"drug": ["DMSO_TF", "Bosutinib"]}, {"condition_key": "drug", "control_label": "DMSO_TF"}),
        ({"gene": ["NT", "KLF1"], "crispr": ["NT", "Perturbed"]}, {"control_label": "NT"}),
        ({"target": ["INTERGENIC1", "INTERGENIC7", "KLF1", "BAK1"]},
         {"condition_key": "target", "control_label": "INTERGENIC*"}),
    ],
    ids=["Tahoe", "Papalexi", "Dixit"],
)  # fmt: skip
def test_files_that_need_options_are_told_which(source, options):
    with pytest.raises(ControlCellsError) as caught:
        read(screen(**source), PANEL)
    assert proposed(caught) == options
    assert read(screen(**source), PANEL, **options).n_obs == N_OBS // 2


@pytest.mark.parametrize(
    "second",
    [
        {"gene": ["non-targeting", "KLF1"]},
        {"guide_identity": ["NT_1", "KLF1_g2"]},
        {"is_perturbed": [False, True]},
        {"assigned": ["sgKLF1", "sgBAK1"]},
    ],
)
def test_a_second_column_contradicts_the_first(second):
    adata = screen(condition=["ctrl"], **second)
    with pytest.raises(ControlCellsError, match=next(iter(second))) as caught:
        read(adata, PANEL)
    assert next(iter(second)) in [option.value for option in caught.value.options]
    control = read(adata, PANEL, condition_key="condition")  # the user has decided, and gets a warning
    assert control.n_obs == N_OBS
    assert any(isinstance(notice, Caution) and next(iter(second)) in notice for notice in control.notices)


def test_several_control_labels_and_patterns():
    adata = screen(condition=["non-targeting_00012", "non-targeting_00777", "AAVS1", "KLF1"])
    assert read(adata, PANEL, control_label="non-targeting*").n_obs == 6
    assert read(adata, PANEL, control_label=["non-targeting*", "AAVS1"]).n_obs == 9
    assert read(adata, PANEL, control_label=["non-targeting_00012", "AAVS?"]).n_obs == 6
    with pytest.raises(ControlCellsError) as caught:
        read(adata, PANEL)
    assert set(proposed(caught)["control_label"]) == {"non-targeting*", "AAVS1"}
    with pytest.raises(ControlCellsError, match=r"also selects perturbed cells.*'KLF1'"):
        read(adata, PANEL, control_label="*")
    with pytest.raises(ControlCellsError, match="'NOPE'"):
        read(adata, PANEL, control_label=["AAVS1", "NOPE"])
    assert read(screen(condition=["*", "KLF1"]), PANEL, control_label="*").n_obs == 6


def test_other_kinds_of_controls_are_named():
    adata = screen(condition=["non-targeting", "AAVS1", "KLF1"])
    control = read(adata, PANEL)
    assert control.n_obs == 4
    (notice,) = [notice for notice in control.notices if "AAVS1" in notice]
    assert {option.name: option.value for option in notice.options} == {"control_label": ["non-targeting", "AAVS1"]}


def test_labels_as_bytes():
    assert read(screen(condition=[b"ctrl", b"KLF1"]), PANEL).n_obs == 6
    adata = screen(condition=[b"ctrl", b"KLF1"])
    adata.obs["condition"] = pd.Categorical(adata.obs["condition"])
    assert read(adata, PANEL).control_label == "ctrl"
