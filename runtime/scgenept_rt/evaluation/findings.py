"""What a reader has to know, in sentences: baselines that win, predictions that are nearly the same."""

from __future__ import annotations

import pandas as pd

from scgenept_rt.errors import pluralize
from scgenept_rt.evaluation.baselines import BASELINES
from scgenept_rt.evaluation.collapse import COLLAPSED_FROM, Similarity
from scgenept_rt.evaluation.metrics import HEADLINE, better
from scgenept_rt.evaluation.split import Split
from scgenept_rt.evaluation.tables import subgroup_rows


def wins(table: pd.DataFrame, split: Split) -> list[str]:
    """Say where a baseline beats the model by a headline metric, over the perturbations that both predict."""
    model = str(table["method"].iloc[0])
    sentences = []
    for name, group in subgroup_rows(table, split).items():
        own = group[group["method"] == model].set_index("perturbation")
        beaten_by = []
        for baseline in BASELINES:
            other = group[group["method"] == baseline].set_index("perturbation")
            common = own.index.intersection(other.index, sort=False)
            if not len(common):
                continue
            won = []
            for metric in HEADLINE:
                ours, theirs = float(own.loc[common, metric].mean()), float(other.loc[common, metric].mean())
                if theirs > ours if better(metric) == "higher" else theirs < ours:
                    won.append(f"{metric} ({theirs:.3g} against {ours:.3g})")
            if won:
                # The additive baseline is for pairs: the model's figures are those of the same perturbations.
                over = "" if len(common) == len(own) else f" over {pluralize(len(common), 'perturbation')}"
                beaten_by.append(f"{baseline!r} wins on {', '.join(won)}{over}")
        if beaten_by:
            sentences.append(
                f"{name}, {pluralize(len(own), 'perturbation')}: {model} is beaten by baselines: {'; '.join(beaten_by)}."
            )
    if not sentences:
        sentences.append(f"{model} beats every baseline in every subgroup on {', '.join(HEADLINE)}.")
    return sentences


def sameness(model: str, predicted: Similarity, observed: Similarity) -> list[str]:
    """Say whether predictions of different perturbations are nearly the same; nothing of fewer than two."""
    if predicted.n_perturbations < 2:
        return []
    numbers = (
        f"the median correlation between the changes predicted for different perturbations "
        f"({predicted.n_perturbations:,} of them) is {predicted.median:.2f}; between the measured changes it is "
        f"{observed.median:.2f}"
    )
    if predicted.collapsed:
        return [
            f"Collapse: {model} predicts nearly the same change for every perturbation ({numbers}; "
            f"from {COLLAPSED_FROM} on it counts as collapse)."
        ]
    return [f"No collapse: {numbers} (from {COLLAPSED_FROM} on it would count as collapse)."]
