"""What callers may give for the options of a run."""

from __future__ import annotations

import math
import operator
import reprlib
from contextlib import suppress
from numbers import Real
from typing import get_args

import numpy as np

from scgenept_rt.errors import PredictOptionError, check_argument
from scgenept_rt.predictor.aggregation import MIN_CONTROLS, Aggregate


def whole_number(name: str, value: object, expected: str) -> int:
    """Return an option's value as an int, NumPy's whole numbers included.

    Raises
    ------
    PredictOptionError
        If it is of another type; 2.0 and True are no whole numbers.
    """
    if not isinstance(value, bool):
        with suppress(TypeError):
            return operator.index(value)  # type: ignore[arg-type]
    raise PredictOptionError(f"{name} is {reprlib.repr(value)} ({type(value).__name__}). Expected {expected}.")


def check_options(aggregate: Aggregate, tolerance: float | None, for_cell_eval: bool | str) -> None:
    """Raise `PredictOptionError` for values that make no sense, or none together; see `Predictor.predict`."""
    check_aggregate(aggregate)
    check_argument("for_cell_eval", for_cell_eval, (bool, np.bool_, str), "True, False or the name of a column")
    if tolerance is not None and not (isinstance(tolerance, Real) and math.isfinite(tolerance) and tolerance > 0):
        raise PredictOptionError(f"tolerance is {tolerance!r}. Expected a standard error above 0, such as 0.01.")
    if tolerance is not None and aggregate != "mean":
        raise PredictOptionError(
            f"a tolerance is for means (each takes at least {MIN_CONTROLS} control cells, and as many as it needs), "
            f"but the aggregate is {aggregate!r}. Use --aggregate mean, or --n-controls."
        )
    if for_cell_eval and aggregate != "cells":
        raise PredictOptionError(f"the form for cell-eval holds cells, but the aggregate is {aggregate!r}.")


def check_aggregate(aggregate: object) -> None:
    """Raise `PredictOptionError` unless it is the name of an aggregate."""
    kinds = ", ".join(get_args(Aggregate))
    check_argument("aggregate", aggregate, (str,), f"one of {kinds}")
    if aggregate not in get_args(Aggregate):
        raise PredictOptionError(f"aggregate is {aggregate!r}. Expected one of {kinds}.")
