from __future__ import annotations

import pytest

from scgenept_export.variants import VARIANTS, is_ill_conditioned, variant_encoders, variants_with
from scgenept_rt.download.catalogue import MODEL_TYPES
from scgenept_rt.errors import ArgumentError

TOKENS, VALUES, GENEPT = "encoder", "value_encoder", "genept_encoder"


def test_released_variants() -> None:
    encoders = {
        "scgpt": (),
        "scgenept_ncbi": (GENEPT,),
        "scgenept_ncbi+uniprot": (GENEPT,),
        "scgenept_go_c": ("gopt_encoder_c",),
        "scgenept_go_f": ("gopt_encoder_f",),
        "scgenept_go_p": ("gopt_encoder_p",),
        "scgenept_go_all": ("gopt_encoder_f",),
    }
    assert {name: variant_encoders(MODEL_TYPES[name]) for name in MODEL_TYPES} == {
        name: (TOKENS, VALUES, *texts) for name, texts in encoders.items()
    }


@pytest.mark.parametrize("part", ["c", "f", "p", "all"])
def test_every_go_name_has_its_encoder(part: str) -> None:
    encoder = "gopt_encoder_f" if part == "all" else f"gopt_encoder_{part}"
    assert VARIANTS[f"scgenept_go_{part}_gpt_avg"] == (TOKENS, VALUES, encoder)
    assert VARIANTS[f"scgenept_ncbi+uniprot_gpt_go_{part}_gpt_concat"] == (TOKENS, VALUES, GENEPT, encoder)
    assert VARIANTS[f"go_{part}_gpt_concat"] == VARIANTS[f"go_{part}_gpt_avg"] == (encoder,)
    assert VARIANTS[f"go_{part}_gpt_concat_no_attention"] == (encoder,)


@pytest.mark.parametrize(
    "variant", ["scgenept_go_c_gpt", "scgpt_no_attention", "scgenept_go_c_gpt_concat_no_attention"]
)
def test_names_that_fail_upstream_fail(variant: str) -> None:
    with pytest.raises(ArgumentError, match="not one of the published model types"):
        variant_encoders(variant)


def test_a_misspelt_name_suggests_near_ones_and_a_far_one_does_not() -> None:
    with pytest.raises(ArgumentError, match=r"Did you mean .*\bscgenept_go_c_gpt_concat\b.*`scgenept-export variants`"):
        variant_encoders("scgenept_go_c_gtp_concat")
    with pytest.raises(ArgumentError, match=r"Did you mean scgenept_go_c_gpt_concat\?"):
        variant_encoders("go_c")
    with pytest.raises(ArgumentError) as caught:
        variant_encoders("geneformer-v2")
    assert "Did you mean" not in str(caught.value)
    assert "`scgenept-export variants` lists them all" in str(caught.value)


def test_variants_with_gives_released_ones_first() -> None:
    fitting = variants_with((TOKENS, "gopt_encoder_f", VALUES))
    assert fitting[:2] == ["scgenept_go_f_gpt_concat", "scgenept_go_all_gpt_concat"]
    assert "scgenept_go_f_gpt_avg" in fitting[2:]
    assert variants_with((TOKENS,)) == []


def test_only_variants_without_token_and_text_encoders_are_ill_conditioned() -> None:
    ill = {name for name in VARIANTS if is_ill_conditioned(name)}
    assert ill == {name for name in VARIANTS if name.endswith("scgpt_counts")} | {"scgpt_tokens"}
