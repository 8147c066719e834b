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
from scgenept_rt.perturbation.spellings import guide_targets, is_control_word, is_unassigned

__all__ = [
    "CONTROL_LABELS",
    "Perturbation",
    "PerturbationRequest",
    "all_singles",
    "guide_targets",
    "is_control_word",
    "is_unassigned",
    "look_up",
    "pairs_of",
    "parse_perturbation",
    "parse_perturbations",
    "unmeasured_target_notices",
]
