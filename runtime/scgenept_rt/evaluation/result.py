"""The result of an evaluation, and the published table beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.evaluation.split import Split
from scgenept_rt.evaluation.tables import TRAIN_MEAN, baseline_findings, macro_averages
from scgenept_rt.wording import pluralize


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

        The last subgroup is `ALL_TESTED`.
        """
        return macro_averages(self.perturbations, self.split)

    @property
    def findings(self) -> list[str]:
        """Sentences on the baselines that beat the model."""
        return baseline_findings(self.perturbations, self.split)

    @cached_property
    def published(self) -> Mapping[str, Any] | None:
        """The published table of this data set, if there is one.

        `source` and `protocol`: the publication, and how its figures were computed; `names`: its name of each metric;
        `rows`: the figures of each model, in the order of `names`.
        """
        content = json.loads((files("scgenept_rt.evaluation") / "published_results.json").read_text(encoding="utf-8"))
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
