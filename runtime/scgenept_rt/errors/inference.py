"""Errors of predicting."""

from __future__ import annotations

from scgenept_rt.errors.base import ScgeneptError


class NonFinitePredictionError(ScgeneptError, ArithmeticError):
    """The network gave NaN or infinity; names the first cell and gene."""

    def __init__(self, perturbation: str, cell: str, gene: str, value: float, provider: str, precision: str) -> None:
        remedy = (
            "An activation left the range of half precision: use --precision fp32."
            if precision == "fp16"
            else "Check the cell's values (`scgenept-rt check`) and the bundle (`scgenept-rt verify`)."
        )
        super().__init__(
            f"the prediction of gene {gene} for cell {cell} under {perturbation} is {value} "
            f"({provider}, {precision}). {remedy}"
        )


class PredictOptionError(ScgeneptError, ValueError):
    """Options of a prediction that do not go together, or have no sense."""
