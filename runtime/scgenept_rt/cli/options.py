"""Flags that several commands share, made from the declared options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints, is_typeddict

import typer

from scgenept_rt.options import (
    EngineOptions,
    FigureOptions,
    FileOptions,
    PredictOptions,
    ReadOptions,
    SampleOptions,
    checked,
    declared_options,
)
from scgenept_rt.options.declaration import Option, alternatives, expected_values

# Each panel of the help has columns of its own: names stay whole on 80 columns.
_PANELS: Mapping[Any, str] = {
    EngineOptions: "The network and what runs it",
    ReadOptions: "How the cells are read",
    PredictOptions: "What is predicted",
    SampleOptions: "What is predicted",
    FileOptions: "The output",
    FigureOptions: "The figure",
}

BundleArgument = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE", help="Directory of a bundle; `demo`: the synthetic one that ships with the package."
    ),
]
CellsArgument = Annotated[Path, typer.Argument(metavar="CELLS", help="The cells, .h5ad or .zarr, log1p-normalised.")]
InGroupOption = Annotated[
    str | None,
    typer.Option("--in-group", metavar="NAME", help="Of predictions with --groupby: the group of cells to take."),
]
PerturbationOption = Annotated[
    list[str] | None,
    typer.Option("-p", "--perturbation", metavar="LABEL", help="Such as FOSB+ctrl or SAMD1+ZBTB1; may be repeated."),
]
PerturbationsOption = Annotated[
    Path | None,
    typer.Option(
        "--perturbations",
        metavar="FILE",
        help="One label per line (.txt, or - for a pipe), or columns perturbation and optionally n_controls "
        "(.csv, .tsv).",
    ),
]
AllSinglesOption = Annotated[bool, typer.Option("--all-singles", help="Every gene of the model, one at a time.")]
PairsOfOption = Annotated[
    Path | None, typer.Option("--pairs-of", metavar="FILE", help="All pairs of the genes in a file.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
CsvFileOption = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write all rows there.")]
JsonFileOption = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")]


def with_options(**names: Sequence[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn parameters that are groups of options into one flag per option.

    A command declares `engine: EngineOptions`, and is called with the mapping of its options.

    Parameters
    ----------
    names
        For a parameter that takes only some options of its group: their names.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        groups: dict[str, list[Option]] = {}
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command).parameters.values():
            group = hints[parameter.name]
            if not is_typeddict(group):
                parameters.append(parameter.replace(annotation=group, kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            wanted = names.get(parameter.name)
            groups[parameter.name] = [
                option
                for option in declared_options(group)
                if option.flag is not None and (wanted is None or option.name in wanted)
            ]
            parameters += [_parameter(option, _PANELS[group]) for option in groups[parameter.name]]

        @functools.wraps(command)
        def call(**values: Any) -> None:
            for name, options in groups.items():
                values[name] = {option.name: values.pop(option.name) for option in options}
            command(**values)

        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call

    return decorate


def version_option(program: str) -> Any:
    """Return the flag --version of a program."""

    def show(wanted: bool) -> None:
        if wanted:
            from importlib.metadata import version

            typer.echo(f"{program} {version('scgenept-rt')}")
            raise typer.Exit

    return typer.Option("--version", callback=show, is_eager=True, help="Show the version.")


def one_of(choices: Any) -> Callable[[str], str]:
    """Return the parser of a flag that takes one of the words of a `Literal`."""
    # typer's own would put all words into the column of types, which leaves too little of 80 columns for the names.
    words = get_args(choices)

    def parse(text: str) -> str:
        if text not in words:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(words)}")
        return text

    return parse


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


def _parameter(option: Option, panel: str) -> inspect.Parameter:
    value: dict[str, Any] = {}
    if option.type is not bool:
        value = {"metavar": option.metavar, "parser": _parser(option)}
    info = typer.Option(option.flag, rich_help_panel=panel, help=option.help, **value)
    kind: Any = bool if option.type is bool else str if option.default is not None else str | None
    if list[str] in alternatives(option.type):
        kind = list[str] | None
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=Annotated[kind, info]
    )


def _parser(option: Option) -> Callable[[Any], Any]:
    def parse(text: Any) -> Any:  # a function: with older typer, click asks for its name
        return _parse(option, text)

    return parse


def _parse(option: Option, text: Any) -> Any:
    """Return the value of a flag; a default is no text, and comes back as it is."""
    for kind in alternatives(option.type):
        with suppress(ValueError):
            return checked(option, kind(text) if kind in (int, float) else text)
    raise typer.BadParameter(f"{text!r} is not {expected_values(option, none=False)}")
