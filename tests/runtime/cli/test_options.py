"""Flags come from the declared options, and messages name only flags that the command at hand has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

import scgenept_rt
from scgenept_rt.cli import app
from scgenept_rt.cli.messages import Command, flags_of, note
from scgenept_rt.cli.options import given_flags, with_options
from scgenept_rt.errors import Caution, CellsError, Notice, UseOption
from scgenept_rt.options import EngineOptions, PredictOptions, ReadOptions, declared_options
from tests.runtime.cli.test_help import commands

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
SOURCES = Path(scgenept_rt.__file__).parent
RUNTIME = {
    str(path.relative_to(SOURCES)): path.read_text()
    for path in SOURCES.rglob("*.py")
    if path.relative_to(SOURCES).parts[0] not in ("cli", "options")
}


def test_messages_outside_the_command_line_name_no_flags() -> None:
    found = set()
    for path, text in RUNTIME.items():
        for line in re.sub(r'""".*?"""|#[^\n]*|`[^`\n]*`', "", text, flags=re.DOTALL).splitlines():
            if FLAG.search(line) and "shlex.join" not in line:  # commands are whole
                found.add(path)
    assert found <= {"output/destination.py", "installing.py"}, "only what words a command that continues or installs"


def test_commands_suggest_only_options_that_they_have() -> None:
    suggested = {name for text in RUNTIME.values() for name in re.findall(r'UseOption\(\s*"(\w+)"', text)}
    assert len(suggested) > 15
    error = CellsError("a problem", "", [UseOption(name, "do this") for name in suggested])
    for names, command in commands(typer.main.get_command(app)):
        if not hasattr(command, "commands"):
            own = flags_of(command)
            message = error.message(own)
            assert set(FLAG.findall(message)) <= set(own.values()), names
            assert "=" not in message
            suggested -= set(own)
    assert suggested == set(), "each is an option of some command"


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
        note(Caution("It changes numbers"))

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
    assert "note: a notice. Pass --layer x to read a layer.\nwarning: It changes numbers.\n" in result.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seed", "-1"], "a whole number from 0"),
        (["--n-controls", "two"], "a whole number from 1"),
        (["--max-error", "nan"], "a finite number above 0"),
        (["--batch-size", "some"], "a whole number from 1 to 65536, or auto"),
        *(
            (["--device", wrong], "a whole number from 0, or different numbers from 0 such as 1,2, or all")
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
