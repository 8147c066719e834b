"""Every code block of README.md and docs/ is run as it stands, page by page, in an empty directory.

What a bash block exports, the later blocks of its page see, as in a reader's shell; each block is its own process.
A block that cannot run here is preceded by a comment `<!-- not run: reason -->`, which readers of the source see too.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import scgenept_export.cli
import scgenept_rt.cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINKING = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "RELEASING.md"]
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
COMMANDS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
NOT_CODE = {"text", "json", "csv", "mermaid", "groovy", "dockerfile", "yaml"}


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    code: str
    reason: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(text[: match.start("code")].count("\n") + 1, match["language"], match["code"], match["reason"])
        for match in BLOCK.finditer(text)
    ]


# The tutorial's blocks are the cells of its notebook, which test_tutorial.py runs.
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "tutorial.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_code_blocks_run(page: Path, tmp_path: Path, forked_commands: None) -> None:
    environment = dict(os.environ)
    kept = tmp_path / "environment"
    (directory := tmp_path / "page").mkdir()
    for block in blocks(page):
        if block.reason or block.language in NOT_CODE:
            continue
        done = subprocess.run(
            [*COMMANDS[block.language], f"{block.code}\nenv -0 > {kept}" if block.language == "bash" else block.code],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{page.name}, line {block.line}:\n{block.code}\n{done.stdout}\n{done.stderr}"
        if block.language == "bash":
            environment = dict(entry.split("=", 1) for entry in kept.read_text("utf-8").split("\0") if entry)


def test_commands_that_are_not_run_have_the_options_and_arguments_they_are_given() -> None:
    scripts = {"scgenept-rt": scgenept_rt.cli.app, "scgenept-export": scgenept_export.cli.app}
    checked = 0
    for block in (block for page in PAGES for block in blocks(page) if block.reason and block.language == "bash"):
        for line in block.code.replace("\\\n", " ").splitlines():
            script, *arguments = shlex.split(line, comments=True) or [""]
            if script in scripts and not {"|", ">", "&&"} & {*arguments}:
                command: Any = get_command(scripts[script])
                while hasattr(command, "commands"):
                    command = command.commands[arguments.pop(0)]
                command.make_context(script, arguments)
                checked += 1
    assert checked > 10


def test_blocks_are_found_and_have_a_language() -> None:
    fences = sum(len(re.findall(r"^```", page.read_text("utf-8"), re.MULTILINE)) for page in PAGES)
    found = [block for page in PAGES for block in blocks(page)]
    assert fences == 2 * len(found), "a fence without a language, or one that is not closed, would never be run"
    known = {*COMMANDS, *NOT_CODE, "cpp"}
    assert {block.language for block in found} <= known
    assert all(block.reason for block in found if block.language == "cpp"), "C++ is not compiled here: give the reason"


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in LINKING
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not broken
