"""Perturbations: labels and what they mean for a model, and the files that lists of them come from."""

from scgenept_rt.perturbation.labels import (
    CONTROL_LABELS,
    Perturbation,
    PerturbationRequest,
    look_up,
    parse_perturbation,
    parse_perturbations,
)

__all__ = [
    "CONTROL_LABELS",
    "Perturbation",
    "PerturbationRequest",
    "look_up",
    "parse_perturbation",
    "parse_perturbations",
]
