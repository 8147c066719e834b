"""How far outputs may be from the reference outputs, and how far they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tolerance:
    """A bound on |difference| <= atol + rtol * |reference|, element by element.

    With `relative_to_largest`, rtol multiplies the largest |reference| instead: used for network types that are
    ill-conditioned, where small outputs carry the noise of large ones.
    """

    atol: float
    rtol: float
    relative_to_largest: bool = False

    def compare(self, predicted: NDArray[np.floating], reference: NDArray[np.floating]) -> Comparison:
        """Compare outputs of equal shape with reference outputs; NaN or infinity never passes."""
        expected = reference.astype(np.float64)
        difference = np.abs(predicted.astype(np.float64) - expected)
        scale = np.abs(expected)
        bound = self.atol + self.rtol * (scale.max(initial=0.0) if self.relative_to_largest else scale)
        return Comparison(
            max_difference=float(difference.max(initial=0.0)),
            max_relative=float(difference.max(initial=0.0) / max(float(scale.max(initial=0.0)), 1e-30)),
            worst=float((difference / np.maximum(bound, 1e-30)).max(initial=0.0)),
        )


@dataclass(frozen=True)
class Comparison:
    """How outputs differ from reference outputs."""

    max_difference: float
    """Largest absolute difference."""
    max_relative: float
    """The same, relative to the largest reference output."""
    worst: float
    """Largest ratio of a difference to its bound; NaN if an output is."""

    @property
    def passed(self) -> bool:
        """Whether every difference is within its bound."""
        return self.worst <= 1.0  # False for NaN
