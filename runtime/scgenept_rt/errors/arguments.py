"""Errors about the types of what a Python function is given."""

from __future__ import annotations

import os
from typing import Any, Final

from scgenept_rt.errors.base import ScgeneptError
from scgenept_rt.errors.wording import describe

PATH_TYPES: Final = (str, os.PathLike)


class ArgumentTypeError(ScgeneptError, TypeError):
    """An argument is of another type than the function takes."""

    def __init__(self, argument: str, value: object, expected: str) -> None:
        self.argument, self.value = argument, value
        super().__init__(f"{argument} is {describe(value)}. Expected {expected}.")


def check_argument(argument: str, value: object, types: tuple[Any, ...], expected: str) -> None:
    """Raise `ArgumentTypeError` unless a value is of one of the types, which may be abstract ones.

    Called where something else would only be met deep inside, by an AttributeError that names no argument.
    """
    if not isinstance(value, types):
        raise ArgumentTypeError(argument, value, expected)
