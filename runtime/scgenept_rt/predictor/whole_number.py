"""Options that are whole numbers."""

from __future__ import annotations

import operator
import reprlib
from contextlib import suppress

from scgenept_rt.errors import PredictOptionError


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
