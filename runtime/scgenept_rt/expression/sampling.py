"""Sampling of control cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import ControlCellsError, UseOption
from scgenept_rt.options import SamplingMode


@dataclass(frozen=True)
class Sampling:
    """How control cells are drawn; the same cells serve every perturbation of a run.

    Attributes
    ----------
    mode
        "all": each control cell once, in the order of the file; with `n_controls`, that many of them drawn without
        replacement, still in the order of the file. "random": without replacement, in the order drawn, so that the
        first k cells are a random sample for every k. "upstream": with replacement, in the order drawn, the very
        cells that `pred_perturb_from_ctrl` draws after `np.random.seed(seed)`.
    n_controls
        How many cells to draw; None for as many as there are.
    seed
        Seed of `np.random.RandomState`, whose stream NumPy keeps from release to release; from 0 to 4294967295.
    """

    mode: SamplingMode = "all"
    n_controls: int | None = None
    seed: int = 0

    def draw(self, n_available: int) -> NDArray[np.int64]:
        """Return the drawn cells as positions among the `n_available` control cells.

        Raises
        ------
        ControlCellsError
            If more cells are asked for without replacement than there are.
        """
        if self.mode == "upstream":
            # As upstream calls it: no dtype, since that would change the stream.
            drawn = np.random.RandomState(self.seed).randint(0, n_available, self.n_controls or n_available)
            return drawn.astype(np.int64)
        if self.n_controls is not None and self.n_controls > n_available:
            raise ControlCellsError(
                f"{self.n_controls:,} control cells were asked for, but the input has {n_available:,}",
                options=[
                    UseOption("n_controls", "use all of them", n_available),
                    UseOption("sampling", "draw with replacement", "upstream"),
                ],
            )
        if self.mode == "all" and self.n_controls is None:
            return np.arange(n_available, dtype=np.int64)
        shuffled = np.random.RandomState(self.seed).permutation(n_available)[: self.n_controls]
        return (np.sort(shuffled) if self.mode == "all" else shuffled).astype(np.int64)
