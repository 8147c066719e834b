"""The help of every command, on the 80 columns of a plain terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import scgenept_export.cli
from scgenept_rt.cli import app
from tests.commands import CommandLine


def commands(command: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the words that call each command, and the command."""
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, *names, name)
    yield names, command


COMMANDS = [
    pytest.param(program, names, command, id=" ".join([str(program.info.name), *names]))
    for program in (app, scgenept_export.cli.app)
    for names, command in commands(typer.main.get_command(program))
]


@pytest.mark.parametrize(("program", "names", "command"), COMMANDS)
def test_the_names_of_all_options_are_whole_and_flags_have_no_type(
    program: typer.Typer, names: tuple[str, ...], command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    result = CliRunner().invoke(program, [*names, "--help"])
    assert result.exit_code == 0
    words = result.output.split()
    options = [name for option in command.params for name in option.opts if name.startswith("--")]
    assert [name for name in options if name not in words] == []
    assert "<bool>" not in words
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        (["download", "norman", "--dataset", "foo"], "norman, adamson"),
        (["predict", "demo", "c.h5ad", "--out", "o.h5ad", "-p", "A", "--sampling", "foo"], "all, random, upstream"),
    ],
)
def test_a_word_that_is_no_choice(arguments: list[str], choices: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert f"Invalid value for '{arguments[-2]}': 'foo' is not one of {choices}" in result.output


def test_bounds_of_numbers_are_shown(command_line: CommandLine) -> None:
    assert "From 50 to 1200." in command_line("plot", "delta", "--help").stdout
