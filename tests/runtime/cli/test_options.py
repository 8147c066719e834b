"""Flags come from the declared options, and messages name only flags that the command at hand has."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

import scgenept_rt
from scgenept_rt.cli import app
from scgenept_rt.cli.messages import Command, flags_of, note
from scgenept_rt.cli.options import given_flags, with_options
from scgenept_rt.errors import CellsError, Notice, UseOption
from scgenept_rt.options import EngineOptions, PredictOptions, ReadOptions, declared_options
from tests.runtime.cli.test_help import commands

SOURCES = Path(scgenept_rt.__file__).parent
MAKE_COMMANDS = ("shlex.join", "pip_command", "install_command")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


COMMANDS = {names: found for names, found in commands(typer.main.get_command(app)) if not hasattr(found, "commands")}


def runtime_modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(SOURCES.rglob("*.py")):
        if "cli" not in path.relative_to(SOURCES).parts:
            yield path, ast.parse(path.read_text())


@functools.cache
def suggested_options() -> list[tuple[Path, str]]:
    """Return every option that a message of the runtime suggests."""
    calls = ((path, node) for path, module in runtime_modules() for node in ast.walk(module))
    return [
        (path, str(node.args[0].value))
        for path, node in calls
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "UseOption"
        and isinstance(node.args[0], ast.Constant)  # elsewhere the name of a declared option
    ]


def test_messages_outside_the_command_line_name_no_flags() -> None:
    found = []
    for path, module in runtime_modules():
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(module)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        parts = {id(part) for node in ast.walk(module) if isinstance(node, ast.JoinedStr) for part in node.values}
        calls = (node for node in ast.walk(module) if isinstance(node, ast.Call))
        commands = {id(part) for call in calls if ast.unparse(call.func) in MAKE_COMMANDS for part in ast.walk(call)}
        for node in ast.walk(module):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | parts:
                text = node.value
            else:
                continue
            if id(node) in commands:
                continue
            whole_commands_left_out = re.sub(r"`[^`]*`", "", text)
            found += [f"{path.relative_to(SOURCES)}: {text!r}" for _ in FLAG.findall(whole_commands_left_out)]
    # What declares the flags, and what edits the command that continues a run.
    declaring = ("options/", "output/destination.py", "installing.py")
    assert [line for line in found if not line.startswith(declaring)] == []


def test_every_suggested_option_is_a_flag_of_some_command() -> None:
    known = {str(option.name) for command in COMMANDS.values() for option in command.params}
    assert len(suggested_options()) > 20
    assert [(path, name) for path, name in suggested_options() if name not in known] == []


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_a_command_is_told_only_of_flags_that_it_has(names: tuple[str, ...]) -> None:
    command = COMMANDS[names]
    options = tuple(UseOption(name, "do this") for _, name in suggested_options())
    message = CellsError("a problem", "", options).message(flags_of(command))
    own = {flag for option in command.params for flag in option.opts}
    assert set(FLAG.findall(message)) <= own
    assert "=" not in message


def test_python_callers_read_keyword_arguments() -> None:
    error = CellsError(
        "it has no 'x'.", "Look again", [UseOption("layer", "read a layer"), UseOption("use_raw", "read raw", True)]
    )
    assert str(error) == "it has no 'x'. Look again. Pass layer=... to read a layer, or use_raw=True to read raw."
    notice = Notice("only 3 cells", "", [UseOption("control_label", "name the control", "ctrl")])
    assert notice == "only 3 cells. Pass control_label='ctrl' to name the control."


def test_options_reach_the_command_as_their_groups() -> None:
    given: dict[str, Any] = {}
    small = typer.Typer()

    @small.command(cls=Command)
    @with_options(sample=("n_controls", "batch_size"))
    def command(
        path: Annotated[Path, typer.Argument()], sample: PredictOptions, read: ReadOptions, engine: EngineOptions
    ) -> None:
        given.update(path=path, sample=sample, read=read, engine=engine)
        note(Notice("a notice", "", [UseOption("layer", "read a layer", "x"), UseOption("max_error", "stop", 1)]))

    labels = ["--control-label", "NT", "--control-label", "non-targeting*"]
    result = CliRunner().invoke(small, ["cells", "--n-controls", "3", "--layer", "counts", "--device", "1,0", *labels])
    assert result.exit_code == 0, result.output
    assert given["path"] == Path("cells")
    assert given["sample"] == {"n_controls": 3, "batch_size": "auto"}
    assert given["engine"]["device"] == [1, 0]
    assert given_flags(EngineOptions, given["engine"]) == ["--device", "1,0"]
    assert given["read"] == {
        **{option.name: option.default for option in declared_options(ReadOptions)},
        "layer": "counts",
        "control_label": ["NT", "non-targeting*"],
    }
    assert given_flags(ReadOptions, given["read"]) == ["--layer", "counts", *labels]
    assert "note: a notice. Pass --layer x to read a layer.\n" in result.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seed", "-1"], "a whole number from 0"),
        (["--n-controls", "two"], "a whole number from 1"),
        (["--max-error", "nan"], "a finite number above 0"),
        (["--batch-size", "some"], "a whole number from 1 to 65536, or auto"),
        *(
            (["--device", wrong], "a whole number from 0, or several such as 0,2, or all")
            for wrong in ("-1", "0,x", "1,1")
        ),
    ],
)
def test_a_value_that_is_none_of_the_options(
    arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, ["predict", "demo", "c.h5ad", "--out", "o.h5ad", "-p", "A", *arguments])
    assert result.exit_code == 2
    assert f"Invalid value for '{arguments[0]}': {arguments[1]!r} is not {expected}" in result.output
