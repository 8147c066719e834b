"""What perturbations are ranked by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, get_args

from scgenept_rt.errors import ArgumentError, UseOption
from scgenept_rt.genes import GenePanel
from scgenept_rt.options import Metric, ReadOptions
from scgenept_rt.ranking.scores import EffectSize, Score, SignatureScore, TowardState
from scgenept_rt.ranking.signature import signature_weights
from scgenept_rt.ranking.target_state import read_target_state
from scgenept_rt.wording import describe

if TYPE_CHECKING:
    from anndata import AnnData

_METRICS: tuple[Metric, ...] = get_args(Metric)


class RankBy(TypedDict, total=False):
    """What perturbations are ranked by; the size of their effect if nothing is given."""

    up: Sequence[str]
    down: Sequence[str]
    weights: Mapping[str, float]
    toward: str | Path | AnnData
    group: str
    start: str
    metric: Metric


@dataclass(frozen=True)
class Question:
    """A score, its description, and warning messages."""

    score: Score
    description: str
    notices: tuple[str, ...]


def check_question(by: RankBy) -> None:
    """Check what is ranked by, before anything is read."""
    signature = [name for name in ("up", "down", "weights") if by.get(name) is not None]
    if signature and by.get("toward") is not None:
        raise ArgumentError(f"both a signature ({', '.join(signature)}) and a state (toward) were given", "Choose one")
    if by.get("weights") is not None and len(signature) > 1:
        raise ArgumentError(f"both weights and {signature[0]} were given", "Choose one: weights have signs")
    if signature and not any(by.get(name) for name in signature):
        raise ArgumentError(f"the signature ({', '.join(signature)}) holds no gene, expected one or more")
    if by.get("toward") is None:
        alone = next((name for name in ("group", "start", "metric") if by.get(name) is not None), None)
        if alone is not None:
            raise ArgumentError(
                f"{alone} is given without measured cells", options=[UseOption("toward", "name their file")]
            )
    elif by.get("group") is None:
        raise ArgumentError(
            "toward is given without a group of its cells",
            options=[UseOption("group", "name one, as COLUMN=VALUE or as the label of a perturbation")],
        )
    if by.get("metric", _METRICS[0]) not in _METRICS:
        raise ArgumentError(f"metric is {describe(by['metric'])}, expected one of {', '.join(_METRICS)}")


def open_question(panel: GenePanel, by: RankBy, read: ReadOptions | None) -> Question:
    """Match a signature, or the measured cells of a state, to the genes of predictions."""
    if "toward" in by:
        state = read_target_state(by["toward"], panel, by["group"], by.get("start"), read)
        closeness = TowardState(state.change, state.genes, by.get("metric", _METRICS[0]), state.parts)
        return Question(closeness, f"{closeness.description}, {state.description}", state.notices)
    if {"up", "down", "weights"} & by.keys():
        weights, notices = signature_weights(panel, by.get("up", ()), by.get("down", ()), by.get("weights", {}))
        signature = SignatureScore(weights)
        return Question(signature, f"{signature.description} ({signature.n_genes})", tuple(notices))
    return Question(EffectSize(), EffectSize().description, ())
