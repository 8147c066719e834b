"""Flags made from declared options: those that several commands share, and those of one command alone."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints, is_typeddict

import typer

from scgenept_rt.options import checked, declared_options
from scgenept_rt.options.declaration import Option, alternatives, declared, expected_values

BundleArgument = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE", help="Directory of a bundle; `demo`: the synthetic one that ships with the package."
    ),
]
CellsArgument = Annotated[Path, typer.Argument(metavar="CELLS", help="The cells, .h5ad or .zarr, log1p-normalised.")]
InGroupOption = Annotated[
    str | None, Option(None, "Of predictions with --groupby: the group of control cells to take.", "NAME")
]
JsonOption = Annotated[bool, Option(False, "Print JSON instead.", flag="--json")]
CsvFileOption = Annotated[Path | None, Option(None, "Write all rows there.", "FILE", flag="--csv")]
JsonFileOption = Annotated[Path | None, Option(None, "Write all figures there.", "FILE", flag="--json")]


def with_options(**names: Sequence[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn parameters annotated with an `Option` into flags, and those that are groups of options into a flag each.

    A command declares `engine: EngineOptions`, and is called with the mapping of its options. In the help, the first
    line of the group's docstring, if it has one, is the title of its flags. `names` has the names of the options for a
    parameter that takes only some of its group.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        groups: dict[str, list[Option]] = {}
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command).parameters.values():
            name, hint = parameter.name, hints[parameter.name]
            if is_typeddict(hint):
                wanted = names.get(name)
                groups[name] = [
                    option
                    for option in declared_options(hint)
                    if option.flag is not None and (wanted is None or option.name in wanted)
                ]
                # Flags with a title of their own have columns of their own: names stay whole on 80 columns.
                title = hint.__doc__ and hint.__doc__.splitlines()[0].rstrip(".")
                parameters += [_parameter(option, title) for option in groups[name]]
            elif isinstance(get_args(hint)[-1], Option):
                parameters.append(_parameter(declared(name, hint)))
            else:
                parameters.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))

        @functools.wraps(command)
        def call(**values: Any) -> None:
            for name, options in groups.items():
                values[name] = {option.name: values.pop(option.name) for option in options}
            command(**values)

        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call

    return decorate


def given_flags(group: type, given: Mapping[str, Any]) -> list[str]:
    """Return the arguments that give a command these options; defaults are left out."""
    arguments: list[str] = []
    for option in declared_options(group):
        value = given.get(option.name, option.default)
        if option.flag is not None and value != option.default:
            if list[int] in alternatives(option.type) and isinstance(value, list):
                value = ",".join(map(str, value))
            for entry in value if isinstance(value, list) else [value]:
                arguments += [option.flag] if option.type is bool else [option.flag, str(entry)]
    return arguments


def _parameter(option: Option, title: str | None = None) -> inspect.Parameter:
    required, repeated = option.default is ..., list[str] in alternatives(option.type)
    kind: Any = list[str] | None if repeated else str if required or option.default is not None else str | None
    value: dict[str, Any] = {"metavar": option.metavar}
    if option.type is bool:
        kind, value = bool, {}
    elif not repeated:
        value["parser"] = _parser(option)
    bounds = option.bounds().strip().capitalize()
    text = f"{option.help} {bounds}." if bounds else option.help
    info = typer.Option(*str(option.flag).split(","), rich_help_panel=title, help=text, **value)
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else option.default,
        annotation=Annotated[kind, info],
    )


def _parser(option: Option) -> Callable[[Any], Any]:
    def parse(text: Any) -> Any:  # a function: with older typer, click asks for its name
        """Return the value of a flag; a default is no text, and comes back as it is."""
        for kind in alternatives(option.type):
            with suppress(ValueError):
                return checked(option, kind(text) if kind in (int, float, Path) else text)
        raise typer.BadParameter(f"{text!r} is not {expected_values(option, none=False)}")

    return parse
