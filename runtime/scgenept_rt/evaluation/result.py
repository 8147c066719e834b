"""The result of an evaluation: averages by subgroup, which baselines beat the model, and the published table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.evaluation.metrics import HEADLINE, higher_is_better
from scgenept_rt.evaluation.split import Split
from scgenept_rt.wording import pluralize

CONTROL_MEAN = "control mean"
TRAIN_MEAN = "training mean"
ADDITIVE = "additive"
BASELINES: Mapping[str, str] = {
    CONTROL_MEAN: "no change: the mean of all control cells",
    TRAIN_MEAN: "the mean of all perturbed cells of the training set, the same for every perturbation",
    ADDITIVE: "pairs: the control mean plus the changes by those of its genes that training perturbed alone",
}
"""Predictions without a model, from training cells alone, for a model to beat."""

ALL_TESTED = "all tested"
"""Name of the group of all tested perturbations."""

GROUP = "group"
"""Column of the group of cells, where there are several."""

_DESCRIPTION = ("perturbation", GROUP, "subgroup", "method", "n_cells", "n_controls")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of a model and of the baselines.

    Attributes
    ----------
    model
        Name of the model or of the predictions.
    where
        The measured data.
    split
        The perturbations tested, and those trained on.
    perturbations
        One row per (perturbation, method): `perturbation`, `subgroup`, `method`, `n_cells`, `n_controls`, then the
        metrics of `perturbation_metrics`. Methods are `model` and the baselines. Over groups of cells, perturbations
        are called ``FOSB+ctrl|T cell`` or the like, and `group` is a column too.
    notices
        Sentences about how the evaluation was done.
    protocol
        How the predictions were made, one phrase.
    de_source
        Origin of the differentially expressed genes.
    predicted_deltas, observed_deltas
        (n_tested, n_genes) float32, change against the mean of all control cells, as in the metrics; rows are `tested`
        (in order of subgroups), columns `gene_names`.
    provenance
        What is recorded of the run.
    n_groups
        Groups of cells in which perturbations were tested.
    """

    model: str
    where: str
    split: Split
    perturbations: pd.DataFrame
    notices: tuple[str, ...]
    protocol: str
    de_source: str
    gene_names: tuple[str, ...] = field(repr=False)
    tested: tuple[str, ...]
    predicted_deltas: NDArray[np.float32] = field(repr=False)
    observed_deltas: NDArray[np.float32] = field(repr=False)
    provenance: Mapping[str, Any]
    n_groups: int = 1

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per (subgroup, method): `subgroup`, `method`, `n_perturbations`, and means of the metrics.

        The last subgroup, where there are several, is "all tested". Means leave out what is not defined.
        """
        metrics = [column for column in self.perturbations.columns if column not in _DESCRIPTION]
        rows: list[dict[str, Any]] = []
        for name, group in self._by_subgroup().items():
            for method, chosen in group.groupby("method", sort=False):
                means = {metric: float(chosen[metric].mean()) for metric in metrics}
                rows.append({"subgroup": name, "method": method, "n_perturbations": len(chosen), **means})
        return pd.DataFrame(rows)

    @property
    def findings(self) -> list[str]:
        """Sentences on the baselines that beat the model by a headline metric, over the perturbations of both."""
        sentences = []
        for name, group in self._by_subgroup().items():
            of_method = {method: rows.set_index("perturbation") for method, rows in group.groupby("method")}
            own, beaten_by = of_method[self.model], []
            for baseline in filter(of_method.__contains__, BASELINES):
                other, won = of_method[baseline], []
                for metric in HEADLINE:
                    ours, theirs = own.loc[other.index, metric].mean(), other[metric].mean()
                    if theirs > ours if higher_is_better(metric) else theirs < ours:
                        won.append(f"{metric} ({theirs:.3g} against {ours:.3g})")
                if won:
                    # The additive baseline predicts pairs alone.
                    over = "" if len(other) == len(own) else f" over {pluralize(len(other), 'perturbation')}"
                    beaten_by.append(f"{baseline!r} wins on {', '.join(won)}{over}")
            if beaten_by:
                n_all = pluralize(len(own), "perturbation")
                sentences.append(f"{name}, {n_all}: {self.model} is beaten by baselines: {'; '.join(beaten_by)}.")
        return sentences or [f"{self.model} beats every baseline in every subgroup on {', '.join(HEADLINE)}."]

    def _by_subgroup(self) -> dict[str, pd.DataFrame]:
        """Return the rows of each subgroup that has any, and of each group of cells, then all, if these are several."""
        table = self.perturbations
        groups = {name: rows for name in self.split.test if len(rows := table[table["subgroup"] == name])}
        if GROUP in table:
            groups |= {str(name): rows for name, rows in table.groupby(GROUP, sort=False)}
        return {**groups, ALL_TESTED: table} if len(groups) > 1 else groups

    @cached_property
    def published(self) -> Mapping[str, Any] | None:
        """The published table of this data set, if there is one.

        `source` and `protocol`: the publication, and how its figures were computed; `names`: its name of each metric;
        `rows`: the figures of each model, in the order of `names`.
        """
        content = json.loads(Path(__file__).with_name("published_results.json").read_text(encoding="utf-8"))
        rows = content.pop("datasets").get(self.split.dataset)
        return None if rows is None else {**content, "rows": rows}

    @property
    def synthetic(self) -> list[str]:
        """What is recorded as synthetic, as phrases."""
        phrases = {"synthetic": "the model's weights are synthetic", "synthetic_data": "the cells are synthetic"}
        return [phrase for key, phrase in phrases.items() if self.provenance.get(key)]

    @property
    def caveats(self) -> list[str]:
        """Known differences that keep the published figures from being compared with these."""
        reasons = self.synthetic
        if self.provenance.get("protocol") != "published":
            reasons.append("predictions were not made by the published protocol")
        if self.n_groups > 1:
            reasons.append("figures are averages over groups of cells")
        n_split = self.n_groups * self.provenance["n_split"]
        if len(self.tested) < n_split:
            was = "was" if len(self.tested) == 1 else "were"
            reasons.append(f"{len(self.tested):,} of the split's {pluralize(n_split, 'perturbation')} {was} tested")
        return reasons

    def beside_published(self) -> dict[str, Sequence[float]]:
        """Return the rows of the published table, if there is one, below those of the model and the training mean."""
        if self.published is None:
            return {}
        tested = self.summary[self.summary["subgroup"] == self.subgroups[-1]].set_index("method")
        own = {
            f"here: {method}": [float(tested[metric].loc[method]) for metric in self.published["names"]]
            for method in (self.model, TRAIN_MEAN)
            if method in tested.index
        }
        return {**own, **self.published["rows"]}

    @property
    def subgroups(self) -> list[str]:
        """The subgroups in the order of `summary`."""
        return list(dict.fromkeys(self.summary["subgroup"]))

    @property
    def methods(self) -> list[str]:
        """The model and the baselines."""
        return list(dict.fromkeys(self.summary["method"]))
