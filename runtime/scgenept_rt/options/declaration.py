"""How options are declared: once, for keyword arguments in Python and for flags on the command line.

A group of options is a `TypedDict` whose fields are annotated with `Option`. Functions take it as
``**options: Unpack[Group]``, `resolve` checks what was given and fills in the defaults, and `scgenept_rt.cli.options`
turns the same fields, and parameters of commands that are annotated so, into flags and help texts. Imports nothing
heavy, as the help must answer at once.
"""

from __future__ import annotations

import math
import operator
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from scgenept_rt.errors import ArgumentError, UseOption
from scgenept_rt.wording import describe

Group = TypeVar("Group")


@dataclass(frozen=True)
class Option:
    """How an option is given, and what it may be."""

    default: Any  # ... if it must be given
    help: str  # one sentence, for the command's help and the Python reference
    metavar: str = ""  # placeholder of the value in the help; empty for switches
    flag: str | None = ""  # if it is not -- and the name with dashes, such as -p,--perturbation; None for no flag
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None  # a number must exceed it
    requires: Mapping[str, Any] = field(default_factory=dict)  # other options of the group, and values they must have
    name: str = ""  # from the field that is annotated, as is the type: see `declared`
    type: Any = None

    def allows(self, number: float) -> bool:
        """Return whether a number is within the bounds."""
        return (
            (self.minimum is None or number >= self.minimum)
            and (self.maximum is None or number <= self.maximum)
            and (self.above is None or number > self.above)
        )

    def bounds(self) -> str:
        """Return the bounds in words, such as " from 1 to 128"; empty if there are none."""
        words = (("from", self.minimum), ("above", self.above), ("to", self.maximum))
        return "".join(f" {word} {bound:.10g}" for word, bound in words if bound is not None)


def declared_options(group: type) -> Iterator[Option]:
    """Yield the options of a group in the order of their declaration, with names, types and flags."""
    for name, hint in get_type_hints(group, include_extras=True).items():
        yield declared(name, hint)


def declared(name: str, hint: Any) -> Option:
    """Return the option that a field or parameter is annotated with."""
    kind: Any
    option: Option
    kind, option = get_args(hint)
    flag = f"--{name.replace('_', '-')}" if option.flag == "" else option.flag
    return replace(option, name=name, type=kind, flag=flag)


def resolve(group: type[Group], given: Mapping[str, Any] | None = None) -> Group:
    """Return the options of a group: those given, checked, and the defaults of the others.

    Raises `ArgumentError` if an option is unknown, has the wrong type or value, or lacks another that it requires.
    """
    given = given or {}
    options = {option.name: option for option in declared_options(group)}
    for name in given:
        if name not in options:
            from scgenept_rt.options import ReadOptions

            remedy = f"Choose among {', '.join(options)}"
            if name in get_type_hints(ReadOptions):
                remedy = f"Pass read=ReadOptions({name}=...) to the function that reads cells"
            raise ArgumentError(f"there is no option {name!r}", remedy)
    values = {name: checked(option, given.get(name, option.default)) for name, option in options.items()}
    for name, option in options.items():
        for other, wanted in option.requires.items():
            if values[name] != option.default and values.get(other, wanted) != wanted:
                raise ArgumentError(
                    f"{name} has no meaning if {other} is {values[other]!r}",
                    options=[UseOption(other, f"use {name}", wanted)],
                )
    return cast("Group", values)


def checked(option: Option, value: Any) -> Any:
    """Return the value of an option as a plain object; raise `ArgumentError` if the option does not take it."""
    for kind in alternatives(option.type):
        found, plain = _as_kind(kind, value)
        numbers = plain if kind == list[int] else [plain] if kind in (int, float) else []
        if found and all(map(option.allows, numbers)):
            return plain
    raise ArgumentError(f"{option.name} is {describe(value)}, expected {expected_values(option)}")


def expected_values(option: Option, *, none: bool = True) -> str:
    """Return what an option takes, such as "a whole number from 1, or None"."""
    words: list[str] = []
    for kind in alternatives(option.type):
        if get_origin(kind) is Literal:
            choices = [repr(choice) if "," in choice else choice for choice in get_args(kind)]
            words.append(f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0])
        elif kind is not types.NoneType or none:
            words.append(_KINDS[kind].format(option.bounds()))
    return ", or ".join(words)


_KINDS: Mapping[Any, str] = {
    bool: "True or False",
    int: "a whole number{}",
    float: "a finite number{}",
    str: "a string",
    list[int]: "different numbers{} such as 1,2",
    list[str]: "a list of strings",
    Path: "a path",
    types.NoneType: "None",
}


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the types of a union; of another type itself."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _as_kind(kind: Any, value: Any) -> tuple[bool, Any]:
    """Return whether a value is of a kind, and the value as a plain object."""
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind), value
    if kind is types.NoneType:
        return value is None, value
    if kind is bool:
        return _is_bool(value), bool(value)
    if kind is int:
        is_int = isinstance(value, Integral) and not _is_bool(value)
        return is_int, int(value) if is_int else value
    if kind is float:
        is_number = isinstance(value, Real) and not _is_bool(value) and math.isfinite(value)
        return is_number, float(value) if is_number else value
    if kind == list[int]:
        try:
            numbers = list(map(int, value.split(",") if isinstance(value, str) else map(operator.index, value)))
        except (TypeError, ValueError):
            return False, value
        return 0 < len(set(numbers)) == len(numbers), numbers
    if kind == list[str]:
        is_list = isinstance(value, (list, tuple)) and all(isinstance(entry, str) for entry in value)
        return is_list, list(value) if is_list else value
    return isinstance(value, get_origin(kind) or kind), value


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or (type(value).__module__ == "numpy" and type(value).__name__.startswith("bool"))
