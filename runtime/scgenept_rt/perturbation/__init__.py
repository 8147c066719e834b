"""Perturbations: labels and what they mean for a model, and the files that lists of them come from."""

from scgenept_rt.perturbation.labels import (
    CONTROL_LABELS,
    Perturbation,
    PerturbationRequest,
    all_singles,
    look_up,
    pairs_of,
    parse_perturbation,
    parse_perturbations,
    unmeasured_target_notices,
)

__all__ = [
    "CONTROL_LABELS",
    "Perturbation",
    "PerturbationRequest",
    "all_singles",
    "look_up",
    "pairs_of",
    "parse_perturbation",
    "parse_perturbations",
    "unmeasured_target_notices",
]
