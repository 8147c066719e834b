"""What an evaluation found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.evaluation.collapse import Similarity
from scgenept_rt.evaluation.published import PublishedTable
from scgenept_rt.evaluation.split import Split


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The figures of a model and of the baselines.

    Attributes
    ----------
    model
        Name of the model or of the predictions.
    where
        The measured data.
    split
        What was tested.
    perturbations
        One row a (perturbation, method): `perturbation`, `subgroup`, `method`, `n_cells`, `n_controls`, then the
        metrics of `perturbation_metrics`. Methods are `model` and the baselines.
    summary
        One row a (subgroup, method): `subgroup`, `method`, `n_perturbations`, then the macro-averages of the metrics;
        the last subgroup is `ALL_TESTED`.
    findings
        What a reader has to know: baselines that win, predictions that are nearly the same.
    notices
        One-line sentences on how it was done.
    protocol
        One sentence on how predictions came about.
    de_source
        Where the differentially expressed genes are from.
    predicted_similarity, observed_similarity
        How alike the predicted and the measured changes of different perturbations are.
    gene_names
        The genes of the columns of the arrays below.
    tested
        The perturbations of the rows of the arrays below, in order of subgroups.
    predicted_deltas, observed_deltas
        (n_tested, n_genes) float32, change against the mean of all control cells, as in the metrics.
    own_deltas
        The same, predicted, against the mean of the very control cells that were predicted from, where that is known:
        what all predictions share of that draw is no likeness of perturbations.
    published
        The published table of this data set, if there is one.
    provenance
        What is recorded of the run.
    """

    model: str
    where: str
    split: Split
    perturbations: pd.DataFrame
    summary: pd.DataFrame
    findings: tuple[str, ...]
    notices: tuple[str, ...]
    protocol: str
    de_source: str
    predicted_similarity: Similarity
    observed_similarity: Similarity
    gene_names: tuple[str, ...] = field(repr=False)
    tested: tuple[str, ...]
    predicted_deltas: NDArray[np.float32] = field(repr=False)
    observed_deltas: NDArray[np.float32] = field(repr=False)
    own_deltas: NDArray[np.float32] = field(repr=False)
    published: PublishedTable | None
    provenance: Mapping[str, Any]

    @property
    def synthetic(self) -> list[str]:
        """What of it is made up, as sentences; empty if nothing says so."""
        said = {"synthetic": "the model's weights are synthetic", "synthetic_data": "the cells are synthetic"}
        return [sentence for key, sentence in said.items() if self.provenance.get(key)]

    @property
    def caveats(self) -> list[str]:
        """Why the published figures are not to be compared with these; empty if nothing is known to differ."""
        reasons = self.synthetic
        if self.provenance.get("protocol") != "published":
            reasons.append("predictions were not made by the published protocol")
        if len(self.tested) < self.provenance["n_split"]:
            verb = "was" if len(self.tested) == 1 else "were"
            reasons.append(
                f"{len(self.tested):,} of the split's {self.provenance['n_split']:,} perturbations {verb} tested"
            )
        return reasons

    @property
    def subgroups(self) -> list[str]:
        """Subgroups in the order of `summary`."""
        return list(dict.fromkeys(self.summary["subgroup"]))

    @property
    def methods(self) -> list[str]:
        """The model and the baselines."""
        return list(dict.fromkeys(self.summary["method"]))
