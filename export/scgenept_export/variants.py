"""Upstream's model types and the encoders of each.

Mirrors the table in upstream's `get_embs_to_include` and the names under which its model registers the encoders
(czi-ai/scGenePT). GO-all's text encoder is registered as `gopt_encoder_f`, as upstream does.
"""

from __future__ import annotations

import difflib
from types import MappingProxyType

from scgenept_rt.download.catalogue import MODEL_TYPES
from scgenept_rt.errors import ArgumentError

TOKEN_ENCODER = "encoder"
VALUE_ENCODER = "value_encoder"
GENEPT_ENCODER = "genept_encoder"
ENCODERS = (TOKEN_ENCODER, VALUE_ENCODER, GENEPT_ENCODER, "gopt_encoder_c", "gopt_encoder_f", "gopt_encoder_p")
"""Every optional encoder, in the order in which upstream adds their outputs."""


def _table() -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {
        "scgpt": (TOKEN_ENCODER, VALUE_ENCODER),
        "scgpt_counts": (VALUE_ENCODER,),
        "scgpt_tokens": (),
    }
    for text in ("ncbi", "ncbi+uniprot"):
        for suffix in ("", "_no_attention"):
            table[f"scgenept_{text}_gpt{suffix}"] = (TOKEN_ENCODER, VALUE_ENCODER, GENEPT_ENCODER)
            table[f"genept_{text}_gpt{suffix}"] = (GENEPT_ENCODER,)
        table[f"scgenept_{text}_gpt_scgpt_counts"] = (VALUE_ENCODER,)
    for part in ("c", "f", "p", "all"):
        encoder = "gopt_encoder_f" if part == "all" else f"gopt_encoder_{part}"
        for form in ("concat", "avg"):
            table[f"scgenept_go_{part}_gpt_{form}"] = (TOKEN_ENCODER, VALUE_ENCODER, encoder)
            table[f"go_{part}_gpt_{form}"] = (encoder,)
        table[f"go_{part}_gpt_concat_no_attention"] = (encoder,)
        table[f"go_{part}_scgpt_counts"] = (VALUE_ENCODER,)
        both = (TOKEN_ENCODER, VALUE_ENCODER, GENEPT_ENCODER, encoder)
        table[f"scgenept_ncbi+uniprot_gpt_go_{part}_gpt_concat"] = both
    return table


VARIANTS = MappingProxyType(_table())
"""Encoders beside `pert_encoder` by upstream's model type."""

RELEASED = tuple(MODEL_TYPES.values())
"""Variants with published weights."""


def variant_encoders(variant: str) -> tuple[str, ...]:
    """Return the encoders of a variant, in the order in which their outputs are added.

    Raises `ArgumentError` if the name is not in upstream's table.
    """
    if variant in VARIANTS:
        return VARIANTS[variant]
    directory = [MODEL_TYPES[variant]] if variant in MODEL_TYPES else []
    containing = [name for name in RELEASED if variant.casefold() in name] if len(variant) > 1 else []
    near = directory or containing or difflib.get_close_matches(variant, VARIANTS, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise ArgumentError(
        f"variant is {variant!r}, which is not one of the published model types",
        f"{hint}`scgenept-export variants` lists them all",
    )


def variants_with(encoders: tuple[str, ...]) -> list[str]:
    """Return the variants that have exactly these encoders, released ones first."""
    fitting = [name for name, has in VARIANTS.items() if set(has) == set(encoders)]
    return sorted(fitting, key=lambda name: name not in RELEASED)


def is_ill_conditioned(variant: str) -> bool:
    """Whether upstream's own two code paths differ by up to 1.5e-4 (no token and no text encoder)."""
    return not set(VARIANTS[variant]) - {VALUE_ENCODER}
